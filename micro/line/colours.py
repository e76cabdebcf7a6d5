"""The colours of the flakes that a run found: what one microscope setting has shown."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

from micro.errors import BadSetting, MicroError
from micro.line.record import undone
from micro.line.tables import last_contents
from micro.thin_film import Colour, colours_of


def of_run(folder: Path) -> tuple[Colour, ...]:
    """Return the colours that the flakes of a run have shown; see `thin_film.colours_of`.

    folder: what `micro predict --out` wrote.

    Raises MicroError where there is no such run or it goes on, BadSetting where it found no flakes.
    """
    undone(folder)
    try:
        images = pa.parquet.read_table(folder / "images.parquet", columns=["image", "sha256"])
        table = pa.parquet.read_table(folder / "regions.parquet")
    except (OSError, pa.ArrowInvalid) as fault:
        raise MicroError(f"{folder}: holds no tables of a run ({fault}). Name the --out of `micro predict`.") from fault
    # of a file that was written anew, what it last held counts
    last = {(row["image"], row["sha256"]) for row in last_contents(images.to_pylist()).values()}
    keys = zip(table["image"].to_pylist(), table["sha256"].to_pylist(), strict=True)
    table = table.filter(pa.array([key in last for key in keys], pa.bool_()))
    columns = {name: table[name].to_numpy() for name in table.column_names}
    try:
        return colours_of(table["image"].to_pylist(), columns)
    except BadSetting as fault:
        raise BadSetting(f"{folder}: {fault}") from fault
