"""The ledger as tables for people and programs: CSV and Parquet, one row an image and one a region."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import sqlalchemy as sa

from micro.errors import MicroError
from micro.formats.storage import replacing
from micro.line.schema import DONE, QUARANTINED, images, regions

_IMAGE_HEAD = {
    "image": pa.string(),
    "sha256": pa.string(),
    "height_px": pa.int64(),
    "width_px": pa.int64(),
    "pixel_size_um": pa.float64(),
    "pixel_size_source": pa.string(),
    "class": pa.string(),
    "score": pa.float64(),
}
_IMAGE_TAIL = {
    "verdict": pa.string(),
    "n_regions": pa.int64(),
    "labels": pa.string(),
    "seconds": pa.float64(),
    "model": pa.string(),
    "model_version": pa.string(),
    "weights_sha256": pa.string(),
    "state": pa.string(),
    "error": pa.string(),
    "notes": pa.string(),
}
_REGION_HEAD = {"image": pa.string(), "index": pa.int64(), "class": pa.string(), "score": pa.float64()}
_REGION_TAIL = {"sha256": pa.string()}
_FIRST_COLUMNS = ("area_px", "area_um2", "centroid_x_px", "centroid_y_px")
_TYPES = {"bool": pa.bool_(), "int": pa.int64(), "float": pa.float64(), "text": pa.string()}
_HAS_RESULT = images.c.state.in_((DONE, QUARANTINED))
_IN_ORDER = (images.c.name, images.c.stored, images.c.id)

REGIONS_AT_ONCE = 20_000

Cells = dict[str, Sequence[Any]]
"""Rows as columns: name -> one cell a row."""


def export(database: sa.Engine, folder: Path) -> None:
    """Write images and regions as .csv and .parquet, in the order of names, a batch of rows at a time.

    database: as `schema.connect` gives it; others may go on writing to it.

    A measure that no image has is no column; one that some images have is empty for the others. Where one name stood
    for several images, one after the other, `sha256` tells their rows apart. Texts in the CSV files stand in quotes,
    whatever they hold.
    """
    probabilities = {f"p_{name}": pa.float64() for name in class_names(database)}
    image_schema = pa.schema({**_IMAGE_HEAD, **probabilities, **_IMAGE_TAIL})
    _write(folder / "images", image_schema, image_cells(database))

    kinds = columns(database)
    order = [name for name in _FIRST_COLUMNS if name in kinds]
    order += [name for name in kinds if name not in order]
    measures = {name: _TYPES[kinds[name]] for name in order}
    region_schema = pa.schema({**_REGION_HEAD, **measures, **_REGION_TAIL})
    _write(folder / "regions", region_schema, region_cells(database))


def read(folder: Path, name: str) -> pa.Table:
    """Return the table "images" or "regions" of a run, as `export` wrote it; raise MicroError where there is none."""
    try:
        found = pa.parquet.read_table(folder / f"{name}.parquet")
        found.select(("image", "sha256"))  # what every table of a run has
    except (OSError, pa.ArrowInvalid, KeyError) as fault:
        raise MicroError(f"{folder}: holds no tables of a run ({fault}). Name the --out of `micro predict`.") from fault
    return found


def rows(folder: Path, name: str) -> list[dict[str, Any]]:
    """Return the rows of such a table; see `read`."""
    found: list[dict[str, Any]] = read(folder, name).to_pylist()
    return found


def last_contents(rows: Iterable[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Return the rows of images by name: of several under one name, as when a file was written anew, the last.

    rows: of the table of images, whose order is that of time.
    """
    return {row["image"]: row for row in rows}


