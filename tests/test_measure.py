import time

import numpy as np
import pytest
from skimage.measure import regionprops_table

from micro import measure


def disc(radius_px: float, shape_px: tuple[int, int] = (64, 96)) -> np.ndarray:
    y, x = np.mgrid[: shape_px[0], : shape_px[1]]
    return (np.hypot(y - 30, x - 50) <= radius_px).astype(np.int32)


def test_a_disc_of_ten_pixels_at_half_a_micrometre_has_the_area_of_a_disc():
    table = measure.columns(disc(10.0), pixel_size_um=0.5)
    assert table["area_um2"][0] == pytest.approx(78.5, rel=0.02)
    assert table["equivalent_diameter_um"][0] == pytest.approx(10, rel=0.01)
    assert table["major_axis_um"][0] == pytest.approx(10, rel=0.02)
    assert (table["centroid_y_px"][0], table["centroid_x_px"][0]) == (pytest.approx(30), pytest.approx(50))
    assert table["aspect_ratio"][0] == pytest.approx(1)
    assert not table["touches_frame"][0]


def test_without_a_pixel_size_no_column_is_in_micrometres():
    table = measure.columns(disc(10.0))
    assert not [name for name in table if "um" in name.split("_")[-1]]
    assert {"area_px", "equivalent_diameter_px", "touches_frame"} <= table.keys()


def test_all_measures_agree_with_skimage(monkeypatch):
    monkeypatch.setattr(measure, "BAND_PX", 1000)  # several bands, so that their borders count too
    rng = np.random.default_rng(3)
    seeds = rng.uniform(0, (120, 150), (40, 2))
    grid = np.mgrid[:120, :150].transpose(1, 2, 0)[:, :, None]
    labels = ((grid - seeds) ** 2).sum(-1).argmin(-1).astype(np.int32)  # one of them is the background
    labels = np.unique(labels, return_inverse=True)[1].reshape(labels.shape).astype(np.int32)
    names = ("area", "centroid", "equivalent_diameter_area", "axis_major_length", "axis_minor_length", "orientation")
    theirs = regionprops_table(labels, properties=names)
    ours = measure.columns(labels)
    pairs = {
        "area_px": "area",
        "centroid_y_px": "centroid-0",
        "centroid_x_px": "centroid-1",
        "equivalent_diameter_px": "equivalent_diameter_area",
    }
    for mine, other in pairs.items():
        np.testing.assert_allclose(ours[mine], theirs[other], rtol=1e-6)
    for axis in ("major", "minor"):  # skimage takes pixels for points, which makes 16/12 in the squared axis
        np.testing.assert_allclose(
            ours[f"{axis}_axis_px"] ** 2 - 16 / 12, theirs[f"axis_{axis}_length"] ** 2, rtol=1e-6
        )
    # skimage measures from the rows (y axis, down); both name the same line
    np.testing.assert_allclose(
        np.cos(2 * np.radians(ours["orientation_deg"])), np.cos(2 * (theirs["orientation"] + np.pi / 2)), atol=1e-5
    )


def test_a_bar_that_rises_to_the_right_has_a_positive_orientation():
    labels = np.zeros((50, 50), np.int32)
    for step in range(30):
        labels[40 - step, 5 + step : 8 + step] = 1
    assert measure.columns(labels)["orientation_deg"][0] == pytest.approx(45, abs=4)


def test_a_region_at_any_edge_of_the_image_touches_the_frame():
    labels = np.zeros((9, 9), np.int32)
    labels[0, 4], labels[8, 4], labels[4, 0], labels[4, 8], labels[4, 4] = 1, 2, 3, 4, 5
    assert measure.columns(labels)["touches_frame"].tolist() == [True] * 4 + [False]


def test_a_label_without_pixels_keeps_its_row():
    labels = np.zeros((4, 4), np.int32)
    labels[1, 1] = 2
    table = measure.columns(labels, 1.0)
    assert table["area_px"].tolist() == [0, 1]
    assert np.isnan(table["centroid_x_px"][0])
    assert np.isnan(table["equivalent_diameter_um"][0])


def test_an_image_without_regions_gives_empty_columns():
    assert {len(values) for values in measure.columns(np.zeros((5, 5), np.int32), 1.0).values()} == {0}


def test_the_mean_over_a_region_is_the_mean_of_its_pixels(monkeypatch):
    monkeypatch.setattr(measure, "BAND_PX", 64)
    labels = np.repeat([1, 2, 0, 4], 8)[None].repeat(16, 0).astype(np.int32)
    values = np.repeat([10, 20, 99, 40], 8)[None].repeat(16, 0).astype(np.uint8)
    np.testing.assert_array_equal(measure.means(labels, values), [10, 20, np.nan, 40])


def test_neighbours_share_an_edge_and_not_only_a_corner(monkeypatch):
    monkeypatch.setattr(measure, "BAND_PX", 64)
    labels = np.kron([[1, 2, 2], [3, 4, 4], [0, 4, 5]], np.ones((8, 8))).astype(np.int32)
    assert measure.neighbours(labels).tolist() == [2, 2, 2, 3, 1]
    assert measure.neighbours(np.array([[1, 0, 3]], np.int32)).tolist() == [0, 0, 0]
    assert measure.neighbours(np.zeros((4, 4), np.int32)).tolist() == []


def test_neighbours_of_five_thousand_regions_take_less_than_a_second():
    labels = np.kron(np.arange(1, 5042, dtype=np.int32).reshape(71, 71), np.ones((58, 58), np.int32))[:4096, :4096]
    start = time.process_time()
    found = measure.neighbours(labels)
    assert time.process_time() - start < 1
    assert found.reshape(71, 71)[1:-1, 1:-1].min() == found.max() == 4


def test_five_thousand_regions_of_a_large_image_take_less_than_half_a_second():
    labels = np.kron(np.arange(1, 5042, dtype=np.int32).reshape(71, 71), np.ones((58, 58), np.int32))[:4096, :4096]
    start = time.process_time()
    measure.columns(labels, 0.1)
    assert time.process_time() - start < 0.5
