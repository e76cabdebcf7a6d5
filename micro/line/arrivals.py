"""What is to be read, as it comes: a list that ends, or folders into which a camera writes for ever."""

import heapq
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from micro.errors import MicroError
from micro.formats import IMAGE_SUFFIXES
from micro.line.reading import Reader
from micro.line.sources import Search, Source

log = logging.getLogger(__name__)

# A file counts as whole when its size and times have stood still for so long.
SETTLE_S = 0.5
# How often watched folders are looked through: what the system does not tell of is found so, too.
POLL_S = 60.0
POLL_REMOTE_S = 2.0
# For how long a file is waited for that somebody goes on writing to while it is read, or whose folder is away.
MOST_WAIT_S = 60.0
# After how long it is looked again whether another worker has done with an image.
ELSEWHERE_S = 2.0
# How long a run sleeps at most before it looks whether it is to stop.
NAP_S = 0.2
# Sources that wait in memory at most; more stay on the disk, where they lie well.
MOST_WAITING = 20_000
# File systems on which the system does not tell of what other machines write.
NETWORK = ("nfs", "cifs", "smb", "9p", "fuse", "afs", "ceph", "gluster", "lustre", "vboxsf", "virtiofs")

Stamp = Callable[[Source], str]


@dataclass(frozen=True, slots=True)
class Arrival:
    """A source, and the moment (`time.monotonic`) from which it counted as whole."""

    source: Source
    since: float


class Arrivals(Protocol):
    """Sources as they come."""

    @property
    def total(self) -> int | None:
        """How many there will be; None where they come for ever."""

    def waiting(self) -> int:
        """Return how many are known and were not taken yet."""

    def take(self, most: int) -> list[Arrival]:
        """Return the next sources that count as whole; none where there is none at present."""

    def later(self, source: Source, *, is_held: bool = False) -> bool:
        """Offer a source again in a while; False where it was waited for too long already.

        is_held: another worker has it, for which there is no too long.
        """

    def is_over(self) -> bool:
        """Whether nothing will come any more."""

    def wait(self) -> None:
        """Return when there may be something to take, and after a short while at the latest."""

    def close(self) -> None:
        """Stop looking."""


class _Returning:
    """Sources that are offered again."""

    def __init__(self, pause_s: float) -> None:
        self._pause_s = max(pause_s, 0.1)
        self._order: list[tuple[float, int, Source]] = []
        self._first: dict[str, float] = {}
        self._count = 0

    def __len__(self) -> int:
        return len(self._order)

    def add(self, source: Source, *, is_held: bool) -> bool:
        now = time.monotonic()
        if not is_held and now - self._first.setdefault(source.address, now) > MOST_WAIT_S:
            del self._first[source.address]
            return False
        self._count += 1
        heapq.heappush(self._order, (now + (ELSEWHERE_S if is_held else self._pause_s), self._count, source))
        return True

    def take(self, most: int) -> list[Arrival]:
        found: list[Arrival] = []
        while self._order and len(found) < most and self._order[0][0] <= time.monotonic():
            due, _, source = heapq.heappop(self._order)
            found.append(Arrival(source, due))
        if not self._order and not found:
            self._first.clear()
        return found


class Listed:
    """Sources that are known from the start; those that are not whole are offered again at the end."""

    def __init__(self, sources: Sequence[Source], settle_s: float = SETTLE_S) -> None:
        self._sources = sources
        self._next = 0
        self._returning = _Returning(settle_s)

    @property
    def total(self) -> int | None:
        """All that were listed."""
        return len(self._sources)

    def waiting(self) -> int:
        """Return how many were not taken yet, or are to be offered again."""
        return len(self._sources) - self._next + len(self._returning)

    def take(self, most: int) -> list[Arrival]:
        """Return the next ones of the list, then those that are offered again."""
        now = time.monotonic()
        part = self._sources[self._next : self._next + most]
        self._next += len(part)
        return [Arrival(source, now) for source in part] or self._returning.take(most)

    def later(self, source: Source, *, is_held: bool = False) -> bool:
        """Offer a source again in a while; False where it was waited for too long already."""
        return self._returning.add(source, is_held=is_held)

    def is_over(self) -> bool:
        """Whether all were taken."""
        return self.waiting() == 0

    def wait(self) -> None:
        """Wait for those that are offered again."""
        time.sleep(0.05)

    def close(self) -> None:
        """There is nothing to stop."""


