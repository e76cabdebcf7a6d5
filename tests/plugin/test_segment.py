import shlex

import numpy as np
import pytest
import screen  # noqa: F401  first: skips without napari
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QFileDialog, QTableView
from small_bundles import make_bundle

import micro
from micro import cli, formats
from micro.engine import Engine
from micro.recipe import Recipe
from micro_napari import follow, keeping
from micro_napari.finding import of


@pytest.fixture
def grains(viewer):
    (layer,) = viewer.open_sample("micro", "grains")
    return layer


def test_two_clicks_give_calibrated_labels_a_table_a_histogram_and_the_grain_size(viewer, segmented, grains):
    segment = segmented(grains, "grains-iron", um=0.5)
    labels = viewer.layers["grains grains-iron"]
    expected = Engine.load("grains-iron").predict(micro.read(grains.metadata["path"]))
    assert np.array_equal(labels.data, expected.regions.labels)
    assert tuple(labels.scale) == (0.5, 0.5)
    assert [str(unit) for unit in labels.units] == ["micrometer", "micrometer"]
    assert labels.features["index"].tolist() == list(range(len(expected.regions) + 1))
    assert np.allclose(labels.features["area_um2"][1:], expected.table["area_px"] * 0.25)
    assert segment.said.text().startswith("G ")

    measure = viewer.window.dock_widgets["Measure (micro)"]
    assert measure.headline.text() == segment.said.text().splitlines()[0]
    assert measure.histogram.counts.sum() == len(expected.regions)
    assert measure.column.currentText() == "equivalent_diameter_um"
    assert "given by the user" in measure.maker.text()


def test_a_row_selects_its_label_and_a_label_its_row(viewer, segmented, grains):
    segmented(grains, "grains-iron")
    labels = viewer.layers["grains grains-iron"]
    table = viewer.window.dock_widgets["Features table widget (napari)"].findChild(QTableView)
    labels.selected_label = 7
    rows = {index.row() for index in table.selectionModel().selectedIndexes()}
    assert rows == {7}
    table.selectRow(12)
    assert labels.selected_label == 12
    column = next(
        c for c in range(table.model().columnCount()) if table.model().headerData(c, Qt.Horizontal) == "index"
    )
    assert int(table.model().index(12, column).data()) == 12


def test_hovering_over_a_region_shows_its_values(viewer, segmented, grains):
    segmented(grains, "grains-iron", um=0.5)
    labels = viewer.layers["grains grains-iron"]
    y, x = np.argwhere(labels.data == 3)[0]
    said = labels.get_status((y * 0.5, x * 0.5), view_direction=None, dims_displayed=[0, 1], world=True)["value"]
    assert "class: grain" in said
    assert "area_um2" in said


def test_regions_are_coloured_by_class_or_by_any_number(viewer, segmented, grains):
    segmented(grains, "grains-iron")
    labels, measure = viewer.layers["grains grains-iron"], viewer.window.dock_widgets["Measure (micro)"]
    measure.colour.setCurrentText("area_px")
    area = labels.features["area_px"]
    smallest, largest = int(area[1:].idxmin()), int(area[1:].idxmax())
    # viridis goes from dark blue to yellow
    assert labels.get_color(smallest)[2] > labels.get_color(smallest)[1]
    assert labels.get_color(largest)[1] > labels.get_color(largest)[2]
    assert f"{area[largest]:.4g}" in measure.legend.text()
    measure.colour.setCurrentText("class")
    assert np.allclose(labels.get_color(smallest), labels.get_color(largest))
    measure.colour.setCurrentText("number")
    assert not np.allclose(labels.get_color(1), labels.get_color(2))


def test_a_second_run_takes_the_place_of_the_first_and_the_settings_of_the_form_count(viewer, segmented, grains, dock):
    segmented(grains, "grains-iron")
    before = viewer.layers["grains grains-iron"].features.shape[0]
    segment = dock("Segment")
    segment.settings.fields["min_area_px"].value = 5000
    assert segment.recipe().settings == {"min_area_px": 5000}
    segmented(grains, "grains-iron")
    labels = viewer.layers["grains grains-iron"]
    expected = Engine(_bundle("grains-iron"), Recipe(model="grains-iron", settings={"min_area_px": 5000}))
    assert np.array_equal(labels.data, expected.predict(micro.read(grains.metadata["path"])).regions.labels)
    assert len(viewer.layers) == 2
    assert labels.features.shape[0] < before


