"""One worker of a line: claims images, reads them, has them judged, writes their files and stores their results."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from micro import formats
from micro.drift import Reference
from micro.line import labels as label_files
from micro.line import schema
from micro.line.arrivals import SETTLE_S, Arrival, Arrivals, Listed
from micro.line.ledger import Claimed, Known, Ledger, Outcome, Result, Seen
from micro.line.patience import Patience
from micro.line.reading import Look, Reader
from micro.line.schema import DONE, QUARANTINED, QUEUED, RUNNING
from micro.line.sources import Source
from micro.line.watcher import Depth, Read, Receipt, RunSummary, SetAside, Stored, Watcher, tell
from micro.micrograph import Item, Micrograph
from micro.regions import Maker, Prediction, Progress, Quarantined
from micro.tasks import TaskSettings

log = logging.getLogger(__name__)

T = TypeVar("T")

MOST_FAILURES = 20
DEPTH_S = 1.0
# A transaction costs as much as some images: those that end within this time share one. On an idle line none waits.
GROUP_S = 0.2
GROUP = 256
# Images that are claimed ahead: the most, or what the engine does in this time where workers share a ledger fairly.
AHEAD_S = 2.0
LEAST_AHEAD, MOST_AHEAD = 8, 512


class Judge(Protocol):
    """What a run needs of an engine."""

    @property
    def maker(self) -> Maker:
        """Which weights answer."""

    @property
    def device(self) -> object:
        """What they run on; its text is recorded."""

    @property
    def settings(self) -> TaskSettings:
        """What its task goes by: the recipe's settings, and those of its bundle and task where that names none."""

    @property
    def reference(self) -> Reference | None:
        """What its bundle's images looked like, for the alarm on drift."""

    def stream(self, items: Iterable[Item]) -> Iterator[Prediction | Quarantined]:
        """Yield one result an item, in their order; take no more items than are in work."""


@dataclass(frozen=True)
class Manners:
    """How a run works, whatever it finds.

    retry_quarantined: judge again what failed before; by default only if its bytes are others.
    give_up_after_s: how long to wait for a full disk or a lost database before the run stops.
    settle_s: a file that cannot be read is looked at again if it was written to no longer ago than this.
    """

    retry_quarantined: bool = False
    give_up_after_s: float = 600.0
    settle_s: float = SETTLE_S


@dataclass(eq=False)
class _InHand:
    """An image that this worker has claimed, and what has become of it so far."""

    claim: Claimed
    arrival: Arrival
    look: Look
    found: Prediction | str = ""
    labels: str | None = None
    labels_seconds: float = 0.0

    def result(self) -> Result:
        return Result(self.claim, self.look.seen(), self.found, self.labels)


@dataclass
class _Sifted:
    """What is to be done about sources: judged as they are, as new images, again; or only noted."""

    wanted: dict[str, Arrival] = field(default_factory=dict)
    new: dict[str, str] = field(default_factory=dict)
    again: list[int] = field(default_factory=list)
    moved: dict[int, Seen] = field(default_factory=dict)


