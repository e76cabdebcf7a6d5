"""Illumination: what a network reads is the same wherever the light falls."""

import cv2
import numpy as np
import pytest

from micro.illumination import Scaling, grain, percentiles, substrate, substrate_noise, thumbnail


def contrast(pixels, scaling):
    center, spread = scaling.window(pixels.shape[:2], slice(0, pixels.shape[0]), slice(0, pixels.shape[1]))
    return ((pixels.transpose(2, 0, 1) - center) / spread).transpose(1, 2, 0)


def lit(height_px, width_px, *, seed=0, noise=2.0):
    """A purple substrate with a vignette of 25 % off centre, and the surface without noise."""
    y, x = np.mgrid[0:height_px, 0:width_px].astype(np.float64)
    far = ((y / height_px - 0.45) ** 2 + (x / width_px - 0.6) ** 2) / 0.5
    surface = (1 - 0.25 * far)[..., np.newaxis] * np.array([129.0, 113.0, 155.0])
    return surface + np.random.default_rng(seed).normal(0, noise, surface.shape), surface


def test_a_window_of_a_surface_equals_that_part_of_the_whole_surface():
    grid = np.random.default_rng(0).random((3, 8, 8)).astype(np.float32) + 1
    scaling = Scaling(grid, grid)
    whole, _ = scaling.window((300, 500), slice(0, 300), slice(0, 500))
    part, _ = scaling.window((300, 500), slice(96, 224), slice(320, 448))
    np.testing.assert_allclose(part, whole[:, 96:224, 320:448], atol=1e-6)


def test_a_vignette_alone_has_no_contrast():
    pixels, _ = lit(600, 960)
    found = contrast(pixels.clip(0, 255).astype(np.uint8), substrate(pixels.clip(0, 255).astype(np.uint8)))
    assert abs(np.median(found)) < 0.01
    blocks = found[:600, :960].reshape(6, 100, 6, 160, 3).mean(axis=(1, 3))
    assert np.abs(blocks).max() < 0.02


@pytest.mark.parametrize("flake_contrast", [-0.12, -0.6, 1.0])
def test_flakes_over_forty_percent_leave_the_substrate_found_and_their_contrast_right(flake_contrast):
    pixels, surface = lit(600, 960)
    pixels[:, 300:684] += flake_contrast * surface[:, 300:684]
    image = pixels.clip(0, 255).astype(np.uint8)
    found = contrast(image, substrate(image))
    assert np.abs(np.median(found[:, :280], axis=(0, 1))).max() < 0.015
    assert np.abs(np.median(found[:, 700:], axis=(0, 1))).max() < 0.015
    if flake_contrast < 0:
        np.testing.assert_allclose(np.median(found[:, 320:660], axis=(0, 1)), flake_contrast, atol=0.02)


def test_scattered_flakes_of_many_colours_leave_the_substrate_found():
    pixels, surface = lit(600, 960)
    rng = np.random.default_rng(1)
    for y, x in zip(rng.integers(0, 520, 60), rng.integers(0, 880, 60), strict=True):
        pixels[y : y + 80, x : x + 80] = surface[y : y + 80, x : x + 80] * (1 + rng.uniform(-0.8, 0.8))
    image = pixels.clip(0, 255).astype(np.uint8)
    scaling = substrate(image)
    center, _ = scaling.window((600, 960), slice(0, 600), slice(0, 960))
    assert np.abs(center.transpose(1, 2, 0) / surface - 1).max() < 0.03


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_contrast_does_not_depend_on_the_pixel_type(dtype):
    pixels, _ = lit(300, 400)
    image = pixels.clip(0, 255).astype(np.uint8)
    scale = 257 if dtype is np.uint16 else 1 / 255
    other = (image * np.float64(scale)).astype(dtype)
    np.testing.assert_allclose(contrast(other, substrate(other)), contrast(image, substrate(image)), atol=1e-3)


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 4000, 3), (3, 2, 1), (64, 64, 3)])
def test_tiny_thin_and_black_images_have_a_scaling(shape):
    for value in (0, 200):
        scaling = substrate(np.full(shape, value, np.uint8))
        assert scaling.center == pytest.approx(value, abs=1)
        assert (scaling.spread > 0).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 2, 1), (40, 31, 3)])
