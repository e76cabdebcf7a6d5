"""The other end of `aside`: answers orders from a pipe with the engine, one after the other."""

import os
import queue
import sys
import threading
import traceback
from dataclasses import replace
from typing import IO, TYPE_CHECKING, Any

from micro.document import reasons
from micro.errors import BadSetting, MicroError
from micro.grain_size import assess
from micro.regions import Glimpse
from micro_napari.aside import GLIMPSE_PX, Answer, Calibrated, Calibration, Lesson, Order, Question, Specimen
from micro_napari.pipe import put, take

if TYPE_CHECKING:
    from micro.engine import Engine


class _Desk:
    """Where orders lie: the newest one, and the numbers of those that nobody waits for any more."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self.orders: queue.Queue[tuple[int, Order]] = queue.Queue()
        self.stopped = 0

    def read(self) -> None:
        try:
            while True:
                number, order = take(self._source)
                if order is None:
                    self.stopped = number
                else:
                    self.orders.put((number, order))
        except (EOFError, OSError):
            os._exit(0)  # whoever asked is gone, and so is whatever was in work for him


def _serve(source: IO[bytes], sink: IO[bytes]) -> None:
    desk = _Desk(source)
    threading.Thread(target=desk.read, daemon=True).start()
    cache: dict[tuple[Any, ...], Engine] = {}
    while True:
        number, order = desk.orders.get()
        try:
            match order:
                case Lesson():
                    answer = Answer(number, "found", _plan(order))
                case Specimen():
                    answer = Answer(number, "found", assess(order.fields).describe())
                case Calibration():
                    answer = Answer(number, "found", _calibrate(order))
                case Question():
                    answer = _predict(number, order, desk, sink, cache)
        except MicroError as fault:
            answer = Answer(number, "refused", str(fault))
        except Exception:  # whatever it is, whoever waits must hear of it
            answer = Answer(number, "refused", traceback.format_exc())
        put(sink, tuple(answer))


def _predict(
    number: int, question: Question, desk: _Desk, sink: IO[bytes], cache: "dict[tuple[Any, ...], Engine]"
) -> Answer:
    from micro import bundle
    from micro.engine import Engine
    from micro.line.identity import files_of

    loaded = bundle.load(question.recipe.model)
    asked = question.recipe.model_dump_json(), files_of(question.recipe)  # a profile may have been saved anew
    key = (loaded.card.weights_sha256, asked, question.device, question.tile_px)
    if key not in cache:
        cache.clear()  # one engine at a time is what a graphics card has room for
        cache[key] = Engine(loaded, question.recipe, question.device, question.tile_px)
    engine = cache[key]
    steps = engine.steps(question.image)
    while True:
        if desk.stopped >= number:
            steps.close()
            return Answer(number, "stopped", "Cancelled.")
        try:
            step = next(steps)
        except StopIteration as stop:
            return Answer(number, "found", stop.value)
        note = f"{engine.device}, {step.note}"
        put(sink, (number, "step", replace(step, note=note, glimpses=tuple(map(_small, step.glimpses)))))


def _small(glimpse: Glimpse) -> Glimpse:
    """Return a glimpse on a grid of at most GLIMPSE_PX: every so many pixels of the network's grid."""
    step = -(-max(glimpse.shape_px) // GLIMPSE_PX)
    top, left = -(-glimpse.top_px // step), -(-glimpse.left_px // step)
    rows = slice(top * step - glimpse.top_px, None, step)
    columns = slice(left * step - glimpse.left_px, None, step)
    height, width = (-(-length_px // step) for length_px in glimpse.shape_px)
    return Glimpse(glimpse.chance[rows, columns].copy(), top, left, (height, width))


def _plan(lesson: Lesson) -> str:
    from micro import bundle, training
    from micro import folder as folders
    from micro.tasks import find

    annotated = folders.read_for(find(lesson.task), lesson.folder)
    start = bundle.load(lesson.start) if lesson.start else None
    planned = training.plan(annotated, lesson.task, lesson.minutes, start=start, colour=lesson.colour)
    return f"{annotated.describe()}\n{planned.describe()}"


def _calibrate(order: Calibration) -> Calibrated:
    from pydantic import ValidationError

    from micro import thin_film
    from micro.tasks import flakes

    points = [point for image, marks in order.fields for point in flakes.known_points(image, marks)]
    try:
        profile = thin_film.Profile(
            material=order.material,  # type: ignore[arg-type]
            oxide_nm=order.oxide_nm,
            gamma=order.gamma,
            points=tuple(points),
            seen=order.seen,
        )
    except ValidationError as fault:
        raise BadSetting(reasons(fault)) from fault
    answers = thin_film.named_by_the_others(profile) if len(points) + len(order.seen) > 1 else ()
    return Calibrated(profile, answers, thin_film.objections(profile))


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a library that prints must not print between the answers
    _serve(sys.stdin.buffer, answers)
