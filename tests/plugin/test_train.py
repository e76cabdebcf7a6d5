import shutil

import numpy as np
import pytest
import screen  # noqa: F401  first: skips without napari
from qtpy.QtWidgets import QFileDialog
from small_bundles import make_bundle

from micro import bundle, formats
from micro.micrograph import Micrograph
from micro.scenes import grains as scenes
from micro_napari import train as train_dock


@pytest.fixture
def lessons(tmp_path):
    """A training folder of twelve small drawn polycrystals."""
    folder = tmp_path / "lessons"
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for seed in range(12):
        scene = scenes.draw(seed, 96, 96)
        formats.write_image(folder / "images" / f"{seed:02d}.tif", scene.image)
        formats.write_labels(folder / "masks" / f"{seed:02d}.tif", scene.labels.astype(np.int32))
    return folder


@pytest.fixture
def quick(monkeypatch):
    """A preset of seconds beside those of minutes."""
    monkeypatch.setitem(train_dock.PRESETS, "now", 0.1)


def planned(train, until):
    train.plan.click()
    until(train.plan.isEnabled)


def test_the_corrected_image_is_added_to_the_training_set(viewer, dock, segmented, tmp_path):
    (grains,) = viewer.open_sample("micro", "grains")
    segmented(grains, "grains-iron", um=0.5)
    labels = viewer.layers["grains grains-iron"]
    correct, train = dock("Correct"), dock("Train")
    train.folder.setText(str(tmp_path / "set"))
    labels.data_setitem(np.nonzero(labels.data == 4), 5)
    correct.add.click()
    (image,) = (tmp_path / "set" / "images").iterdir()
    assert np.array_equal(formats.read(image).pixels[..., 0], grains.data)
    assert np.array_equal(formats.read_labels(tmp_path / "set" / "masks" / image.name), labels.data)
    assert train.task.currentText() == "grains"
    assert train.start_from.currentText() == "grains-iron"
    assert train.start_from.findText("start-segment") > 0
    assert train.count.text().startswith("1 annotated image;")


@pytest.mark.parametrize("name", ["", "..", "../grains-iron"])
def test_a_bundle_needs_a_name_that_is_a_folder_of_its_own(dock, lessons, name):
    train = dock("Train")
    train.folder.setText(str(lessons))
    train.name.setText(name)
    train.plan.click()
    assert "needs a name" in train.said.text()
    assert not train.go.isEnabled()


def test_nothing_starts_before_its_plan_is_shown(dock, until, lessons, tmp_path):
    train = dock("Train")
    assert not train.go.isEnabled()
    train.folder.setText(str(tmp_path / "gone"))
    planned(train, until)
    assert "no such folder" in train.said.text()
    assert not train.go.isEnabled()
    train.folder.setText(str(lessons))
    train.task.setCurrentText("grains")
    planned(train, until)
    assert "12 annotated images" in train.page.toPlainText()
    assert "held out   3 whole images" in train.page.toPlainText()
    assert train.go.isEnabled()
    train.preset.setCurrentIndex(1)
    assert not train.go.isEnabled()


def test_colour_is_learned_where_it_is_ticked_and_the_task_offers_it(dock, until, lessons):
    train = dock("Train")
    train.folder.setText(str(lessons))
    train.task.setCurrentText("grains")
    planned(train, until)
    assert "sees brightness" in train.page.toPlainText()
    train.colour.setChecked(True)
    assert not train.go.isEnabled()
    planned(train, until)
    assert "no colour to learn from" in train.said.text()
    tinted = scenes.draw(0, 96, 96).image.pixels * np.array([1, 0.8, 0.6])
    formats.write_image(lessons / "images" / "00.tif", Micrograph(tinted.astype(np.uint8)))
    planned(train, until)
    assert "sees colour" in train.page.toPlainText()
    train.task.setCurrentText("flakes")
    assert train.colour.isHidden()


@pytest.mark.slow
def test_a_training_is_watched_stopped_resumed_compared_used_and_saved(
    viewer, dock, until, quick, beats, lessons, home, tmp_path, monkeypatch
):
    make_bundle(home / ".local/share/micro/bundles/begun")
    train = dock("Train")
    train.preset.addItem("now")
    train.folder.setText(str(lessons))
    train.task.setCurrentText("grains")
    train.start_from.setCurrentText("begun")
    train.preset.setCurrentText("now")
    train.name.setText("taught")
    monkeypatch.setitem(train_dock.PRESETS, "now", 5.0)
    planned(train, until)
    train.go.click()
    assert train.go.text() == "Stop"
    with beats() as watch:
        until(lambda: train.curve.points)
    print(f"longest pause of the window during training: {watch.longest_ms:.0f} ms")
    assert watch.longest_ms < 100
    first, loss = train.curve.points[0]
    assert (first, train.curve.total > 50) == (50, True)
    assert loss > 0
    train.go.click()
    until(lambda: not train.is_running)
    assert "Stopped" in train.said.text()
    assert train.go.text() == "Resume"

    # the rest of five minutes is not for a test: the same training, planned shorter from the start
    shutil.rmtree(train.out)
    monkeypatch.setitem(train_dock.PRESETS, "now", 0.1)
    planned(train, until)
    train.go.click()
    until(lambda: not train.is_running)
    assert "is made and installed" in train.said.text()
    assert "taught" in bundle.installed()

    train.compare.click()
    until(lambda: "On an image" in train.said.text())
    names = [layer.name for layer in viewer.layers]
    assert names[0] == "held apart"
    assert "after: taught" in names

    train.use.click()
    segment = viewer.window.dock_widgets["Segment (micro)"]
    assert segment.cards.chosen()[0] == "taught"

    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(tmp_path))
    train.save.click()
    assert bundle.load(tmp_path / "taught").card == bundle.load("taught").card


@pytest.mark.slow
def test_a_stopped_training_goes_on_from_its_checkpoint(dock, until, quick, lessons, home, monkeypatch):
    make_bundle(home / ".local/share/micro/bundles/begun")
    train = dock("Train")
    train.preset.addItem("now")
    train.folder.setText(str(lessons))
    train.task.setCurrentText("grains")
    train.start_from.setCurrentText("begun")
    train.preset.setCurrentText("now")
    train.name.setText("resumed")
    monkeypatch.setitem(train_dock.PRESETS, "now", 0.4)
    planned(train, until)
    train.go.click()
    until(lambda: train.curve.points)
    train.go.click()
    until(lambda: not train.is_running)
    planned(train, until)
    assert train.go.text() == "Resume"
    train.go.click()
    until(lambda: train.curve.points or not train.is_running)
    assert train.curve.points[0][0] > 50
    until(lambda: not train.is_running)
    assert "is made and installed" in train.said.text()


def test_a_training_that_cannot_start_says_why(dock, until, lessons, home, monkeypatch):
    train = dock("Train")
    train.folder.setText(str(lessons))
    train.task.setCurrentText("grains")
    planned(train, until)
    shutil.rmtree(lessons / "masks")
    train.go.click()
    until(lambda: not train.is_running)
    assert "masks" in train.said.text() or "problems found" in train.said.text()
    assert not (train.out / "card.json").exists()
