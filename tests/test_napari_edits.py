import numpy as np
import pytest

from micro.errors import MicroError
from micro_napari import edits


def halves():
    """Two regions of 6 x 5 px side by side in a frame of background."""
    labels = np.zeros((8, 12), np.int32)
    labels[1:7, 1:6], labels[1:7, 6:11] = 1, 2
    return labels


def applied(labels, edit):
    after = labels.copy()
    after[edit.pixels] = edit.values
    return after


def line(*points):
    return np.array(points, np.float64)


def test_merged_regions_have_the_number_of_the_first():
    after = applied(halves(), edits.merge(halves(), [2, 2, 0, 1, 1]))
    assert np.array_equal(after > 0, halves() > 0)
    assert set(np.unique(after)) == {0, 2}


@pytest.mark.parametrize("numbers", [[], [1], [1, 1], [0, 2]])
def test_merging_one_region_is_refused(numbers):
    with pytest.raises(MicroError, match="two regions"):
        edits.merge(halves(), numbers)


def test_a_deleted_region_is_background_and_the_others_stay():
    after = applied(halves(), edits.delete(halves(), 1))
    assert np.array_equal(after, np.where(halves() == 2, 2, 0))


@pytest.mark.parametrize("number", [0, 3])
def test_what_is_no_region_cannot_be_deleted_or_renumbered(number):
    with pytest.raises(MicroError, match="no region"):
        edits.delete(halves(), number)
    with pytest.raises(MicroError, match="no region"):
        edits.renumber(halves(), number, 9)


def test_a_renumbered_region_keeps_its_pixels():
    after = applied(halves(), edits.renumber(halves(), 2, 7))
    assert np.array_equal(after == 7, halves() == 2)
    assert np.array_equal(after == 1, halves() == 1)


def test_a_line_across_a_region_makes_two_of_it_and_loses_no_pixel():
    after = applied(halves(), edits.split(halves(), line((2, 0), (2, 5)), 3))
    assert np.array_equal(after > 0, halves() > 0)
    assert np.array_equal(after == 2, halves() == 2)
    # rows 3 to 6 are the larger piece and keep the number; row 2, under the line, is as near to row 1 as to row 3
    assert set(np.unique(after[3:7, 1:6])) == {1}
    assert set(np.unique(after[1, 1:6])) == {3}


def test_a_diagonal_line_parts_a_region_too():
    square = np.zeros((20, 20), np.int32)
    square[2:18, 2:18] = 4
    after = applied(square, edits.split(square, line((0, 0), (19, 19)), 5))
    assert set(np.unique(after)) == {0, 4, 5}
    assert after[4, 15] != after[15, 4]


def test_three_pieces_get_two_new_numbers():
    after = applied(halves(), edits.split(halves(), line((0, 3), (2, 3), (2, 0), (5, 0), (5, 5)), 8))
    assert {8, 9} <= set(np.unique(after[halves() == 1])) <= {1, 8, 9}


def test_a_line_that_ends_inside_splits_nothing():
    with pytest.raises(MicroError, match="edge to edge"):
        edits.split(halves(), line((3, 0), (3, 3)), 3)


def test_a_line_over_background_splits_nothing():
    with pytest.raises(MicroError, match="no region under"):
        edits.split(halves(), line((0, 0), (0, 11)), 3)


def test_a_line_over_two_regions_splits_the_one_it_crosses_most():
    assert edits.crossed(halves(), line((3, 0), (3, 7))) == 1


def test_labels_under_a_path_come_pixel_by_pixel_and_end_at_the_frame():
    assert edits.under(halves(), line((3, 4), (3, 40))).tolist() == [1, 1, 2, 2, 2, 2, 2, 0]
    assert edits.under(halves(), line((-9, -9), (-5, -5))).tolist() == []
