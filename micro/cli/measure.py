"""`micro measure`: the grain size of a specimen from label images, without a network."""

import shlex
import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from micro.cli.app import DONE, SOME_FAILED, app
from micro.cli.screen import err, out, watched


@app.command
def measure(
    *labels: str,
    out_dir: Annotated[Path, Parameter(name=["--out", "-o"])],
    pixel_size_um: float | None = None,
    scale_bar: str | None = None,
    images: Annotated[Path | None, Parameter(name="--image")] = None,
    specimen: str | None = None,
    specimen_by: Literal["all", "folder"] = "all",
    boundary_value: int | None = None,
    min_area_px: int = 1,
    store: Annotated[str | None, Parameter(env_var="MICRO_STORE")] = None,
) -> int:
    """Print the grain size that label images come to, and write the table of grains and the record of the specimen.

    All label images together are the fields of one specimen. Exit code: 0 done, 1 no grain size because a pixel size
    is unknown (the table is written in pixels), 2 nothing could be measured.

    Parameters
    ----------
    labels
        Label images, folders or globs of them, or the folder of a run of `micro predict`, in which the last correction
        of each image counts.
    out_dir
        Folder for regions.csv, regions.parquet and specimen.json.
    pixel_size_um
        Size of one pixel in micrometres; overrides what the files say.
    scale_bar
        The length of the scale bar in place of that, such as 222px=50um.
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
    from micro.formats.pixel_size import given
    from micro.specimen import Reading, measure_steps
    from micro.specimen.fields import by_folder, folder_of, left_out, of_command

    reading = Reading(given(pixel_size_um, scale_bar), boundary_value, min_area_px)
    found = of_command(labels, images, store)
    lacking = left_out(labels, store)
    name = specimen or out_dir.resolve().name
    command = shlex.join(["micro", *sys.argv[1:]])
    parts = {"": found} if specimen_by == "all" else by_folder(found)
    code = DONE
    for part, fields in parts.items():
        of_part = {each: why for each, why in lacking.items() if specimen_by == "all" or folder_of(each) == part}
        steps = measure_steps(fields, out_dir / part, " ".join(filter(None, (name, part))), reading, command, of_part)
        measured = watched(steps, "fields")
        if measured.assessment is None:
            code = SOME_FAILED
        (err if measured.assessment is None else out).print(measured.describe())
        out.print(f"Results: {out_dir / part}")
    return code
