"""What the user sees: words on a terminal or in a log, and how far long work is."""

import json
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from typing import Annotated, Literal, Protocol, TypeVar

from cyclopts import Parameter
from rich.console import Console

# Where there is no terminal, long work says how far it is no more often than this.
SECONDS_A_LINE = 10.0

Result = TypeVar("Result")
Shown = Annotated[Literal["auto", "json"], Parameter(env_var="MICRO_PROGRESS")]
"""How long work is shown: for people, or as one line of JSON a step for a program that watches."""

out = Console(soft_wrap=True, highlight=False, markup=False)
err = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)


class _Step(Protocol):
    @property
    def done(self) -> int: ...

    @property
    def total(self) -> int: ...

    @property
    def note(self) -> str: ...


def watched(steps: Generator[_Step, None, Result], unit: str, shown: Shown = "auto") -> Result:
    """Run a generator to its end, showing how far it is; Ctrl-C closes it, which leaves what is done in order."""
    with _json() if shown == "json" else _display(unit) as show, closing(steps):
        while True:
            try:
                step = next(steps)
            except StopIteration as stop:
                result: Result = stop.value
                return result
            show(step)


@contextmanager
def _json() -> Iterator[Callable[[_Step], None]]:
    """Give a function that prints the numbers and words of a step as one line of JSON."""

    def line(step: _Step) -> None:
        facts = {name: value for name, value in vars(step).items() if isinstance(value, int | float | str)}
        print(json.dumps({**facts, "note": step.note}), flush=True)

    yield line


@contextmanager
def _display(unit: str) -> Iterator[Callable[[_Step], None]]:
    """Give a function that shows a step: on a bar where there is a terminal, on a line now and then elsewhere."""
    if not err.is_terminal:
        said = time.monotonic()

        def line(step: _Step) -> None:
            nonlocal said
            if step.done == step.total or time.monotonic() - said >= SECONDS_A_LINE:
                said = time.monotonic()
                err.print(f"{step.done} of {step.total} {unit}  {step.note}")

        yield line
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=err) as bar:
        shown = bar.add_task("", total=None)
        yield lambda step: bar.update(shown, completed=step.done, total=step.total, description=step.note)
