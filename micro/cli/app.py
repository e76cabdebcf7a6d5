"""The application that the verbs belong to, and how a command line ends."""

import io
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cyclopts import App, CycloptsError, Parameter

from micro.cli.screen import err
from micro.errors import MicroError

DONE, SOME_FAILED, REFUSED, NOT_GOOD, INTERRUPTED = 0, 1, 2, 3, 130
# The verbs that keep what is done when they are interrupted; the others begin anew.
_GOES_ON = {
    "predict": " The same command goes on from here.",
    "train": " The same command goes on from here with --resume.",
}


def _version() -> str:
    from importlib.metadata import version

    return version("micro")


app = App(
    name="micro",
    help="Read micrographs and sheet images and say what is there: flakes, grains, surface defects.",
    version=_version,
    default_parameter=Parameter(negative=""),
    print_error=False,
    exit_on_error=False,
    suppress_keyboard_interrupt=False,
    result_action="return_value",
)


@contextmanager
def stopping() -> Iterator[threading.Event]:
    """Give an event that SIGTERM or Ctrl-C sets, so that work can end in order; a second Ctrl-C ends it at once."""
    stop = threading.Event()

    def ask(_number: int, _frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        err.print("Stopping: what is in hand is finished first.")

    if threading.current_thread() is not threading.main_thread():  # where signals do not arrive
        yield stop
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def make_room(path: Path) -> None:
    """Make the folder of a file that is written when the work is done.

    Raises MicroError at once where that cannot be, and not when the work is done.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise MicroError(f"{path}: cannot be written there ({fault.strerror}). Give another path.") from fault
    if path.is_dir():
        raise MicroError(f"{path}: is a folder. Name a file in it.")


def main() -> None:
    """Run the command line and exit with its code."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name that the locale cannot write is escaped, and ends nothing
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    try:
        code = app(arguments)
    except CycloptsError as fault:
        err.print(f"{fault}\nSee: micro --help")
        return REFUSED
    except MicroError as fault:
        err.print(str(fault))
        return REFUSED
    except BrokenPipeError:  # whoever read what is printed has gone, such as head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _interrupted(arguments)
    except OSError as fault:
        if fault.strerror is None:
            raise
        place = "" if fault.filename is None else f"{fault.filename}: "  # a full disk names no file
        err.print(f"{place}{fault.strerror}. Check the path, the permissions and the disk.")
        return REFUSED
    except KeyboardInterrupt:
        return _interrupted(arguments)
    return code if isinstance(code, int) else DONE


def _interrupted(arguments: list[str]) -> int:
    err.print(f"Interrupted.{_GOES_ON.get(arguments[0], '')}")
    return INTERRUPTED
