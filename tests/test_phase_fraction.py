from itertools import permutations

import numpy as np
import pytest

from micro.phase_fraction import area_fractions, combine, count_points
from micro.regions import Regions
from micro.scenes import phases


def test_five_fields_have_the_interval_of_students_t():
    # 20, 22, 18, 25, 15 %: mean 20, squares of the deviations 0 4 4 25 25, s^2 = 58 / 4; t(0.975, 4) = 2.776
    found = combine([0.20, 0.22, 0.18, 0.25, 0.15])
    assert found.mean == pytest.approx(0.20)
    assert found.standard_deviation == pytest.approx(0.01 * np.sqrt(58 / 4))
    assert found.ci95 == pytest.approx(2.776 * 0.01 * np.sqrt(58 / 4 / 5), rel=1e-3)
    assert found.relative_accuracy_percent == pytest.approx(100 * found.ci95 / 0.20)


@pytest.mark.parametrize(("fields", "t"), [(5, 2.776), (10, 2.262), (20, 2.093)])
def test_the_multiplier_is_the_tabled_one(fields, t):
    values = np.linspace(0.1, 0.3, fields)
    found = combine(values)
    assert found.ci95 * np.sqrt(fields) / values.std(ddof=1) == pytest.approx(t, abs=5e-4)


def test_equal_fields_leave_no_doubt_and_a_single_one_leaves_all():
    assert combine([0.3, 0.3, 0.3]).ci95 == 0
    alone = combine([0.3])
    assert (alone.mean, alone.ci95, alone.relative_accuracy_percent) == (0.3, None, None)
    assert "no interval" in str(alone)


def test_a_phase_that_is_nowhere_has_no_relative_accuracy():
    assert combine([0.0, 0.0]).relative_accuracy_percent is None
    assert "%RA" not in str(combine([0.0, 0.0]))


@pytest.mark.parametrize("values", [[], [0.2, 1.2], [-0.1]])
def test_what_is_no_fraction_is_refused(values):
    with pytest.raises(ValueError, match=r"no field|between 0 and 1"):
        combine(values)


def test_area_fractions_are_shares_of_all_pixels():
    labels = np.zeros((20, 50), np.int32)
    labels[:5], labels[5:10, :10], labels[15:] = 1, 2, 3
    regions = Regions(labels, ("carbide", "pore", "carbide"), np.ones(3, np.float32))
    assert area_fractions(regions, ("carbide", "pore", "nitride")) == {"carbide": 0.5, "pore": 0.05, "nitride": 0}


def test_points_inside_count_one_and_points_on_the_boundary_a_half():
    phase = np.zeros((40, 40), bool)
    phase[:, :20] = True
    # four columns of points lie at 5, 15, 25 and 35, the boundary at 20
    found = count_points(phase, rows=4, columns=4)
    assert (found.points, found.inside, found.on_boundary, found.fraction) == (16, 8, 0, 0.5)
    # with one column all points lie on the boundary itself
    found = count_points(phase, rows=4, columns=1)
    assert (found.points, found.inside, found.on_boundary, found.fraction) == (4, 0, 4, 0.5)


def test_a_point_is_inside_where_all_four_of_its_pixels_are_the_phase_and_outside_where_none_is():
    for order in permutations([(3, -1), (3, 0), (4, -1), (4, 0)]):
        phase = np.zeros((8, 20), bool)
        for number, x in enumerate((2, 6, 10, 14, 18)):  # the corners right before these columns, between rows 3 and 4
            phase[:, x - 2 : x + 2] = number == 0
            phase[3:5, x - 1 : x + 1] = False
            for y, right in order[:number]:
                phase[y, x + right] = True
        found = count_points(phase, rows=1, columns=5)
        assert (found.points, found.inside, found.on_boundary, found.fraction) == (5, 1, 3, 0.5)


def test_a_full_field_and_an_empty_one_count_all_and_none():
    assert count_points(np.ones((30, 30), bool)).fraction == 1
    assert count_points(np.zeros((30, 30), bool)).fraction == 0


def test_more_points_than_corners_are_refused():
    with pytest.raises(ValueError, match="10 x 10 points"):
        count_points(np.ones((10, 30), bool))


def test_points_and_areas_agree_on_drawn_fields_within_their_intervals():
    areas, points = [], []
    for seed in range(24):
        secondary = phases.draw(seed, 320, 320).class_map() == 1
        areas.append(secondary.mean())
        points.append(count_points(secondary).fraction)
    by_area, by_points = combine(areas), combine(points)
    assert abs(by_area.mean - by_points.mean) < by_points.ci95
    assert by_area.relative_accuracy_percent < 15
