import numpy as np
import pytest

from micro.errors import UnknownPixelSize, UnreadableImage
from micro.micrograph import Micrograph


def test_a_grey_plane_gets_a_channel_axis():
    image = Micrograph(np.zeros((4, 6), np.uint8))
    assert image.pixels.shape == (4, 6, 1)
    assert (image.height_px, image.width_px, image.channels) == (4, 6, 1)


def test_pixels_cannot_be_written_through_a_micrograph():
    image = Micrograph(np.zeros((4, 6), np.uint8))
    with pytest.raises(ValueError, match="read-only"):
        image.pixels[0, 0] = 1


@pytest.mark.parametrize("shape", [(4,), (4, 6, 2), (4, 6, 4), (2, 4, 6, 3), (0, 6), (4, 0, 3)])
def test_what_is_not_one_plane_of_grey_or_rgb_is_refused(shape):
    with pytest.raises(UnreadableImage):
        Micrograph(np.zeros(shape, np.uint8))


def test_a_list_of_the_wrong_shape_is_refused_as_an_array_is():
    with pytest.raises(UnreadableImage, match=r"this one is \(1,\)"):
        Micrograph([1])


@pytest.mark.parametrize("dtype", [np.int16, np.float64, np.bool_, np.complex64])
def test_other_pixel_types_are_refused(dtype):
    with pytest.raises(UnreadableImage, match="uint8, uint16 or float32"):
        Micrograph(np.zeros((4, 6), dtype))


@pytest.mark.parametrize("dtype", [">u2", ">f4"])
def test_an_array_of_the_other_byte_order_is_taken(dtype):
    image = Micrograph(np.arange(24).reshape(4, 6).astype(dtype))
    assert image.pixels.dtype in (np.uint16, np.float32)
    assert image.pixels[..., 0].tolist() == np.arange(24).reshape(4, 6).tolist()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_single_pixel_that_is_no_number_is_refused(value):
    pixels = np.zeros((4, 6), np.float32)
    pixels[2, 3] = value
    with pytest.raises(UnreadableImage, match="NaN or infinite"):
        Micrograph(pixels)


@pytest.mark.parametrize("mark", [-3.4028235e38, 9.96921e36, 1e20])
def test_numbers_that_mark_what_was_not_measured_are_refused(mark):
    pixels = np.full((4, 5), 0.5, np.float32)
    pixels[0, 0] = mark
    with pytest.raises(UnreadableImage, match="nothing was measured"):
        Micrograph(pixels)
    pixels[0, 0] = -32768
    assert Micrograph(pixels).height_px == 4


def test_masked_pixels_are_refused_and_a_mask_that_hides_none_is_not():
    pixels = np.ma.masked_greater(np.arange(6, dtype=np.uint8).reshape(2, 3), 4)
    with pytest.raises(UnreadableImage, match="pixels are masked"):
        Micrograph(pixels)
    assert Micrograph(np.ma.masked_greater(pixels.data, 9)).pixels.sum() == 15


@pytest.mark.parametrize("size", [0.0, -1.0, np.nan, np.inf])
def test_an_impossible_pixel_size_is_refused(size):
    with pytest.raises(UnknownPixelSize):
        Micrograph(np.zeros((4, 6), np.uint8), pixel_size_um=size)


def test_an_unknown_pixel_size_names_three_ways_to_give_one():
    with pytest.raises(UnknownPixelSize) as fault:
        Micrograph(np.zeros((4, 6), np.uint8), "steel.tif").known_pixel_size_um()
    for way in ("steel.tif", "--pixel-size-um", "--scale-bar 222px=50um", "OME-TIFF", "napari"):
        assert way in str(fault.value)
