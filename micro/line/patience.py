"""What a line does while results cannot be stored: it waits until they can, and says so."""

import logging
import threading
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from sqlalchemy.exc import SQLAlchemyError

from micro.errors import RunRefused
from micro.line import schema
from micro.line.watcher import Paused, Resumed, Watcher, tell
from micro.regions import Progress

log = logging.getLogger(__name__)

T = TypeVar("T")

# How often it is tried again to store results where that failed.
RETRY_S = 1.0


@dataclass(frozen=True)
class Patience:
    """How a worker waits.

    reconnect: is called before each new try. progress: says how far the work is, with a note.
    stop: when it is set, nothing is waited for.
    """

    out: Path
    give_up_after_s: float
    watchers: Sequence[Watcher]
    stop: threading.Event
    reconnect: Callable[[], None]
    progress: Callable[[str], Progress]

    def tries(self, action: Callable[[], T]) -> Generator[Progress, None, T]:
        """Return what an action returns; where the disk or the database refuses it, wait until it does not.

        Raises RunRefused when that lasts too long, and KeyboardInterrupt when `stop` is set meanwhile.
        """
        began: float | None = None
        while True:
            try:
                answer = action()
            except (OSError, SQLAlchemyError) as fault:
                if not schema.is_passing(fault):
                    raise
                now = time.monotonic()
                why = f"{self.out}: results cannot be stored ({schema.reason(fault)})"
                if began is None:
                    began = now
                    log.warning("%s. Waiting until they can; nothing is lost.", why)
                    tell(self.watchers, Paused(why))
                if self.stop.is_set():
                    raise KeyboardInterrupt from fault
                if now - began >= self.give_up_after_s:
                    raise RunRefused(
                        f"{why}. Nothing that was stored is lost: make room, give access or start the database, then "
                        f"run the same command again to go on."
                    ) from fault
                yield self.progress(f"waiting: {why}")
                self.reconnect()
                self.stop.wait(RETRY_S)
            else:
                if began is not None:
                    log.warning("%s: results can be stored again.", self.out)
                    tell(self.watchers, Resumed(time.monotonic() - began))
                return answer
