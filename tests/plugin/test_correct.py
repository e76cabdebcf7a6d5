import time

import numpy as np
import pytest
import screen  # noqa: F401  first: skips without napari
from fields import numbered, shown, squares
from napari.layers import Labels

from micro import formats
from micro_napari import follow, keeping
from micro_napari.docks import open_table
from micro_napari.finding import of


@pytest.fixture
def field(viewer):
    return shown(viewer, numbered(squares(90, 30)))


@pytest.fixture
def correct(field, dock):
    return dock("Correct")


def areas(layer):
    return layer.features["area_px"].tolist()[1:]


def flagged(layer):
    return np.flatnonzero(layer.features["edited"]).tolist()


def test_a_stroke_of_napari_s_brush_moves_the_boundary_in_the_table(field, correct, until):
    correct.tools["Paint"].click()
    assert field.mode == "paint"
    field.selected_label = 1
    field.brush_size = 9
    field.paint((15, 32), 1)
    until(lambda: flagged(field) == [1, 2])
    assert areas(field)[0] > 900
    assert areas(field)[0] + areas(field)[1] == 1800
    field.undo()
    until(lambda: flagged(field) == [])
    assert areas(field) == [900] * 9
    field.redo()
    until(lambda: flagged(field) == [1, 2])


def test_erasing_takes_pixels_from_a_region(field, correct, until):
    correct.tools["Erase"].click()
    assert field.mode == "erase"
    field.brush_size = 5
    field.paint((15, 15), 0)
    until(lambda: flagged(field) == [1])
    assert areas(field)[0] == 900 - int((field.data[:30, :30] == 0).sum()) < 900


def test_a_new_region_has_a_number_of_its_own_and_the_chosen_class(field, correct, until):
    correct.class_name.setCurrentText("twin")
    correct.tools["New region"].click()
    assert (field.mode, field.selected_label) == ("paint", 10)
    field.paint((15, 15), 10)
    until(lambda: len(field.features) == 11)
    assert field.features["class"][10] == "twin"
    assert flagged(field) == [1, 10]


def test_the_class_of_a_new_region_may_be_chosen_after_the_tool(field, correct, until):
    correct.tools["New region"].click()
    correct.class_name.setCurrentText("twin")
    field.paint((15, 15), field.selected_label)
    correct.class_name.setCurrentText("pore")
    field.paint((45, 45), field.selected_label)
    until(lambda: len(field.features) == 12)
    assert field.features["class"][10:].tolist() == ["twin", "pore"]


def test_a_copy_of_the_layer_has_a_table_of_its_own(viewer, field, correct, until):
    viewer.add_layer(Labels.create(field.data.copy(), *field.as_layer_data_tuple()[1:]))
    copied = viewer.layers[-1]
    copied.data_setitem(np.nonzero(copied.data == 2), 1)
    until(lambda: flagged(copied) == [1, 2])
    assert areas(copied)[:2] == [1800, 0]
    assert areas(field) == [900] * 9
    assert correct.title.text() == f"{copied.name}: 2 regions edited"


def test_what_is_painted_with_a_number_below_0_is_no_region(field, until):
    field.data_setitem((np.arange(10, 20), np.arange(10, 20)), -3)
    until(lambda: flagged(field) == [1])
    assert areas(field) == [890] + [900] * 8


def test_a_dock_that_is_closed_lays_its_tool_down(viewer, field, correct, dock):
    before = list(field.mouse_drag_callbacks)
    correct.tools["Merge"].click()
    viewer.window.remove_dock_widget(viewer.window.dock_widgets["Correct (micro)"])
    assert list(field.mouse_drag_callbacks) == before
    assert field.mouse_pan
    assert "micro: line" not in viewer.layers
    viewer.layers.remove(field)
    assert dock("Correct") is not correct


def test_a_drag_from_one_region_into_the_next_merges_them_and_undo_parts_them(field, correct, drag, until):
    correct.tools["Merge"].click()
    drag(field, (15, 15), (15, 45), (45, 45))
    until(lambda: flagged(field) == [1, 2, 5])
    assert areas(field) == [2700, 0, 900, 900, 0, 900, 900, 900, 900]
    correct.undo.click()
    until(lambda: flagged(field) == [])
    correct.redo.click()
    until(lambda: flagged(field) == [1, 2, 5])


def test_a_line_across_a_region_splits_it(field, correct, drag, until):
    correct.tools["Split"].click()
    drag(field, (40, 25), (40, 65))
    until(lambda: len(field.features) == 11)
    # the line lies in row 40 of rows 30 to 59: ten rows above it, nineteen below
    assert areas(field)[4] + areas(field)[9] == 900
    assert areas(field)[9] in (300, 330)
    assert flagged(field) == [5, 10]
    assert field.features["class"][10] == "grain"
    correct.undo.click()
    until(lambda: areas(field) == [900] * 9)


def test_a_click_deletes_a_region(field, correct, drag, until):
    correct.tools["Delete"].click()
    drag(field, (75, 75))
    until(lambda: flagged(field) == [9])
    assert areas(field) == [900] * 8 + [0]
    correct.undo.click()
    until(lambda: areas(field) == [900] * 9)


def test_a_click_changes_the_class_of_a_region_and_undo_gives_it_back(field, correct, drag, until):
    correct.class_name.setCurrentText("twin")
    correct.tools["Set class"].click()
    drag(field, (15, 15))
    until(lambda: len(field.features) == 11)
    assert field.features["class"][10] == "twin"
    assert areas(field) == [0] + [900] * 9
    correct.undo.click()
    until(lambda: areas(field) == [900] * 9)
    assert set(field.features["class"][1:]) == {"grain"}
    correct.redo.click()
    until(lambda: len(field.features) == 11)
    assert field.features["class"][10] == "twin"


