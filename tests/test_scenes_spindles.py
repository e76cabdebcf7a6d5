"""Drawn spindles: their pits are where the labels say, and the same seed draws the same frame."""

import numpy as np
import pytest

from micro.scenes import spindles


@pytest.mark.parametrize("seed", range(5))
def test_pits_are_darker_than_the_raceway_around_them_and_as_many_as_asked(seed):
    scene = spindles.draw(seed, pits=2)
    assert scene.class_names == ("pitting", "pitting")
    pixels = scene.image.pixels[..., 0].astype(float)
    pitted = scene.class_map() > 0
    assert pixels[pitted].mean() < 0.6 * pixels[~pitted].mean()
    assert 500 < pitted.sum() < 8000


def test_a_frame_without_pits_is_sound_and_a_seed_draws_one_frame():
    assert not spindles.draw(3, pits=0).labels.any()
    np.testing.assert_array_equal(spindles.draw(4).image.pixels, spindles.draw(4).image.pixels)
