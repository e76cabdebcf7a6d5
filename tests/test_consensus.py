"""What several annotators say: a half is no majority, and where there is none, nothing is known."""

import numpy as np
import pytest

from micro.folder import consensus


def drawn(*bands, width=4, height=40):
    """One annotator's regions: a band of rows each, of which nothing is known where the number is negative."""
    labels = np.zeros((height, width), np.int32)
    for number, first, last in bands:
        labels[first:last] = number
    return labels


@pytest.mark.parametrize(("votes", "agreed"), [(1, -1), (2, -1), (3, 1), (4, 1)])
def test_a_class_needs_more_than_half_of_the_annotators(votes, agreed):
    said = [drawn((1 if number < votes else 2 + number, 0, 40)) for number in range(4)]
    assert (consensus.classes(said) == agreed).all()


@pytest.mark.parametrize(("votes", "agreed"), [(1, 0), (2, -1), (3, 1), (4, 1)])
def test_a_region_needs_more_than_half_of_the_annotators_and_half_leave_it_unknown(votes, agreed):
    said = [drawn((7, 10, 20)) if number < votes else drawn() for number in range(4)]
    found = consensus.instances(said)
    assert (found[10:20] == agreed).all()
    assert (np.delete(found, slice(10, 20), axis=0) == 0).all()


@pytest.mark.parametrize(("unsure", "agreed"), [(1, 0), (2, -1), (3, -1)])
def test_what_half_do_not_know_is_unknown(unsure, agreed):
    said = [drawn((-1, 10, 20)) if number < unsure else drawn() for number in range(4)]
    assert (consensus.instances(said)[10:20] == agreed).all()


@pytest.mark.parametrize(
    ("other", "is_the_same"),
    [((0, 7), True), ((0, 5), True), ((0, 4), False), ((4, 14), False), ((2, 12), True), ((0, 20), True)],
)
def test_two_drew_one_region_where_they_share_half_of_what_both_cover(other, is_the_same):
    found = consensus.instances([drawn((1, 0, 10)), drawn((5, *other))])
    assert (found.max() == 1) == is_the_same
    shared = slice(max(0, other[0]), min(10, other[1]))
    assert (found[shared] == (1 if is_the_same else -1)).all()


def test_a_pixel_belongs_to_a_region_where_more_than_half_of_those_who_drew_it_say_so():
    said = [drawn((1, 0, 10)), drawn((1, 0, 10)), drawn((1, 0, 8)), drawn((1, 0, 8))]
    found = consensus.instances(said)[:, 0]
    assert found[:8].tolist() == [1] * 8
    assert found[8:10].tolist() == [-1, -1]
    assert not found[10:].any()


def test_one_drawing_is_no_part_of_two_regions():
    one, two = drawn((1, 0, 10), (2, 10, 20)), drawn((3, 0, 10), (4, 10, 20))
    found = consensus.instances([one, two, two])[:, 0]
    assert len(set(found[:10])) == len(set(found[10:20])) == 1
    assert 0 < found[0] != found[10] > 0
