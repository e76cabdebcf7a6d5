"""The README's ten minutes, followed step by step, and a picture of every dock.

`MICRO_PICTURES=plugins/micro_napari/pictures` before the test command draws the pictures of the README anew.
"""

import re
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import screen  # noqa: F401  first: skips without napari
from npe2 import PluginManager
from qtpy.QtWidgets import QApplication, QFileDialog

from micro import bundle, cli, formats
from micro.scenes import chips
from micro_napari import train as train_dock

README = Path(__file__).resolve().parents[2] / "README.md"


def chapter():
    """The README's chapter, in one line."""
    (text,) = re.findall(r"## Ten minutes in napari\n(.*?)\n## ", README.read_text(encoding="utf-8"), re.DOTALL)
    return " ".join(text.split())


class Reader:
    """Somebody who does what the README says, in its order; one method a bold word."""

    def __init__(self, viewer, dock, until, picture, tmp_path, monkeypatch):
        self.viewer, self.dock, self.until, self.picture = viewer, dock, until, picture
        self.tmp_path, self.monkeypatch = tmp_path, monkeypatch
        viewer.window.resize(1280, 800)
        self.steps = {
            "File > Open Sample > micro > Grains of a polycrystal (drawn)": self.open_sample,
            "Segment": self.segment,
            "Run": self.run,
            "Cancel": self.see_the_result,
            "Measure": self.measure,
            "Correct…": self.correct,
            "Add this image to a training set…": self.add,
            "Train": self.train,
            "Batch": self.batch,
            "Copy as command": self.copy,
            "Save recipe…": self.save_recipe,
        }

    def widget(self, name):
        return self.viewer.window.dock_widgets[f"{name} (micro)"]

    def open_sample(self):
        samples = {
            sample.display_name: sample.key
            for _, each in PluginManager.instance().iter_sample_data()
            for sample in each
        }
        (self.image,) = self.viewer.open_sample("micro", samples["Grains of a polycrystal (drawn)"])

    def segment(self):
        segment = self.dock("Segment")
        segment.cards.choose("grains-iron")
        assert "512 x 512 px grey" in segment.live.text()
        segment.scale.size_um.setValue(0.5)
        segment.scale.apply.click()
        self.picture("segment")

    def run(self):
        segment = self.widget("Segment")
        segment.run.click()
        assert segment.run.text() == "Cancel"

    def see_the_result(self):
        segment = self.widget("Segment")
        self.until(lambda: not segment.is_running)
        self.labels = self.viewer.layers["grains grains-iron"]
        assert tuple(self.labels.scale) == (0.5, 0.5)

    def measure(self):
        measure = self.widget("Measure")
        assert measure.headline.text().startswith("G ")
        measure.colour.setCurrentText("equivalent_diameter_um")
        self.labels.selected_label = 7
        self.picture("measure")

    def correct(self):
        self.widget("Measure").open_correct.click()
        correct, measure = self.widget("Correct"), self.widget("Measure")
        before = measure.headline.text()
        rows, columns = np.nonzero(np.asarray(self.labels.data) == int(self.labels.features["area_px"][1:].idxmax()))
        row = int(np.quantile(rows, 0.3))
        across = columns[rows == row]
        correct.tools["Split"].click()
        # what the tool calls when the mouse is released
        correct._edit(np.array([(row, across.min() - 2), (row, across.max() + 2)], np.float64))
        self.until(lambda: measure.headline.text() != before)
        self.until(lambda: correct.kept.text() != "")
        assert self.labels.features["edited"].sum() == 2
        self.picture("correct")
        correct.undo.click()
        self.until(lambda: measure.headline.text() == before)
        correct.redo.click()
        self.until(lambda: measure.headline.text() != before)

    def add(self):
        self.widget("Correct").add.click()

    def train(self):
        train = self.widget("Train")
        assert "1 annotated image;" in train.count.text()
        train.plan.click()
        self.until(train.plan.isEnabled)
        assert "held out" in train.page.toPlainText()
        self.picture("train")
        train.go.click()
        self.until(lambda: train.curve.points)
        train.go.click()
        self.until(lambda: not train.is_running)
        assert train.go.text() == "Resume"
        train.plan.click()
        self.until(train.plan.isEnabled)
        train.go.click()
        self.until(lambda: not train.is_running)
        assert "my-model" in bundle.installed(), train.said.text()
        train.compare.click()
        self.until(lambda: "On an image" in train.said.text())
        assert tuple(self.viewer.layers["after: my-model"].scale) == (0.5, 0.5)
        train.use.click()
        assert self.widget("Segment").cards.chosen()[0] == "my-model"

    def batch(self):
        folder = self.tmp_path / "fields"
        folder.mkdir()
        formats.write_image(folder / "one.tif", formats.read(Path(self.image.metadata["path"])))
        self.monkeypatch.setattr("qtpy.QtGui.QDesktopServices.openUrl", lambda _: None)
        batch = self.dock("Batch")
        batch.folder.setText(str(folder))
        batch.recipe.setCurrentText("grains-iron")
        batch.run.click()
        self.until(lambda: not batch.is_running)
        assert batch.states() == {"one.tif": "done"}
        self.picture("batch")

    def copy(self):
        self.widget("Batch").copy.click()
        words = shlex.split(QApplication.clipboard().text())
        words[words.index("--out") + 1] = str(self.tmp_path / "copied")
        assert cli.run(words[1:]) == 0
        one, other = (
            formats.read_labels(out / "labels" / "one.tif")
            for out in (self.tmp_path / "fields-results", self.tmp_path / "copied")
        )
        assert np.array_equal(one, other)

    def save_recipe(self):
        recipe = self.tmp_path / "recipe.yaml"
        self.monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(recipe), ""))
        segment = self.widget("Segment")
        segment.cards.choose("grains-iron")
        segment.image.value = self.image
        segment.save.click()
        out = self.tmp_path / "replayed"
        assert cli.run(["predict", self.image.metadata["path"], "--recipe", str(recipe), "--out", str(out)]) == 0


