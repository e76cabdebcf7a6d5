"""Label files -> the table of their grains, the grain size of the specimen, and what was corrected."""

import json
import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from micro import formats, measure
from micro.errors import BadSetting, MicroError, UnknownPixelSize, UnreadableImage
from micro.formats import LabelFile, PixelSize
from micro.formats.pixel_size import UNKNOWN
from micro.formats.storage import replacing
from micro.grain_size import Assessment, Field, Tally, conclude, grains_between, section_of, tally, without_small
from micro.line import RECORD_NAME as RUN_NAME
from micro.line.sources import is_address
from micro.regions import Progress
from micro.specimen.edits import Change, altered, compare
from micro.specimen.fields import CLASS, Labelled, is_run

RECORD_NAME = "specimen.json"
MOST_PIECES = 4
"""Pieces a number that may be slips: grains annotated by hand have 1.02, a photograph has hundreds, and a mask of
classes as many as it has grains."""


@dataclass(frozen=True)
class Reading:
    """How label files are to be understood.

    size: of a pixel, above what the files say.
    boundary_value: pixels of this value are boundaries, and grains are what they part; None for numbered grains.
    min_area_px: smaller grains are given to their neighbours.
    Raises BadSetting where that is less than nothing.
    """

    size: PixelSize = UNKNOWN
    boundary_value: int | None = None
    min_area_px: int = 1

    def __post_init__(self) -> None:
        if self.min_area_px < 0:
            raise BadSetting(f"--min-area-px {self.min_area_px}: an area is 0 px or more.")


@dataclass(frozen=True, eq=False)
class Measured:
    """What came of the fields of a specimen.

    assessment: None without a pixel size; `refusal` then says which field has none, and how to give it.
    edits: by field, what people changed.
    left_out: by name, why an image of the run that was measured is no field.
    """

    name: str
    assessment: Assessment | None
    refusal: str | None
    edits: dict[str, Change] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)

    def describe(self) -> str:
        """Return the page to print."""
        page = [self.assessment.describe()] if self.assessment else [f"{self.name}: no grain size. {self.refusal}"]
        page += [f"Corrected: {name}: {change}" for name, change in self.edits.items()]
        return "\n".join([*page, *(f"Left out: {name}: {reason}" for name, reason in self.left_out.items())])


def measure_steps(
    fields: Sequence[Labelled],
    out: Path,
    name: str,
    reading: Reading,
    command: str = "",
    left_out: Mapping[str, str] = MappingProxyType({}),
) -> Generator[Progress, None, Measured]:
    """Measure the fields of one specimen and leave regions.csv, regions.parquet and specimen.json in `out`.

    Yields once a field. Nothing is written until all fields are measured.

    command: what was typed, for the record. left_out: images of the run that are no fields, and why, to be told.

    Raises MicroError where a field cannot be read or holds no grain: a specimen is all of its fields, or none. It does
    too where `out` is the folder of a run, whose own tables have the same names.
    """
    if (out / RUN_NAME).exists() or is_run(out):
        raise MicroError(
            f"{out}: the tables of a run lie there, and these would take their place. Give another --out, such as "
            f"{out.with_name(f'{out.name}-grain-size')}."
        )
    tables: list[pa.Table] = []
    tallies: list[Tally] = []
    inputs: list[dict[str, Any]] = []
    edits: dict[str, Change] = {}
    refusal = None
    for each in fields:
        file = formats.read_label_file(each.labels)
        _refuse_other_shape(each, file.labels.shape)
        change = _change(each, file.labels)
        if change is not None:
            edits[each.name] = change
        size = _size(each, file, reading)
        labels = grains_of(each.labels, file.labels, reading)
        tables.append(_table(each, labels, size.um))
        inputs.append(_input(each, file, change, out))
        try:
            tallies.append(tally(Field(labels, size.um, each.name, size.source)))
        except UnknownPixelSize as fault:
            refusal = refusal or " ".join((str(fault), *_remarked(size)))
        yield Progress(len(inputs), len(fields), each.name)
    found = Measured(name, None if refusal else conclude(tallies, name), refusal, edits, left_out)
    _write(out, tables, _record(found, inputs, reading, command))
    return found


def _refuse_other_shape(each: Labelled, shape_px: tuple[int, ...]) -> None:
    """Raise UnreadableImage where labels have other pixels than their micrograph, whose pixel size is not theirs."""
    if each.shape_px not in (None, shape_px):
        ours, theirs = (" x ".join(map(str, shape)) for shape in (shape_px, each.shape_px))
        raise UnreadableImage(
            f"{each.labels}: {ours} px, and its image {each.image} is {theirs} px. Save the labels at the size of "
            "the image."
        )


