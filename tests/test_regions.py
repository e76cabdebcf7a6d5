import numpy as np
import pytest

from micro.regions import Regions


def test_regions_count_their_names():
    labels = np.array([[0, 1], [2, 2]], np.int32)
    regions = Regions(labels, ("grain", "grain"), np.ones(2, np.float32))
    assert len(regions) == 2
    with pytest.raises(ValueError, match="read-only"):
        regions.labels[0, 0] = 5


@pytest.mark.parametrize("labels", [np.zeros((2, 2), np.int64), np.zeros((2, 2, 1), np.int32)])
def test_labels_of_another_kind_are_a_mistake_of_ours(labels):
    with pytest.raises(ValueError, match="int32"):
        Regions(labels, (), np.zeros(0, np.float32))


def test_every_region_has_one_score():
    with pytest.raises(ValueError, match="2 class names for 1 scores"):
        Regions(np.zeros((2, 2), np.int32), ("a", "b"), np.zeros(1, np.float32))
