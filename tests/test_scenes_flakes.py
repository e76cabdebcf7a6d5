"""Drawn flakes: the colours follow the physics and the labels follow the drawing."""

from itertools import pairwise

import cv2
import numpy as np
import pytest

from micro.illumination import substrate
from micro.scenes.flakes import PIXEL_SIZE_UM, draw, reflectance

GRAPHENE = 2.7 - 1.4j


def contrast(layers, oxide_nm, wavelength_nm):
    thickness_nm = np.array([0, 0.335 * layers])
    bare, covered = reflectance(thickness_nm, GRAPHENE, oxide_nm=oxide_nm, wavelength_nm=wavelength_nm)
    return covered / bare - 1


@pytest.fixture(scope="module")
def scenes():
    return [draw(seed, 320, 400) for seed in range(6)]


def test_one_layer_of_graphene_has_the_contrast_of_the_literature():
    # Fresnel calculations: about -0.14 at 555 nm on 90 nm and on 285 nm of oxide, nearly nothing at 460 nm on 300 nm.
    assert contrast(1, 90, 555) == pytest.approx(-0.14, abs=0.03)
    assert contrast(1, 285, 555) == pytest.approx(-0.14, abs=0.03)
    assert contrast(1, 300, 460) == pytest.approx(0, abs=0.03)


def test_more_layers_are_darker_and_bulk_is_bright_again():
    steps = [contrast(layers, 90, 550) for layers in range(6)]
    assert all(thinner > thicker for thinner, thicker in pairwise(steps))
    assert contrast(600, 90, 550) > 1


def test_bare_silicon_reflects_as_fresnel_says():
    # (3.94 - 1)^2 / (3.94 + 1)^2 without oxide and without a film
    assert reflectance(np.zeros(1), GRAPHENE, oxide_nm=0, wavelength_nm=600)[0] == pytest.approx(0.354, abs=0.002)


def test_a_seed_draws_one_scene_only():
    first, again, other = draw(3, 96, 128), draw(3, 96, 128), draw(4, 96, 128)
    np.testing.assert_array_equal(first.image.pixels, again.image.pixels)
    np.testing.assert_array_equal(first.labels, again.labels)
    assert (first.image.pixels != other.image.pixels).any()


def test_a_scene_has_the_size_asked_for_and_states_its_scale(scenes):
    for scene in scenes:
        assert scene.image.pixels.shape == (320, 400, 3)
        assert scene.image.pixels.dtype == np.uint8
        assert scene.image.pixel_size_um == PIXEL_SIZE_UM


def test_every_region_is_one_connected_piece_with_a_name(scenes):
    for scene in scenes:
        assert set(np.unique(scene.labels)) == set(range(len(scene.class_names) + 1))
        for label in range(1, len(scene.class_names) + 1):
            parts, _ = cv2.connectedComponents((scene.labels == label).astype(np.uint8), connectivity=4)
            assert parts == 2


def test_thin_flakes_differ_from_the_substrate_in_the_picture(scenes):
    contrasts = []
    for scene in scenes:
        scaling = substrate(scene.image.pixels)
        center, spread = scaling.window(scene.labels.shape, slice(0, 320), slice(0, 400))
        relative = ((scene.image.pixels.transpose(2, 0, 1) - center) / spread).transpose(1, 2, 0)
        areas = np.bincount(scene.labels.ravel())
        contrasts += [
            np.abs(np.median(relative[scene.labels == label], axis=0)).max()
            for label in range(1, len(areas))
            if areas[label] >= 300
        ]
    assert len(contrasts) > 5
    assert np.median(contrasts) > 0.1
    assert np.mean(np.array(contrasts) > 0.03) > 0.9


def test_thin_stacks_may_be_far_darker_than_the_substrate_and_corners_may_be_dark():
    darkest, corners = [], []
    for seed in range(20):
        scene = draw(seed, 120, 160)
        pixels = scene.image.pixels
        bare = np.median(pixels, axis=(0, 1))
        terraces = [pixels[scene.labels == label] for label in range(1, len(scene.class_names) + 1)]
        darkest += [(np.median(part, axis=0) / bare).min() for part in terraces if len(part) > 150]
        corners.append(min((pixels[y, x] / bare).mean() for y in (0, -1) for x in (0, -1)))
    assert min(darkest) < 0.5
    assert np.median(darkest) > 0.5
    assert np.mean(np.array(corners) < 0.6) >= 0.05
    assert np.mean(np.array(corners) > 0.8) > 0.3
