"""What runs know about each of their images, kept so that neither a crash nor a second worker can falsify it."""

import os
import platform
import threading
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.dialects import postgresql, sqlite

from micro.errors import RunRefused
from micro.line import labels as label_files
from micro.line import schema
from micro.line.hold import REMEDY
from micro.line.identity import Identity
from micro.line.schema import DONE, QUARANTINED, QUEUED, RUNNING, images, regions, runs
from micro.regions import Prediction

REGION_HEAD = ("image", "index", "class", "score")
# How long the claims of a worker hold that says nothing more, and how often it says that it lives. A database may be
# away for a good part of that without anybody taking over.
LEASE_S = 60.0
BEAT_S = 10.0

_EMPTY = (
    *("error", "height_px", "width_px", "pixel_size_um", "pixel_size_source", "class", "score", "class_scores"),
    *("verdict", "n_regions", "seconds", "labels", "columns", "notes", "model", "model_version", "weights_sha256"),
)
_NOTHING = dict.fromkeys(_EMPTY)
_KINDS = {"b": "bool", "i": "int", "u": "int", "f": "float"}

# Built once: SQLAlchemy needs longer to build a statement than SQLite to run it.
_WANTED = images.c.name.in_(sa.bindparam("names", expanding=True))
_IDS = images.c.id.in_(sa.bindparam("ids", expanding=True))
_SURVEY = (
    sa.select(images.c.id, images.c.name, images.c.state, images.c.sha256, images.c.stamp, images.c.verdict)
    .add_columns(images.c.labels, images.c.error, runs.c.out)
    .outerjoin_from(images, runs)
    .where(_WANTED)
    .order_by(images.c.stored, images.c.id)
)
_LOOK = (
    sa.select(images.c.id, images.c.name, images.c.state, images.c.sha256, images.c.run_id, images.c.n_regions)
    .where(_WANTED)
    .with_for_update()
)
_STORE = (
    images.update()
    .where(images.c.id == sa.bindparam("image"))
    .values({name: sa.bindparam(name) for name in ("state", "stored", "address", "sha256", "stamp", *_EMPTY)})
)
_PUT_REGIONS = regions.insert().values({column.name: sa.bindparam(column.name) for column in regions.c})
_FORGET = regions.delete().where(regions.c.image_id.in_(sa.bindparam("ids", expanding=True)))
_DROP = images.delete().where(_IDS)
_RESTAMP = (
    images.update()
    .where(images.c.id == sa.bindparam("image"))
    .values({name: sa.bindparam(name) for name in ("address", "stamp", "stored")})
)

Outcome = Literal["stored", "known", "lost"]


@dataclass(frozen=True, slots=True)
class Known:
    """One row of the ledger under an image's name.

    out: the folder of the run that made it, in which its label file lies.
    """

    id: int
    state: str
    sha256: str | None
    stamp: str | None
    verdict: str | None
    labels: str | None
    error: str | None
    out: str | None


@dataclass(frozen=True, slots=True)
class Claimed:
    """An image that this run, and no other, may work on."""

    id: int
    name: str
    labels: str | None


@dataclass(frozen=True, slots=True)
class Seen:
    """A file as it lay there: its address, what the file system said of it, and the hash of its bytes, where known."""

    address: str
    stamp: str | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """What is to be stored of an image: a prediction, or the reason why there is none."""

    claim: Claimed
    seen: Seen
    found: Prediction | str
    labels: str | None = None