def test_a_second_run_lies_on_an_image_that_was_given_its_pixel_size_meanwhile(viewer, segmented, grains, tmp_path):
    segmented(grains, "grains-iron")
    grains.translate = (30, 40)
    segmented(grains, "grains-iron", um=0.5)
    labels = viewer.layers["grains grains-iron"]
    assert np.allclose(labels.data_to_world((7, 9)), grains.data_to_world((7, 9)))
    assert labels.units == grains.units
    labels.save(str(tmp_path / "labels.tif"), plugin="micro")
    assert formats.read(tmp_path / "labels.tif").pixel_size_um == 0.5


def test_the_result_goes_to_its_image_though_the_user_moved_on(viewer, dock, until, grains):
    segment = dock("Segment")
    segment.cards.choose("grains-iron")
    grains.scale = (2.0, 2.0)
    segment.run.click()
    other = viewer.add_image(np.zeros((30, 30)), name="other")
    segment.image.value = other
    until(lambda: not segment.is_running)
    labels = viewer.layers["grains grains-iron"]
    assert labels.data.shape == grains.data.shape
    assert tuple(labels.scale) == (2.0, 2.0)
    assert viewer.layers.selection.active == other


def test_corrections_of_an_image_are_offered_when_it_is_segmented_again(viewer, segmented, grains, until):
    segmented(grains, "grains-iron")
    labels = viewer.layers["grains grains-iron"]
    labels.features["class"] = labels.features["class"].cat.add_categories("twin")
    labels.features.loc[3, "class"] = "twin"
    labels.data_setitem(np.nonzero(labels.data == 4), 5)
    until(lambda: follow.of(labels).saved)
    corrected = labels.data.copy()
    viewer.layers.remove(labels)
    segment = segmented(grains, "grains-iron")
    labels = viewer.layers["grains grains-iron"]
    assert (labels.data == 4).any()
    assert segment.restore.isVisible()
    segment.restore.click()
    assert np.array_equal(labels.data, corrected)
    until(lambda: labels.features["edited"].sum() == 3)
    assert labels.features["class"][3] == "twin"


def test_a_stroke_after_a_new_run_leaves_earlier_corrections_where_they_were_kept(viewer, segmented, grains, until):
    segmented(grains, "grains-iron")
    labels = viewer.layers["grains grains-iron"]
    found = labels.data.copy()
    labels.data_setitem(np.nonzero(labels.data == 4), 5)  # not kept yet when the next run puts its own in its place
    first = labels.data.copy()
    segment = segmented(grains, "grains-iron")
    assert np.array_equal(labels.data, found)
    labels.data_setitem(np.nonzero(labels.data == 6), 7)
    until(lambda: follow.of(labels).saved)
    second = labels.data.copy()
    segment.restore.click()
    assert np.array_equal(labels.data, first)
    until(lambda: labels.features["edited"].tolist().count(True) == 2 and labels.features["edited"][4])
    labels.undo()
    assert np.array_equal(labels.data, second)
    labels.undo()
    until(lambda: not labels.features["edited"].any())
    segment = segmented(grains, "grains-iron")
    offered = []
    while segment.restore.isVisible():
        segment.restore.click()
        offered.append(labels.data.copy())
    assert any(np.array_equal(each, first) for each in offered)
    assert any(np.array_equal(each, second) for each in offered)


def test_run_says_why_it_cannot(viewer, dock, home):
    make_bundle(home / ".local/share/micro/bundles/scaled", pixel_size_um=0.5)
    segment = dock("Segment")
    assert not segment.run.isEnabled()
    assert "Open an image" in segment.live.text()
    viewer.add_image(np.zeros((4, 20, 30)), name="stack")
    assert not segment.run.isEnabled()
    assert "one plane" in segment.live.text()
    assert segment.run.toolTip() == segment.live.text()
    plane = viewer.add_image(np.zeros((200, 300), np.uint8), name="plane")
    segment.image.value = plane
    segment.cards.choose("scaled")
    assert not segment.run.isEnabled()
    assert "trained at 0.5 um" in segment.live.text()
    segment.scale.size_um.setValue(0.25)
    segment.scale.objective.setCurrentText("20x")
    segment.scale.apply.click()
    assert segment.run.isEnabled()
    assert "scaled 0.5 times" in segment.live.text()
    assert keeping.objectives() == {"20x": 0.25}


