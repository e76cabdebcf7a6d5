import numpy as np
import pytest

from micro.terraces import bounded, crystals, even_patches, split, unevenness


def crystal(*contrasts, noise=0.008, width=40):
    """Terraces side by side, each of one contrast in red, green and blue."""
    steps = np.repeat(np.array(contrasts, np.float32), width)
    contrast = np.stack([steps, 0.8 * steps, 0.3 * steps])[:, np.newaxis].repeat(40, 1)
    contrast = contrast + np.random.default_rng(0).normal(0, noise, contrast.shape)
    return contrast.astype(np.float32), np.ones(contrast.shape[1:], bool)


@pytest.mark.parametrize("layers", [1, 2, 3, 4])
def test_a_staircase_of_layers_has_as_many_terraces(layers):
    contrast, mask = crystal(*(-0.1 * (number + 1) for number in range(layers)))
    parts = split(contrast, mask, step=0.05, min_area_px=150)
    assert parts.max() == layers
    for number in range(layers):  # each terrace but for the blurred pixels at its edges
        middle = parts[:, 40 * number + 5 : 40 * number + 35]
        assert len(np.unique(middle)) == 1


def test_noise_alone_is_no_step():
    contrast, mask = crystal(-0.2, noise=0.02, width=120)
    assert split(contrast, mask, step=0.05, min_area_px=150).max() == 1


def test_a_speck_of_another_colour_goes_to_its_terrace():
    contrast, mask = crystal(-0.1, -0.3)
    contrast[:, 18:24, 10:16] = -0.6
    parts = split(contrast, mask, step=0.05, min_area_px=150)
    assert parts.max() == 2
    assert (parts[:, :35] == parts[0, 0]).all()


def test_terraces_fill_the_crystal_and_nothing_else():
    contrast, mask = crystal(-0.1, -0.3)
    mask[:, :7] = False
    mask[30:, 50:] = False
    parts = split(contrast, mask, step=0.05, min_area_px=150)
    assert np.array_equal(parts > 0, mask)


def test_a_crystal_too_small_for_two_terraces_stays_whole():
    contrast, mask = crystal(-0.1, -0.3, width=8)
    assert split(contrast, mask, step=0.05, min_area_px=300).max() == 1


def test_unevenness_is_the_standard_deviation_of_even_noise_and_large_for_residue():
    contrast, mask = crystal(-0.2, noise=0.01, width=120)
    assert unevenness(contrast, mask) == pytest.approx(0.01, rel=0.15)
    residue = np.random.default_rng(1).uniform(-0.9, 0.2, (3, 40, 40)).astype(np.float32)
    assert unevenness(residue, np.ones((40, 40), bool)) > 0.2


def test_the_smallest_regions_can_be_asked():
    one = np.full((3, 1, 1), -0.1, np.float32)
    assert split(one, np.ones((1, 1), bool), step=0.05, min_area_px=1).tolist() == [[1]]
    assert unevenness(one, np.ones((1, 1), bool)) == 0


def test_a_terrace_is_bounded_all_round_and_a_shadow_nowhere():
    mask = np.zeros((60, 120), bool)
    mask[:, :50] = True
    terrace = np.zeros((3, 60, 120), np.float32)
    terrace[:, mask] = np.array([-0.1, -0.08, -0.02], np.float32)[:, np.newaxis]
    assert bounded(terrace, mask, 0.05) == 1
    shadow = np.broadcast_to(np.linspace(-0.12, 0, 120, dtype=np.float32), (3, 60, 120))
    assert bounded(shadow, mask, 0.05) == 0
    assert bounded(terrace, np.ones_like(mask), 0.05) == 1  # nothing lies around it


def test_a_pale_terrace_is_bounded_by_its_own_pale_step():
    mask = np.zeros((60, 60), bool)
    mask[20:40, 20:40] = True
    assert bounded(np.where(mask, np.float32(-0.02), np.float32(0))[np.newaxis], mask, 0.05) == 1


def test_a_terrace_next_to_its_like_is_bounded_on_the_other_sides_only():
    mask = np.zeros((60, 120), bool)
    mask[10:50, 30:60] = True
    both = np.zeros((1, 60, 120), np.float32)
    both[:, 10:50, 30:90] = -0.3
    assert 0.6 < bounded(both, mask, 0.05) < 0.8


def test_terraces_that_touch_are_one_crystal():
    labels = np.zeros((600, 90), np.int32)
    labels[10:300, 10:20] = 1
    labels[300:590, 10:20] = 2  # touches 1, across a border of the strips that are looked at
    labels[10:50, 40:50] = 3
    labels[10:50, 50:60] = 4
    labels[100:110, 70:80] = 5
    labels[110:120, 80:90] = 6  # touches 5 at a corner only
    first, second, third, fourth, fifth, sixth = crystals(labels)
    assert first == second
    assert third == fourth
    assert len({first, third, fifth, sixth}) == 4
    assert crystals(np.zeros((5, 5), np.int32)).size == 0


def test_even_patches_are_the_colours_of_an_image_the_most_common_first():
    contrast = np.zeros((3, 120, 160), np.float32)
    contrast[:, 10:50, 10:90] = np.array([-0.5, -0.4, 0.2])[:, np.newaxis, np.newaxis]
    contrast[:, 60:90, 10:40] = np.array([0.8, 0.9, 0.6])[:, np.newaxis, np.newaxis]
    contrast[:, 60:66, 100:106] = -0.9  # too small
    contrast += np.random.default_rng(0).normal(0, 0.004, contrast.shape).astype(np.float32)
    found = even_patches(contrast, np.abs(contrast).max(0) > 0.1)
    np.testing.assert_allclose(found, [[-0.5, -0.4, 0.2], [0.8, 0.9, 0.6]], atol=0.01)
    assert even_patches(contrast, np.zeros(contrast.shape[1:], bool)).shape == (0, 3)
