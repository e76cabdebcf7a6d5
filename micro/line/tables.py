"""The ledger as tables for people and programs: CSV and Parquet, one row an image and one a region."""

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from micro.line.ledger import REGION_HEAD, Ledger

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
    "seconds": pa.float64(),
    "model": pa.string(),
    "model_version": pa.string(),
    "weights_sha256": pa.string(),
    "state": pa.string(),
    "error": pa.string(),
}
_REGION_TYPES = (pa.string(), pa.int64(), pa.string(), pa.float64())
_FIRST_COLUMNS = ("area_px", "area_um2", "centroid_x_px", "centroid_y_px")
_TYPES = {"bool": pa.bool_(), "int": pa.int64(), "float": pa.float64(), "text": pa.string()}


def export(ledger: Ledger, folder: Path) -> None:
    """Write images and regions as .csv and .parquet, in the order of names, a batch of rows at a time.

    A measure that no image has is no column; one that some images have is empty for the others. Texts in the CSV files
    stand in quotes, whatever they hold.
    """
    classes = ledger.class_names()
    image_schema = pa.schema({**_IMAGE_HEAD, **{f"p_{name}": pa.float64() for name in classes}, **_IMAGE_TAIL})
    _write(folder / "images", image_schema, map(_image_cells, ledger.image_rows()))

    kinds = ledger.columns()
    order = [name for name in _FIRST_COLUMNS if name in kinds]
    order += [name for name in kinds if name not in order]
    measures = {name: _TYPES[kinds[name]] for name in order}
    region_schema = pa.schema({**dict(zip(REGION_HEAD, _REGION_TYPES, strict=True)), **measures})
    _write(folder / "regions", region_schema, map(_region_cells, ledger.region_rows()))


def _image_cells(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [
        {**row, "image": row["name"], **{f"p_{name}": score for name, score in (row["class_scores"] or {}).items()}}
        for row in rows
    ]


def _region_cells(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{**row["columns"], **row} for row in rows]


def _write(stem: Path, schema: pa.Schema, batches: Iterable[Sequence[Mapping[str, Any]]]) -> None:
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