@pytest.mark.slow
def test_the_ten_minutes_of_the_readme_go_as_they_are_written(viewer, dock, until, picture, tmp_path, monkeypatch):
    # five minutes of training are not for a test
    monkeypatch.setitem(train_dock.PRESETS, "quick: 5 minutes", 0.3)
    reader = Reader(viewer, dock, until, picture, tmp_path, monkeypatch)
    bold = re.findall(r"\*\*(.*?)\*\*", chapter())
    assert sorted(bold) == sorted(reader.steps)
    for step in bold:
        reader.steps[step]()


@pytest.mark.slow
@pytest.mark.data
def test_every_dock_is_pictured_with_a_photograph(viewer, dock, segmented, until, picture, data, tmp_path):
    viewer.window.resize(1280, 800)
    section = formats.read(sorted((data / "grains/pure-iron-serial/images").iterdir())[0])
    formats.write_image(tmp_path / "iron.tif", replace(section, pixels=section.pixels[:400, :500]))
    (image,) = viewer.open(str(tmp_path / "iron.tif"), plugin="micro")
    dock("Segment")
    picture("photograph-segment")
    segmented(image, "grains-iron", um=0.5)
    measure = viewer.window.dock_widgets["Measure (micro)"]
    measure.colour.setCurrentText("equivalent_diameter_um")
    picture("photograph-measure")
    dock("Correct").tools["Paint"].click()
    picture("photograph-correct")
    train = dock("Train")
    train.folder.setText(str(tmp_path / "set"))
    train.add_chosen()
    train.plan.click()
    until(train.plan.isEnabled)
    picture("photograph-train")
    batch = dock("Batch")
    batch.recipe.setCurrentText("grains-iron")
    batch.folder.setText(str(data / "grains/pure-iron-serial/images"))
    batch.folder.editingFinished.emit()
    assert len(batch.states()) == 5
    picture("photograph-batch")
    viewer.layers.clear()
    photograph = sorted((data / "flakes/maskterial/GrapheneH/images").iterdir())[0]
    (image,) = viewer.open(str(photograph), plugin="micro")
    profile = dock("Profile")
    for count, place in ((1, (200, 300)), (2, (300, 500))):
        profile.layers.setValue(count)
        profile.click.click()
        viewer.layers[f"{image.name}: known flakes"].add(place)
    picture("photograph-profile")


def test_the_profile_dock_is_pictured(viewer, dock, picture):
    viewer.window.resize(1280, 800)
    chip = chips.draw(4, 384, 512, material="graphene", oxide_nm=90.0)
    viewer.add_image(chip.image.pixels, name="chip", rgb=True)
    profile = dock("Profile")
    for number in np.unique(chip.labels)[1:]:
        count = int(chip.class_names[number - 1].rstrip("L"))
        y, x = np.argwhere(chip.labels == number).mean(0).round()
        if (
            count <= profile.layers.maximum()
            and chip.labels[int(y), int(x)] == number
            and (chip.labels == number).sum() > 400
        ):
            profile.layers.setValue(count)
            profile.click.click()
            viewer.layers["chip: known flakes"].add((y, x))
    assert "are enough" not in profile.clicked.text()
    picture("profile")
