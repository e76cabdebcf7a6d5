"""What people say an image shows, stored beside what the bundle said, never over it, and given back to training."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from micro import formats
from micro.errors import BadSetting, RunRefused, UnreadableImage
from micro.folder import Annotated, annotated, is_lossless
from micro.formats.storage import replacing
from micro.line import CORRECTIONS_NAME, schema

corrections = sa.Table(
    "corrections",
    schema.metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("image", sa.Text, nullable=False),
    sa.Column("sha256", sa.Text, nullable=False),
    sa.Column("class", sa.Text),
    sa.Column("labels", sa.Text),
    sa.Column("copy", sa.Text, nullable=False),
    sa.Column("author", sa.Text, nullable=False),
    sa.Column("time", sa.Text, nullable=False),
)


@dataclass(frozen=True)
class Correction:
    """What one person said of one image.

    class_name: class of the frame; or labels: a mask, relative to the run's folder; the other is None.
    copy: the image itself, relative to the run's folder.
    time: when it was said, ISO 8601 in UTC.
    """

    image: str
    sha256: str
    class_name: str | None
    labels: str | None
    copy: str
    author: str
    time: str


def correct(
    run: Path,
    image: Path,
    author: str,
    *,
    class_name: str | None = None,
    labels: Path | None = None,
    store: str | None = None,
) -> Correction:
    """Store what a person says an image shows; several words on one image are all kept, and the last one counts.

    image: the file itself, which is found in the ledger by its content.
    class_name: class of the frame. labels: label image of the frame's own size. One of the two.
    store: address of the ledger where it is no file in the run's folder.

    Raises RunRefused where no such ledger or image is, BadSetting where the bundle cannot learn such a word.
    """
    if (class_name is None) == (labels is None):
        raise BadSetting("A correction is a class or a label image. Pass one of --class and --labels.")
    if not author.strip():
        raise BadSetting("A correction has an author. Pass --author NAME.")
    if not image.is_file():
        raise RunRefused(f"{image}: no such file. Name the image's file, or a copy of it; it is found by its content.")
    data = image.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    engine = schema.ledger_of(run, store, writes=True)
    try:
        row = _judged(engine, digest, image)
        _check(row, class_name, labels)
        folder = run / CORRECTIONS_NAME  # with the images too: cameras delete theirs
        folder.mkdir(exist_ok=True)
        copy = folder / f"{digest[:16]}{image.suffix.lower()}"
        if not copy.exists():
            with replacing(copy) as part:
                part.write_bytes(data)
        now = datetime.now(UTC)
        mask = None
        if labels is not None:
            mask = folder / f"{digest[:16]}-{now:%Y%m%dT%H%M%S%f}.tif"
            formats.write_labels(mask, formats.read_labels(labels), row["pixel_size_um"])
        said = Correction(
            image=row["name"],
            sha256=digest,
            class_name=class_name,
            labels=None if mask is None else mask.relative_to(run).as_posix(),
            copy=copy.relative_to(run).as_posix(),
            author=author.strip(),
            time=now.isoformat(timespec="microseconds"),
        )
        with engine.begin() as connection:
            schema.create(connection)
            connection.execute(corrections.insert().values(**_row(said)))
    except sa.exc.DBAPIError as fault:
        raise RunRefused(f"{run}: the correction cannot be stored ({schema.reason(fault)}). Try again.") from fault
    finally:
        engine.dispose()
    return said


def said_of(run: Path, store: str | None = None) -> list[Correction]:
    """Return all corrections of a run in the order in which they were made."""
    engine = schema.ledger_of(run, store)
    try:
        with engine.connect() as connection:
            if not sa.inspect(connection).has_table(corrections.name):
                return []
            rows = connection.execute(sa.select(corrections).order_by(corrections.c.id)).mappings()
            return [_correction(row) for row in rows]
    except sa.exc.DBAPIError as fault:
        raise RunRefused(f"{run}: its corrections cannot be read ({schema.reason(fault)}).") from fault
    finally:
        engine.dispose()


def last_words(run: Path, store: str | None = None) -> dict[str, Correction]:
    """Return what was last said of each image that somebody corrected, by the SHA-256 of its bytes."""
    return {said.sha256: said for said in said_of(run, store)}


def refuse_loss(run: Path, store: str | None = None) -> None:
    """Raise RunRefused where a ledger that is to be thrown away holds what people said."""
    try:
        said = said_of(run, store)
    except RunRefused:  # no ledger, or none that can be read
        return
    if said:
        raise RunRefused(
            f"{run}: {len(said)} corrections by {', '.join(sorted({word.author for word in said}))} lie there, which "
            f"--overwrite would throw away. Give another --out, or remove this one yourself."
        )


def annotated_by(run: Path, store: str | None = None) -> list[Annotated]:
    """Return the corrected images of a run with the last word on each, for training.

    Raises RunRefused when nothing was corrected, or the copy of an image is not what was corrected.
    """
    last = last_words(run, store)
    if not last:
        raise RunRefused(f"{run}: nobody corrected anything there. `micro correct` does.")
    return [_annotated(run, said) for said in last.values()]


def _annotated(run: Path, said: Correction) -> Annotated:
    try:
        data = (run / said.copy).read_bytes()
        if hashlib.sha256(data).hexdigest() != said.sha256:
            raise RunRefused(f"{run / said.copy}: was changed since {said.author} corrected it. Correct it again.")
        image = formats.decode(data, f"{CORRECTIONS_NAME}/{Path(said.copy).name}")
        labels = None if said.labels is None else formats.read_labels(run / said.labels)
    except (OSError, UnreadableImage) as fault:
        raise RunRefused(f"{said.image}: what {said.author} said of it cannot be read. {fault}") from fault
    return annotated(image, labels, said.class_name, is_lossless(Path(said.copy)))


def _judged(engine: sa.Engine, digest: str, image: Path) -> Mapping[Any, Any]:
    """Return the ledger's row of the image with these bytes; of several, the one of that file name, or the first."""
    query = sa.select(schema.images).where(schema.images.c.sha256 == digest, schema.images.c.state == schema.DONE)
    with engine.connect() as connection:
        rows = connection.execute(query.order_by(schema.images.c.id)).mappings().all()
    if not rows:
        raise RunRefused(f"{image}: no image with these bytes was judged in this run.")
    return next((row for row in rows if Path(row["name"]).name == image.name), rows[0])


def _check(row: Mapping[Any, Any], class_name: str | None, labels: Path | None) -> None:
    """Refuse a word that the bundle which judged the image could not have said."""
    known = list(row["class_scores"] or ())
    if class_name is not None and class_name not in known:
        offered = f"knows {', '.join(known)}" if known else "names no classes of frames; pass --labels"
        raise BadSetting(f"--class {class_name}: {row['model']} {offered}.")
    if labels is None:
        return
    if row["n_regions"] is None:
        raise BadSetting(f"--labels: {row['model']} finds no regions; pass --class, one of {', '.join(known)}.")
    shape = formats.read_labels(labels).shape
    if shape != (row["height_px"], row["width_px"]):
        raise BadSetting(
            f"{labels}: {shape[0]} x {shape[1]} px, and {row['name']} is {row['height_px']} x {row['width_px']}."
        )


def _correction(row: Mapping[Any, Any]) -> Correction:
    facts = {name: row[name] for name in ("image", "sha256", "labels", "copy", "author", "time")}
    return Correction(class_name=row["class"], **facts)


def _row(said: Correction) -> dict[str, Any]:
    facts = asdict(said)
    return {"class": facts.pop("class_name"), **facts}
