import numpy as np
import screen  # noqa: F401  first: skips without napari
from fields import numbered, shown, squares
from napari.layers import Labels


def test_fields_of_one_specimen_have_an_interval_together(viewer, dock):
    for edge, step in ((90, 30), (96, 24), (100, 25)):
        shown(viewer, numbered(squares(edge, step)), name=f"field {edge}")
    measure = dock("Measure")
    assert "one field, no interval (16 grains" in measure.headline.text()
    measure.together.click()
    assert "95 % CI" in measure.headline.text()
    assert "over 3 fields" in measure.headline.text()


def test_all_methods_of_grain_size_are_a_page_of_its_own(viewer, dock, until):
    shown(viewer, numbered(squares(400, 40)))
    measure = dock("Measure")
    measure.assess.click()
    assert not measure.assess.isEnabled()
    until(measure.assess.isEnabled)
    assert measure.page.isVisible()
    assert "E112" in measure.page.text.toPlainText()
    assert "intercept" in measure.page.text.toPlainText()
    measure.page.close()


def test_the_histogram_shows_the_column_that_is_chosen(viewer, dock):
    shown(viewer, numbered(squares(90, 30)))
    measure = dock("Measure")
    measure.column.setCurrentText("area_um2")
    # nine squares of 30 px at 0.5 um
    assert measure.histogram.edges[0] <= 225 <= measure.histogram.edges[-1]
    assert measure.histogram.counts.sum() == 9


def test_a_field_counts_once_also_where_its_layer_was_copied(viewer, dock):
    field = shown(viewer, numbered(squares(90, 30)))
    viewer.add_layer(Labels.create(*field.as_layer_data_tuple()))
    measure = dock("Measure")
    assert not measure.together.isVisibleTo(measure)
    shown(viewer, numbered(squares(96, 24)), name="another")
    measure.together.setChecked(True)
    assert "over 2 fields" in measure.headline.text()


def test_a_region_without_a_value_has_no_colour_of_the_scale(viewer, dock, until):
    field = shown(viewer, numbered(squares(90, 30)))
    measure = dock("Measure")
    field.data_setitem((np.arange(12, 18),) * 2, 10)
    until(lambda: len(field.features) == 11)
    measure.colour.setCurrentText("score")
    assert np.isnan(field.features["score"][10])
    assert np.ptp(field.get_color(10)[:3]) == 0
    assert np.ptp(field.get_color(9)[:3]) > 0
