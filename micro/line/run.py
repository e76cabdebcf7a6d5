"""From sources to results: read, judge, store, each image exactly once, and go on where an earlier run stopped."""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy.exc import DBAPIError

from micro import formats
from micro.errors import MicroError, RunRefused, UnreadableImage
from micro.formats.storage import opened
from micro.line import labels, tables
from micro.line.ledger import Identity, Ledger, Stored, clear, held, refuse_strangers
from micro.line.sources import Source
from micro.micrograph import Micrograph
from micro.recipe import Recipe
from micro.regions import Maker, Prediction, Progress

if TYPE_CHECKING:
    from micro.engine import Item, Quarantined

LIBRARIES = (
    *("torch", "torchvision", "segmentation-models-pytorch", "numpy", "scipy", "scikit-image"),
    *("opencv-python-headless", "tifffile", "imagecodecs"),
)
# Files up to this size are read whole, once; larger ones are hashed and then decoded from the system's cache, so that
# their bytes do not lie in memory beside their pixels.
WHOLE_BYTES = 2**26
MOST_FAILURES = 20


class Judge(Protocol):
    """What a run needs of an engine."""

    @property
    def maker(self) -> Maker:
        """Which weights answer."""

    @property
    def device(self) -> object:
        """What they run on; its text is recorded."""

    def stream(self, items: Iterable[Item]) -> Iterator[Prediction | Quarantined]:
        """Yield one result an item, in their order."""


@dataclass(frozen=True)
class RunSummary:
    """How a run ended.

    images: all that the sources named; done + quarantined, when the run came to its end.
    unchanged: those of the done ones whose result an earlier run had stored.
    ng: those with the verdict NG, old or new.
    failures: reasons of the first quarantined images, by name; images.csv has them all.
    """

    images: int
    done: int
    unchanged: int
    quarantined: int
    ng: int
    seconds: float
    failures: dict[str, str] = field(default_factory=dict)


def run_steps(
    sources: Sequence[Source], engine: Judge, recipe: Recipe, out: Path, overwrite: bool = False
) -> Generator[Progress, None, RunSummary]:
    """Judge every source and leave in `out` what the house plan lists; yield once an image.

    An image that cannot be read or judged is quarantined with a reason and stops nothing. Results that `out` already
    has are kept where the bytes of the image are the same; quarantined images are tried again. Closing the generator,
    or Ctrl-C, leaves tables of what is done, and the same run goes on from there. An image whose bytes changed is
    judged again, and its new result takes the place of the old one.

    overwrite: throw away what an earlier run left in `out`, instead of going on with it or refusing.

    Raises RunRefused when `out` is in use, holds results of another recipe, bundle or version, or cannot be written.
    """
    identity = Identity(recipe, engine.maker, version("micro"))
    with held(out):
        with _storing(out):
            if overwrite:
                clear(out)
            else:
                refuse_strangers(out)
            ledger = Ledger(out, identity)
        with closing(ledger):
            run = _Run(sources, engine, identity, ledger, out)
            run.record("running")
            try:
                yield from run.steps()
            except (GeneratorExit, KeyboardInterrupt):
                run.publish("interrupted")
                raise
            run.publish("finished")
            return run.summary()


