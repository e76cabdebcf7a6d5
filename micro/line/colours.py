"""The colours of the flakes that a run found: what one microscope setting has shown."""

from pathlib import Path

import pyarrow as pa

from micro.errors import BadSetting
from micro.line import tables
from micro.line.record import undone
from micro.thin_film import Colour, colours_of


def of_run(folder: Path) -> tuple[Colour, ...]:
    """Return the colours that the flakes of a run have shown; see `thin_film.colours_of`.

    folder: what `micro predict --out` wrote.

    Raises MicroError where there is no such run or it goes on, BadSetting where it found no flakes.
    """
    undone(folder)
    images, table = tables.rows(folder, "images"), tables.read(folder, "regions")
    # of a file that was written anew, what it last held counts
    last = {(row["image"], row["sha256"]) for row in tables.last_contents(images).values()}
    keys = zip(table["image"].to_pylist(), table["sha256"].to_pylist(), strict=True)
    table = table.filter(pa.array([key in last for key in keys], pa.bool_()))
    columns = {name: table[name].to_numpy() for name in table.column_names}
    try:
        return colours_of(table["image"].to_pylist(), columns)
    except BadSetting as fault:
        raise BadSetting(f"{folder}: {fault}") from fault
