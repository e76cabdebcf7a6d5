"""What a run knows about each of its images, kept so that neither a crash nor a second copy can falsify it."""

import json
import os
import platform
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from micro.errors import RunRefused
from micro.line import LABELS_NAME, LEDGER_NAME
from micro.line.labels import is_inside
from micro.recipe import Recipe
from micro.regions import Maker, Prediction

LOCK_NAME = ".run.lock"
OUTPUTS = ("run.json", "images.csv", "images.parquet", "regions.csv", "regions.parquet")
REMEDY = "Pass --overwrite to throw those results away, or give another --out."

REGION_HEAD = ("image", "index", "class", "score")

_metadata = sa.MetaData()

runs = sa.Table(
    "runs",
    _metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("fingerprint", sa.Text, nullable=False),
    sa.Column("recipe", sa.JSON, nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("model_version", sa.Text, nullable=False),
    sa.Column("weights_sha256", sa.Text, nullable=False),
    sa.Column("micro_version", sa.Text, nullable=False),
    sa.Column("host", sa.Text, nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("started", sa.Text, nullable=False),
)

# state: queued, done or quarantined. labels: the label file, relative to the run's folder. columns: the measures in
# their order, each with its kind, so that the wide tables need not look at every region to know their head.
images = sa.Table(
    "images",
    _metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("run_id", sa.ForeignKey("runs.id")),
    sa.Column("name", sa.Text, nullable=False, unique=True),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("sha256", sa.Text),
    sa.Column("height_px", sa.Integer),
    sa.Column("width_px", sa.Integer),
    sa.Column("pixel_size_um", sa.Float),
    sa.Column("pixel_size_source", sa.Text),
    sa.Column("class", sa.Text),
    sa.Column("score", sa.Float),
    sa.Column("class_scores", sa.JSON),
    sa.Column("verdict", sa.Text),
    sa.Column("n_regions", sa.Integer),
    sa.Column("seconds", sa.Float),
    sa.Column("labels", sa.Text),
    sa.Column("columns", sa.JSON(none_as_null=True)),
    sa.Column("notes", sa.JSON),
    sa.Column("model", sa.Text),
    sa.Column("model_version", sa.Text),
    sa.Column("weights_sha256", sa.Text),
    sa.Column("error", sa.Text),
)

regions = sa.Table(
    "regions",
    _metadata,
    sa.Column("image_id", sa.ForeignKey("images.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("index", sa.Integer, primary_key=True),
    sa.Column("class", sa.Text, nullable=False),
    sa.Column("score", sa.Float),
    sa.Column("columns", sa.JSON, nullable=False),
)

_EMPTY = {column.name: None for column in images.columns if column.name not in ("id", "name", "attempt", "state")}
# Built once: SQLAlchemy needs longer to build such a statement than SQLite to run it.
_FIND = sa.select(images.c.id, images.c.n_regions).where(images.c.name == sa.bindparam("image"))
_FORGET = regions.delete().where(regions.c.image_id == sa.bindparam("image"))
_REPLACE = (
    images.update()
    .where(images.c.id == sa.bindparam("image"))
    .values({"attempt": images.c.attempt + 1, **{name: sa.bindparam(name) for name in ("state", *_EMPTY)}})
)
_KINDS = {"b": "bool", "i": "int", "u": "int", "f": "float"}


@dataclass(frozen=True)
class Identity:
    """What decides a run's answers: two runs of one fingerprint say the same of the same image."""

    recipe: Recipe
    maker: Maker
    micro_version: str

    @property
    def fingerprint(self) -> str:
        """Return the hash of everything here but the words by which the user named the bundle."""
        facts = [self.recipe.model_dump(mode="json", exclude={"model"}), asdict(self.maker), self.micro_version]
        return sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Stored:
    """What the ledger holds of one image: its state, the hash of its bytes, the verdict and the label file, if any."""

    state: str
    sha256: str | None
    verdict: str | None
    labels: str | None


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep the run's folder to this process, as long as it lives; raise RunRefused when another one has it.

    The lock is SQLite's own, which works alike on all systems and ends with the process, however it ends.
    """
    lock = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = sqlite3.connect(folder / LOCK_NAME, timeout=0, isolation_level=None, check_same_thread=False)
        lock.execute("BEGIN EXCLUSIVE")
    except (OSError, sqlite3.Error) as fault:
        if lock is not None:
            lock.close()
        if isinstance(fault, sqlite3.Error) and fault.sqlite_errorname == "SQLITE_BUSY":
            raise RunRefused(
                f"{folder}: {_holder(folder)} is working in this folder. Wait for it, end it, or give another --out."
            ) from fault
        raise RunRefused(f"{folder}: results cannot be written there ({fault}). Give another --out.") from fault
    try:
        yield
    finally:
        lock.close()


def refuse_strangers(folder: Path) -> None:
    """Raise RunRefused when the folder holds files that a run would overwrite, and no ledger."""
    strangers = [name for name in (LABELS_NAME, *OUTPUTS) if (folder / name).exists()]
    if strangers and not (folder / LEDGER_NAME).exists():
        raise RunRefused(f"{folder}: holds {', '.join(strangers)}, and no ledger says who made that. {REMEDY}")


def clear(folder: Path) -> None:
    """Remove the results of earlier runs, and only these; whoever calls this holds the folder."""
    path = folder / LEDGER_NAME
    if path.exists():
        try:
            with closing(sqlite3.connect(path)) as ledger:
                rows = ledger.execute("SELECT labels FROM images WHERE labels IS NOT NULL").fetchall()
        except sqlite3.Error:
            rows = []  # not a ledger, or a broken one: whose label files lie here is unknown, and they stay
        for (labels,) in rows:
            if is_inside(labels):
                (folder / labels).unlink(missing_ok=True)
    for name in (*OUTPUTS, LEDGER_NAME, f"{LEDGER_NAME}-wal", f"{LEDGER_NAME}-shm"):
        (folder / name).unlink(missing_ok=True)


class Ledger:
    """The ledger of a run's folder, which the caller holds; one row an image, and one a region.

    Raises RunRefused when the ledger is of another recipe, bundle or version, or no ledger at all.
    """

    def __init__(self, folder: Path, identity: Identity) -> None:
        path = folder / LEDGER_NAME
        self._identity = identity
        self._engine = sa.create_engine(sa.URL.create("sqlite", database=str(path)))
        sa.event.listen(self._engine, "connect", _prepare)
        try:
            with self._engine.begin() as connection:
                _metadata.create_all(connection)
                last = connection.execute(sa.select(runs).order_by(runs.c.id.desc()).limit(1)).mappings().first()
                if last is not None and last["fingerprint"] != identity.fingerprint:
                    raise RunRefused(f"{folder}: holds results of another run. {_differences(last, identity)} {REMEDY}")
                connection.execute(runs.insert().values(**_run_row(identity)))
                self._run_id = connection.scalar(sa.select(sa.func.max(runs.c.id)))
        except sa.exc.DBAPIError as fault:
            self.close()
            raise RunRefused(f"{path}: is not a ledger that can be read ({fault.orig}). {REMEDY}") from fault
        except RunRefused:
            self.close()
            raise

    def close(self) -> None:
        """Give the file back; what is stored stays."""
        self._engine.dispose()

    def enqueue(self, names: Iterable[str]) -> None:
        """Note images that are to be read; those already known keep what is stored of them."""
        known = self.stored()
        rows = [{"name": name, "state": "queued", "attempt": 0} for name in names if name not in known]
        if rows:
            with self._engine.begin() as connection:
                connection.execute(images.insert(), rows)

    def stored(self) -> dict[str, Stored]:
        """Return what is held of each image, by its name."""
        query = sa.select(images.c.name, images.c.state, images.c.sha256, images.c.verdict, images.c.labels)
        with self._engine.connect() as connection:
            return {name: Stored(*facts) for name, *facts in connection.execute(query)}

    def store(self, found: Prediction, digest: str, labels: str | None) -> None:
        """Store a prediction with all its regions, or nothing of it; an earlier result of that image goes.

        digest: sha256 of the file that was read.
        labels: the label file, already written, relative to the run's folder.
        """
        columns = {name: values for name, values in found.table.items() if name not in REGION_HEAD}
        self._replace(
            found.image,
            {
                "state": "done",
                "sha256": digest,
                "height_px": found.height_px,
                "width_px": found.width_px,
                "pixel_size_um": found.pixel_size_um,
                "pixel_size_source": _text(found.pixel_size_source),
                "class": found.class_name,
                "score": None if found.class_name is None else found.class_scores.get(found.class_name),
                "class_scores": found.class_scores,
                "verdict": found.verdict,
                "n_regions": None if found.regions is None else len(found.regions),
                "seconds": found.seconds,
                "labels": labels,
                "columns": [[name, _KINDS.get(values.dtype.kind, "text")] for name, values in columns.items()],
                "notes": [_text(note) for note in found.notes],
                **asdict(found.maker),
            },
            _region_rows(found, columns),
        )

    def quarantine(self, name: str, digest: str | None, reason: str) -> None:
        """Store that an image could not be judged, and why; an earlier result of it goes."""
        maker = asdict(self._identity.maker)
        self._replace(name, {"state": "quarantined", "sha256": digest, "error": _text(reason), **maker}, [])

    def image_rows(self, count: int = 5000) -> Iterator[Sequence[Mapping[str, Any]]]:
        """Yield the images that have a result, in the order of their names, at most count at a time."""
        query = sa.select(images).where(images.c.state != "queued").order_by(images.c.name)
        return self._batches(query, count)

    def region_rows(self, count: int = 20000) -> Iterator[Sequence[Mapping[str, Any]]]:
        """Yield the regions with the name of their image as `image`, in the order of names and labels."""
        query = sa.select(images.c.name.label("image"), regions).join(images).order_by(images.c.name, regions.c.index)
        return self._batches(query, count)

    def columns(self) -> dict[str, str]:
        """Return the measured columns of all regions in the order of the image that has most, each with its kind."""
        query = sa.select(images.c.columns).where(images.c.columns.is_not(None)).group_by(images.c.columns)
        with self._engine.connect() as connection:
            heads = connection.scalars(query.order_by(sa.func.min(images.c.name))).all()
        kinds: dict[str, str] = {}
        for name, kind in (column for head in sorted(heads, key=len, reverse=True) for column in head):
            kinds[name] = kind if kinds.get(name, kind) == kind else _wider(kind, kinds[name])
        return kinds

    def class_names(self) -> list[str]:
        """Return the classes to which the bundle gives a probability, in its order."""
        query = sa.select(images.c.class_scores).where(images.c.state == "done").limit(1)
        with self._engine.connect() as connection:
            return list(connection.scalar(query) or {})

    def _replace(self, name: str, row: dict[str, Any], found: Sequence[dict[str, Any]]) -> None:
        """Put one image's row and those of its regions in the place of what was there, in one transaction."""
        with self._engine.begin() as connection:
            image_id, earlier = connection.execute(_FIND, {"image": name}).one()
            if earlier:
                connection.execute(_FORGET, {"image": image_id})
            connection.execute(_REPLACE, {**_EMPTY, **row, "run_id": self._run_id, "image": image_id})
            if found:
                connection.execute(regions.insert(), [{"image_id": image_id, **region} for region in found])

    def _batches(self, query: sa.Select[Any], count: int) -> Iterator[Sequence[Mapping[str, Any]]]:
        with self._engine.connect() as connection:
            for rows in connection.execution_options(yield_per=count).execute(query).mappings().partitions():
                yield [{**row} for row in rows]


def _region_rows(found: Prediction, columns: Mapping[str, NDArray[np.generic]]) -> list[dict[str, Any]]:
    if found.regions is None:
        return []
    lists = {name: _plain(values) for name, values in columns.items()}
    return [
        {"index": index + 1, "class": name, "score": score, "columns": {key: lists[key][index] for key in lists}}
        for index, (name, score) in enumerate(zip(found.regions.class_names, _plain(found.regions.scores), strict=True))
    ]


def _plain(values: NDArray[np.generic]) -> list[Any]:
    """Return Python values; a number that is none (NaN, infinity) becomes None, and 0.9 in float32 stays 0.9."""
    if values.dtype.kind != "f":
        return list(values.tolist())
    exact = values if values.dtype == np.float64 else values.astype(str).astype(np.float64)
    return [value if known else None for value, known in zip(exact.tolist(), np.isfinite(values), strict=True)]


def _wider(kind: str, other: str) -> str:
    return "float" if {kind, other} == {"int", "float"} else "text"


def _text(words: str | None) -> str | None:
    """Return text that every database takes: bytes of a file name that are not UTF-8 are written out."""
    return None if words is None else words.encode("utf-8", "backslashreplace").decode()


def _run_row(identity: Identity) -> dict[str, Any]:
    return {
        "fingerprint": identity.fingerprint,
        "recipe": identity.recipe.model_dump(mode="json"),
        **asdict(identity.maker),
        "micro_version": identity.micro_version,
        "host": platform.node(),
        "pid": os.getpid(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _differences(last: Mapping[Any, Any], identity: Identity) -> str:
    """Say in which facts the last run differs from this one."""
    now = _run_row(identity)
    facts = {key: (last[key], now[key]) for key in ("model", "model_version", "weights_sha256", "micro_version")}
    before, after = ({**recipe, "model": None} for recipe in (last["recipe"], now["recipe"]))
    facts |= {key: (before.get(key), after.get(key)) for key in {**before, **after}}
    return " ".join(f"{key}: {was} then, {wanted} now." for key, (was, wanted) in facts.items() if was != wanted)


def _holder(folder: Path) -> str:
    """Name the process that last began to work in a folder."""
    try:
        with closing(sqlite3.connect(f"{(folder / LEDGER_NAME).absolute().as_uri()}?mode=ro", uri=True)) as ledger:
            query = "SELECT pid, host, started FROM runs ORDER BY id DESC LIMIT 1"
            pid, host, started = ledger.execute(query).fetchone()
    except (sqlite3.Error, TypeError):
        return "another process"
    return f"process {pid} on {host} (since {started})"


def _prepare(connection: sqlite3.Connection, _record: object) -> None:
    # WAL: readers never wait for the writer. NORMAL: a power cut may take the last results, never tear one; they are
    # made again by the next run.
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")
