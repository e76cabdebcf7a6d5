import numpy as np
import pytest
from skimage.metrics import adapted_rand_error, variation_of_information

from micro.score import regions as score


def blobs(seed: int, count: int = 20) -> np.ndarray:
    """A Voronoi partition of 60 x 80 pixels."""
    rng = np.random.default_rng(seed)
    seeds = rng.uniform(0, (60, 80), (count, 2))
    grid = np.mgrid[:60, :80].transpose(1, 2, 0)[:, :, None]
    return ((grid - seeds) ** 2).sum(-1).argmin(-1) + 1


def test_a_partition_under_other_names_is_the_same_partition():
    truth = blobs(1)
    cells = score.overlap(truth, (truth * 7919) % 10007)
    assert score.adjusted_rand_index(cells) == pytest.approx(1)
    assert score.variation_of_information(cells).total_bits == pytest.approx(0, abs=1e-9)
    matches = score.match(cells)
    assert (matches.matched, matches.only_found, matches.only_truth) == (20, 0, 0)
    assert matches.f1 == matches.average_precision == 1


def test_cutting_equal_regions_in_half_costs_one_bit_of_split_and_no_merge():
    truth = np.repeat([1, 2, 3, 4], 8)[None].repeat(6, 0)
    found = np.repeat(np.arange(1, 9), 4)[None].repeat(6, 0)
    there = score.variation_of_information(score.overlap(truth, found))
    back = score.variation_of_information(score.overlap(found, truth))
    assert (there.split_bits, there.merge_bits) == (pytest.approx(1), pytest.approx(0, abs=1e-9))
    assert (back.split_bits, back.merge_bits) == (pytest.approx(0, abs=1e-9), pytest.approx(1))


def test_the_rand_index_and_the_variation_agree_with_skimage():
    truth, found = blobs(1), blobs(2)
    cells = score.overlap(truth, found)
    split, merge = variation_of_information(truth, found)[::-1]
    ours = score.variation_of_information(cells)
    assert {round(ours.split_bits, 9), round(ours.merge_bits, 9)} == {round(split, 9), round(merge, 9)}
    assert 0 < score.adjusted_rand_index(cells) < 1 - adapted_rand_error(truth, found)[0] + 0.2


def test_the_rand_index_of_an_unrelated_partition_is_near_zero():
    rng = np.random.default_rng(0)
    truth, found = rng.integers(1, 9, (2, 200, 200))
    assert abs(score.adjusted_rand_index(score.overlap(truth, found))) < 0.005


def test_the_rand_index_counts_pairs():
    truth, found = np.array([[1, 1, 1, 2, 2]]), np.array([[1, 1, 2, 2, 2]])
    # together in both: 1 + 1 = 2 pairs; truth 3 + 1, found 1 + 3, of 10; expected 4 * 4 / 10
    assert score.adjusted_rand_index(score.overlap(truth, found)) == pytest.approx((2 - 1.6) / (4 - 1.6))


def test_one_hit_one_miss_and_one_ghost_are_counted_as_such():
    truth, found = np.zeros((2, 30, 30), int)
    truth[:10, :10], truth[20:, 20:] = 1, 2
    found[:10, :8], found[20:, :5] = 5, 6
    matches = score.match(score.overlap(truth, found))
    assert (matches.matched, matches.only_found, matches.only_truth) == (1, 1, 1)
    assert matches.f1 == pytest.approx(0.5)
    assert matches.average_precision == pytest.approx(1 / 3)
    assert [score.match(score.overlap(truth, found), iou=iou).matched for iou in (0.8, 0.81)] == [1, 0]


def test_a_region_cut_into_two_halves_has_one_partner():
    truth = np.ones((4, 4), int)
    found = np.repeat([1, 2], 2)[None].repeat(4, 0)
    matches = score.match(score.overlap(truth, found))
    assert (matches.matched, matches.only_found, matches.only_truth) == (1, 1, 0)


def test_the_background_is_no_object():
    empty = np.zeros((5, 5), int)
    nothing = score.match(score.overlap(empty, empty))
    assert (nothing.matched, nothing.only_found, nothing.only_truth) == (0, 0, 0)
    assert nothing.f1 == 1
    ghost = score.match(score.overlap(empty, empty + 1))
    assert (ghost.only_found, ghost.f1) == (1, 0)


def test_pixels_without_truth_change_nothing():
    truth, found = blobs(1), blobs(2)
    hidden, spoiled = truth.copy(), found.copy()
    hidden[:, 40:], spoiled[:, 40:] = -1, 99
    whole, half = score.overlap(hidden, spoiled), score.overlap(truth[:, :40], found[:, :40])
    assert score.match(whole) == score.match(half)
    assert score.adjusted_rand_index(whole) == score.adjusted_rand_index(half)
    unknown = score.overlap(np.full((3, 3), -1), np.ones((3, 3), int))
    assert score.match(unknown).f1 == 1
    assert score.variation_of_information(unknown).total_bits == 0
    assert score.adjusted_rand_index(unknown) == 1


def test_specks_of_the_annotation_are_not_counted_and_the_background_stays():
    truth = np.zeros((20, 20), np.int32)
    truth[:10] = 7
    truth[3:5, 3:5] = 8
    cleaned = score.without_specks(truth, 5)
    assert (cleaned == -1).sum() == 4
    assert (cleaned[3:5, 3:5] == -1).all()
    assert set(np.unique(cleaned)) == {-1, 0, 7}


def test_labels_read_from_colours_are_counted_as_they_are():
    truth = np.array([[255 * 65536, 255 * 65536, 3]])
    cells = score.overlap(truth, np.array([[1, 1, 2]]))
    assert dict(zip(cells.truth.tolist(), cells.area_px.tolist(), strict=True)) == {255 * 65536: 2, 3: 1}


def test_the_matches_of_images_add_up():
    parts = [score.match(score.overlap(blobs(a), blobs(a + 1))) for a in range(3)]
    total = score.pooled(parts)
    assert total.matched + total.only_truth == 60


@pytest.mark.parametrize(
    ("truth", "found"), [(np.zeros((2, 2), int), np.zeros((2, 3), int)), (np.zeros((2, 2), int), np.full((2, 2), -1))]
)
def test_labels_that_cannot_be_compared_are_refused(truth, found):
    with pytest.raises(ValueError, match="found"):
        score.overlap(truth, found)


def test_an_iou_below_one_half_is_refused():
    with pytest.raises(ValueError, match=r"0\.5"):
        score.match(score.overlap(np.ones((2, 2), int), np.ones((2, 2), int)), iou=0.3)


def test_a_found_region_that_lies_mostly_in_the_unknown_is_not_counted():
    truth = np.full((4, 10), -1)
    truth[:, 5:] = 0
    found = np.zeros((4, 10), int)
    found[0, 2:6], found[2, 3:9] = 1, 2
    assert set(np.unique(score.mostly_known(found, truth))) == {0, 2}


def test_pairs_are_named_by_their_labels():
    truth, found = np.zeros((20, 20), int), np.zeros((20, 20), int)
    truth[:8, :8], truth[10:, 10:] = 5, 9
    found[:8, :6], found[10:, :4] = 2, 7
    together = score.pairs(score.overlap(truth, found))
    assert (together.truth.tolist(), together.found.tolist()) == ([5], [2])
    assert len(score.pairs(score.overlap(truth, 0 * found)).truth) == 0
