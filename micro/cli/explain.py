"""`micro explain`: where a classifier looked."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from micro.cli.app import DONE, SOME_FAILED, app
from micro.cli.scale import AS_FILES_SAY, Scale
from micro.cli.screen import err, out


@app.command
def explain(
    *sources: str,
    model: str,
    out_dir: Annotated[Path, Parameter(name=["--out", "-o"])],
    class_name: Annotated[str | None, Parameter(name="--class")] = None,
    scale: Scale = AS_FILES_SAY,
    device: str = "auto",
) -> int:
    """Draw where a classifier looked: each frame beside the same frame with what spoke for its class laid over it.

    Parameters
    ----------
    sources
        Images, folders (with all below them), globs, or text lists of images.
    model
        Name of an installed bundle that names frames, or the folder of one.
    out_dir
        Folder for the pictures, one PNG an image.
    class_name
        The class to speak for; the likeliest one of each frame if not given.
    scale
        How large a pixel is, whatever the files say.
    device
        auto, cpu, cuda, cuda:N or mps.
    """
    um = scale.given().um
    from micro import bundle
    from micro.errors import UnreadableImage
    from micro.line.reading import Look, Reader
    from micro.line.sources import find

    found = find(sources)
    chosen = bundle.load(model)
    from micro.engine.explain import Explainer
    from micro.report.explained import heated, places, write_picture

    place_of = places(found, out_dir)
    explainer, reader = Explainer(chosen, device), Reader(0, um)
    code = DONE
    for source in found:
        try:
            image = reader.read(Look(source))
        except UnreadableImage as fault:
            code = SOME_FAILED
            err.print(f"left out: {fault}")
            continue
        said = explainer.explain(image, class_name)
        write_picture(heated(image, said.heat), place_of[source.name])
        score = said.prediction.class_scores[said.class_name]
        out.print(f"{image.name}: {said.class_name}, {score:.3f}. {place_of[source.name]}")
    return code
