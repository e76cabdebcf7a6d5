from types import SimpleNamespace

import numpy as np
import pytest

from micro.errors import UnreadableImage
from micro.micrograph import Micrograph
from micro_napari import layers
from micro_napari.reader import to_layer

RANDOM = np.random.default_rng(0)
GREY = RANDOM.integers(0, 255, (20, 30), dtype=np.uint8)
RGB = RANDOM.integers(0, 255, (20, 30, 3), dtype=np.uint8)


def layer(data, *, rgb=False, scale=(1.0, 1.0), units=("pixel", "pixel"), **more):
    facts = {"name": "a", "multiscale": False, "metadata": {}, "translate": (0.0, 0.0)}
    return SimpleNamespace(data=data, rgb=rgb, scale=scale, units=units, **facts | more)


def test_an_image_that_was_read_comes_out_of_its_layer_as_it_went_in():
    image = Micrograph(RGB, "b.tif", 0.1 + 0.2, "OME-XML")
    pixels, arguments, _ = to_layer(image)
    back = layers.facts(layer(pixels, **{key: arguments[key] for key in ("rgb", "scale", "units", "metadata")})).image()
    assert np.array_equal(back.pixels, image.pixels)
    assert (back.pixel_size_um, back.pixel_size_source) == (0.1 + 0.2, "OME-XML")


@pytest.mark.parametrize(
    ("scale", "units", "um"),
    [
        ((0.5, 0.5), ("micrometer", "micrometer"), 0.5),
        ((500.0, 500.0), ("nanometer", "nanometer"), 0.5),
        ((0.5, 0.5), ("pixel", "pixel"), None),
        ((0.5, 0.7), ("um", "um"), None),
    ],
)
def test_the_pixel_size_is_the_scale_in_a_unit_of_length(scale, units, um):
    known = layers.facts(layer(GREY, scale=scale, units=units))
    assert known.pixel_size_um == (None if um is None else pytest.approx(um))
    assert (known.pixel_size_source is None) == (um is None)


def test_pixels_that_are_not_square_say_so():
    (note,) = layers.facts(layer(GREY, scale=(0.5, 0.7), units=("um", "um"))).notes
    assert "not square" in note


def test_a_scale_that_was_changed_since_the_file_was_read_counts():
    changed = layer(
        GREY, scale=(0.4, 0.4), units=("um", "um"), metadata={"pixel_size_um": 0.2, "pixel_size_source": "x"}
    )
    assert layers.facts(changed).pixel_size_um == pytest.approx(0.4)
    assert layers.facts(changed).pixel_size_source == layers.LAYER_SCALE


def test_a_given_pixel_size_is_the_layers_scale_and_known_to_be_given():
    here = layer(GREY)
    layers.give_pixel_size(here, 0.39)
    assert here.scale == (0.39, 0.39)
    assert here.units == ("um", "um")
    assert (layers.facts(here).pixel_size_um, layers.facts(here).pixel_size_source) == (0.39, layers.GIVEN)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (layer(np.zeros((4, 20, 30), np.uint8)), "one plane"),
        (layer(np.zeros((20, 30), np.int64)), "int64"),
        (layer(np.zeros((2, 20, 30, 3), np.uint8), rgb=True), "one plane"),
    ],
)
def test_what_is_no_single_image_is_refused_before_it_is_read(made, words):
    known = layers.facts(made)
    assert words in known.problem
    with pytest.raises(UnreadableImage, match=words):
        known.image()


def test_doubles_are_read_as_floats_and_alpha_is_dropped_with_a_note():
    assert layers.facts(layer(GREY.astype(np.float64))).image().pixels.dtype == np.float32
    rgba = np.dstack([RGB, np.full(RGB.shape[:2], 255, np.uint8)])
    known = layers.facts(layer(rgba, rgb=True))
    assert np.array_equal(known.image().pixels, RGB)
    assert "alpha channel dropped" in known.notes


def test_what_the_reader_remarked_on_the_file_goes_on_to_the_engine():
    image = Micrograph(RGB, "b.tif", notes=("alpha channel dropped",))
    pixels, arguments, _ = to_layer(image)
    known = layers.facts(layer(pixels, rgb=True, metadata=arguments["metadata"]))
    assert known.image().notes == known.notes == image.notes
    assert layers.facts(layer(GREY, metadata={"notes": "of another reader"})).notes == ()


def test_of_a_pyramid_the_full_resolution_is_read():
    known = layers.facts(layer([GREY, GREY[::2, ::2]], multiscale=True))
    assert known.shape_px == GREY.shape
    assert np.array_equal(known.image().pixels[..., 0], GREY)


def test_a_crop_is_the_middle_of_what_is_in_view():
    image = layers.facts(layer(GREY)).image()
    part, corner = layers.cropped(image, np.array([[2, 3], [17, 28]]), 10)
    # rows 2 to 17 are 16, of which the middle 10 begin at 5; columns 3 to 28 are 26, of which they begin at 11
    assert corner == (5, 11)
    assert np.array_equal(part.pixels[..., 0], GREY[5:15, 11:21])


def test_a_view_beside_the_image_crops_the_image_itself():
    image = layers.facts(layer(GREY)).image()
    part, corner = layers.cropped(image, np.array([[50, 50], [60, 60]]), 10)
    assert part.pixels.shape == (10, 10, 1)
    assert corner == (5, 10)


def test_a_coarser_layer_covers_the_image_it_lies_on():
    here = layer(GREY, scale=(0.5, 0.5), units=("um", "um"), translate=(10.0, 20.0))
    placed = layers.placed_like(here, step_px=(4, 4))
    # the first pixel of four reaches from -0.5 to 3.5 px: its middle lies at 1.5 px, 0.75 um from the image's own
    assert placed["scale"] == (2.0, 2.0)
    assert placed["translate"] == (10.75, 20.75)


def test_equal_pixels_have_one_fingerprint_and_others_another():
    one, same = layers.facts(layer(GREY)).image(), layers.facts(layer(GREY.copy())).image()
    other = layers.facts(layer(GREY[::-1])).image()
    assert layers.fingerprint(one) == layers.fingerprint(same) != layers.fingerprint(other)