class Ledger:
    """The ledger in a run's folder, or in the database that all of its workers share, as one worker sees it.

    store: that folder, which the caller holds, or the address of the database.
    out: where this worker leaves its label files.
    is_shared: whether other workers may be after the same images; a folder has one holder, who hands them out.
    Raises RunRefused when the ledger is of another recipe, bundle or version, or no ledger at all.
    """

    def __init__(self, store: Path | str, identity: Identity, out: Path) -> None:
        self.database = schema.connect(store, writes=True)
        self.is_shared = not isinstance(store, Path)
        self._identity = identity
        dialect = self.database.dialect
        self._put_images, self._put_regions = (schema.Bulk.of(each, dialect) for each in (_STORE, _PUT_REGIONS))
        self.name = schema.address(store).render_as_string(hide_password=True)
        self._ended = threading.Event()
        try:
            with self.database.begin() as connection:
                schema.create(connection)
                last = connection.execute(sa.select(runs).order_by(runs.c.id.desc()).limit(1)).mappings().first()
                if last is not None and last["fingerprint"] != identity.fingerprint:
                    place = store if isinstance(store, Path) else self.name
                    raise RunRefused(f"{place}: holds results of another run. {_differences(last, identity)} {REMEDY}")
                row = {**_run_row(identity, out), "alive_until": schema.now(connection) + LEASE_S}
                self.run_id: int = connection.scalar(runs.insert().returning(runs.c.id).values(row))
                self._bury(connection)
        except sa.exc.DBAPIError as fault:
            self.database.dispose()
            if schema.is_out_of_reach(fault):
                what, remedy = "the ledger cannot be opened", "Nothing in it is lost: run again when it can."
            else:
                what, remedy = "is not a ledger that can be read", REMEDY
            raise RunRefused(f"{self.name}: {what} ({schema.reason(fault)}). {remedy}") from fault
        except RunRefused:
            self.database.dispose()
            raise
        self._heart = threading.Thread(target=self._beat, name="micro-ledger-beat", daemon=True)
        self._heart.start()

    def close(self) -> None:
        """Give the claims and the database back; what is stored stays."""
        self._ended.set()
        self._heart.join()
        with suppress(sa.exc.SQLAlchemyError), self.database.begin() as connection:
            mine = (images.c.run_id == self.run_id) & (images.c.state == RUNNING)
            connection.execute(images.update().where(mine).values(state=QUEUED))
            connection.execute(runs.update().where(runs.c.id == self.run_id).values(alive_until=0))
        self.database.dispose()

    def take_over(self) -> None:
        """Declare all other workers dead, as whoever holds the folder of a ledger knows them to be."""
        with self.database.begin() as connection:
            connection.execute(runs.update().where(runs.c.id != self.run_id).values(alive_until=0))

    def reconnect(self) -> None:
        """Forget connections that may have died."""
        self.database.dispose()

    # --- images to be worked on ---------------------------------------------------------------------------------------

    def survey(self, names: Collection[str]) -> dict[str, list[Known]]:
        """Return what is known under each of these names; of results that whose bytes a file held last comes last."""
        found: dict[str, list[Known]] = defaultdict(list)
        with self.database.begin() as connection:
            for number, name, *facts in connection.execute(_SURVEY, {"names": list(names)}):
                found[name].append(Known(number, *facts))
        return found

    def add(self, addresses: Mapping[str, str]) -> list[Claimed]:
        """Note a new image under each of these names, claimed by this worker, and return those that were not known.

        Of a name that has an open image, queued or worked on, there is no new one.

        addresses: name -> where the bytes lie.
        """
        if not addresses:
            return []
        head = {"state": RUNNING, "attempt": 1, "run_id": self.run_id}
        rows = [{**head, "name": name, "address": text(place)} for name, place in addresses.items()]
        with self.database.begin() as connection:
            insert = (postgresql if connection.dialect.name == "postgresql" else sqlite).insert(images)
            new = insert.on_conflict_do_nothing().returning(images.c.id, images.c.name)
            return [Claimed(number, name, None) for number, name in connection.execute(new, rows)]

    def requeue(self, ids: Collection[int]) -> None:
        """Queue images anew that have a result; it stays until the next one takes its place.

        One under whose name another worker has opened an image meanwhile stays as it is.
        """
        if not ids:
            return
        closed = images.c.state.in_((DONE, QUARANTINED))
        try:
            with self.database.begin() as connection:
                connection.execute(images.update().where(_IDS, closed).values(state=QUEUED), {"ids": list(ids)})
        except sa.exc.IntegrityError:
            if len(ids) > 1:
                for number in ids:
                    self.requeue([number])

    def restamp(self, files: Mapping[int, Seen]) -> None:
        """Note how files look now that hold the bytes of images whose result is known."""
        if files:
            with self.database.begin() as connection:
                connection.execute(_RESTAMP, [_stamped(number, seen) for number, seen in files.items()])

    def claim(self, names: Collection[str]) -> list[Claimed]:
        """Take the images of these names that are queued, or whose worker is dead, and return them.

        So are those that this worker has claimed already, unheard by it when the connection broke.
        """
        with self.database.begin() as connection:
            is_free = (images.c.state == QUEUED) | (
                (images.c.state == RUNNING)
                & ((runs.c.alive_until < schema.now(connection)) | (runs.c.id == self.run_id))
            )
            free = (
                sa.select(images.c.id)
                .outerjoin_from(images, runs)
                .where(_WANTED, is_free)
                .with_for_update(skip_locked=True, of=images)
            )
            take = (
                images.update()
                .where(images.c.id.in_(free))
                .values(state=RUNNING, run_id=self.run_id, attempt=images.c.attempt + 1)
                .returning(images.c.id, images.c.name, images.c.labels)
            )
            return [Claimed(*facts) for facts in connection.execute(take, {"names": list(names)})]

    def release(self, ids: Collection[int]) -> None:
        """Put claimed images back into the queue."""
        if ids:
            with self.database.begin() as connection:
                mine = (images.c.run_id == self.run_id) & (images.c.state == RUNNING)
                query = images.update().where(_IDS, mine).values(state=QUEUED, attempt=images.c.attempt - 1)
                connection.execute(query, {"ids": list(ids)})

    # --- results ------------------------------------------------------------------------------------------------------

    def reserve(self, claim: Claimed) -> str:
        """Return the label file of a claimed image, relative to the run's folder; no other image gets it."""
        if claim.labels is not None:
            return claim.labels
        for path in label_files.candidates(claim.name):
            try:
                with self.database.begin() as connection:
                    owner = connection.scalar(sa.select(images.c.id).where(images.c.labels == path))
                    if owner in (None, claim.id):
                        connection.execute(images.update().where(images.c.id == claim.id).values(labels=path))
                        return path
            except sa.exc.IntegrityError:  # another worker was quicker
                continue
        raise AssertionError("there is always one more candidate")

    def store(self, results: Sequence[Result]) -> list[Outcome]:
        """Store results, each with all its regions, in one transaction, and say what became of each.

        "known": these very bytes under this name have a result already, and keep it; so does a name whose bytes nobody
        could read. "lost": another worker took the image over, because this one seemed dead; the other's result counts.
        """
        with self.database.begin() as connection:
            names = [result.claim.name for result in results]
            rows = connection.execute(_LOOK, {"names": names}).all()
            mine = {number: state for number, _, state, _, run_id, _ in rows if run_id == self.run_id}
            known = {(name, sha): number for number, name, state, sha, *_ in rows if state in (DONE, QUARANTINED)}
            outcomes: list[Outcome] = []
            kept, doubled = [], []
            for result in results:
                twin = known.get((result.claim.name, result.seen.sha256))
                state = mine.get(result.claim.id)
                if state is None:
                    outcomes.append("lost")
                elif state != RUNNING:  # it was stored, and the connection broke before we heard of it
                    outcomes.append("stored")
                elif twin is not None:
                    doubled.append((result, twin))
                    outcomes.append("known")
                else:
                    kept.append(result)
                    outcomes.append("stored")
            ours = {result.claim.id for result in kept}
            outdated = [number for number, *_, n_regions in rows if n_regions and number in ours]
            if outdated:
                connection.execute(_FORGET, {"ids": outdated})
            if kept:
                self._put(connection, kept)
            if doubled:
                connection.execute(_DROP, {"ids": [result.claim.id for result, _ in doubled]})
                connection.execute(_RESTAMP, [_stamped(twin, result.seen) for result, twin in doubled])
        return outcomes

    def _put(self, connection: sa.Connection, results: Sequence[Result]) -> None:
        """Put images' rows in the place of what was there, and those of their regions beside them."""
        rows, parts = [], []
        for result in results:
            facts = _image_row(result) if isinstance(result.found, Prediction) else self._failure(result.found)
            head = {**_stamped(result.claim.id, result.seen), "sha256": result.seen.sha256}
            rows.append({**_NOTHING, **facts, **head})
            if isinstance(result.found, Prediction) and result.found.regions is not None:
                parts += [{"image_id": result.claim.id, **region} for region in _region_rows(result.found)]
        self._put_images.run(connection, rows)
        if parts:
            self._put_regions.run(connection, parts)

    def _failure(self, why: str) -> dict[str, Any]:
        return {"state": QUARANTINED, "error": text(why), **asdict(self._identity.maker)}

    # --- workers ------------------------------------------------------------------------------------------------------

    def _beat(self) -> None:
        """Say now and then that this worker lives; where the database is away, the run itself finds that out."""
        while not self._ended.wait(BEAT_S):
            with suppress(sa.exc.SQLAlchemyError, OSError), self.database.begin() as connection:
                alive_until = schema.now(connection) + LEASE_S
                connection.execute(runs.update().where(runs.c.id == self.run_id).values(alive_until=alive_until))

    def _bury(self, connection: sa.Connection) -> None:
        """Declare dead what died on this machine, so that a restarted worker need not wait for its leases."""
        query = sa.select(runs.c.id, runs.c.pid).where(
            runs.c.place == _place(), runs.c.id != self.run_id, runs.c.alive_until > schema.now(connection)
        )
        dead = [number for number, pid in connection.execute(query) if not _is_alive(pid)]
        if dead:
            connection.execute(runs.update().where(runs.c.id.in_(dead)).values(alive_until=0))


