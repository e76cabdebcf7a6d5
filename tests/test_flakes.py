"""Flakes: terraces that touch stay apart, tiles leave no trace, and contrast is what was drawn."""

import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from micro.micrograph import Micrograph
from micro.regions import Regions
from micro.scenes.flakes import draw
from micro.tasks import find, flakes
from micro.tasks.flakes import FlakeSettings, decode, encode, measure


def maps_of(labels):
    return np.rint(encode(labels).maps * 255).astype(np.uint8)


def intersection_over_union(first, second):
    return (first & second).sum() / (first | second).sum()


def two_terraces():
    labels = np.zeros((120, 160), np.int32)
    labels[20:100, 20:70] = 1
    labels[20:100, 70:140] = 2
    return labels


def test_the_task_is_found_by_its_name():
    task = find("flakes")
    assert task.channels == "rgb"
    assert task.colour_is_evidence
    assert not task.orientation_is_evidence


def test_terraces_that_touch_come_back_as_they_were():
    labels = two_terraces()
    found = decode(maps_of(labels), FlakeSettings()).labels
    np.testing.assert_array_equal(found > 0, labels > 0)
    assert (found != labels).sum() < 10


def test_drawn_flakes_come_back_from_their_own_targets():
    overlaps = []
    for seed in range(6):
        labels = draw(seed, 384, 384).labels
        found = decode(maps_of(labels), FlakeSettings()).labels
        areas = np.bincount(labels.ravel())
        large = [label for label in range(1, len(areas)) if areas[label] >= 400]
        for label in large:
            counts = np.bincount(found[labels == label])
            counts[0] = 0
            overlaps.append(intersection_over_union(labels == label, found == max(counts.argmax(), 1)))
    assert len(overlaps) > 20
    assert np.mean(np.array(overlaps) > 0.5) >= 0.9


def test_a_blurred_answer_still_tells_terraces_apart():
    maps = np.stack([cv2.GaussianBlur(part, (0, 0), 2) for part in maps_of(two_terraces())])
    assert len(decode(maps, FlakeSettings())) == 2


def test_a_flake_across_block_borders_is_one():
    labels = np.zeros((1300, 2300), np.int32)
    labels[1000:1060, 100:2200] = 1
    found = decode(maps_of(labels), FlakeSettings()).labels
    np.testing.assert_array_equal(found, labels)


def test_growth_in_blocks_equals_growth_in_one_piece(monkeypatch):
    rng = np.random.default_rng(1)
    labels = np.zeros((200, 330), np.int32)
    for number in range(1, 60):
        y, x, height, width = rng.integers(0, 190), rng.integers(0, 310), rng.integers(8, 60), rng.integers(8, 60)
        labels[y : y + height, x : x + width] = number
    maps = maps_of(labels)
    whole = decode(maps, FlakeSettings(min_area_px=1)).labels
    monkeypatch.setattr(flakes, "BLOCK_PX", 64)
    np.testing.assert_array_equal(decode(maps, FlakeSettings(min_area_px=1)).labels, whole)


def test_small_and_doubtful_flakes_are_dropped_and_the_rest_numbered_on():
    labels = two_terraces()
    labels[105:115, 5:15] = 3
    maps = maps_of(labels)
    maps[0][labels == 1] = 140
    found = decode(maps, FlakeSettings(min_score=0.8))
    assert len(found) == 1
    assert set(np.unique(found.labels)) == {0, 1}
    assert found.scores[0] > 0.99
    assert len(decode(maps, FlakeSettings(min_area_px=50))) == 3


def test_an_empty_answer_gives_no_regions_and_an_empty_table():
    found = decode(np.zeros((2, 40, 50), np.uint8), FlakeSettings())
    assert len(found) == 0
    table = measure(found, Micrograph(np.full((40, 50, 3), 100, np.uint8)))
    assert all(len(values) == 0 for values in table.values())


def test_unknown_pixels_carry_no_weight():
    labels = two_terraces()
    labels[:10] = -1
    targets = encode(labels)
    assert targets.weight[:10].sum() == 0
    assert (targets.weight[10:] == 1).all()
    assert targets.maps[:, :10].sum() == 0


def test_contrast_is_the_one_that_was_drawn_even_under_a_vignette():
    labels = two_terraces()
    y, x = np.mgrid[0:120, 0:160]
    light = 1 - 0.2 * ((y / 120 - 0.5) ** 2 + (x / 160 - 0.5) ** 2)
    pixels = light[..., np.newaxis] * np.array([200.0, 150, 100])
    pixels[labels == 1] *= (0.9, 0.8, 1.0)
    pixels[labels == 2] *= (0.5, 0.6, 0.7)
    regions = Regions(labels, ("flake", "flake"), np.ones(2, np.float32))
    table = measure(regions, Micrograph(np.rint(pixels).astype(np.uint8), pixel_size_um=0.5))
    np.testing.assert_allclose(table["contrast_red_mean"], [-0.1, -0.5], atol=0.02)
    np.testing.assert_allclose(table["contrast_green_mean"], [-0.2, -0.4], atol=0.02)
    np.testing.assert_allclose(table["contrast_blue_mean"], [0, -0.3], atol=0.02)
    np.testing.assert_allclose(table["area_um2"], [80 * 50 / 4, 80 * 70 / 4])
    assert not any(name.endswith("_um2") for name in measure(regions, Micrograph(np.rint(pixels).astype(np.uint8))))


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValidationError):
        FlakeSettings(min_area_px=0)
    with pytest.raises(ValidationError):
        FlakeSettings(inside_above=1.5)


def test_scaled_pixels_are_contrast_plus_the_hue_of_the_substrate():
    substrate_rgb = np.array([130, 115, 160], np.float64)
    pixels = np.full((80, 100, 3), substrate_rgb.astype(np.uint8), np.uint8)
    pixels[20:40, 30:50] = (substrate_rgb * 0.8).astype(np.uint8)
    found = flakes.scaling(pixels)
    center, spread = found.window((80, 100), slice(0, 80), slice(0, 100))
    scaled = (pixels.transpose(2, 0, 1) - center) / spread
    hue = substrate_rgb / substrate_rgb.mean() - 1
    assert np.allclose(scaled[:, 60, 80], hue, atol=0.02)
    assert np.allclose(scaled[:, 30, 40] - scaled[:, 60, 80], -0.2, atol=0.02)
