"""An alarm for the day when a line's images, or the answers to them, no longer look like those of the bundle."""

import logging
import threading
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, Self

import numpy as np

from micro.drift import Reference, Shift, Statistics, answer_statistics, shifts, statistics
from micro.line.watcher import Drift, Event, Looked, Read, Stored, Watcher, tell

log = logging.getLogger(__name__)

# Few enough to notice within an hour, enough to tell a shift by half a standard deviation from chance.
WINDOW = 200
# A list is sorted by name, often by class: its images are compared together, not as if they had come by chance. Of many
# about as many as of a watched folder stand for them, since measuring one costs a tenth of judging a small frame.
LARGEST_WINDOW = 5000
IMAGES_A_LOOK = 25


class DriftAlarm:
    """A watcher that compares the last images with a reference, warns when they differ, and tells other watchers.

    window: how many of the last images are compared, by about WINDOW of them; as long as there were fewer,
        only `facts` compares them.
    """

    def __init__(self, reference: Reference, watchers: Sequence[Watcher] = (), window: int = WINDOW) -> None:
        self._reference = reference
        self._watchers = watchers
        self._window = window
        # a large window changes slowly, and costs its size to look at
        self._images_a_look = max(IMAGES_A_LOOK, window // 8)
        self._every = max(window // WINDOW, 1)
        self._places: list[int] = np.random.default_rng(0).integers(self._every, size=WINDOW).tolist()
        self._recent: dict[str, deque[float]] = defaultdict(partial(deque, maxlen=window // self._every))
        self._lock = threading.Lock()
        self._read = 0
        self._stored = 0
        self._shifts: tuple[Shift, ...] = ()

    @classmethod
    def of_run(cls, reference: Reference, watchers: Sequence[Watcher], images: int | None) -> Self:
        """Return the alarm of a run over so many images, or for ever."""
        return cls(reference, watchers, WINDOW if images is None else max(WINDOW, min(images, LARGEST_WINDOW)))

    def __call__(self, event: Event) -> None:
        """Remember what was read and answered, and look at it now and then."""
        match event:
            case Read(image):
                if self._is_to_be_measured():
                    self._remember(statistics(image))
            case Looked(seen):
                if self._is_to_be_measured():
                    self._remember(seen)
            case Stored(found):
                self._stored += 1
                if self._is_picked(self._stored):
                    self._remember(answer_statistics(found))
                if self._stored >= self._window and self._stored % self._images_a_look == 0:
                    self._look()

    def facts(self) -> dict[str, Any]:
        """Look once more, and return what is found, for the record of a run."""
        self._look()
        return {
            "alarm": bool(_drifted(self._shifts)),
            "reference": self._reference.made_from,
            "window_images": self._window,
            "statistics": [asdict(shift) for shift in self._shifts],
        }

    def _is_to_be_measured(self) -> bool:
        with self._lock:
            self._read += 1
            return self._is_picked(self._read)

    def _is_picked(self, number: int) -> bool:
        """Say whether an image, counted from 1, stands for all of its turn.

        Its place in the turn is drawn, or of cameras whose images come one after the other some would never be seen.
        """
        turn, place = divmod(number - 1, self._every)
        return place == self._places[turn % WINDOW]

    def _remember(self, seen: Statistics) -> None:
        with self._lock:
            for name, value in seen.items():
                self._recent[name].append(value)

    def _look(self) -> None:
        with self._lock:
            recent = {name: list(values) for name, values in self._recent.items()}
        before, self._shifts = _drifted(self._shifts), shifts(self._reference, recent)
        now = _drifted(self._shifts)
        if now.keys() - before.keys():
            log.warning("drift: %s", "; ".join(str(shift) for shift in now.values()))
        elif before and not now:
            log.warning("drift: over; the last images look like those of the bundle again")
        tell(self._watchers, Drift(self._shifts, has_changed=now.keys() != before.keys()))


def _drifted(found: Sequence[Shift]) -> dict[str, Shift]:
    return {shift.statistic: shift for shift in found if shift.is_drift}
