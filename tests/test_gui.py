import importlib.util
import subprocess
import sys

import pytest

from micro import cli


@pytest.fixture
def started(monkeypatch):
    commands = []
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object())
    monkeypatch.setattr(subprocess, "call", lambda command: commands.append(command) or 0)
    return commands


def test_the_docks_open_in_napari_with_the_images(started, tmp_path):
    image = tmp_path / "a.png"
    image.touch()
    assert cli.run(["gui", str(image)]) == 0
    assert started == [[sys.executable, "-m", "napari", str(image), "--plugin", "micro", "--with", "micro", "Segment"]]


def test_without_an_image_napari_opens_empty(started):
    assert cli.run(["gui"]) == 0
    assert started == [[sys.executable, "-m", "napari", "--with", "micro", "Segment"]]


def test_a_missing_image_is_refused_before_a_window_opens(started, capsys):
    assert cli.run(["gui", "gone.png"]) == 2
    assert "gone.png" in capsys.readouterr().err
    assert not started


def test_without_napari_the_remedy_is_named(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert cli.run(["gui"]) == 2
    assert "micro[napari]" in capsys.readouterr().err


HIDE = """
import importlib.abc, sys

class Hidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"napari", "qtpy", "PyQt5", "PyQt6", "PySide6", "magicgui", "superqt", "vispy"}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Hidden())
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ["predict", "{sample}", "--model", "grains-iron", "--out", "found"],
        pytest.param(
            ["train", "drawn", "--task", "grains", "--out", "made", "--minutes", "0.01"], marks=pytest.mark.slow
        ),
    ],
    ids=["predict", "train"],
)
def test_without_napari_and_qt_the_command_line_works(tmp_path, arguments):
    from micro_napari.sample import sample_images

    (sample,) = [path for path in sample_images() if path.stem == "grains"]
    code = f"{HIDE}\nfrom micro import cli\nsys.exit(cli.run({[each.format(sample=sample) for each in arguments]!r}))"
    if arguments[0] == "train":
        drawn = [sys.executable, "-m", "micro.scenes", "grains", "drawn", "--count", "10", "--size-px", "64"]
        subprocess.run(drawn, cwd=tmp_path, check=True)
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert any(tmp_path.glob("found/labels/*.tif")) or any(tmp_path.glob("made/card.json"))


def test_without_napari_and_qt_micro_is_imported():
    subprocess.run([sys.executable, "-c", f"{HIDE}\nimport micro; micro.Engine, micro.read"], check=True)