@dataclass(slots=True)
class _Restless:
    """A source that may still be written to: what it looked like when it last changed, and until when to wait."""

    source: Source
    stamp: str
    due: float


class _Settling:
    """Files that have to stand still for a while before they count."""

    def __init__(self, stamp: Stamp, settle_s: float) -> None:
        self._stamp = stamp
        self._settle_s = settle_s
        self._waiting: dict[str, _Restless] = {}
        self._order: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def note(self, source: Source) -> None:
        """Wait until a file stands still; one that is gone again is none of ours."""
        stamp = self._look(source)
        waiting = self._waiting.get(source.address)
        if stamp is None:
            self._waiting.pop(source.address, None)
        elif waiting is None or waiting.stamp != stamp:
            due = time.monotonic() + self._settle_s - self._age_s(source)
            self._waiting[source.address] = _Restless(source, stamp, due)
            heapq.heappush(self._order, (due, source.address))

    def take(self, most: int) -> list[Arrival]:
        """Return files that have stood still."""
        found: list[Arrival] = []
        while self._order and len(found) < most and self._order[0][0] <= time.monotonic():
            due, address = heapq.heappop(self._order)
            waiting = self._waiting.get(address)
            if waiting is None or waiting.due != due:
                continue  # it changed again, and lies further behind
            if self._look(waiting.source) == waiting.stamp:
                del self._waiting[address]
                found.append(Arrival(waiting.source, due))
            else:
                self.note(waiting.source)
        return found

    def seconds_left(self) -> float:
        """Return for how long nothing can settle, or a nap where nothing is there to settle."""
        return min(max(self._order[0][0] - time.monotonic(), 0.0), NAP_S) if self._order else NAP_S

    def _look(self, source: Source) -> str | None:
        try:
            return self._stamp(source)
        except Exception:  # each kind of server has faults of its own
            return None

    def _age_s(self, source: Source) -> float:
        """Return how long ago a local file last changed, as far as clocks agree: the news of it took its time."""
        if source.is_remote:
            return 0.0
        with suppress(OSError):
            facts = os.stat(source.address)  # noqa: PTH116 -- called for each file of a folder
            age_s = time.time() - max(facts.st_mtime, facts.st_ctime)
            return age_s if 0 <= age_s < self._settle_s else 0.0
        return 0.0


