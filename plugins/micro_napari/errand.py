"""Long work in a thread: what a generator yields comes to the window, and the window stays awake."""

import threading
from collections.abc import Callable, Generator
from functools import partial
from typing import Any

from napari.qt.threading import create_worker
from napari.utils.notifications import show_info
from qtpy.QtCore import QObject, Qt, QThreadPool

from micro.errors import MicroError

Steps = Generator[Any, None, Any]


class Refusal(str):
    """Why work came to nothing, in a sentence for the user."""


class _Named(partial):  # type: ignore[type-arg]
    """A call that bears its title where napari lists what it would have to stop."""

    def __repr__(self) -> str:
        return str(self.keywords["title"])


class Errand(QObject):
    """Long work of a widget, one piece at a time.

    seen is called with everything that is yielded; ended with the result, a Refusal, or None after `stop`. Both are
    called in the window's own thread, and not after `drop`.
    """

    def __init__(self, parent: QObject, seen: Callable[[Any], None], ended: Callable[[Any], None]) -> None:
        super().__init__(parent)
        self._seen, self._ended = seen, ended
        self._run: _Run | None = None
        parent.destroyed.connect(lambda: self.drop())  # a closed window waits for nothing

    @property
    def is_running(self) -> bool:
        """Whether there is an end to wait for."""
        return self._run is not None

    def start(self, title: str, steps: Steps) -> None:
        """Start what has not begun; title says what it is, for the question that napari asks when it is closed."""
        assert self._run is None
        self._run = _Run(self, title, steps)

    def stop(self) -> None:
        """Ask the work to stop at its next step, and wait for its end as usual."""
        if self._run is not None:
            self._run.stopped.set()

    def drop(self) -> None:
        """Stop, and hear no more of it: at once for the window, and at its next step for the work."""
        if self._run is not None:
            self._run.stopped.set()
            self._run.errand = None
            self._run = None

    def let_go(self) -> None:
        """Drop the work of a dock that was closed, and say so: nobody would see its end, or could stop it."""
        if self._run is not None:
            show_info(f"Stopped {self._run.title}, as its dock was closed.")
            self.drop()

    def hear(self, value: Any) -> None:
        """Pass on what was yielded."""
        self._seen(value)

    def end(self, result: Any) -> None:
        """Pass on how it ended."""
        self._run = None
        self._ended(result)


class _Run(QObject):
    """One piece of work. A QObject of the window's thread, so that what the worker says arrives there."""

    def __init__(self, errand: Errand, title: str, steps: Steps) -> None:
        super().__init__(errand)
        self.errand: Errand | None = errand
        self.title = title
        self.stopped = threading.Event()
        worker = create_worker(_Named(_driven, steps=steps, stopped=self.stopped, title=title), _start_thread=False)
        # when napari is closed it drops work where it stands: what that holds is let go here, in the worker's thread
        worker.aborted.connect(lambda: steps.close(), type=Qt.ConnectionType.DirectConnection)
        worker.yielded.connect(self._hear)
        worker.returned.connect(self._end)
        worker.errored.connect(self._fail)
        worker.finished.connect(self._finish)
        # the thread mostly waits for another process, and must not take the place of one that computes
        QThreadPool.globalInstance().releaseThread()
        worker.start()

    def _hear(self, value: Any) -> None:
        if self.errand is not None:
            self.errand.hear(value)

    def _end(self, result: Any) -> None:
        if self.errand is not None:
            self.errand.end(result)

    def _fail(self, fault: Exception) -> None:
        self._end(Refusal(f"{type(fault).__name__}: {fault}"))

    def _finish(self) -> None:
        QThreadPool.globalInstance().reserveThread()
        self.deleteLater()


def _driven(steps: Steps, stopped: threading.Event, title: str) -> Steps:  # noqa: ARG001
    """Work through a generator, and close it in this thread when it is to stop: that may take a while."""
    try:
        while not stopped.is_set():
            yield next(steps)
    except StopIteration as stop:
        return stop.value
    except MicroError as fault:
        return Refusal(fault)
    finally:
        steps.close()
    return None