def test_the_pixel_size_comes_from_a_line_on_the_scale_bar_or_from_the_objective(viewer, dock):
    keeping.remember_objective("50x", 0.15)
    image = viewer.add_image(np.zeros((200, 300), np.uint8), name="plane")
    segment = dock("Segment")
    segment.scale.draw.click()
    viewer.layers["scale bar"].add_lines(np.array([[[190.0, 20.0], [190.0, 220.0]]]))
    segment.scale.bar_um.setValue(50)
    segment.scale.use_bar.click()
    # 200 px are 50 um
    assert tuple(image.scale) == (0.25, 0.25)
    assert "scale bar" not in viewer.layers
    assert segment.recipe().pixel_size_um == 0.25
    segment.scale.objective.setCurrentText("50x")
    segment.scale.objective.activated.emit(1)
    segment.scale.apply.click()
    assert tuple(image.scale) == (0.15, 0.15)


def test_a_scale_bar_is_measured_by_the_last_line_to_a_hundredth_of_a_nanometre(viewer, dock):
    image = viewer.add_image(np.zeros((200, 300), np.uint8), name="plane")
    segment = dock("Segment")
    segment.scale.draw.click()
    segment.scale.bar_um.setValue(0.01)
    segment.scale.use_bar.click()
    assert "Draw a line" in segment.scale.said.text()
    segment.scale.draw.click()
    viewer.layers["scale bar"].add_lines(np.array([[[190.0, 20.0], [190.0, 206.0]]]))
    segment.scale.use_bar.click()
    assert segment.recipe().pixel_size_um == pytest.approx(0.01 / 186, rel=1e-5)
    assert segment.scale.size_um.text() == "0.0000537634"
    assert tuple(layer.name for layer in viewer.layers) == (image.name,)


def test_the_row_of_the_scale_bar_has_the_height_that_it_needs(viewer, dock, until):
    viewer.add_image(np.zeros((200, 300), np.uint8), name="plane")
    segment = dock("Segment")
    segment._scale_box.expand(animate=False)
    segment.scale.draw.click()
    segment.scale.use_bar.click()
    parts = (segment.scale.use_bar, segment.scale.draw, segment.scale.apply)
    until(lambda: all(part.height() >= part.minimumSizeHint().height() for part in parts))


def test_a_dock_that_is_closed_stops_its_work_and_leaves_nothing(viewer, dock, grains, until, monkeypatch):
    segment = dock("Segment")
    segment.cards.choose("grains-iron")
    monkeypatch.setattr(segment, "_tile_px", 256)
    segment._look()
    closed = []
    monkeypatch.setattr(segment._aside, "close", lambda: closed.append(True))
    segment.run.click()
    until(lambda: segment.progress.value() >= 1)
    viewer.window.remove_dock_widget(viewer.window.dock_widgets["Segment (micro)"])
    assert not segment.is_running
    assert closed
    assert [layer.name for layer in viewer.layers] == ["grains"]
    again = dock("Segment")
    assert again is not segment
    again.cards.choose("grains-iron")
    again.run.click()
    until(lambda: not again.is_running)
    assert [layer.name for layer in viewer.layers] == ["grains", "grains grains-iron"]


def test_an_image_may_be_removed_while_its_preview_is_awaited(viewer, dock, until):
    image = viewer.add_image(micro.read(_sample("grains")).pixels[:160, :160, 0], name="small")
    segment = dock("Segment")
    segment.cards.choose("grains-iron")
    segment.preview.click()
    viewer.layers.remove(image)
    until(lambda: not segment.is_running)
    assert not viewer.layers


def test_a_preview_shows_regions_on_what_is_in_view_only(viewer, dock, until):
    image = viewer.add_image(np.tile(micro.read(_sample("grains")).pixels[..., 0], (2, 2)), name="large")
    segment = dock("Segment")
    segment.cards.choose("grains-iron")
    until(lambda: image.corner_pixels.any())
    segment.preview.click()
    until(lambda: not segment.is_running)
    preview = viewer.layers["micro: preview"]
    assert preview.data.shape == (512, 512)
    assert preview.data.max() > 20
    middle = np.asarray(image.corner_pixels).mean(axis=0)
    assert np.allclose(np.asarray(preview.translate) + 256, middle, atol=2)


