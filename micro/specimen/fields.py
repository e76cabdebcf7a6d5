"""Which label files are the fields of a specimen, and what is known of each."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from micro import formats
from micro.errors import MicroError
from micro.formats import PixelSize
from micro.formats.pixel_size import UNKNOWN
from micro.formats.storage import opened
from micro.line import LABELS_NAME, record, schema, tables
from micro.line.corrections import Correction, said_of
from micro.line.record import settings_of, undone, undone_named
from micro.line.sources import find
from micro.specimen.edits import PLACE

CLASS = "grain"


Place = tuple[int, float, float]
"""Area of a region in pixels, y and x of its middle."""


@dataclass(frozen=True)
class Labelled:
    """One field: its label file, and what else is known of it.

    name: of the field, which is the image's where there is one.
    image, image_sha256: the micrograph; None where only the labels are known.
    address: where its bytes lie, a path or a URL; None where nobody knows.
    shape_px: height and width of the micrograph; None where only the labels are known.
    size: of a pixel, where something else than the label file says it.
    maker: which bundle found the grains, and with which settings.
    original: the label file as the bundle left it, where `labels` is a corrected one.
    found: what the run stored of the original's regions, by number; None where there was no run.
    corrections: who corrected it and when, in that order.
    """

    name: str
    labels: Path
    image: str | None = None
    image_sha256: str | None = None
    address: str | None = None
    shape_px: tuple[int, int] | None = None
    size: PixelSize = UNKNOWN
    maker: str | None = None
    original: Path | None = None
    found: Mapping[int, Place] | None = None
    corrections: tuple[Correction, ...] = ()


def is_run(folder: Path) -> bool:
    """Whether a folder is what `micro predict --out` wrote."""
    return (folder / "images.parquet").is_file() and (folder / LABELS_NAME).is_dir()


def of_command(sources: Sequence[str], images: Path | None = None, store: str | None = None) -> list[Labelled]:
    """Return the fields that a command line names: those of one run's folder, or label files."""
    runs = _runs(sources)
    if not runs:
        return of_files(sources, images)
    if len(sources) > 1 or images is not None:
        raise MicroError(f"{runs[0]}: the folder of a run knows its images. Name it alone, without --image.")
    return of_run(runs[0], store)


def without_result(sources: Sequence[str]) -> dict[str, str]:
    """Return how many images of the run that a command line names have no result yet, as `left_out` names others."""
    return {name: why for folder in _runs(sources) for name, why in undone_named(folder).items()}


def left_out(sources: Sequence[str]) -> dict[str, str]:
    """Return the images of a named run that have a result and are no fields, each with the reason."""
    reasons = (tables.left_out(tables.rows(folder, "images")) for folder in _runs(sources))
    return {name: why for each in reasons for name, why in each.items()}


def _runs(sources: Sequence[str]) -> list[Path]:
    return [Path(source) for source in sources if is_run(Path(source))]


def by_folder(fields: Sequence[Labelled]) -> dict[str, list[Labelled]]:
    """Return the fields of each folder, by the folder's part of their names."""
    groups: dict[str, list[Labelled]] = defaultdict(list)
    for each in fields:
        groups[folder_of(each.name)].append(each)
    return dict(groups)


def folder_of(name: str) -> str:
    """Return the folder's part of the name of a field."""
    return name.rpartition("/")[0]


def of_files(sources: Sequence[str], images: Path | None = None) -> list[Labelled]:
    """Return the label files that a command line names.

    images: folder of the micrographs, each with the name of its label file up to the suffix.

    Raises MicroError where a source names none, or a label file has no image in `images`, or two.
    """
    fields = find(sources)
    if images is None:
        return [Labelled(each.name, Path(each.address)) for each in fields]
    beside: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(images.rglob("*")):
        if path.is_file() and formats.is_image_name(path):
            beside[path.stem].append(path)
    return [_beside(each.name, Path(each.address), beside, images) for each in fields]


def _beside(name: str, labels: Path, images: Mapping[str, Sequence[Path]], folder: Path) -> Labelled:
    found = images.get(labels.stem, ())
    if len(found) != 1:
        have = f"has {len(found)} images of that name" if found else "has no image of that name"
        raise MicroError(f"{labels}: {folder} {have}; each label file belongs to one, such as {labels.stem}.tif.")
    image = formats.read(found[0])
    with opened(found[0], found[0].name) as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    size = PixelSize(image.pixel_size_um, image.pixel_size_source, image.notes)
    shape_px = image.height_px, image.width_px
    return Labelled(name, labels, str(found[0]), digest, str(found[0].absolute()), shape_px, size)


def of_run(folder: Path, store: str | None = None) -> list[Labelled]:
    """Return the images of a run in which regions were looked for, with the last correction of each.

    Of a file that was written anew, what it last held is the field.

    folder: what `micro predict --out` wrote. store: address of its ledger where that is no file in the folder.

    Raises MicroError where there is no such run or it goes on, no image of it has labels, or these are of other things
    than grains.
    """
    undone(folder)
    rows = [row for row in tables.last_contents(tables.rows(folder, "images")).values() if row["labels"]]
    if not rows:
        raise MicroError(f"{folder}: no image of this run has labels. Name the --out of a run that finds grains.")
    stored: dict[tuple[str, str], dict[int, Place]] = defaultdict(dict)
    regions = tables.rows(folder, "regions")
    others = sorted({region["class"] for region in regions} - {CLASS})
    if others:
        raise MicroError(
            f"{folder}: this run found {', '.join(others)}, and not grains. Name the --out of a run that finds grains."
        )
    for region in regions:
        area_px, y, x = (region[name] for name in PLACE)
        stored[region["image"], region["sha256"]][region["index"]] = area_px, y, x
    said = [each for each in said_of(folder, store) if each.labels]
    address_of = _addresses(folder, store)
    asked = settings_of(record.read(folder))
    return [
        _of_row(folder, asked, {**row, "address": address_of[row["labels"]]}, stored[row["image"], row["sha256"]], said)
        for row in rows
    ]


def _addresses(folder: Path, store: str | None) -> dict[str, str]:
    """Return where the bytes of a run's images lie, by label file; only the ledger knows that."""
    query = sa.select(schema.images.c.labels, schema.images.c.address).where(schema.images.c.labels.is_not(None))
    engine = schema.ledger_of(folder, store)
    try:
        with engine.connect() as connection:
            return {row.labels: row.address for row in connection.execute(query)}
    except sa.exc.DBAPIError as fault:
        raise MicroError(f"{folder}: its ledger cannot be read ({schema.reason(fault)}).") from fault
    finally:
        engine.dispose()


def _of_row(
    folder: Path,
    asked: Mapping[str, Any],
    row: Mapping[str, Any],
    found: Mapping[int, Place],
    said: Sequence[Correction],
) -> Labelled:
    said = [each for each in said if each.sha256 == row["sha256"]]
    settings = "".join(f", {key}={value}" for key, value in asked.items())
    original = folder / row["labels"]
    corrected = said[-1].labels if said else None
    return Labelled(
        name=row["image"],
        labels=original if corrected is None else folder / corrected,
        image=row["image"],
        image_sha256=row["sha256"],
        address=row["address"],
        shape_px=(row["height_px"], row["width_px"]),
        size=PixelSize(row["pixel_size_um"], row["pixel_size_source"], tuple(filter(None, [row["notes"]]))),
        maker=f"{row['model']} {row['model_version']}{settings}, weights SHA-256 {row['weights_sha256']}",
        original=None if corrected is None else original,
        found=found,
        corrections=tuple(said),
    )