class Station:
    """One worker of a line; any number of them, in any process, may be given the same sources.

    Each image is claimed in the ledger before it is read, so that no two work on it; the claims of a worker that dies
    expire. An image that cannot be read or judged is quarantined with a reason and stops nothing.

    out: the folder for label files.
    stop: when it is set, what is in hand is finished and stored, and nothing else is begun.
    """

    def __init__(
        self,
        engine: Judge,
        ledger: Ledger,
        out: Path,
        manners: Manners,
        *,
        watchers: Sequence[Watcher] = (),
        stop: threading.Event | None = None,
    ) -> None:
        self._engine = engine
        self._ledger = ledger
        self._out = out
        self._manners = manners
        self._watchers = watchers
        self._stop = stop or threading.Event()
        self._reader = Reader(manners.settle_s)
        self._patience = Patience(
            out, manners.give_up_after_s, watchers, self._stop, ledger.reconnect, progress=self._progress
        )
        self._arrivals: Arrivals = Listed(())
        self._began = time.monotonic()
        self._counts: Counter[str] = Counter()
        self._failures: dict[str, str] = {}
        self._set_aside: set[int] = set()  # rows of the ledger
        # Claimed and not begun; begun; judged and not stored. The engine's threads move images from the first to the
        # second, all else happens in the thread that runs `steps`.
        self._todo: deque[_InHand] = deque()
        self._judging: deque[_InHand] = deque()
        self._judged: list[_InHand] = []
        self._stored_at = self._began
        self._told_at = self._began
        self._rate = 0.0

    def summary(self) -> RunSummary:
        """Return how far the work is."""
        names = ("done", "unchanged", "quarantined", "ng")
        ended = self._counts["done"] + self._counts["quarantined"]
        return RunSummary(
            images=ended if self._arrivals.total is None else self._arrivals.total,
            **{name: self._counts[name] for name in names},
            seconds=time.monotonic() - self._began,
            failures=dict(self._failures),
        )

    def patiently(self, action: Callable[[], T]) -> Generator[Progress, None, T]:
        """Return what an action returns, as soon as the disk and the database let it; see `Patience.tries`."""
        return self._patience.tries(action)

    def steps(self, arrivals: Arrivals) -> Generator[Progress, None, None]:
        """Work until nothing comes any more or `stop` is set, yielding after each image.

        Raises RunRefused when results could not be stored for as long as the manners allow.
        """
        self._arrivals = arrivals
        try:
            while not self._stop.is_set():
                yield from self._claim()
                if self._todo:
                    yield from self._judge()
                elif arrivals.is_over():
                    return
                else:
                    self._tell_depth()
                    arrivals.wait()
        finally:
            self._let_go()

    # --- before the engine --------------------------------------------------------------------------------------------

    def _claim(self) -> Generator[Progress, None, None]:
        """Fill up what is to be judged, and yield for each image whose result is known already."""
        ahead = MOST_AHEAD
        if self._ledger.is_shared:
            ahead = min(max(round(self._rate * AHEAD_S), LEAST_AHEAD), MOST_AHEAD)
        while len(self._todo) <= ahead // 2 and not self._stop.is_set():
            arrivals = self._arrivals.take(ahead)
            if not arrivals:
                return
            mine = {hand.claim.name for hands in (self._todo, [*self._judging], self._judged) for hand in hands}
            batch: dict[str, Arrival] = {}
            for arrival in arrivals:
                # of a name that is in work another version waits until the first has its result
                if arrival.source.name in mine or arrival.source.name in batch:
                    self._arrivals.later(arrival.source, is_held=True)
                else:
                    batch[arrival.source.name] = arrival
            known = yield from self.patiently(partial(self._ledger.survey, batch.keys()))
            sifted = yield from self._sift(batch, known)
            for claim in (yield from self.patiently(partial(self._take, sifted))):
                arrival = sifted.wanted.pop(claim.name)
                self._todo.append(_InHand(claim, arrival, Look(arrival.source)))
                self._uncount(claim)
            for arrival in sifted.wanted.values():
                self._arrivals.later(arrival.source, is_held=True)

    def _sift(
        self, batch: Mapping[str, Arrival], known: Mapping[str, Sequence[Known]]
    ) -> Generator[Progress, None, _Sifted]:
        """Find out which sources have a result already, by their stamps or, where these differ, by their bytes."""
        sifted = _Sifted(new={name: arrival.source.address for name, arrival in batch.items() if name not in known})
        for name, arrival in batch.items():
            rows = known.get(name, ())
            if not rows or any(row.state in (QUEUED, RUNNING) for row in rows):
                sifted.wanted[name] = arrival
                continue
            row = self._same(arrival.source, rows, sifted)
            if row is None:
                # the one that failed last becomes this image: of a name there is one open image at most
                failed = [row.id for row in rows if row.state == QUARANTINED][-1:]
                sifted.again += failed
                if not failed:
                    sifted.new[name] = arrival.source.address
                sifted.wanted[name] = arrival
            elif self._is_to_be_redone(row, arrival.source):
                sifted.again.append(row.id)
                sifted.wanted[name] = arrival
            elif self._arrivals.total is not None:
                # a watched folder shows the same files again and again: only a list is counted off
                self._counts["unchanged"] += row.state == DONE
                self._count(name, row.verdict, row.error)
                yield self._progress(f"{name}: unchanged")
        return sifted

    def _same(self, source: Source, rows: Sequence[Known], sifted: _Sifted) -> Known | None:
        """Return the row of the image that a file holds, or None where it holds another one."""
        done = [row for row in rows if row.state == DONE]
        digest = stamp = None
        with suppress(Exception):  # each kind of server has faults of its own
            stamp = self._reader.stamp(source)
            for row in rows:
                if row.stamp == stamp:
                    if row is not rows[-1]:  # on a server, other bytes lay there meanwhile
                        sifted.moved[row.id] = Seen(source.address, stamp, row.sha256)
                    return row
            digest = self._reader.digest(source)
        if digest is None and done:
            return done[-1]  # the file is gone, and what it held has its result
        for row in rows:
            if row.sha256 == digest:
                if digest is not None:
                    sifted.moved[row.id] = Seen(source.address, stamp, digest)
                return row
        return None

    def _is_to_be_redone(self, row: Known, source: Source) -> bool:
        if row.state == QUARANTINED:
            return self._manners.retry_quarantined
        if row.labels is None or row.out != str(self._out) or (self._out / row.labels).exists():
            return False
        with suppress(Exception):  # a result without its label file is better than none
            self._reader.digest(source)
            return True
        return False

    def _take(self, sifted: _Sifted) -> list[Claimed]:
        self._ledger.restamp(sifted.moved)
        self._ledger.requeue(sifted.again)
        claims = self._ledger.add(sifted.new)
        others = sifted.wanted.keys() - {claim.name for claim in claims}
        return claims + (self._ledger.claim(others) if others else [])

    # --- through the engine -------------------------------------------------------------------------------------------

    def _judge(self) -> Generator[Progress, None, None]:
        """Send what was claimed through the engine, and go on as long as more comes."""
        results = self._engine.stream(self._items())
        try:
            for result in results:
                hand = self._judging.popleft()
                if isinstance(result, Prediction):
                    hand.found = result
                elif hand.look.is_whole or not self._arrivals.later(hand.look.source):
                    hand.found = result.reason
                else:
                    yield from self.patiently(partial(self._ledger.release, [hand.claim.id]))
                    continue
                self._judged.append(hand)
                if len(self._judged) >= GROUP or time.monotonic() - self._stored_at >= GROUP_S:
                    yield from self._store()
                yield from self._claim()
            yield from self._store()
        finally:
            if isinstance(results, Generator):
                results.close()  # ends the engine's threads now, not when the traceback of a Ctrl-C is forgotten

    def _items(self) -> Iterator[Item]:
        while self._todo and not self._stop.is_set():
            hand = self._todo.popleft()
            self._judging.append(hand)
            yield Item(hand.claim.name, partial(self._read, hand.look))

    def _read(self, look: Look) -> Micrograph:
        image = self._reader.read(look)
        tell(self._watchers, Read(image, look.seconds))
        return image

    # --- after the engine ---------------------------------------------------------------------------------------------

    def _store(self) -> Generator[Progress, None, None]:
        """Store what was judged: first the files, then the rows that say that they are there."""
        if not self._judged:
            return
        for hand in self._judged:
            if isinstance(hand.found, Prediction) and hand.found.regions is not None:
                began = time.monotonic()
                hand.labels = yield from self.patiently(partial(self._write_labels, hand))
                hand.labels_seconds = time.monotonic() - began
        began = time.monotonic()
        try:
            outcomes = yield from self.patiently(lambda: self._ledger.store([hand.result() for hand in self._judged]))
        except DBAPIError:  # one of them is at fault, and the others are not to suffer
            outcomes = []
            for hand in self._judged:
                outcomes.append((yield from self._store_alone(hand)))
        ended = time.monotonic()
        self._rate += 0.3 * (len(self._judged) / max(ended - self._stored_at, 1e-3) - self._rate)
        self._stored_at = ended
        group, self._judged = self._judged, []
        stored = zip(group, outcomes, strict=True)
        share = (ended - began) / len(group)
        try:
            for hand, outcome in stored:
                yield from self._settle(hand, outcome, hand.labels_seconds + share, ended)
        finally:  # whoever closes the run midway is told of all that is stored
            for hand, outcome in stored:
                for _ in self._settle(hand, outcome, hand.labels_seconds + share, ended):
                    pass
        if ended - self._told_at >= DEPTH_S:
            self._tell_depth()

    def _store_alone(self, hand: _InHand) -> Generator[Progress, None, Outcome]:
        try:
            return (yield from self.patiently(lambda: self._ledger.store([hand.result()])))[0]
        except DBAPIError as fault:
            hand.found, hand.labels = f"{hand.claim.name}: cannot be stored ({schema.reason(fault)}).", None
            return (yield from self.patiently(lambda: self._ledger.store([hand.result()])))[0]

    def _write_labels(self, hand: _InHand) -> str:
        found = hand.found
        assert isinstance(found, Prediction)
        assert found.regions is not None
        file = self._ledger.reserve(hand.claim)
        try:
            self._write(file, found)
        except (FileExistsError, NotADirectoryError, IsADirectoryError):  # another image is called like our folder
            file = label_files.flat(f"{hand.claim.name} {hand.claim.id}")
            self._write(file, found)
        return file

    def _write(self, file: str, found: Prediction) -> None:
        assert found.regions is not None
        path = self._out / file
        path.parent.mkdir(parents=True, exist_ok=True)
        formats.write_labels(path, found.regions.labels, found.pixel_size_um)

    def _settle(
        self, hand: _InHand, outcome: Outcome, store_seconds: float, ended: float
    ) -> Generator[Progress, None, None]:
        """Count an image, and tell of it."""
        found, name = hand.found, hand.claim.name
        if outcome == "lost":
            self._arrivals.later(hand.look.source, is_held=True)
            return
        failure = found if isinstance(found, str) else None
        verdict = None if isinstance(found, str) else found.verdict
        if outcome == "known":
            if self._arrivals.total is not None:
                self._counts["unchanged"] += failure is None
                self._count(name, verdict, failure)
                yield self._progress(f"{name}: unchanged")
            return
        self._count(name, verdict, failure)
        receipt = Receipt(
            image_id=hand.claim.id,
            sha256=hand.look.sha256,
            labels=hand.labels,
            read_seconds=hand.look.seconds,
            judge_seconds=0.0 if isinstance(found, str) else found.seconds,
            store_seconds=store_seconds,
            latency_seconds=ended - hand.arrival.since,
        )
        if isinstance(found, str):
            self._set_aside.add(hand.claim.id)
            tell(self._watchers, SetAside(name, found, receipt))
            yield self._progress(f"{name}: quarantined. {found}")
        else:
            tell(self._watchers, Stored(found, receipt))
            yield self._progress(name if verdict is None else f"{name}: {verdict}")

    def _uncount(self, claim: Claimed) -> None:
        """Take an image out of the quarantined ones that is judged anew, such as one that was half written."""
        if claim.id in self._set_aside:
            self._set_aside.remove(claim.id)
            self._counts["quarantined"] -= 1
            self._failures.pop(claim.name, None)

    def _count(self, name: str, verdict: str | None, failure: str | None) -> None:
        self._counts["done" if failure is None else "quarantined"] += 1
        self._counts["ng"] += verdict == "NG"
        if failure is not None and len(self._failures) < MOST_FAILURES:
            self._failures[name] = failure

    def _let_go(self) -> None:
        """Give back what was claimed and is not stored."""
        hands = (*self._todo, *self._judging, *self._judged)
        with suppress(SQLAlchemyError):  # a ledger that is away learns it from the claims' expiry
            self._ledger.release([hand.claim.id for hand in hands])
        self._todo.clear()
        self._judging.clear()
        self._judged = []

    # --- how far it is ------------------------------------------------------------------------------------------------

    def _progress(self, note: str) -> Progress:
        ended = self._counts["done"] + self._counts["quarantined"]
        open_ones = len(self._todo) + len(self._judging) + len(self._judged) + self._arrivals.waiting()
        return Progress(ended, self._arrivals.total or ended + open_ones, note)

    def _tell_depth(self) -> None:
        if self._watchers and time.monotonic() - self._told_at >= DEPTH_S:
            self._told_at = time.monotonic()
            waiting = len(self._todo) + self._arrivals.waiting()
            tell(self._watchers, Depth(waiting, len(self._judging) + len(self._judged)))
