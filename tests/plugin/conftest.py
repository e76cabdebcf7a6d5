import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty home, so that nothing of the user's own is read or written."""
    folder = tmp_path / "home"
    folder.mkdir()
    # napari's icons stay where they were drawn
    monkeypatch.setenv("XDG_CACHE_HOME", os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache")))
    monkeypatch.setenv("HOME", str(folder))
    return folder


@pytest.fixture
def viewer(home, make_napari_viewer_proxy):
    """A napari window on which only public attributes may be touched."""
    return make_napari_viewer_proxy(show=True)


@pytest.fixture
def until(qtbot):
    """Let the window work until a condition holds."""

    def wait(condition, seconds=60.0):
        qtbot.waitUntil(condition, timeout=round(seconds * 1000))

    return wait
