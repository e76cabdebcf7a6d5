"""Many images at once: read ahead, judged in groups, handed back in their order, in bounded memory."""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

from micro.errors import BadSetting, MicroError
from micro.micrograph import Item as Item
from micro.micrograph import Micrograph
from micro.regions import Prediction
from micro.regions import Quarantined as Quarantined

log = logging.getLogger(__name__)

# Values of pixels that may be in hand (read, in work, or waiting to be taken) before reading pauses. Each worker may
# overdraw it by one image, so that an image larger than the budget is possible at all.
BUDGET_VALUES = 2**26
# The least that one image counts, so that many tiny ones are bounded as well.
LEAST_VALUES = 2**16


Result = Prediction | Quarantined
Judge = Callable[[Sequence[Micrograph]], list[Result]]


@dataclass(frozen=True)
class Lanes:
    """How a stream uses the machine.

    workers: threads that judge; each holds one group of images.
    group: most images that are judged together.
    read_ahead: images that a pool reads before a worker asks; 0 lets each worker read its own.
    """

    workers: int
    group: int
    read_ahead: int


@dataclass
class _Shared:
    """What the workers and the caller share; every access holds `changed`.

    ended_by: what the source of the items raised; fault: what went wrong in a worker.
    """

    items: Iterator[Item]
    changed: threading.Condition = field(default_factory=threading.Condition)
    taken: int = 0
    held_values: int = 0
    exhausted: bool = False
    stopped: bool = False
    results: dict[int, tuple[Result, int]] = field(default_factory=dict)
    ended_by: Exception | None = None
    fault: BaseException | None = None


class _Read(NamedTuple):
    number: int
    name: str
    image: Micrograph | Quarantined
    values: int


def stream(items: Iterable[Item], judge: Judge, lanes: Lanes, prepare_thread: Callable[[], None]) -> Iterator[Result]:
    """Yield one result an item, in order. Closing the iterator stops the workers after the group in hand.

    What the source of the items raises is raised after the results of the items that came before.

    judge: gets up to lanes.group images, answers for each; an exception quarantines the image that caused it.
    prepare_thread: called once in each worker thread.
    """
    with ThreadPoolExecutor(max(1, lanes.read_ahead), "micro-read") as pool:
        source = _checked(items)
        shared = _Shared(_read_ahead(source, pool, lanes.read_ahead) if lanes.read_ahead else source)
        threads = [
            threading.Thread(
                target=_work, args=(shared, judge, lanes.group, prepare_thread), name=f"micro-judge-{number}"
            )
            for number in range(lanes.workers)
        ]
        for thread in threads:
            thread.start()
        try:
            yield from _in_order(shared)
        finally:
            with shared.changed:
                shared.stopped = True
                shared.changed.notify_all()
            for thread in threads:
                thread.join()


def _work(shared: _Shared, judge: Judge, most: int, prepare_thread: Callable[[], None]) -> None:
    try:
        prepare_thread()
        while group := _take(shared, most):
            results = _judge_group(group, judge)
            with shared.changed:
                shared.results.update(results)
                shared.changed.notify_all()
    except BaseException as fault:  # a thread's fault is raised where the stream is read
        with shared.changed:
            shared.fault = fault
            shared.changed.notify_all()


def _take(shared: _Shared, most: int) -> list[_Read]:
    """Read the next group of images; empty when there are no more.

    A worker that already holds images never waits for room: the caller may be waiting for one of them.
    """
    group: list[_Read] = []
    while len(group) < most:
        with shared.changed:
            while shared.held_values >= BUDGET_VALUES and not group and not shared.stopped:
                shared.changed.wait()
            if shared.held_values >= BUDGET_VALUES or shared.stopped or shared.exhausted:
                break
            try:
                item = next(shared.items, None)
            except Exception as fault:
                item, shared.ended_by = None, fault
            if item is None:
                shared.exhausted = True
                shared.changed.notify_all()
                break
            number = shared.taken
            shared.taken += 1
            shared.held_values += LEAST_VALUES
        image = _read(item)
        values = LEAST_VALUES
        if isinstance(image, Micrograph) and image.pixels.size > LEAST_VALUES:
            values = image.pixels.size
            with shared.changed:
                shared.held_values += values - LEAST_VALUES
        group.append(_Read(number, item.name, image, values))
    return group


def _read(item: Item) -> Micrograph | Quarantined:
    try:
        return item.read()
    except Exception as fault:  # a decoder's own fault is that file's, not the run's
        return Quarantined(item.name, _reason(item.name, fault, "cannot be read", "Look at what reads it."))


def _reason(name: str, fault: Exception, what: str, remedy: str) -> str:
    if isinstance(fault, MicroError):
        return str(fault)
    log.error("%s", name, exc_info=fault)
    return f"{name}: {what} ({type(fault).__name__}: {fault}). {remedy}"


def _judge_group(group: Sequence[_Read], judge: Judge) -> dict[int, tuple[Result, int]]:
    """Judge the images of a group together, or one by one if one of them makes that fail."""
    results: dict[int, tuple[Result, int]] = {}
    images: list[tuple[_Read, Micrograph]] = []
    for read in group:
        if isinstance(read.image, Quarantined):
            results[read.number] = read.image, read.values
        else:
            images.append((read, read.image))
    try:
        answers = judge([image for _, image in images]) if images else []
        results |= {read.number: (answer, read.values) for (read, _), answer in zip(images, answers, strict=True)}
    except Exception as fault:  # whatever one image brings about, the others are judged
        if len(images) == 1:
            read = images[0][0]
            reason = _reason(read.name, fault, "a fault inside micro", "Please report it with this image.")
            results[read.number] = Quarantined(read.name, reason), read.values
        else:
            for read, _ in images:
                results |= _judge_group([read], judge)
    return results


def _checked(items: Iterable[Item]) -> Iterator[Item]:
    for item in items:
        if not isinstance(item, Item):
            raise BadSetting(f"A stream takes items, such as Item(image.name, lambda: image), and got {item!r:.80}.")
        yield item


def _read_ahead(items: Iterator[Item], pool: ThreadPoolExecutor, ahead: int) -> Iterator[Item]:
    """Yield the items in order, each already being read by the pool when it is taken."""
    waiting: list[tuple[str, Future[Micrograph]]] = []
    ended_by: Exception | None = None
    try:
        for item in items:
            waiting.append((item.name, pool.submit(item.read)))
            if len(waiting) > ahead:
                name, future = waiting.pop(0)
                yield Item(name, future.result)
    except Exception as fault:
        ended_by = fault
    for name, future in waiting:
        yield Item(name, future.result)
    if ended_by is not None:
        raise ended_by


def _in_order(shared: _Shared) -> Iterator[Result]:
    number = 0
    while True:
        with shared.changed:
            while number not in shared.results:
                if shared.fault is not None:
                    raise shared.fault
                if shared.exhausted and number == shared.taken:
                    if shared.ended_by is not None:
                        raise shared.ended_by
                    return
                shared.changed.wait()
            result, values = shared.results.pop(number)
            shared.held_values -= values
            if shared.held_values < BUDGET_VALUES <= shared.held_values + values:
                shared.changed.notify_all()  # somebody may wait for room
        yield result
        number += 1