class _Run:
    """One way through the sources, and the counts on that way."""

    def __init__(self, sources: Sequence[Source], engine: Judge, identity: Identity, ledger: Ledger, out: Path) -> None:
        self._engine = engine
        self._identity = identity
        self._started = datetime.now(UTC)
        self._clock = time.perf_counter()
        self._sources = sources
        self._ledger = ledger
        self._out = out
        self._counts: Counter[str] = Counter()
        self._failures: dict[str, str] = {}
        # Hashes of images that were read and are not stored yet; filled by the threads that read.
        self._hashes: dict[str, str] = {}

    def steps(self) -> Generator[Progress, None, None]:
        with _storing(self._out):
            self._ledger.enqueue(source.name for source in self._sources)
            stored = self._ledger.stored()
        label_files = labels.paths({name: facts.labels for name, facts in stored.items()})
        todo = []
        for source in self._sources:
            if self._is_settled(source, stored[source.name]):
                self._counts["unchanged"] += 1
                self._count(stored[source.name].verdict)
                yield self._progress(f"{source.name}: unchanged")
            else:
                todo.append(source)
        results = self._engine.stream(self._items(todo))
        try:
            for result in results:
                with _storing(self._out):
                    if isinstance(result, Prediction):
                        note = self._keep(result, label_files[result.image])
                    else:
                        note = self._quarantine(result, stored[result.name])
                yield self._progress(note)
        finally:
            if isinstance(results, Generator):
                results.close()  # ends the engine's threads now, not when the traceback of a Ctrl-C is forgotten
        assert self._counts["done"] + self._counts["quarantined"] == len(self._sources), "one result for each image"

    def publish(self, state: str) -> None:
        """Write the tables of what the ledger holds, then the record."""
        with _storing(self._out):
            tables.export(self._ledger, self._out)
        self.record(state)

    def record(self, state: str) -> None:
        """Write run.json; a run that was killed leaves the state "running" there, and tables older than the ledger."""
        counts = asdict(self.summary())
        del counts["failures"]
        times = {
            "started": self._started.isoformat(timespec="seconds"),
            "ended": None if state == "running" else datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(counts.pop("seconds"), 3),
        }
        facts = {
            "state": state,
            **_asked(self._identity),
            "device": str(self._engine.device),
            **times,
            "counts": counts,
        }
        with _storing(self._out):
            draft = self._out / ".run.json.part"
            draft.write_text(json.dumps(facts, indent=2, ensure_ascii=False), encoding="utf-8")
            draft.replace(self._out / "run.json")

    def summary(self) -> RunSummary:
        names = ("done", "unchanged", "quarantined", "ng")
        return RunSummary(
            images=len(self._sources),
            **{name: self._counts[name] for name in names},
            seconds=time.perf_counter() - self._clock,
            failures=self._failures,
        )

    def _is_settled(self, source: Source, facts: Stored) -> bool:
        """Whether the ledger holds the result of these very bytes, and the label file is where it should be."""
        if facts.state != "done" or (facts.labels is not None and not (self._out / facts.labels).exists()):
            return False
        try:
            return _hash(source) == facts.sha256
        except UnreadableImage:
            return False

    def _items(self, todo: Sequence[Source]) -> Iterator[Item]:
        # the engine's module loads torch, which only a caller with an engine has paid for
        from micro.engine import Item

        return (Item(source.name, self._reader(source)) for source in todo)

    def _reader(self, source: Source) -> Callable[[], Micrograph]:
        def read() -> Micrograph:
            try:
                return _read(source, self._hashes)
            except MicroError:
                raise
            except Exception as fault:  # a decoder's own fault in a damaged file is that file's fault, not the run's
                raise UnreadableImage(f"{source.name}: cannot be read ({type(fault).__name__}: {fault}).") from fault

        return read

    def _keep(self, found: Prediction, label_file: str) -> str:
        """Store a prediction: first the file, then the rows that say that it is there."""
        if found.regions is None:
            self._ledger.store(found, self._hashes.pop(found.image), None)
        else:
            path = self._out / label_file
            path.parent.mkdir(parents=True, exist_ok=True)
            formats.write_labels(path, found.regions.labels, found.pixel_size_um)
            self._ledger.store(found, self._hashes.pop(found.image), label_file)
        self._count(found.verdict)
        return found.image if found.verdict is None else f"{found.image}: {found.verdict}"

    def _quarantine(self, failed: Quarantined, stored: Stored) -> str:
        self._ledger.quarantine(failed.name, self._hashes.pop(failed.name, None), failed.reason)
        if stored.labels is not None:
            (self._out / stored.labels).unlink(missing_ok=True)
        self._counts["quarantined"] += 1
        if len(self._failures) < MOST_FAILURES:
            self._failures[failed.name] = failed.reason
        return f"{failed.name}: quarantined. {failed.reason}"

    def _count(self, verdict: str | None) -> None:
        self._counts["done"] += 1
        self._counts["ng"] += verdict == "NG"

    def _progress(self, note: str) -> Progress:
        return Progress(self._counts["done"] + self._counts["quarantined"], len(self._sources), note)


def _read(source: Source, hashes: dict[str, str]) -> Micrograph:
    """Read an image and note the hash of the very bytes that were decoded."""
    with opened(source.path, source.name) as file:
        before = source.path.stat()
        if before.st_size <= WHOLE_BYTES:
            data = file.read()
            hashes[source.name] = hashlib.sha256(data).hexdigest()
            return formats.decode(data, source.name)
    hashes[source.name] = _hash(source)
    image = formats.read(source.path, source.name)
    after = source.path.stat()
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise UnreadableImage(f"{source.name}: the file changed while it was read. Run again when it is whole.")
    return image


def _hash(source: Source) -> str:
    with opened(source.path, source.name) as file:
        digest = hashlib.sha256()
        while block := file.read(2**20):
            digest.update(block)
        return digest.hexdigest()


@contextmanager
def _storing(out: Path) -> Iterator[None]:
    """Say in a sentence that results cannot be stored: a full disk, a folder that went away, a broken ledger."""
    try:
        yield
    except (OSError, DBAPIError) as fault:
        reason = getattr(fault, "orig", None) or getattr(fault, "strerror", None) or fault
        raise RunRefused(
            f"{out}: results cannot be stored ({reason}). Nothing that was stored is lost: make room or give access, "
            f"then run the same command again to go on."
        ) from fault


def _asked(identity: Identity) -> dict[str, Any]:
    """Return what was asked and who answers."""
    return {
        "recipe": identity.recipe.model_dump(mode="json"),
        "bundle": {
            "name": identity.maker.model,
            "version": identity.maker.model_version,
            "weights_sha256": identity.maker.weights_sha256,
        },
        "fingerprint": identity.fingerprint,
        "versions": {"micro": identity.micro_version, "python": platform.python_version(), **_library_versions()},
    }


def _library_versions() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # OpenCV comes under several names
            continue
    return found