def grains_of(path: Path, labels: NDArray[np.int32], reading: Reading) -> NDArray[np.integer]:
    """Return the grains (Y, X) in the labels (Y, X) of a file, numbered as in it; its path is for messages.

    Raises UnreadableImage where the labels look like a mask of boundaries, and are not to be read as one, where they
    are to be, and none of them is a boundary, where they look like a photograph or a mask of classes, and where all
    grains are smaller than is asked for.
    """
    if reading.boundary_value is not None:
        boundary = labels == reading.boundary_value
        if not boundary.any():
            held = ", ".join(map(str, np.unique(labels)[:5]))
            raise UnreadableImage(
                f"{path}: no pixel has the value {reading.boundary_value} of boundaries; it holds {held}. Pass the one "
                f"that its boundaries have with --boundary-value."
            )
        labels = grains_between(boundary)
    elif labels.size and labels.min() == 0 < labels.max() == labels[labels > 0].min():
        raise UnreadableImage(
            f"{path}: holds one region with the number {labels.max()}. If it is a mask of boundaries, pass "
            f"their value, such as --boundary-value {labels.max()}, or --boundary-value 0 if they are the black ones."
        )
    else:
        _refuse_pieces(path, labels)
    grains = without_small(labels, reading.min_area_px)
    if labels.any() and not grains.any():
        raise UnreadableImage(f"{path}: no grain has {reading.min_area_px} px. Pass a smaller --min-area-px.")
    return grains


def _refuse_pieces(path: Path, labels: NDArray[np.int32]) -> None:
    """Raise UnreadableImage where the numbers of labels (Y, X) lie about in so many pieces that they are not grains."""
    from skimage.measure import label

    pieces = label(labels, background=0, connectivity=1, return_num=True)[1]  # type: ignore[no-untyped-call]
    numbers = np.count_nonzero(np.unique(labels))
    if pieces > MOST_PIECES * numbers:
        raise UnreadableImage(
            f"{path}: its {numbers} numbers lie in {pieces} pieces, and a grain is in one. If it is a photograph, find "
            "its grains with `micro predict`; if its numbers are classes, save a number for each grain."
        )


def _change(each: Labelled, labels: NDArray[np.int32]) -> Change | None:
    """Return what people changed: against the original if it is still what was found, else in numbers only."""
    if each.found is None:
        return None
    if each.original is None:
        return altered(labels, each.found)
    original = formats.read_labels(each.original)
    if altered(original, each.found) is None:
        return compare(original, labels)
    return altered(labels, each.found)


def _size(each: Labelled, file: LabelFile, reading: Reading) -> PixelSize:
    known = (size for size in (reading.size, each.size, file.size) if size.um is not None)
    return next(known, replace(UNKNOWN, notes=tuple(dict.fromkeys(each.size.notes + file.size.notes))))


def _remarked(size: PixelSize) -> Iterator[str]:
    """Say why what a file states was not used: to who calibrated it, the ways to give a pixel size say nothing new."""
    if size.notes:
        yield f"Remarked on it: {'; '.join(size.notes)}."


def _table(each: Labelled, labels: NDArray[np.integer], pixel_size_um: float | None) -> pa.Table:
    """Return one row a grain, with the columns of the table that a run writes."""
    try:
        ready = section_of(labels)
    except UnreadableImage as fault:
        raise UnreadableImage(f"{each.labels}: {fault}") from fault
    columns = measure.adjoining_columns(ready.labels, pixel_size_um)
    count = len(ready)
    return pa.table(
        {
            "image": pa.array([each.name] * count, pa.string()),
            "index": ready.numbers,
            "class": pa.array([CLASS] * count, pa.string()),
            "score": pa.nulls(count, pa.float64()),
            **columns,
            "sha256": pa.array([each.image_sha256] * count, pa.string()),
        }
    )


def _input(each: Labelled, file: LabelFile, change: Change | None, out: Path) -> dict[str, Any]:
    return {
        "field": each.name,
        "labels": _seen_from(out, str(each.labels)),
        "labels_sha256": file.sha256,
        "image": each.image,
        "image_sha256": each.image_sha256,
        "address": None if each.address is None else _seen_from(out, each.address),
        "maker": each.maker,
        "change": None if change is None else asdict(change),
        "corrections": [{"author": said.author, "time": said.time, "labels": said.labels} for said in each.corrections],
    }


def _seen_from(out: Path, address: str) -> str:
    """Return a path relative to a folder, where there is a relative way; a URL stays what it is."""
    if is_address(address):
        return address
    place = Path(address)
    try:
        # what .. leads to from a folder that is a link is seen from where the link leads
        return Path(os.path.relpath(place.parent.resolve() / place.name, out.resolve())).as_posix()
    except ValueError:  # another drive
        return address


def _record(found: Measured, inputs: Sequence[dict[str, Any]], reading: Reading, command: str) -> dict[str, Any]:
    size = found.assessment.record() if found.assessment else {"name": found.name, "refusal": found.refusal}
    return {
        **size,
        "inputs": inputs,
        "left_out": dict(found.left_out),
        "reading": {"boundary_value": reading.boundary_value, "min_area_px": reading.min_area_px},
        "command": command,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "micro_version": version("micro"),
    }


def _write(out: Path, tables: Sequence[pa.Table], record: dict[str, Any]) -> None:
    whole = pa.concat_tables(tables, promote_options="default")
    try:
        out.mkdir(parents=True, exist_ok=True)
        with replacing(out / "regions.csv") as draft:
            pa.csv.write_csv(whole, draft)
        with replacing(out / "regions.parquet") as draft:
            pa.parquet.write_table(whole, draft)
        with replacing(out / RECORD_NAME) as draft:
            draft.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as fault:
        raise MicroError(f"{out}: results cannot be written there ({fault.strerror}). Give another --out.") from fault