def wipe(store: str, out: Path) -> list[str]:
    """Throw away all that a shared ledger holds, and return its label files; raise RunRefused while others work in it.

    out: the folder of the run that begins anew; only label files in it are returned.
    """
    database = schema.connect(store, writes=True)
    try:
        with database.begin() as connection:
            schema.create(connection)
            alive = runs.c.alive_until > schema.now(connection)
            query = sa.select(runs.c.id, runs.c.host, runs.c.place, runs.c.pid).where(alive)
            for _, host, place, pid in connection.execute(query):
                if place != _place() or _is_alive(pid):
                    raise RunRefused(
                        f"{schema.address(store).render_as_string()}: process {pid} on {host} is working with this "
                        f"ledger, or was a minute ago. End it before you overwrite."
                    )
            mine = sa.select(images.c.labels).join(runs).where(images.c.labels.is_not(None), runs.c.out == str(out))
            files = list(connection.scalars(mine))
            for table in (regions, images, runs):
                connection.execute(table.delete())
            return files
    finally:
        database.dispose()


def text(words: str) -> str:
    """Return text that every database takes: bytes of a file name that are not UTF-8 are written out, NUL goes."""
    return words.encode("utf-8", "backslashreplace").decode().replace("\0", "")


def _stamped(number: int, seen: Seen) -> dict[str, Any]:
    moment = datetime.now(UTC).isoformat(timespec="milliseconds")
    return {"image": number, "address": text(seen.address), "stamp": seen.stamp, "stored": moment}


