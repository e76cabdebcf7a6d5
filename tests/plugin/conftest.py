import contextlib
import ctypes
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import micro.engine  # noqa: F401  torch brings an LLVM and Mesa another, and only in this order do they get along
from micro_napari.aside import Aside

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

# a busy machine is slow to load torch in another process
PATIENCE_MS = 300_000

# With each window of napari PySide6 6.12 gives back some 5,000 references to None that are not its own, and a Python
# before 3.12 ends when none is left, at the latest when it ends anyway. These are lent to it for good.
for _ in range(500_000 if sys.version_info < (3, 12) else 0):
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(None))


@pytest.fixture(scope="session")
def lodging(tmp_path_factory):
    """Where the home of every test lies: the engine's process keeps the one that it started in."""
    return tmp_path_factory.getbasetemp() / "home"


@pytest.fixture
def home(lodging, monkeypatch):
    """An empty home, so that nothing of the user's own is read or written."""
    folder = lodging
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    # napari's icons stay where they were drawn
    monkeypatch.setenv("XDG_CACHE_HOME", os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache")))
    monkeypatch.setenv("HOME", str(folder))
    return folder


@pytest.fixture(scope="session")
def one_process():
    """One process of the engine for all tests: loading torch takes longer than the tests."""
    aside = Aside()
    yield aside
    aside.close()


@pytest.fixture
def viewer(home, one_process, monkeypatch, make_napari_viewer_proxy):
    """A napari window on which only public attributes may be touched."""
    for dock in ("segment", "measure", "train", "profile"):
        monkeypatch.setattr(f"micro_napari.{dock}.Aside", lambda: one_process)
    monkeypatch.setattr(one_process, "close", lambda: None)
    return make_napari_viewer_proxy(show=True)


@pytest.fixture
def dock(viewer):
    """Open a dock of the plugin by its name and return its widget."""

    def opened(name):
        bar, widget = viewer.window.add_plugin_dock_widget("micro", name, tabify=True)
        bar.show()
        bar.raise_()
        return widget

    return opened


@pytest.fixture
def until(qtbot):
    """Let the window work until a condition holds."""
    return lambda condition: qtbot.waitUntil(lambda: bool(condition()), timeout=PATIENCE_MS)


@pytest.fixture
def segmented(viewer, dock, until):
    """Segment an image layer with a bundle, as a user does, and return the Segment dock."""

    def run(layer, model, um=None):
        segment = dock("Segment")
        segment.image.value = layer
        segment.cards.choose(model)
        if um is not None:
            segment.scale.size_um.setValue(um)
            segment.scale.apply.click()
        segment.run.click()
        assert segment.run.text() == "Cancel"
        until(lambda: not segment.is_running)
        return segment

    return run


def stalled_ms():
    """Return for each thread of this process how long it was ever ready to run and had no processor."""
    stalls = {}
    for schedule in Path("/proc/self/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):  # a thread that has just ended
            stalls[schedule.parent.name] = 1e-6 * int(schedule.read_text().split()[1])
    return stalls


class Stopwatch:
    """Tells how long something takes here, without the time that other processes took from a thread of this one.

    The window may wait for any of its threads, such as those that draw; the longest stall of one is left out, where the
    system tells it.
    """

    def __init__(self):
        self._began, self._stalled = time.perf_counter(), stalled_ms()

    def ms(self):
        elapsed_ms = 1e3 * (time.perf_counter() - self._began)
        stalls = (ms - self._stalled.get(thread, 0.0) for thread, ms in stalled_ms().items())
        return elapsed_ms - max(stalls, default=0.0)


@pytest.fixture
def stopwatch():
    """What tells time here."""
    return Stopwatch


@pytest.fixture
def beats(qtbot, viewer):
    """Measure how long the window's thread was away: a timer that should beat every 5 ms, and its longest pause.

    Time in which this process was stopped from outside is left out. The window is small, because where there is no
    graphics card the processor draws it, pixel by pixel.
    """
    from qtpy.QtCore import QTimer

    class Beats:
        def __enter__(self):
            viewer.window.resize(640, 480)
            qtbot.wait(500)
            self.longest_ms, self._watch = 0.0, Stopwatch()
            self._timer = QTimer(interval=5)
            self._timer.timeout.connect(self._beat)
            self._timer.start()
            if hasattr(signal, "SIGCONT"):
                self._before = signal.signal(signal.SIGCONT, self._continued)
            return self

        def _continued(self, *_):
            self._watch = Stopwatch()

        def _beat(self):
            self.longest_ms = max(self.longest_ms, self._watch.ms())
            self._watch = Stopwatch()

        def __exit__(self, *_):
            self._beat()
            self._timer.stop()
            if hasattr(signal, "SIGCONT"):
                signal.signal(signal.SIGCONT, self._before)

    return Beats


@pytest.fixture
def drag(viewer):
    """Lead the tool in the hand along points (y, x) of a labels layer."""

    def along(_layer, *points):
        viewer.window.dock_widgets["Correct (micro)"]._edit(np.array(points, np.float64))

    return along


@pytest.fixture
def picture(viewer, qtbot, tmp_path):
    """Keep a picture of the whole window, in $MICRO_PICTURES where that is set."""

    def keep(name):
        qtbot.wait(300)  # for what is drawn a moment later
        path = Path(os.environ.get("MICRO_PICTURES", tmp_path)) / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        shown = viewer.screenshot(str(path), canvas_only=False, flash=False)
        assert len(np.unique(shown.reshape(-1, shown.shape[-1]), axis=0)) > 100

    return keep
