"""Work that is heavy or needs torch, in a process of its own: the window never waits for it, and cancelling is sure.

Loading torch inside napari would stop its window for a third of a second and more, and on Windows it cannot be loaded
after Qt at all. What is asked and what is answered are the values that the engine takes and gives, so that an answer
from aside is the engine's, bit for bit.
"""

import itertools
import queue
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Generator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, NamedTuple

from micro.errors import MicroError
from micro.grain_size import Field
from micro.micrograph import Micrograph
from micro.recipe import Recipe
from micro.regions import Prediction, Progress
from micro.tasks.flakes import Mark
from micro.thin_film import Colour, Profile, Recalled
from micro_napari.commands import stand_behind
from micro_napari.pipe import put, take

TILE_PX = 1536
# How often someone who waits is asked whether he still does.
BEAT_SECONDS = 0.1
# How long a process may take to stop by itself; it looks up after each tile.
PATIENCE_SECONDS = 1.0
# Longer edge of what is shown of a tile: an eye needs no more, and the window draws it at once.
GLIMPSE_PX = 1024


@dataclass(frozen=True)
class Question:
    """What is to be found in an image, and on which device; the answer does not depend on tile_px."""

    recipe: Recipe
    image: Micrograph
    device: str = "auto"
    tile_px: int = TILE_PX


@dataclass(frozen=True)
class Lesson:
    """What is to be learned: the arguments of `micro train`."""

    folder: Path
    task: str
    minutes: float
    start: str | None = None
    colour: bool = False


@dataclass(frozen=True)
class Specimen:
    """Fields whose grain size is to be assessed by every method of the standards."""

    fields: tuple[Field, ...]


@dataclass(frozen=True)
class Calibration:
    """Flakes whose layers or heights are known, on each of some images, and what else is known of the microscope.

    seen: colours of flakes of which nothing is known.
    """

    fields: tuple[tuple[Micrograph, tuple[Mark, ...]], ...]
    material: str
    oxide_nm: float | None = None
    gamma: float | None = None
    seen: tuple[Colour, ...] = ()


@dataclass(frozen=True)
class Calibrated:
    """A profile, what each of its points is named by the others alone, and what its flakes say against it, in words.

    A single point, of which nothing else was seen, has no others.
    """

    profile: Profile
    answers: tuple[Recalled, ...]
    objections: tuple[str, ...]


Order = Question | Lesson | Specimen | Calibration


class Answer(NamedTuple):
    """What comes back about an order: a "step", what was "found", why it was "refused", or that it was "stopped"."""

    number: int
    kind: str
    value: Any


@dataclass
class _Process:
    """A running process, what it says on its error stream, and the answers that a thread reads from it."""

    popen: subprocess.Popen[bytes]
    errors: IO[bytes]
    answers: "queue.Queue[Answer | None]" = field(default_factory=queue.Queue)

    def listen(self) -> None:
        assert self.popen.stdout is not None
        try:
            while True:
                self.answers.put(Answer(*take(self.popen.stdout)))
        except (EOFError, OSError, ValueError):
            self.answers.put(None)

    def end(self) -> None:
        self.popen.kill()
        self.popen.wait()
        for stream in (self.popen.stdin, self.popen.stdout, self.errors):
            assert stream is not None
            try:
                stream.close()
            except OSError:
                continue  # what could not be sent any more


class Aside:
    """A process that answers one question at a time; it starts with the first and keeps its engine for the next."""

    def __init__(self) -> None:
        self._process: _Process | None = None
        self._numbers = itertools.count(1)
        self._busy = threading.Lock()

    def predict_steps(self, question: Question) -> Generator[Progress, None, Prediction]:
        """Work through one image like `Engine.steps`; close the generator to cancel.

        Yields now and then even where nothing happened, so that whoever drives it can stop. Raises MicroError with the
        engine's own sentence.
        """
        found = yield from self._ask(question)
        assert isinstance(found, Prediction)
        return found

    def plan_steps(self, lesson: Lesson) -> Generator[Progress, None, str]:
        """Return what `micro train` would print before it starts: the folder, and the plan."""
        page = yield from self._ask(lesson)
        assert isinstance(page, str)
        return page

    def assess_steps(self, specimen: Specimen) -> Generator[Progress, None, str]:
        """Return the page of `micro.grain_size.assess`."""
        page = yield from self._ask(specimen)
        assert isinstance(page, str)
        return page

    def calibrate_steps(self, calibration: Calibration) -> Generator[Progress, None, Calibrated]:
        """Return the profile that `micro profile` makes of the same flakes."""
        made = yield from self._ask(calibration)
        assert isinstance(made, Calibrated)
        return made

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.end()
            self._process = None

    def _ask(self, order: Order) -> Generator[Progress, None, Any]:
        with self._busy:
            seen = Progress(0, 0, "loading the engine" if self._process is None else "preparing")
            yield seen
            process = self._running()
            number = next(self._numbers)
            try:
                assert process.popen.stdin is not None
                put(process.popen.stdin, (number, order))
                while True:
                    try:
                        answer = process.answers.get(timeout=BEAT_SECONDS)
                    except queue.Empty:
                        yield seen
                        continue
                    if answer is None:
                        raise OSError("the engine's process ended")
                    if answer.number != number:
                        continue  # said before it knew that nobody waits any more
                    if answer.kind == "step":
                        yield answer.value
                        seen = replace(answer.value, glimpses=())
                    elif answer.kind == "found":
                        return answer.value
                    else:
                        raise MicroError(answer.value)
            except GeneratorExit:
                self._stop(process, number)
                raise
            except (OSError, ValueError) as fault:  # ValueError: it was closed here
                said = self._last_words(process)
                raise MicroError(
                    f"The engine's process ended ({said or fault}). Run again; `micro doctor` looks for the cause."
                ) from fault

    def _running(self) -> _Process:
        if self._process is None or self._process.popen.poll() is not None:
            self.close()
            errors = tempfile.TemporaryFile()  # noqa: SIM115 -- open as long as the process
            popen = subprocess.Popen(
                [sys.executable, "-m", "micro_napari.desk"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
            stand_behind(popen)
            self._process = _Process(popen, errors)
            weakref.finalize(self, self._process.end)
            threading.Thread(target=self._process.listen, name="micro-aside", daemon=True).start()
        return self._process

    def _stop(self, process: _Process, number: int) -> None:
        """Ask for the end of an order, and end the process if it does not come soon: decoding knows no pause."""
        assert process.popen.stdin is not None
        try:
            put(process.popen.stdin, (number, None))
        except (OSError, ValueError):
            self.close()
            return
        until = time.monotonic() + PATIENCE_SECONDS
        while (left := until - time.monotonic()) > 0:
            try:
                answer = process.answers.get(timeout=left)
            except queue.Empty:
                break
            if answer is None or (answer.number == number and answer.kind != "step"):
                return
        self.close()

    def _last_words(self, process: _Process) -> str:
        process.popen.kill()
        process.popen.wait()
        try:
            process.errors.seek(0)
            said = process.errors.read().decode(errors="replace").strip()
        except ValueError:  # it was closed here, perhaps in this moment
            return ""
        self.close()
        return said[-500:]
