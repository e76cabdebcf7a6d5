"""Where on the stage an image was taken: from its name, a table, or the metadata of OME-TIFF."""

import csv
import math
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from xml.etree import ElementTree

from micro.errors import BadSetting
from micro.formats.pixel_size import um_per

_NUMBER = r"[-+]?\d+(?:\.\d+)?"
_UNIT = "[u\N{MICRO SIGN}\N{GREEK SMALL LETTER MU}]m|mm|nm"
_PLACE = re.compile(
    rf"(?<![a-z])x[=_ ]?(?P<x>{_NUMBER})(?P<x_unit>{_UNIT})?[_ ,;]*y[=_ ]?(?P<y>{_NUMBER})(?P<y_unit>{_UNIT})?",
    re.IGNORECASE,
)
_ROW_AND_COLUMN = re.compile(r"(?<![a-z])r(?:ow)?[=_ ]?(\d+)[_ ,;-]*c(?:ol(?:umn)?)?[=_ ]?(\d+)", re.IGNORECASE)
_LAST_NUMBER = re.compile(r"(\d+)\D*$")


class Place(NamedTuple):
    """The stage's coordinates of the middle of an image."""

    x_um: float
    y_um: float


class Cell(NamedTuple):
    """Row and column of an image in a scan, both from 0."""

    row: int
    column: int


def place_in_name(name: str, unit: str | None = None) -> Place | None:
    """Return the place that a name such as "X=9.28Y=-10.2.png" or "x120um_y-40um.tif" states; None if it states none.

    unit: of names that state none. Raises BadSetting where a unit is needed.
    """
    found = _PLACE.search(PurePosixPath(name).stem)
    if found is None:
        return None
    x_unit, y_unit = found["x_unit"] or found["y_unit"], found["y_unit"] or found["x_unit"]
    factors = [um_per(each or unit or "") for each in (x_unit, y_unit)]
    if factors[0] is None or factors[1] is None:
        raise BadSetting(f"{name}: states a place without a unit. Give --unit um or --unit mm.")
    return Place(float(found["x"]) * factors[0], float(found["y"]) * factors[1])


def cells_in_names(names: Sequence[str], columns: int | None = None) -> dict[str, Cell]:
    """Return row and column of each image, from names such as "r03_c11", or from numbers that count row by row.

    columns: how many images a row has, for numbers. They are counted from the smallest one.

    Raises BadSetting where a name states neither, or two state the same.
    """
    stems = {name: PurePosixPath(name).stem for name in names}
    cells = {
        name: Cell(int(found[1]), int(found[2]))
        for name, stem in stems.items()
        if (found := _ROW_AND_COLUMN.search(stem))
    }
    if len(cells) < len(names):
        if columns is None:
            unplaced = next(name for name in names if name not in cells)
            raise BadSetting(
                f"{unplaced}: its name states neither a place on the stage (X=...Y=...) nor row and column (r01_c02). "
                "Give --positions TABLE, or --columns N where names are numbered row by row."
            )
        numbers = {name: _LAST_NUMBER.search(stem) for name, stem in stems.items()}
        without = [name for name, found in numbers.items() if found is None]
        if without:
            raise BadSetting(f"{without[0]}: there is no number in its name to say where in the scan it belongs.")
        counts = {name: int(found[1]) for name, found in numbers.items() if found}
        first = min(counts.values())
        cells = {name: Cell(*divmod(count - first, columns)) for name, count in counts.items()}
    top, left = min(cell.row for cell in cells.values()), min(cell.column for cell in cells.values())
    cells = {name: Cell(cell.row - top, cell.column - left) for name, cell in cells.items()}
    seen: dict[Cell, str] = {}
    for name, cell in cells.items():
        if cell in seen:
            raise BadSetting(f"{seen[cell]} and {name} claim the same row and column of the scan.")
        seen[cell] = name
    return cells


def read_places(path: Path) -> dict[str, Place]:
    """Return the places of a CSV table with the columns image, x_um and y_um, or image, x_mm and y_mm.

    Raises BadSetting where it is no such table.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
        unit = "mm" if rows and "x_mm" in rows[0] else "um"
        factor = 1e3 if unit == "mm" else 1.0
        stated = [(row["image"], float(row[f"x_{unit}"]) * factor, float(row[f"y_{unit}"]) * factor) for row in rows]
    except UnicodeDecodeError as fault:
        raise BadSetting(f"{path}: not a CSV table in UTF-8 ({fault.reason} at byte {fault.start}).") from fault
    except (OSError, csv.Error, KeyError, TypeError, ValueError) as fault:
        raise BadSetting(
            f"{path}: a table with the columns image,x_um,y_um (or x_mm,y_mm) is needed. {fault!r}"
        ) from fault
    if not stated:
        raise BadSetting(f"{path}: there is no position in this table.")
    places: dict[str, Place] = {}
    for image, x_um, y_um in stated:
        if not (math.isfinite(x_um) and math.isfinite(y_um)):
            raise BadSetting(f"{path}: the position of {image} is no number.")
        if places.setdefault(image, Place(x_um, y_um)) != (x_um, y_um):
            raise BadSetting(f"{path}: states two positions of {image}.")
    return places


def place_in_ome(path: Path) -> Place | None:
    """Return the place that the first plane of an OME-TIFF states; None for other files and where it states none."""
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            metadata = file.ome_metadata
    except (OSError, tifffile.TiffFileError):
        return None
    if not metadata:
        return None
    try:
        plane = next((part for part in ElementTree.fromstring(metadata).iter() if part.tag.endswith("}Plane")), None)
        if plane is None or "PositionX" not in plane.attrib or "PositionY" not in plane.attrib:
            return None
        # without a unit the schema's default is a "reference frame", which is no length
        factors = [um_per(plane.get(f"Position{axis}Unit", "")) for axis in "XY"]
        if factors[0] is None or factors[1] is None:
            return None
        return Place(float(plane.attrib["PositionX"]) * factors[0], float(plane.attrib["PositionY"]) * factors[1])
    except (ElementTree.ParseError, ValueError):  # a statement that cannot be understood is none
        return None
