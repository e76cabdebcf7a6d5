"""What happens on a line, told to whoever listens: logs, counters, drift alarms."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from micro.drift import Shift, Statistics
from micro.errors import MicroError
from micro.line.identity import Identity
from micro.micrograph import Micrograph
from micro.regions import Prediction

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunSummary:
    """How a run ended, or how far it is.

    images: all that the sources named so far; done + quarantined, when the run came to its end.
    unchanged: those of the done ones whose result was stored before, by an earlier run or by another worker.
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


@dataclass(frozen=True)
class Receipt:
    """Where and how quickly one image's result was stored.

    image_id: its row in the ledger's table `images`.
    sha256: of the bytes that were read; None where they could not be read.
    labels: its label file relative to the run's folder; None where there is none.
    read_seconds: opening, hashing and decoding. judge_seconds: the engine. store_seconds: label file and transaction.
    latency_seconds: from the moment when the file counted as whole until its result was stored.
    """

    image_id: int
    sha256: str | None
    labels: str | None
    read_seconds: float
    judge_seconds: float
    store_seconds: float
    latency_seconds: float


@dataclass(frozen=True)
class Started:
    """A run begins; images is None where more may come for ever.

    store: address of the ledger, without its password.
    """

    out: Path
    store: str
    identity: Identity
    device: str
    images: int | None


@dataclass(frozen=True, eq=False)
class Read:
    """An image was read; told in the thread that read it, before it is judged, and not in any order."""

    image: Micrograph
    seconds: float


@dataclass(frozen=True)
class Looked:
    """An image was read on another machine, and only what was measured on its pixels came over."""

    statistics: Statistics


@dataclass(frozen=True, eq=False)
class Stored:
    """A result lies in the ledger, with all its regions and its label file."""

    found: Prediction
    receipt: Receipt


@dataclass(frozen=True)
class SetAside:
    """An image lies in quarantine, with the reason."""

    name: str
    reason: str
    receipt: Receipt


@dataclass(frozen=True)
class Depth:
    """How many images are known and wait, and how many of a run's own are read or in work; told about once a second."""

    waiting: int
    in_hand: int


@dataclass(frozen=True)
class Paused:
    """Results cannot be stored at present; nothing is lost, and the run tries again."""

    reason: str


@dataclass(frozen=True)
class Resumed:
    """Results can be stored again."""

    seconds: float


@dataclass(frozen=True)
class Drift:
    """The last images were compared with the bundle's reference, which is done after every so many.

    has_changed: whether other statistics have drifted than at the last look.
    """

    shifts: tuple[Shift, ...]
    has_changed: bool


@dataclass(frozen=True)
class Ended:
    """A run is over: "finished", "interrupted", or "stopped" where it gave up."""

    state: str
    summary: RunSummary


Event = Started | Read | Looked | Stored | SetAside | Depth | Paused | Resumed | Drift | Ended
Watcher = Callable[[Event], None]
"""Is called with each event, in the run's own thread but for `Read`; what it raises is logged and stops nothing."""


def tell(watchers: Sequence[Watcher], event: Event) -> None:
    """Tell every watcher; a fault of one is no fault of the line."""
    for watcher in watchers:
        try:
            watcher(event)
        except MicroError as fault:
            log.error("%s", fault)
        except Exception:  # the images matter more than who watches them
            log.exception("a watcher of the line failed on %s", type(event).__name__)