def _image_row(result: Result) -> dict[str, Any]:
    found = result.found
    assert isinstance(found, Prediction)
    kinds = [[name, _KINDS.get(values.dtype.kind, "text")] for name, values in _measures(found).items()]
    return {
        "state": DONE,
        "height_px": found.height_px,
        "width_px": found.width_px,
        "pixel_size_um": found.pixel_size_um,
        "pixel_size_source": None if found.pixel_size_source is None else text(found.pixel_size_source),
        "class": found.class_name,
        "score": None if found.class_name is None else found.class_scores.get(found.class_name),
        "class_scores": schema.packed(found.class_scores),
        "verdict": found.verdict,
        "n_regions": None if found.regions is None else len(found.regions),
        "seconds": found.seconds,
        "labels": result.labels,
        "columns": schema.packed(kinds or None),
        "notes": schema.packed([text(note) for note in found.notes] or None),
        **vars(found.maker),
    }


def _measures(found: Prediction) -> dict[str, NDArray[np.generic]]:
    return {name: values for name, values in found.table.items() if name not in REGION_HEAD}


def _region_rows(found: Prediction) -> Iterable[dict[str, Any]]:
    assert found.regions is not None
    lists = {name: _plain(values) for name, values in _measures(found).items()}
    heads = zip(found.regions.class_names, _plain(found.regions.scores), strict=True)
    for index, (name, score) in enumerate(heads):
        columns = {key: values[index] for key, values in lists.items()}
        yield {"index": index + 1, "class": name, "score": score, "columns": schema.packed(columns)}


def _plain(values: NDArray[np.generic]) -> list[Any]:
    """Return Python values; a number that is none (NaN, infinity) becomes None, and 0.9 in float32 stays 0.9."""
    if values.dtype.kind != "f":
        return list(values.tolist())
    exact = values if values.dtype == np.float64 else values.astype(str).astype(np.float64)
    return [value if known else None for value, known in zip(exact.tolist(), np.isfinite(values), strict=True)]


def _run_row(identity: Identity, out: Path) -> dict[str, Any]:
    return {
        "fingerprint": identity.fingerprint,
        "recipe": identity.recipe.model_dump(mode="json"),
        **asdict(identity.maker),
        "micro_version": identity.micro_version,
        "host": platform.node(),
        "place": _place(),
        "pid": os.getpid(),
        "out": str(out),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _place() -> str:
    """Return within what a process number means something: this machine and, in containers, their own namespace."""
    with suppress(OSError):
        return f"{platform.node()} {os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115 -- not a path that exists
    return platform.node()


def _is_alive(pid: int) -> bool:
    if os.name == "nt":  # where that call would end it
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _differences(last: Mapping[Any, Any], identity: Identity) -> str:
    """Say in which facts the last run differs from this one."""
    facts: dict[str, tuple[Any, Any]] = {
        key: (last[key], value)
        for key, value in {**asdict(identity.maker), "micro_version": identity.micro_version}.items()
    }
    recipe = identity.recipe.model_dump(mode="json")
    facts |= {key: (last["recipe"].get(key), recipe.get(key)) for key in {**last["recipe"], **recipe} if key != "model"}
    differing = [f"{key}: {was} then, {wanted} now." for key, (was, wanted) in facts.items() if was != wanted]
    named = ", ".join(str(identity.recipe.settings[name]) for name, _ in identity.files)
    return " ".join(differing) or f"{named}: another file then."


__all__ = ["Claimed", "Identity", "Known", "Ledger", "Outcome", "Result", "Seen", "images", "regions", "runs", "wipe"]
