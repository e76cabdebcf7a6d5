"""`micro measure`: the grain size of a specimen from label images, without a network."""

import shlex
import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from micro.cli.app import DONE, REFUSED, SOME_FAILED, app
from micro.cli.scale import AS_FILES_SAY, Scale
from micro.cli.screen import err, out, watched
from micro.errors import MicroError


@app.command
def measure(
    *labels: str,
    out_dir: Annotated[Path, Parameter(name=["--out", "-o"])],
    scale: Scale = AS_FILES_SAY,
    images: Annotated[Path | None, Parameter(name="--image")] = None,
    specimen: str | None = None,
    specimen_by: Literal["all", "folder"] = "all",
    boundary_value: int | None = None,
    min_area_px: int = 1,
    store: Annotated[str | None, Parameter(env_var="MICRO_STORE")] = None,
) -> int:
    """Print the grain size that label images come to, and write the table of grains and the record of the specimen.

    All label images together are the fields of one specimen. Exit code: 0 done, 1 no grain size because a pixel size
    is unknown (the table is written in pixels), or one of several specimens could not be measured, 2 nothing could be
    measured.

    Parameters
    ----------
    labels
        Label images, folders or globs of them, or the folder of a run of `micro predict`, in which the last correction
        of each image counts.
    out_dir
        Folder for regions.csv, regions.parquet and specimen.json.
    scale
        How large a pixel is, whatever the files say.
    images
        Folder of the micrographs, by the names of the label images: for their pixel size, and for the record.
    specimen
        Name of the specimen; that of the output folder if not given.
    specimen_by
        folder: the label images of each folder are a specimen of their own, with an output folder of that name.
    boundary_value
        The files are masks in which this value is boundary, and not labels.
    min_area_px
        Smaller grains are given to their neighbours.
    store
        Address of the run's ledger, where it is no file in its folder.
    """
    from micro.specimen import Reading, measure_steps
    from micro.specimen.fields import by_folder, folder_of, left_out, of_command, without_result

    reading = Reading(scale.given(), boundary_value, min_area_px)
    found = of_command(labels, images, store)
    lacking, undone = left_out(labels), without_result(labels)
    name = specimen or out_dir.resolve().name
    command = _typed(store)
    parts = {"": found} if specimen_by == "all" else by_folder(found)
    code, refused = DONE, list[str]()
    for part, fields in parts.items():
        of_part = {each: why for each, why in lacking.items() if specimen_by == "all" or folder_of(each) == part}
        steps = measure_steps(
            fields, out_dir / part, " ".join(filter(None, (name, part))), reading, command, of_part | undone
        )
        try:
            measured = watched(steps, "fields")
        except MicroError as fault:
            refused.append(part)
            err.print(str(fault) if len(parts) == 1 else f"{part or name}: not measured. {fault}")
            continue
        if measured.assessment is None:
            code = SOME_FAILED
        (err if measured.assessment is None else out).print(measured.describe())
        out.print(f"Results: {out_dir / part}")
    if len(refused) == len(parts):
        return REFUSED
    return SOME_FAILED if refused else code


def _typed(store: str | None) -> str:
    """Return the command line, which the record and the page show to everyone, without the password of a ledger."""
    from micro.line import schema

    words = sys.argv[1:]
    if store is not None and any(store in word for word in words):
        words = [word.replace(store, schema.address(store).render_as_string(hide_password=True)) for word in words]
    return shlex.join(["micro", *words])