def test_a_class_that_is_changed_in_the_table_stays(field, correct, drag, until):
    field.features["class"] = field.features["class"].cat.add_categories("twin")
    field.features.loc[3, "class"] = "twin"
    correct.tools["Delete"].click()
    drag(field, (75, 75))
    until(lambda: 9 in flagged(field))
    assert field.features["class"][3] == "twin"
    assert flagged(field) == [3, 9]


def test_an_edit_that_comes_while_another_is_measured_does_not_mix_with_it(field, until, monkeypatch):
    finding, seen = of(field), []
    measure = finding.measure

    def meanwhile(labels):
        field.data[0, 0] = 10  # as the brush does, in the array itself
        seen.append(int(labels.max()))
        return measure(labels)

    monkeypatch.setattr(finding, "measure", meanwhile)
    field.data_setitem((np.array([15]), np.array([32])), 1)
    until(lambda: flagged(field) == [1, 2])
    assert seen == [9]


def test_another_run_lays_the_tool_down_and_what_came_before_it_cannot_be_undone(viewer, field, correct, until):
    field.data_setitem(np.nonzero(field.data == 4), 5)
    until(lambda: flagged(field) == [4, 5])
    correct.tools["New region"].click()
    assert shown(viewer, numbered(squares(90, 30)).T.copy(), layer=viewer.layers["field"]) == field
    assert not any(button.isChecked() for button in correct.tools.values())
    assert field.mode == "pan_zoom"
    correct.undo.click()
    assert np.array_equal(field.data, numbered(squares(90, 30)).T)
    assert flagged(field) == []


def test_what_cannot_be_done_is_said_and_changes_nothing(field, correct, drag):
    correct.tools["Split"].click()
    drag(field, (15, 5), (15, 20))
    assert "edge to edge" in correct.said.text()
    correct.tools["Merge"].click()
    drag(field, (15, 5), (15, 20))
    assert "two regions" in correct.said.text()
    assert areas(field) == [900] * 9


def test_only_one_tool_is_in_the_hand_and_laying_it_down_gives_the_mouse_back(viewer, field, correct):
    correct.tools["Merge"].click()
    assert not field.mouse_pan
    assert "micro: line" in viewer.layers
    correct.tools["Paint"].click()
    assert [name for name, button in correct.tools.items() if button.isChecked()] == ["Paint"]
    assert "micro: line" not in viewer.layers
    assert field.mode == "paint"
    correct.tools["Paint"].click()
    assert field.mode == "pan_zoom"
    assert field.mouse_pan
    assert correct._drag not in field.mouse_drag_callbacks


def test_the_headline_and_the_histogram_follow_and_the_edit_is_kept(field, correct, dock, drag, until):
    measure = dock("Measure")
    before = measure.headline.text()
    assert "9 grains" in before
    correct.tools["Merge"].click()
    drag(field, (15, 15), (15, 45))
    until(lambda: "8 grains" in measure.headline.text())
    assert measure.histogram.counts.sum() == 8
    until(lambda: correct.kept.text() != "")
    assert "2 regions edited" in correct.title.text()
    (kept,) = keeping.load(of(field))
    assert np.array_equal(kept.labels(), field.data)


def test_the_last_stroke_is_kept_though_napari_ends_at_once(field, until):
    field.data_setitem(np.nonzero(field.data == 4), 5)
    follow.of(field).keep()
    assert np.array_equal(keeping.load(of(field))[0].labels(), field.data)
    until(lambda: follow.of(field).saved)
    keeping.forget(of(field))
    follow.of(field).keep()
    assert keeping.load(of(field)) == []


def test_saved_labels_have_their_pixel_size_and_their_table(viewer, field, tmp_path):
    field.save(str(tmp_path / "out.tif"), plugin="micro")
    assert np.array_equal(formats.read_labels(tmp_path / "out.tif"), field.data)
    assert "area_um2" in (tmp_path / "out.csv").read_text()


@pytest.fixture
def measuring(monkeypatch):
    """Seconds of the processor that measuring took in its own thread, when each of its steps came."""
    steps, spent = follow._measure_steps, []

    def timed(*arguments):
        began = time.thread_time()
        for step in steps(*arguments):
            spent.append(time.thread_time() - began)
            yield step

    monkeypatch.setattr(follow, "_measure_steps", timed)
    return spent


@pytest.mark.parametrize(("edge", "step", "count"), [(2048, 64, 1024), (4096, 57, 5000)])
def test_half_a_second_after_a_stroke_the_table_is_new(viewer, until, measuring, edge, step, count):
    """Counted in seconds of the processor, both threads one after the other, so that other programs do not matter."""
    field = shown(viewer, numbered(squares(edge, step)))
    assert int(field.data.max()) >= count
    table = open_table(viewer)
    follower = follow.of(field)
    field.selected_label = 1
    field.brush_size = 40
    waits, headlines = [], []
    for number in range(4):
        rows = table.model().sourceModel().df["area_px"][1]
        figure = follower.finding.measured.grains
        measuring.clear()
        began = time.thread_time() - follow.PAUSE_MS / 1000
        field.paint((60 + 40 * number, step + 5), 1)
        until(lambda rows=rows: table.model().sourceModel().df["area_px"][1] != rows)
        waits.append(time.thread_time() - began + measuring[0])
        until(lambda figure=figure: follower.finding.measured.grains is not figure)
        headlines.append(time.thread_time() - began + measuring[1])
        until(lambda: not follower._measuring)
    print(f"{edge} px, {int(field.data.max())} regions: table {min(waits):.3f} s, headline {min(headlines):.3f} s")
    assert min(waits) < 0.5
    assert edge > 2048 or min(headlines) < 0.5
