import cv2
import numpy as np
import pytest

from micro import tasks
from micro.training.augmentation import Augmentation

FLAT = np.full((64, 64, 1), 128, np.uint8)
BLOCK = 8  # of JPEG


def whiteness(pixels):
    """How strong the finest waves of a frame (y, x, 1) are beside coarser ones: 1 of white noise, 0 of a flat frame."""
    values = pixels[..., 0].astype(np.float32)
    waves = np.array(
        [
            cv2.dct(values[top : top + BLOCK, left : left + BLOCK])
            for top in range(0, len(values), BLOCK)
            for left in range(0, len(values), BLOCK)
        ]
    )
    fine, coarse = (waves[:, 4:, 4:] ** 2).mean(), (waves[:, 1:4, 1:4] ** 2).mean()
    return fine / coarse if fine > 1 else 0.0


@pytest.fixture(scope="module")
def flat_frames():
    augmentation, random = Augmentation(tasks.find("defects")), np.random.default_rng(0)
    return [augmentation.frame(FLAT, random) for _ in range(300)]


def test_frames_are_learned_with_noise_that_no_compression_smoothed_and_without_any(flat_frames):
    found = np.array([whiteness(frame) for frame in flat_frames])
    assert (found > 0.8).mean() > 0.2
    assert (found < 0.1).mean() > 0.4


def test_each_change_of_a_frame_is_drawn_for_itself():
    """Mirrored up and down, left and right, both, and neither: four frames, each as often as the others."""
    augmentation, random = Augmentation(tasks.find("defects")), np.random.default_rng(0)
    quarters = np.zeros((64, 64, 1), np.uint8)
    quarters[:24, :24] = 200
    brightest = [augmentation.frame(quarters, random)[..., 0] > 120 for _ in range(200)]
    corners = [(mask[:24].sum() > mask[-24:].sum(), mask[:, :24].sum() > mask[:, -24:].sum()) for mask in brightest]
    counts = [corners.count((top, left)) for top in (False, True) for left in (False, True)]
    assert min(counts) > 30


def test_labels_lie_where_the_specimen_lies_however_it_is_turned():
    augmentation, random = Augmentation(tasks.find("grains")), np.random.default_rng(0)
    labels = np.zeros((64, 64), np.int32)
    labels[8:40, 8:20], labels[30:40, 20:50] = 70_000, 2
    pixels = (labels > 0).astype(np.float32)[..., np.newaxis]
    moved = 0
    for _ in range(20):
        turned, found = augmentation.geometry(pixels, labels, random)
        assert set(np.unique(found)) <= {0, 2, 70_000}, "numbers are kept and never mixed"
        assert ((turned[..., 0] > 0.5) == (found > 0)).mean() > 0.97
        moved += (found != labels).mean() > 0.1
    assert moved > 10


def test_where_colour_is_evidence_light_is_left_as_it_is():
    scaled, random = np.ones((4, 4, 3), np.float32), np.random.default_rng(0)
    assert np.array_equal(Augmentation(tasks.find("flakes")).light(scaled, random), scaled)
    assert not np.array_equal(Augmentation(tasks.find("grains")).light(scaled, random), scaled)
