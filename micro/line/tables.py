"""The ledger as tables for people and programs: CSV and Parquet, one row an image and one a region."""

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import sqlalchemy as sa

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

Rows = Sequence[Mapping[str, Any]]


def export(database: sa.Engine, folder: Path) -> None:
    """Write images and regions as .csv and .parquet, in the order of names, a batch of rows at a time.

    database: as `schema.connect` gives it; others may go on writing to it.

    A measure that no image has is no column; one that some images have is empty for the others. Where one name stood
    for several images, one after the other, `sha256` tells their rows apart. Texts in the CSV files stand in quotes,
    whatever they hold.
    """
    probabilities = {f"p_{name}": pa.float64() for name in class_names(database)}
    image_schema = pa.schema({**_IMAGE_HEAD, **probabilities, **_IMAGE_TAIL})
    _write(folder / "images", image_schema, map(_image_cells, image_rows(database)))

    kinds = columns(database)
    order = [name for name in _FIRST_COLUMNS if name in kinds]
    order += [name for name in kinds if name not in order]
    measures = {name: _TYPES[kinds[name]] for name in order}
    region_schema = pa.schema({**_REGION_HEAD, **measures, **_REGION_TAIL})
    _write(folder / "regions", region_schema, map(_region_cells, region_rows(database)))


def image_rows(database: sa.Engine, count: int = 5000) -> Iterator[Rows]:
    """Yield the images that have a result, in the order of their names and of time, at most count at a time."""
    cells = [images.c[name] for name in (*_IMAGE_HEAD, *_IMAGE_TAIL) if name != "image"]
    query = sa.select(images.c.name.label("image"), *cells, images.c.class_scores).where(_HAS_RESULT)
    return _batches(database, query.order_by(images.c.name, images.c.id), count)


def region_rows(database: sa.Engine, count: int = 20000) -> Iterator[Rows]:
    """Yield the regions with `image` and `sha256` of their image, in the order of images and labels."""
    head = (images.c.name.label("image"), images.c.sha256, regions)
    query = sa.select(*head).join_from(regions, images).where(_HAS_RESULT)
    return _batches(database, query.order_by(images.c.name, images.c.id, regions.c.index), count)


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


def _batches(database: sa.Engine, query: sa.Select[Any], count: int) -> Iterator[Rows]:
    with database.connect() as connection:
        found = connection.execution_options(yield_per=count).execute(query)
        names = tuple(found.keys())
        for rows in found.partitions():  # their own mappings take longer
            yield [dict(zip(names, row, strict=True)) for row in rows]


def _wider(kind: str, other: str) -> str:
    return "float" if {kind, other} == {"int", "float"} else "text"


def _image_cells(rows: Rows) -> list[dict[str, Any]]:
    return [
        {
            **row,
            **{f"p_{name}": score for name, score in (row["class_scores"] or {}).items()},
            "notes": "; ".join(row["notes"] or ()) or None,
        }
        for row in rows
    ]


def _region_cells(rows: Rows) -> list[dict[str, Any]]:
    return [{**row["columns"], **row} for row in rows]


def _write(stem: Path, schema: pa.Schema, batches: Iterable[Rows]) -> None:
    with ExitStack() as stack:
        csv = stack.enter_context(_replacing(stem.with_suffix(".csv")))
        parquet = stack.enter_context(_replacing(stem.with_suffix(".parquet")))
        with pa.csv.CSVWriter(csv, schema) as lines, pa.parquet.ParquetWriter(parquet, schema) as groups:
            for rows in batches:
                cells = {name: [row.get(name) for row in rows] for name in schema.names}
                table = pa.table(cells, schema=schema)
                lines.write_table(table)
                groups.write_table(table)


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Yield the path of a draft that takes the place of `path` when all went well."""
    draft = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        yield draft
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