class Watched:
    """Sources that come for ever: what is there at the start, and every file that appears or changes after that.

    The system tells of files as they are written; on network drives and servers, and everywhere now and then, the
    folders are looked through. A file counts when it has stood still for settle_s, which is 0 where files are renamed
    into place; or, with a marker, when a file of its name and that suffix appears (`a.png.done` or `a.done`).

    poll_s: how often to look through; by default that depends on the drives.
    """

    def __init__(
        self,
        search: Search,
        settle_s: float = SETTLE_S,
        *,
        marker: str | None = None,
        poll_s: float | None = None,
    ) -> None:
        self._search = search
        self._stamp = Reader(settle_s).stamp
        self._marker = marker
        self._folders = search.folders()
        is_told = bool(self._folders) and not any(map(is_network, self._folders)) and not search.has_remote()
        self._poll_s = poll_s or (POLL_S if is_told else POLL_REMOTE_S)
        self._news: queue.Queue[Source] = queue.Queue(MOST_WAITING)
        self._settling = _Settling(self._stamp, settle_s if marker is None else 0.0)
        self._returning = _Returning(settle_s)
        self._ended = threading.Event()
        works = [self._look_through, *([self._listen] if self._folders else [])]
        self._threads = [threading.Thread(target=work, name=f"micro{work.__name__}", daemon=True) for work in works]
        for thread in self._threads:
            thread.start()

    @property
    def total(self) -> int | None:
        """Nobody knows."""
        return None

    def waiting(self) -> int:
        """Return how many were noticed and are not taken yet."""
        return self._news.qsize() + len(self._settling) + len(self._returning)

    def take(self, most: int) -> list[Arrival]:
        """Return files that have settled, then those that are offered again."""
        while len(self._settling) < MOST_WAITING:
            try:
                self._settling.note(self._news.get_nowait())
            except queue.Empty:
                break
        return self._settling.take(most) or self._returning.take(most)

    def later(self, source: Source, *, is_held: bool = False) -> bool:
        """Offer a source again in a while; False where it was waited for too long already."""
        return self._returning.add(source, is_held=is_held)

    def is_over(self) -> bool:
        """Never."""
        return False

    def wait(self) -> None:
        """Wait for news, or until a file settles."""
        with suppress(queue.Empty):
            self._settling.note(self._news.get(timeout=self._settling.seconds_left()))

    def close(self) -> None:
        """End the threads that look and listen."""
        self._ended.set()
        for thread in self._threads:
            thread.join()

    # --- in threads of their own --------------------------------------------------------------------------------------

    def _look_through(self) -> None:
        """Tell of every file that is new or has changed since the last look."""
        seen: dict[str, int] = {}
        while not self._ended.is_set():
            began = time.monotonic()
            there: dict[str, int] = {}
            for source, stamp in self._search.glance():
                if self._ended.is_set():
                    return
                if self._marker is not None and not self._is_marked(source):
                    continue
                try:
                    version = hash(stamp or self._stamp(source))
                except Exception:  # gone again, or its server is away
                    continue
                there[source.address] = version
                if seen.get(source.address) != version:
                    self._tell(source)
            seen = there
            # a look that takes long, at very many files, is not begun again at once
            self._ended.wait(max(self._poll_s, 4 * (time.monotonic() - began)))

    def _listen(self) -> None:
        """Tell of files of which the system tells."""
        import watchfiles

        try:
            for changes in watchfiles.watch(
                *self._folders,
                watch_filter=None,
                debounce=50,
                step=10,
                stop_event=self._ended,
                raise_interrupt=False,
                ignore_permission_denied=True,
            ):
                for change, path in sorted(changes, key=lambda news: news[1]):
                    if change != watchfiles.Change.deleted:
                        self._follow(path, is_new=change == watchfiles.Change.added)
        except Exception as fault:  # too many folders for the system, or one that is gone
            self._poll_s = min(self._poll_s, POLL_REMOTE_S)
            log.warning("the system does not tell of new files (%s); they are looked for now and then", fault)

    def _follow(self, path: str, *, is_new: bool) -> None:
        if self._marker is not None and path.endswith(self._marker):
            stem = path.removesuffix(self._marker)
            suffixes = [case(suffix) for suffix in sorted(IMAGE_SUFFIXES) for case in (str, str.upper)]
            for file in (stem, *(stem + suffix for suffix in suffixes)):
                if Path(file).is_file():
                    self._tell(self._search.source(file))
        elif is_new and Path(path).is_dir() and not Path(path).is_symlink():
            with suppress(OSError):  # files may have come into a new folder before anybody listened
                for entry in sorted(os.listdir(path)):  # noqa: PTH208 -- texts are wanted
                    self._follow(f"{path}/{entry}", is_new=True)
        elif (source := self._search.source(path)) is not None and (self._marker is None or self._is_marked(source)):
            self._tell(source)

    def _tell(self, source: Source | None) -> None:
        while source is not None and not self._ended.is_set():
            with suppress(queue.Full):
                self._news.put(source, timeout=NAP_S)
                return

    def _is_marked(self, source: Source) -> bool:
        assert self._marker is not None
        path = Path(source.address)
        return Path(f"{path}{self._marker}").exists() or path.with_suffix(self._marker).exists()


def is_network(folder: str) -> bool:
    """Whether a folder lies on a drive to which other machines may write unnoticed, as far as Linux tells."""
    try:
        mounts = [line.split() for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
    except OSError:
        return False
    whole = Path(folder).resolve()
    inside = [(len(place), kind) for _, place, kind, *_ in mounts if whole.is_relative_to(place)]
    return bool(inside) and max(inside)[1].startswith(NETWORK)


def marker_of(text: str | None) -> str | None:
    """Return the suffix of marker files, which begins with a dot; raise MicroError for another one."""
    if text is not None and (not text.startswith(".") or "/" in text or len(text) < 2):
        raise MicroError(f"--marker {text}: write the suffix of the marker files, such as .done")
    return text
