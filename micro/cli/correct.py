"""`micro correct`: what a person says an image shows."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from micro.cli.app import DONE, app
from micro.cli.screen import out


@app.command
def correct(
    run: Path,
    image: Path,
    *,
    author: str,
    class_name: Annotated[str | None, Parameter(name="--class")] = None,
    labels: Path | None = None,
    store: Annotated[str | None, Parameter(env_var="MICRO_STORE")] = None,
) -> int:
    """Store what an image really shows beside what the bundle said; `micro train --corrections` learns from it.

    Parameters
    ----------
    run
        Folder of the run, its --out.
    image
        The image's file or a copy of it; it is found by its content.
    author
        Who says so.
    class_name
        Class of the whole frame.
    labels
        Label image of the frame's own size, one number a region, such as a corrected file of labels/.
    store
        Address of the ledger, where it is no file in the run's folder.
    """
    from micro.line import corrections

    said = corrections.correct(run, image, author, class_name=class_name, labels=labels, store=store)
    out.print(f"{said.image}: {said.class_name or said.labels}, says {said.author}.")
    return DONE
