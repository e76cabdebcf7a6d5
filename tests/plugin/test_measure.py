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
