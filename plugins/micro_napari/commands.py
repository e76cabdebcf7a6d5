"""The command line that does the same, and commands that run in a process of their own."""

import contextlib
import json
import os
import queue
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from micro.recipe import Recipe

# What `micro` ends with when it is interrupted, and goes on from when it is run again.
INTERRUPTED = 130
# How long a command may take to leave everything in order after it was interrupted.
PATIENCE_SECONDS = 20.0
BEAT_SECONDS = 0.2
# How far a process that computes stands behind the window where both want the same core.
NICENESS = 5


@dataclass(frozen=True)
class Heard:
    """One line of a running command: facts that it reported, or words; neither where it only still runs."""

    facts: dict[str, Any] = field(default_factory=dict)
    words: str = ""


@dataclass(frozen=True)
class Ended:
    """How a command ended, and all that it said in words."""

    code: int
    words: str


def predict_line(
    sources: Sequence[str], asked: Recipe | Path, device: str, out: str, pixel_size_um: float | None = None
) -> str:
    """Return the command that finds the same without a screen.

    asked: a recipe, or the file of one; what only a file can say, such as the limits of verdicts, has no flags.
    pixel_size_um: of all images, in place of what the recipe says.
    """
    words = ["micro", "predict", *sources, *(_flags(asked) if isinstance(asked, Recipe) else ("--recipe", str(asked)))]
    if pixel_size_um is not None:
        words += ["--pixel-size-um", repr(pixel_size_um)]
    words += ["--out", out]
    if device != "auto":
        words += ["--device", device]
    return shlex.join(words)


def _flags(recipe: Recipe) -> Generator[str, None, None]:
    assert recipe.decision is None
    yield from ("--model", recipe.model)
    if recipe.pixel_size_um is not None:
        yield from ("--pixel-size-um", repr(recipe.pixel_size_um))
    for key, value in recipe.settings.items():
        yield from ("--set", f"{key}={value if isinstance(value, str) else json.dumps(value)}")
    if recipe.review_below is not None:
        yield from ("--review-below", repr(recipe.review_below))


def stand_behind(process: "subprocess.Popen[Any]") -> None:
    """Let the window go first where a process wants its cores too: it must answer while something trains."""
    if hasattr(os, "setpriority"):
        with contextlib.suppress(OSError):  # it may have ended
            os.setpriority(os.PRIO_PROCESS, process.pid, os.getpriority(os.PRIO_PROCESS, 0) + NICENESS)


def run_steps(arguments: Sequence[str]) -> Generator[Heard, None, Ended]:
    """Run `micro` with these arguments, yielding each line that it says, and a beat now and then.

    Closing the generator interrupts the command as Ctrl-C would, and waits until it has left all in order.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "micro", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        env={**os.environ, "MICRO_PROGRESS": "json", "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"},
    )
    stand_behind(process)
    lines: queue.Queue[str | None] = queue.Queue()
    reader = threading.Thread(target=_read, args=(process, lines), name="micro-command", daemon=True)
    reader.start()
    words: list[str] = []
    try:
        while True:
            try:
                line = lines.get(timeout=BEAT_SECONDS)
            except queue.Empty:
                yield Heard()
                continue
            if line is None:
                return Ended(process.wait(), "\n".join(words))
            heard = _heard(line)
            if heard.words:
                words.append(heard.words)
            yield heard
    finally:
        _stop(process)
        reader.join()


def _read(process: subprocess.Popen[str], lines: "queue.Queue[str | None]") -> None:
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            lines.put(line.rstrip("\n"))
    lines.put(None)


def _heard(line: str) -> Heard:
    if line.startswith("{"):
        try:
            facts = json.loads(line)
        except json.JSONDecodeError:
            return Heard(words=line)
        return Heard(facts)
    return Heard(words=line)


def _stop(process: subprocess.Popen[str]) -> None:
    if process.poll() is not None:
        return
    if os.name == "posix":
        process.send_signal(signal.SIGINT)
        try:
            process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
    else:
        process.kill()  # what is stored is in order at every moment; the tables follow with the next run
    process.wait()
