import numpy as np
import pytest
from small_bundles import SMALL_CLASSIFIER, SMALL_UNET, make_bundle

from micro_napari.fit import fit
from micro_napari.layers import Facts


@pytest.fixture(scope="module")
def cards(tmp_path_factory):
    root = tmp_path_factory.mktemp("bundles")
    return {
        "free": make_bundle(root / "free").card,
        "scaled": make_bundle(root / "scaled", pixel_size_um=0.5).card,
        "frames": make_bundle(root / "frames", SMALL_CLASSIFIER, task="defects").card,
        "colour": make_bundle(root / "colour", SMALL_UNET.model_copy(update={"in_channels": 3})).card,
    }


def image(**more):
    return Facts(**{"name": "a", "data": np.zeros((1, 1)), "shape_px": (600, 800)} | more)


def test_an_image_that_fits_is_described_before_it_is_run(cards):
    found = fit(cards["free"], image(pixel_size_um=0.3), "cpu", 512)
    assert found.fine
    assert not found.needs_pixel_size
    # 600 and 800 px with a halo of 64 px: two rows and two columns of tiles that keep at most 512 - 128
    assert "600 x 800 px grey" in found.says
    assert f"{found.tiles} tiles" in found.says
    assert found.tiles == 4
    assert found.says.endswith("device cpu")


def test_a_bundle_with_a_scale_wants_to_know_the_images(cards):
    found = fit(cards["scaled"], image(), "cpu", 512)
    assert not found.fine
    assert found.needs_pixel_size
    assert "0.5 um" in found.says


def test_an_image_is_scaled_to_the_bundles_pixel_size(cards):
    found = fit(cards["scaled"], image(pixel_size_um=0.25), "cpu", 512)
    assert found.fine
    assert "scaled 0.5 times" in found.says
    assert found.grid_px == (300, 400)
    assert found.tiles == 1


def test_a_scale_far_from_the_bundles_is_pointed_out(cards):
    assert "far from" in fit(cards["scaled"], image(pixel_size_um=0.05), "cpu", 512).says
    assert "far from" not in fit(cards["scaled"], image(pixel_size_um=0.4), "cpu", 512).says


def test_an_image_that_would_become_enormous_is_refused(cards):
    found = fit(cards["scaled"], image(pixel_size_um=500.0), "cpu", 512)
    assert not found.fine
    assert "Is that right?" in found.says


@pytest.mark.parametrize(
    ("card", "channels", "words"),
    [("free", 3, "colour read as grey"), ("colour", 1, "three equal channels"), ("free", 1, None), ("colour", 3, None)],
)
def test_channels_that_are_changed_are_named(cards, card, channels, words):
    colour = cards[card].model_copy(update={"channels": "rgb"}) if card == "colour" else cards[card]
    says = fit(colour, image(channels=channels), "cpu", 512).says
    assert words in says if words else "read as" not in says


def test_a_classifier_takes_the_whole_frame(cards):
    found = fit(cards["frames"], image(), "cpu", 512)
    assert found.fine
    assert "whole frame" in found.says
    assert found.tiles == 1


def test_what_cannot_be_read_says_why(cards):
    found = fit(cards["free"], image(problem="a stack"), "cpu", 512)
    assert (found.fine, found.says) == (False, "a stack")
