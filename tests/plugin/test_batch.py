import contextlib
import json
import shlex

import numpy as np
import psutil
import pytest
import screen  # noqa: F401  first: skips without napari
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QApplication, QFileDialog

from micro import cli, formats
from micro.recipe import Decision, Recipe
from micro.scenes import grains as scenes


@pytest.fixture
def opened(monkeypatch):
    """What was opened outside of napari."""
    urls = []
    monkeypatch.setattr(QDesktopServices, "openUrl", lambda url: urls.append(url.toLocalFile()))
    return urls


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for seed in range(3):
        formats.write_image(folder / f"{seed}.tif", scenes.draw(seed, 96, 96).image)
    (folder / "broken.png").write_bytes(b"no image")
    return folder


@pytest.mark.slow
def test_a_folder_is_run_file_by_file_and_failures_are_listed(viewer, dock, until, images, opened):
    viewer.open_sample("micro", "grains")
    segment = dock("Segment")
    segment.cards.choose("grains-iron")
    batch = dock("Batch")
    batch.size_um.setValue(0.5)
    batch.folder.setText(str(images))
    batch.folder.editingFinished.emit()
    assert batch.states() == dict.fromkeys(("0.tif", "1.tif", "2.tif", "broken.png"), "queued")
    batch.run.click()
    assert batch.run.text() == "Stop"
    until(lambda: not batch.is_running)
    assert batch.states() == {"0.tif": "done", "1.tif": "done", "2.tif": "done", "broken.png": "failed"}
    assert "broken.png" in batch.said.text()
    out = images.with_name("images-results")
    assert opened == [str(out / "report.html")]

    # the same answer as the command that it copies
    batch.copy.click()
    words = shlex.split(QApplication.clipboard().text())
    assert words[words.index("--pixel-size-um") :][:2] == ["--pixel-size-um", "0.5"]
    words[words.index("--out") + 1] = str(images.with_name("again"))
    assert cli.run(words[1:]) == 1
    for seed in range(3):
        one, other = (
            formats.read_labels(place / "labels" / f"{seed}.tif") for place in (out, images.with_name("again"))
        )
        assert np.array_equal(one, other)
    assert "0.5" in (out / "images.csv").read_text()


@pytest.mark.slow
def test_a_run_that_is_stopped_goes_on_where_it_was(viewer, dock, until, images, opened, tmp_path):
    for seed in range(3, 40):
        formats.write_image(images / f"{seed}.tif", scenes.draw(seed % 5, 192, 192).image)
    batch = dock("Batch")
    batch.recipe.setCurrentText("grains-iron")
    batch.folder.setText(str(images))
    batch.run.click()
    until(lambda: "done" in batch.states().values())
    batch.run.click()
    until(lambda: not batch.is_running)
    assert "queued" in batch.states().values()
    assert "Stopped" in batch.said.text()
    batch.run.click()
    until(lambda: not batch.is_running)
    assert list(batch.states().values()).count("done") == 40


@pytest.mark.slow
def test_a_recipe_file_is_run_as_it_was_saved_with_its_limits_of_verdicts(
    dock, until, images, opened, tmp_path, monkeypatch
):
    limits = Decision(temperature=2, ok_classes=("red_iron",), ok_below=0, ng_from=1)  # everything is to be looked at
    recipe = Recipe(model="sheet-steel", decision=limits)
    recipe.save(tmp_path / "recipe.yaml")
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(tmp_path / "recipe.yaml"), ""))
    batch = dock("Batch")
    batch.folder.setText(str(images))
    batch.recipe.setCurrentText("a recipe file…")
    batch.recipe.activated.emit(batch.recipe.currentIndex())
    batch.run.click()
    until(lambda: not batch.is_running)
    out = images.with_name("images-results")
    assert Recipe.model_validate(json.loads((out / "run.json").read_text())["recipe"]) == recipe
    assert [batch.files.item(row, 2).text() for row in range(3)] == ["REVIEW"] * 3
    batch.copy.click()
    words = shlex.split(QApplication.clipboard().text())
    assert words == ["micro", "predict", str(images), "--recipe", str(tmp_path / "recipe.yaml"), "--out", str(out)]


def test_a_folder_has_its_own_pixel_size_or_one_that_is_given_for_it(viewer, dock, images):
    viewer.open_sample("micro", "grains")
    segment = dock("Segment")
    segment.cards.choose("grains-iron")
    segment.settings.fields["min_area_px"].value = 50
    segment.scale.size_um.setValue(0.5)
    segment.scale.apply.click()
    batch = dock("Batch")
    batch.folder.setText(str(images))
    asked = ["micro", "predict", str(images), "--model", "grains-iron", "--set", "min_area_px=50"]
    out = ["--out", f"{images}-results"]
    assert shlex.split(batch.line()) == asked + out
    assert "0.5 um, does not count here" in batch.scale_said.text()
    batch.size_um.setValue(0.25)
    assert shlex.split(batch.line()) == [*asked, "--pixel-size-um", "0.25", *out]
    assert not batch.scale_said.text()
    batch.recipe.setCurrentText("sheet-steel")
    assert shlex.split(batch.line())[3:7] == ["--model", "sheet-steel", "--pixel-size-um", "0.25"]


def test_a_dock_that_is_closed_stops_the_folder_it_runs(viewer, dock, until, images):
    batch = dock("Batch")
    batch.recipe.setCurrentText("grains-iron")
    batch.folder.setText(str(images))
    batch.run.click()

    def running():
        found = []
        for each in psutil.Process().children():
            with contextlib.suppress(psutil.NoSuchProcess):  # it ended meanwhile
                found.append("predict" in each.cmdline())
        return any(found)

    until(running)
    viewer.window.remove_dock_widget(viewer.window.dock_widgets["Batch (micro)"])
    assert not batch.is_running
    until(lambda: not running())


def test_what_cannot_be_run_is_said(dock, tmp_path):
    batch = dock("Batch")
    assert batch.recipe.findText("start-segment") < 0 < batch.recipe.findText("sheet-steel")  # a start answers nothing
    batch.folder.setText(str(tmp_path / "gone"))
    batch.run.click()
    assert "Segment dock is not open" in batch.said.text()
    batch.recipe.setCurrentText("grains-iron")
    batch.run.click()
    assert "no such file or folder" in batch.said.text()
    assert not batch.is_running