def test_flakes_are_ranked_and_a_sheet_gets_its_verdict(viewer, segmented):
    (flakes,) = viewer.open_sample("micro", "flakes")
    segment = segmented(flakes, "flakes-thin", um=0.39)
    labels = viewer.layers["flakes flakes-thin"]
    largest = int(labels.features["area_um2"][1:].idxmax())
    lines = segment.said.text().splitlines()
    assert f" {largest}: " in lines[1]
    assert f"{labels.features['area_um2'][largest]:.4g} um2" in lines[1]

    (strip,) = viewer.open_sample("micro", "strip")
    segment = segmented(strip, "sheet-steel")
    expected = Engine.load("sheet-steel").predict(micro.read(_sample("strip")))
    assert of(strip).prediction.class_scores == expected.class_scores
    assert segment.said.text().startswith(f"{expected.verdict}: {expected.class_name}")
    viewer.layers.selection.active = strip
    measure = viewer.window.dock_widgets["Measure (micro)"]
    assert measure.headline.text().startswith(f"{expected.verdict}: ")
    assert all(name in measure.legend.text() for name in expected.class_scores)


def test_the_copied_command_and_the_saved_recipe_give_the_same_labels(
    viewer, segmented, grains, dock, tmp_path, monkeypatch
):
    segment = dock("Segment")
    segment.cards.choose("grains-iron")
    segment.settings.fields["split_rise"].value = 0.3
    segmented(grains, "grains-iron", um=0.5)
    labels = viewer.layers["grains grains-iron"]
    segment.copy.click()
    words = shlex.split(QApplication.clipboard().text())
    monkeypatch.chdir(tmp_path)
    assert cli.run(words[1:]) == 0
    assert np.array_equal(formats.read_labels(tmp_path / "results" / "labels" / "grains.tif"), labels.data)

    recipe = tmp_path / "recipe.yaml"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(recipe), ""))
    segment.save.click()
    assert Recipe.load(recipe) == segment.recipe()
    assert "0.5 um for the pixels of every image" in segment.said.text()
    assert cli.run(["predict", grains.metadata["path"], "--recipe", str(recipe), "--out", str(tmp_path / "again")]) == 0
    assert np.array_equal(formats.read_labels(tmp_path / "again" / "labels" / "grains.tif"), labels.data)


def test_a_refusal_is_shown_in_the_dock_and_the_next_run_works(viewer, segmented, dock, grains, until):
    segment = dock("Segment")
    segment.cards.choose("grains-iron")
    segment.device.setCurrentText("mps")
    segment.run.click()
    until(lambda: not segment.is_running)
    assert "No mps device" in segment.said.text()
    assert len(viewer.layers) == 1
    segment.device.setCurrentText("cpu")
    segmented(grains, "grains-iron")
    assert len(viewer.layers) == 2


def test_the_window_stays_awake_while_tiles_appear(viewer, dock, until, beats, monkeypatch):
    image = viewer.add_image(np.tile(micro.read(_sample("grains")).pixels[..., 0], (2, 2)), name="large")
    segment = dock("Segment")
    segment.cards.choose("grains-iron")
    monkeypatch.setattr(segment, "_tile_px", 384)
    segment._look()
    segment.run.click()
    canvas = viewer.layers["micro: in work"]
    shown, ended = [], []
    errand = segment._errand
    monkeypatch.setattr(errand, "_seen", _then(errand._seen, lambda _: shown.append(int((canvas.data > 0).sum()))))
    monkeypatch.setattr(errand, "_ended", ended.append)
    with beats() as watch:
        until(lambda: ended)
    segment._on_end(ended[0])
    print(f"longest pause of the window during prediction: {watch.longest_ms:.0f} ms")
    assert sorted(shown) == shown
    assert len(set(shown)) > 5
    assert image in viewer.layers
    assert watch.longest_ms < 100


@pytest.mark.slow
def test_cancelling_a_large_image_leaves_nothing_and_the_next_run_works(viewer, dock, until, segmented, stopwatch):
    viewer.add_image(np.tile(micro.read(_sample("grains")).pixels[..., 0], (16, 16)), name="huge")
    segment = dock("Segment")
    segment.cards.choose("grains-iron")
    segment.run.click()
    until(lambda: segment.progress.value() >= 1)
    watch = stopwatch()
    segment.run.click()
    assert not segment.is_running
    assert segment.run.text() == "Run"
    print(f"cancelled 8192 x 8192 px in {watch.ms():.0f} ms")
    assert watch.ms() < 2000
    assert [layer.name for layer in viewer.layers] == ["huge"]
    (grains,) = viewer.open_sample("micro", "grains")
    segmented(grains, "grains-iron")
    assert [layer.name for layer in viewer.layers] == ["huge", "grains", "grains grains-iron"]


def _then(first, second):
    def both(value):
        first(value)
        second(value)

    return both


def _bundle(name):
    from micro import bundle

    return bundle.load(name)


def _sample(stem):
    from micro_napari import sample

    return next(path for path in sample.sample_images() if path.stem == stem)