def test_percentiles_by_counting_are_those_by_sorting(shape, dtype):
    pixels = (np.random.default_rng(4).random(shape) * 255).astype(dtype)
    expected = np.percentile(pixels.reshape(-1, shape[2]).astype(float), (0, 1, 50, 99, 100), axis=0)
    assert np.allclose(percentiles(pixels, (0, 1, 50, 99, 100)), expected, rtol=1e-12)


def test_the_surface_follows_what_known_flakes_leave_free():
    light = np.tile(150 - 0.1 * np.arange(300), (200, 1))
    pixels = np.repeat(light[..., np.newaxis], 3, axis=2)
    covered = np.zeros((200, 300), bool)
    covered[:, 60:250] = True
    pixels[covered] *= 0.93
    found = substrate(np.rint(pixels).astype(np.uint8), covered)
    center, _ = found.window((200, 300), slice(0, 200), slice(0, 300))
    np.testing.assert_allclose(center[0][~covered], light[~covered], rtol=0.01)
    assert np.median(pixels[..., 0][covered] / center[0][covered]) == pytest.approx(0.93, abs=0.01)


def test_noise_of_the_substrate_is_that_of_its_patches_and_flakes_do_not_count():
    rng = np.random.default_rng(0)
    patches = rng.normal(0, 0.02, (20, 30, 3)).repeat(9, axis=0).repeat(9, axis=1)
    pixels = 120 * (1 + patches)
    covered = np.zeros(pixels.shape[:2], bool)
    covered[:60, :60] = True
    pixels[covered] *= 0.96
    scaling = substrate(np.rint(pixels).astype(np.uint8), covered)
    found = substrate_noise(np.rint(pixels).astype(np.uint8), scaling, covered)
    np.testing.assert_allclose(found, 0.02, rtol=0.25)


@pytest.mark.parametrize("shape_px", [(300, 400), (1200, 1600)])
def test_a_vignette_is_followed_and_is_no_noise_of_the_substrate(shape_px):
    y, x = np.mgrid[-1 : 1 : shape_px[0] * 1j, -1 : 1 : shape_px[1] * 1j]
    pixels = (1 - 0.15 * (y**2 + x**2))[..., np.newaxis].astype(np.float32) * np.float32([180, 170, 190])
    scaling = substrate(pixels)
    assert np.abs(contrast(pixels, scaling)).mean() < 0.001
    assert (substrate_noise(pixels, scaling) < 0.002).all()


def test_a_thumbnail_is_the_mean_of_its_squares():
    pixels = np.arange(4 * 6 * 3, dtype=np.float32).reshape(4, 6, 3)
    np.testing.assert_allclose(thumbnail(pixels, 2)[0, 0], pixels[:2, :2].mean((0, 1)))
    assert thumbnail(pixels[..., :1], 9).shape == (1, 1, 1)


def test_grain_is_what_smoothing_leaves_of_the_noise_and_ignores_flakes():
    pixels, surface = lit(300, 400, noise=6.0)
    pixels[100:200, 100:300] *= 0.6
    pixels = pixels.clip(0, 255).astype(np.uint8)
    scaling = substrate(pixels)
    left = cv2.medianBlur(np.random.default_rng(5).normal(0, 6.0, (300, 400)).astype(np.float32), 5).std()
    assert grain(pixels, scaling, 5) == pytest.approx(left / surface[..., 1].mean(), rel=0.25)
    assert grain(np.zeros((20, 20, 3), np.uint8), scaling, 5) == 0