def left_out(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the images that are no fields, by name, each with the reason: no labels, or not the last of their name.

    rows: of the table of images, whose order is that of time. An earlier one has a part of its hash behind its name.
    """
    reasons = {}
    last = last_contents(rows)
    for row in rows:
        name = row["image"]
        if row is last[name]:
            if not row["labels"]:  # what is wrong with a file begins with its name, which the reader sees
                reasons[name] = (row.get("error") or "no labels").removeprefix(f"{name}: ")
        elif row["labels"]:
            reasons[f"{name} ({row['sha256'][:8]})"] = "an earlier image of this name; the last one is the field"
    return reasons


def image_cells(database: sa.Engine, count: int = 5000) -> Iterator[Cells]:
    """Yield the images that have a result, in the order of their names and of time, at most count at a time."""
    plain = [images.c[name] for name in (*_IMAGE_HEAD, *_IMAGE_TAIL) if name not in ("image", "notes")]
    query = sa.select(images.c.name.label("image"), *plain, *map(_packed, (images.c.class_scores, images.c.notes)))
    for cells in _batches(database, query.where(_HAS_RESULT).order_by(*_IN_ORDER), count):
        scores = _unpacked(cells.pop("class_scores"))
        notes = ["; ".join(each or ()) or None for each in _unpacked(cells["notes"])]
        yield {**cells, **_spread(scores, "p_"), "notes": notes}


def region_cells(database: sa.Engine) -> Iterator[Cells]:
    """Yield the regions with `image` and `sha256` of their image, in the order of images and labels."""
    plain = [column for column in regions.c if column is not regions.c.columns]
    query = sa.select(images.c.name.label("image"), images.c.sha256, *plain, _packed(regions.c.columns))
    query = query.join_from(regions, images).where(_HAS_RESULT)
    for cells in _batches(database, query.order_by(*_IN_ORDER, regions.c.index), REGIONS_AT_ONCE):
        yield {**_spread(_unpacked(cells.pop("columns"))), **cells}


def columns(database: sa.Engine) -> dict[str, str]:
    """Return the measured columns of all regions in the order of the image that has most, each with its kind."""
    query = sa.select(images.c.columns).where(images.c.columns.is_not(None)).group_by(images.c.columns)
    with database.connect() as connection:
        heads = connection.scalars(query.order_by(sa.func.min(images.c.name))).all()
    kinds: dict[str, str] = {}
    for name, kind in (column for head in sorted(heads, key=len, reverse=True) for column in head):
        kinds[name] = kind if kinds.get(name, kind) == kind else _wider(kind, kinds[name])
    return kinds


def class_names(database: sa.Engine) -> list[str]:
    """Return the classes to which the bundle gives a probability, in its order."""
    query = sa.select(images.c.class_scores).where(images.c.state == DONE).limit(1)
    with database.connect() as connection:
        return list(connection.scalar(query) or {})


def _batches(database: sa.Engine, query: sa.Select[Any], count: int) -> Iterator[Cells]:
    with database.connect() as connection:
        found = connection.execution_options(yield_per=count).execute(query)
        names = tuple(found.keys())
        for rows in found.partitions():
            yield dict(zip(names, zip(*rows, strict=True), strict=True))


def _packed(column: sa.ColumnElement[Any]) -> sa.Label[str]:
    """Return a column of JSON as texts, since many are decoded at once in a third of the time."""
    return sa.cast(column, sa.Text).label(column.key)


def _unpacked(texts: Sequence[str | None]) -> list[Any]:
    found: list[Any] = json.loads(f"[{','.join(text or 'null' for text in texts)}]")
    return found


def _spread(rows: Sequence[dict[str, Any] | None], prefix: str = "") -> Cells:
    """Turn a dictionary a row into a column for each of their names; empty where a row has none of it."""
    names = dict.fromkeys(name for row in rows if row for name in row)
    return {f"{prefix}{name}": [row and row.get(name) for row in rows] for name in names}


def _wider(kind: str, other: str) -> str:
    return "float" if {kind, other} == {"int", "float"} else "text"


def _write(stem: Path, schema: pa.Schema, batches: Iterable[Cells]) -> None:
    with ExitStack() as stack:
        csv = stack.enter_context(replacing(stem.with_suffix(".csv")))
        parquet = stack.enter_context(replacing(stem.with_suffix(".parquet")))
        with pa.csv.CSVWriter(csv, schema) as lines, pa.parquet.ParquetWriter(parquet, schema) as groups:
            for cells in batches:
                nothing = [None] * len(cells["image"])
                table = pa.table({name: cells.get(name, nothing) for name in schema.names}, schema=schema)
                lines.write_table(table)
                groups.write_table(table)
