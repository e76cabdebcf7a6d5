import numpy as np
import pytest
from tessellations import duplex, shaken_lattice, voronoi, with_lines

from micro.errors import UnreadableImage
from micro.grain_size import conversions, grains_between, intercept, planimetric, section_of, without_small


def halves(height: int = 60, width: int = 80) -> np.ndarray:
    labels = np.ones((height, width), np.int32)
    labels[:, width // 4 :] = 2
    return labels


def sectors(height: int, width: int, y: float, x: float, turn: float) -> np.ndarray:
    """Three grains that meet at (y, x)."""
    rows, columns = np.mgrid[:height, :width]
    angle = np.arctan2(rows - y, columns - x) + turn
    return (1 + (angle % (2 * np.pi)) // (2 * np.pi / 3)).astype(np.int32)


def weight_at(count, y: float, x: float) -> float:
    return float(count.pattern.weights[np.hypot(*(count.pattern.marks_px - (y, x)).T) < 3].sum())


def test_each_line_across_one_boundary_hits_it_once():
    count = intercept.heyn_at(section_of(halves()), 0)
    lines = len(count.pattern.lines_px)
    assert count.count == lines
    assert count.parts == {"crossing": lines, "triple": 0, "end": 0}
    np.testing.assert_allclose(count.pattern.marks_px[:, 1], 19.5)
    # a line ends half a pixel inside the first and the last joint of pixels
    assert count.extent_px == lines * 78
    assert intercept.heyn_at(section_of(halves()), 90).count == 0


def test_a_line_through_a_triple_point_counts_one_and_a_half():
    plain = intercept.heyn_at(section_of(sectors(60, 60, 30.5, 30.5, np.pi / 6)), 0)
    y = plain.pattern.lines_px[len(plain.pattern.lines_px) // 2, 0]
    # one boundary goes up from the point and two go down
    count = intercept.heyn_at(section_of(sectors(60, 60, y, 30.5, np.pi / 6)), 0)
    assert y in count.pattern.lines_px[:, 0]
    assert weight_at(count, y, 30.5) == 1.5
    assert count.parts["triple"] == 1


def test_a_line_that_only_touches_a_grain_counts_one():
    rows, columns = np.mgrid[:60, :90]
    empty = intercept.heyn_at(section_of(halves(60, 90)), 0)
    y = empty.pattern.lines_px[0, 0]
    disc = np.hypot(rows - (y + 15), columns - 45) <= 14.6  # its highest row is the one below the line
    count = intercept.heyn_at(section_of(np.where(disc, 2, 1)), 0)
    assert y in count.pattern.lines_px[:, 0]
    assert weight_at(count, y, 45) == 1


def test_a_line_that_ends_on_a_boundary_counts_one_half():
    labels = np.ones((60, 80), np.int32)
    labels[:, 0] = 2
    for ends in (labels, labels[:, ::-1]):
        count = intercept.heyn_at(section_of(ends), 0)
        assert count.count == len(count.pattern.lines_px) / 2
        assert count.parts["end"] == len(count.pattern.lines_px)


def test_a_circle_through_a_triple_point_counts_two():
    first = intercept.hilliard(section_of(sectors(101, 101, 50, 50, 0.3)))
    assert len(first.pattern.circles_px) == 1  # so large are these grains that one circle fills the field
    y, x, radius = first.pattern.circles_px[0]
    corners = np.stack(np.mgrid[:100, :100], axis=-1).reshape(-1, 2) + 0.5
    off = np.abs(np.hypot(*(corners - (y, x)).T) - radius)
    inner = np.abs(corners - 50).max(axis=1) < 40
    point = corners[inner][off[inner].argmin()]
    outward = np.arctan2(*(point - (y, x)))
    # one boundary leaves the circle at the point and two go into it
    count = intercept.hilliard(section_of(sectors(101, 101, *point, -outward)))
    assert weight_at(count, *point) == 2
    assert count.count == 4  # and each of the two leaves it elsewhere


def test_stairs_of_pixels_are_crossed_once():
    rows, columns = np.mgrid[:400, :400]
    for slope in (0.02, 0.3, 0.9):
        slanting = np.where(rows > 200 + slope * (columns - 200), 2, 1)
        count = intercept.hilliard(section_of(slanting))
        assert count.count == 2 * len(count.pattern.circles_px)


def test_circles_of_the_three_circle_method_have_circumferences_as_3_to_2_to_1():
    drawn = voronoi(1, 150, (400, 400))
    radii = np.unique(np.round(intercept.abrams(section_of(drawn.labels)).pattern.circles_px[:, 2], 6))
    assert radii / radii[0] == pytest.approx([1, 2, 3])
    count = intercept.abrams(section_of(drawn.labels))
    assert 40 <= count.count / (len(count.pattern.circles_px) / 3) <= 100


@pytest.mark.parametrize("angle", [0, 45, 90, 135])
def test_directed_lines_run_in_their_direction_inside_the_field(angle):
    lines = intercept.heyn_at(section_of(voronoi(2, 60, (150, 220)).labels), angle).pattern.lines_px
    rise, run = lines[:, 0] - lines[:, 2], lines[:, 3] - lines[:, 1]
    turned = np.degrees(np.arctan2(rise, run)) % 180
    np.testing.assert_allclose(turned, angle, atol=1e-6)
    assert lines[:, [0, 2]].min() >= 0
    assert lines[:, [0, 2]].max() <= 149
    assert lines[:, [1, 3]].max() <= 219


def test_lines_of_each_direction_see_how_grains_are_stretched():
    drawn = voronoi(3, 400, (500, 500)).labels
    wide = section_of(np.repeat(drawn, 2, axis=1))
    counts = {angle: intercept.heyn_at(wide, angle) for angle in intercept.ANGLES_DEG}
    mean_px = {angle: count.extent_px / count.count for angle, count in counts.items()}
    assert mean_px[0] / mean_px[90] == pytest.approx(2, rel=0.05)
    # and each direction weighs as much as another in their sum
    extents_px = [count.extent_px for count in counts.values()]
    assert max(extents_px) / min(extents_px) == pytest.approx(1, abs=0.1)


def test_a_rectangle_counts_a_quarter_in_corners_a_half_at_edges_and_one_inside():
    labels = np.kron(np.arange(1, 17).reshape(4, 4), np.ones((20, 20), np.int32))
    count = planimetric.saltikov(section_of(labels))
    assert count.parts == {"inside": 4, "edge": 8, "corner": 4}
    assert count.count == 4 + 8 / 2 + 4 / 4 == 9
    assert count.extent_px == 80 * 80
    assert sorted(set(count.pattern.weights)) == [0.25, 0.5, 1]
    assert planimetric.saltikov(section_of(halves())).count == 1, "each of two grains has two corners"


def test_a_circle_counts_a_half_for_each_grain_that_it_cuts():
    labels = np.ones((100, 100), np.int32)
    labels[40:60, 40:60] = 2
    count = planimetric.jeffries(section_of(labels))
    assert count.parts == {"inside": 1, "edge": 1}
    assert count.count == 1.5
    assert planimetric.unbiased(count) == 0.5
    assert count.extent_px == pytest.approx(np.pi * 50**2, rel=0.01)
    bricks = np.arange(600)[:, np.newaxis] // 20 * 31 + np.arange(620) // 20 + 1
    inside = np.hypot(np.arange(600)[:, np.newaxis] - 299.5, np.arange(620) - 309.5) <= 300
    held = set(bricks[inside])
    cut = held & {*bricks[~inside], *bricks[0], *bricks[-1]}  # two lie in the circle whole, and the frame cuts them
    count = planimetric.jeffries(section_of(bricks))
    assert count.parts == {"inside": len(held - cut), "edge": len(cut)}
    assert count.extent_px == np.count_nonzero(inside)


def test_the_mean_area_leaves_out_grains_that_the_frame_cuts():
    labels = np.kron(np.arange(1, 17).reshape(4, 4), np.ones((20, 20), np.int32))
    count = planimetric.mean_area(section_of(labels))
    assert (count.count, count.extent_px / count.count) == (4, 400)


def test_triple_points_are_counted_once_and_quadruple_points_twice():
    labels = np.kron(np.arange(1, 10).reshape(3, 3), np.ones((20, 20), np.int32))
    count = planimetric.triple_points(section_of(labels))
    assert count.parts == {"triple": 0, "quadruple": 4}
    assert count.count == 2 * 4 / 2 + 1
    bricks = labels.copy()
    bricks[20:40] = np.roll(bricks[20:40], 10, axis=1)
    bricks[20:40, :10] = 100
    assert planimetric.triple_points(section_of(bricks)).parts["quadruple"] == 0


def g_of(counts, quantity: str) -> float:
    values = [count.extent_px / count.count for count in counts]
    if quantity == "intercept":
        return conversions.g_of_mean_intercept_um(float(np.mean(values)))
    if quantity == "area":
        return conversions.g_of_mean_area_um2(float(np.mean(values)))
    return conversions.g_of_grains_per_mm2(float(np.mean([1e6 / value for value in values])))


@pytest.fixture(scope="module")
def small_fields() -> tuple[list, float]:
    """208 fields of about 71 grains out of one large section, and its true G at 1 um a pixel."""
    return cut_up(shaken_lattice(5, 32, 110, 144), 270), conversions.g_of_grains_per_mm2(1e6 / 32**2)


def cut_up(labels: np.ndarray, side_px: int) -> list:
    """Return square fields out of a section."""
    starts = [range(0, length - side_px + 1, side_px) for length in labels.shape]
    return [section_of(labels[y : y + side_px, x : x + side_px]) for y in starts[0] for x in starts[1]]


@pytest.mark.parametrize("rule", [planimetric.saltikov, planimetric.jeffries, planimetric.triple_points])
def test_an_edge_rule_is_off_by_less_than_0_05_g_on_small_fields(rule, small_fields):
    fields, true_g = small_fields
    assert len(fields) >= 200
    assert g_of([rule(each) for each in fields], "density") == pytest.approx(true_g, abs=0.05)


def test_the_rule_for_rectangles_is_exact_on_average_and_the_one_for_circles_counts_one_too_many(small_fields):
    fields, true_g = small_fields
    true_per_px2 = conversions.grains_per_mm2(true_g) / 1e6
    squares, circles = ([rule(each) for each in fields] for rule in (planimetric.saltikov, planimetric.jeffries))
    # grains are known at the middles of pixels, which span a pixel less than the field
    excess = np.mean([count.count - true_per_px2 * 269**2 for count in squares])
    assert excess == pytest.approx(0, abs=0.4)
    excess = np.mean([count.count - true_per_px2 * np.pi * 134.5**2 for count in circles])
    assert excess == pytest.approx(1, abs=0.4)


def test_leaving_out_cut_grains_reads_too_fine_as_the_method_says():
    labels = duplex(1, shaken_lattice(5, 32, 60, 60), 96)
    true_g = conversions.g_of_grains_per_mm2(1e6 * len(np.unique(labels)) / labels.size)
    fields = cut_up(labels, 320)
    assert g_of([planimetric.saltikov(each) for each in fields], "density") == pytest.approx(true_g, abs=0.08)
    assert 0.1 < g_of([planimetric.mean_area(each) for each in fields], "area") - true_g < 0.6
    assert "too fine" in planimetric.MEAN_AREA.caution


def test_lines_of_zero_between_grains_change_no_grain_size():
    drawn = voronoi(6, 200, (500, 500), lloyd=4)
    bare = section_of(drawn.labels)
    for width_px in (1, 3, 5):
        lined = section_of(with_lines(drawn.labels, width_px))
        assert len(lined) >= 0.95 * len(bare)  # the smallest are all line
        assert (lined.labels > 0).all()
        assert (lined.numbers[lined.labels - 1] == bare.numbers[bare.labels - 1]).mean() > 0.95
        for rule, quantity in ((planimetric.saltikov, "density"), (intercept.heyn, "intercept")):
            assert g_of([rule(lined)], quantity) == pytest.approx(g_of([rule(bare)], quantity), abs=0.04)


def test_a_place_that_was_not_measured_adds_neither_area_nor_boundary():
    drawn = voronoi(7, 900, (800, 800)).labels
    holed = drawn.copy()
    holed[200:500, 250:600] = 0
    whole, part = section_of(drawn), section_of(holed)
    assert part.measured_px == pytest.approx(drawn.size - 300 * 350, rel=0.01)
    for rule, quantity in (
        (planimetric.saltikov, "density"),
        (planimetric.jeffries, "density"),
        (intercept.heyn, "intercept"),
        (intercept.abrams, "intercept"),
    ):
        assert g_of([rule(part)], quantity) == pytest.approx(g_of([rule(whole)], quantity), abs=0.12)
    assert intercept.heyn(part).extent_px == pytest.approx(
        intercept.heyn(whole).extent_px * part.measured_px / whole.measured_px, rel=0.03
    )
    narrow = halves()
    narrow[:, 40:45] = -1  # as narrow as a boundary, and yet none
    assert np.count_nonzero(section_of(narrow).labels == 0) == 60 * 5
    alone = np.full((60, 90), -1)
    alone[:, 30:60] = 1
    for rule in (intercept.heyn, intercept.hilliard, intercept.abrams):
        assert rule(section_of(alone)).count == 0


def test_grains_keep_the_number_that_the_image_gave_them():
    labels = np.array([[70000, 70000, 9, 9]] * 12, np.int64).repeat(4, axis=1)
    ready = section_of(labels)
    assert ready.numbers.tolist() == [9, 70000]
    assert ready.area_px.tolist() == [96, 96]
    assert ready.labels[0, 0] == 2


def test_a_mask_of_boundaries_becomes_grains_that_a_diagonal_boundary_parts():
    wall = np.eye(30, dtype=bool)
    assert set(np.unique(grains_between(wall))) == {0, 1, 2}


def test_small_grains_can_be_given_to_their_neighbours():
    labels = halves()
    labels[10:13, 10:13], labels[:3, :3], labels[-3:, -3:] = 7, 8, 9  # two of them in corners
    assert set(np.unique(without_small(labels, 9))) == {1, 2, 7, 8, 9}
    np.testing.assert_array_equal(without_small(labels, 10), halves())


def test_a_small_grain_wider_than_any_boundary_goes_to_its_neighbours_too():
    labels = np.ones((160, 200), np.int32)
    labels[:, 100:] = 2
    labels[40:100, 40:160] = 9
    labels[50:70, 50:70] = 8
    closed = without_small(labels, 7201)
    assert set(np.unique(closed)) == {1, 2}
    assert set(np.unique(section_of(without_small(with_lines(labels, 3), 7201)).labels)) == {1, 2}


def test_a_speck_in_a_place_that_was_not_measured_is_given_to_nobody():
    labels = halves()
    labels = np.pad(labels, ((0, 0), (0, 100)))
    labels[10:13, -20:-17] = 7
    assert not without_small(labels, 20)[:, -100:].any()


def test_labels_without_a_grain_and_fields_without_room_are_refused():
    with pytest.raises(UnreadableImage, match="no grain"):
        section_of(np.zeros((30, 30), np.int32))
    with pytest.raises(UnreadableImage, match="no room"):
        section_of(np.ones((3, 900), np.int32))


def test_one_grain_that_fills_the_field_has_no_boundary_to_hit():
    ready = section_of(np.ones((50, 70), np.int32))
    for method in (intercept.heyn, intercept.hilliard, intercept.abrams, planimetric.mean_area):
        assert method(ready).count == 0
