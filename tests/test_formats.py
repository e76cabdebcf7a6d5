import hashlib
import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from zoo import GREY, RGB, make_zoo, pil, tiff

from micro import formats
from micro.errors import UnreadableImage
from micro.micrograph import Micrograph


def read(data):
    return formats.decode(data, "image")


def grey(data):
    image = read(data)
    assert image.channels == 1
    return image.pixels[..., 0]


SIXTEEN = GREY.astype(np.uint16) * 257
ALPHA = np.dstack([RGB, np.full_like(GREY, 200)])


@pytest.mark.parametrize(
    "data",
    [
        pil(GREY, "PNG"),
        pil(GREY, "BMP"),
        pil(GREY, "TIFF"),
        pil(GREY, "TIFF", compression="tiff_lzw"),
        pil(Image.fromarray(np.dstack([GREY, GREY]), "LA"), "PNG"),
        tiff(GREY),
        tiff(GREY, compression="zlib", tile=(16, 16)),
        tiff(GREY, bigtiff=True),
        tiff(GREY, ome=True),
        tiff(GREY, imagej=True),
        tiff(GREY, byteorder=">"),
        tiff(GREY[np.newaxis, np.newaxis], ome=True, metadata={"axes": "ZTYX"}),
        tiff(255 - GREY, photometric="miniswhite"),
        tiff(np.dstack([GREY, GREY]), photometric="minisblack", planarconfig="contig", extrasamples=["unassalpha"]),
    ],
)
def test_a_grey_image_is_read_value_by_value(data):
    assert np.array_equal(grey(data), GREY)


@pytest.mark.parametrize(
    "data",
    [
        pil(RGB, "PNG"),
        pil(RGB, "BMP"),
        pil(RGB, "TIFF"),
        pil(RGB, "WEBP", lossless=True),
        pil(ALPHA, "PNG"),
        pil(ALPHA, "TIFF"),
        tiff(RGB, photometric="rgb"),
        tiff(ALPHA, photometric="rgb", extrasamples=["unassalpha"]),
        tiff(np.moveaxis(RGB, -1, 0), photometric="rgb", planarconfig="separate"),
        tiff(np.moveaxis(ALPHA, -1, 0), photometric="rgb", planarconfig="separate", extrasamples=["unassalpha"]),
        tiff(np.moveaxis(RGB, -1, 0), photometric="minisblack", ome=True, metadata={"axes": "CYX"}),
        tiff(np.moveaxis(RGB, -1, 0), imagej=True, metadata={"axes": "CYX"}),
        tiff(RGB, photometric="rgb", ome=True),
        tiff(RGB, photometric="rgb", imagej=True),
    ],
)
def test_a_colour_image_is_read_as_red_green_and_blue(data):
    assert np.array_equal(read(data).pixels, RGB)


def test_a_tiff_of_one_plane_may_have_any_number_of_axes_of_length_one():
    pixels = np.arange(600, dtype=np.uint16).reshape(20, 30)
    file = io.BytesIO()
    tifffile.imwrite(file, pixels[np.newaxis, :, :, np.newaxis])
    assert np.array_equal(formats.decode(file.getvalue(), "a.tif").pixels[..., 0], pixels)


@pytest.mark.parametrize("data", [pil(ALPHA, "PNG"), tiff(ALPHA, photometric="rgb", extrasamples=["unassalpha"])])
def test_a_dropped_alpha_channel_is_noted(data):
    assert read(data).notes == ("alpha channel dropped",)


def test_three_named_channels_taken_as_colours_are_noted():
    data = tiff(np.moveaxis(RGB, -1, 0), photometric="minisblack", ome=True, metadata={"axes": "CYX"})
    assert read(data).notes == ("three channels read as red, green, blue",)


@pytest.mark.parametrize("data", [tiff(SIXTEEN), pil(SIXTEEN, "PNG"), tiff(SIXTEEN, byteorder=">", compression="zlib")])
def test_sixteen_bits_are_kept(data):
    assert grey(data).dtype == np.uint16
    assert np.array_equal(grey(data), SIXTEEN)


def test_twelve_bits_in_sixteen_are_not_stretched():
    twelve = GREY.astype(np.uint16) * 16
    assert np.array_equal(grey(tiff(twelve)), twelve)
    assert np.array_equal(grey(pil(twelve, "PNG")), twelve)


def test_sixteen_bit_colours_are_kept():
    colours = RGB.astype(np.uint16) * 200
    assert np.array_equal(read(tiff(colours, photometric="rgb")).pixels, colours)


@pytest.mark.parametrize("kind", [np.int16, np.int32, np.uint32, np.float64, np.float16, np.int8])
def test_other_numbers_become_float32_with_a_note(kind):
    values = (GREY // 2).astype(kind)
    image = read(tiff(values))
    assert image.pixels.dtype == np.float32
    assert np.array_equal(image.pixels[..., 0], values.astype(np.float32))
    assert image.notes == (f"{np.dtype(kind)} values read as float32",)


def test_negative_numbers_stay_negative():
    assert grey(tiff(GREY.astype(np.int16) - 100)).min() == float(GREY.min()) - 100


@pytest.mark.parametrize("values", [GREY.astype(np.int64) + 2**40, GREY.astype(np.float64) + 1e12, GREY * 1e300])
def test_numbers_that_float32_would_blur_are_refused(values):
    with pytest.raises(UnreadableImage, match="do not fit"):
        read(tiff(values))


def test_an_even_image_of_large_numbers_is_read():
    assert (grey(tiff(np.full((4, 5), 2.5e9))) == 2.5e9).all()


def test_true_is_white_in_a_boolean_tiff():
    assert np.array_equal(grey(tiff(GREY > 99)), np.where(GREY > 99, 255, 0))


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_white_is_255_in_a_one_bit_image(kind):
    assert np.array_equal(grey(pil(GREY > 99, kind)), np.where(GREY > 99, 255, 0))


def test_a_one_bit_tiff_whose_one_is_black_is_inverted():
    plain = tiff(GREY > 99, photometric="minisblack", software="scanner", metadata=None)
    inverted = tiff(GREY > 99, photometric="miniswhite", software="scanner", metadata=None)
    assert np.array_equal(grey(inverted), 255 - grey(plain))


def test_sixteen_bit_white_is_zero_is_inverted():
    assert np.array_equal(grey(tiff(65535 - SIXTEEN, photometric="miniswhite")), SIXTEEN)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF"])
def test_a_palette_image_is_read_in_its_colours(kind):
    paletted = Image.fromarray(RGB).quantize(64)
    assert np.array_equal(read(pil(paletted, kind)).pixels, np.asarray(paletted.convert("RGB")))


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_a_palette_of_greys_is_a_grey_image(kind):
    paletted = Image.fromarray(GREY, "P")
    paletted.putpalette([255 - value for value in range(256) for _ in range(3)])
    assert np.array_equal(grey(pil(paletted, kind)), 255 - GREY)


def test_a_tiff_palette_of_16_bit_is_read_in_8():
    table = np.random.default_rng(1).integers(0, 65536, (3, 256), dtype=np.uint16)
    found = read(tiff(GREY, photometric="palette", colormap=table)).pixels
    assert np.array_equal(found, np.moveaxis(table[:, GREY] >> 8, 0, -1))


def test_a_jpeg_is_as_pillow_decodes_it_up_to_rounding():
    data = pil(RGB, "JPEG", quality=95, subsampling=0)
    assert np.abs(read(data).pixels.astype(int) - np.asarray(Image.open(io.BytesIO(data)))).max() <= 3


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_picture_is_turned_upright_as_its_exif_says(kind, orientation):
    from PIL import ImageOps

    exif = Image.Exif()
    exif[274] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    data = pil(RGB, kind, exif=exif.tobytes(), **options)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data)))).astype(int)
    assert read(data).pixels.shape == upright.shape
    assert np.abs(read(data).pixels - upright).mean() < 2


def test_the_orientation_tag_of_a_tiff_is_noted_and_not_applied():
    image = read(tiff(GREY, extratags=[(274, 3, 1, 6, True)]))
    assert np.array_equal(image.pixels[..., 0], GREY)
    assert "orientation" in image.notes[0]


def test_the_suffix_does_not_matter(tmp_path):
    path = tmp_path / "really a png.tif"
    path.write_bytes(pil(GREY, "PNG"))
    assert np.array_equal(formats.read(path).pixels[..., 0], GREY)


def test_a_thumbnail_beside_the_image_is_left_aside():
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as writer:
        writer.write(GREY[::4, ::4])
        writer.write(GREY)
    image = read(stream.getvalue())
    assert np.array_equal(image.pixels[..., 0], GREY)
    assert "thumbnail" in image.notes[0]


def test_read_and_decode_give_the_same_image_for_the_whole_zoo(tmp_path):
    for name in (name for name, kind in make_zoo(tmp_path).items() if kind == "ok"):
        path = tmp_path / name
        one, other = formats.read(path), formats.decode(path.read_bytes(), name)
        assert np.array_equal(one.pixels, other.pixels)
        assert (one.name, one.pixel_size_um, one.notes) == (name, other.pixel_size_um, other.notes)


def test_an_image_can_be_given_another_name(tmp_path):
    (tmp_path / "a.png").write_bytes(pil(GREY, "PNG"))
    assert formats.read(tmp_path / "a.png", name="monday/a.png").name == "monday/a.png"
    assert formats.read(str(tmp_path / "a.png")).name == "a.png"


@pytest.mark.parametrize(
    "name", ["a.tif", "A.TIFF", "b.ome.tif", "c.png", "d.JPG", "e.jpeg", "f.bmp", "g.webp", "h.gif"]
)
def test_a_folder_scan_takes(name):
    assert formats.is_image_name(Path("folder") / name)


@pytest.mark.parametrize(
    "name", ["notes.txt", "tif", "a.tif.part", "._a.tif", ".hidden.png", "a.czi", "", "folder.png/a"]
)
def test_a_folder_scan_passes_over(name):
    assert not formats.is_image_name(name)


# labels

LABELS = (np.arange(48 * 64).reshape(48, 64) * 7919).astype(np.int32)


@pytest.mark.parametrize("shape", [(1, 1), (48, 64), (1, 300), (2100, 70)])
def test_written_labels_are_read_back_exactly(tmp_path, shape):
    labels = (np.arange(shape[0] * shape[1]).reshape(shape) * 7919 % 2**31).astype(np.int32)
    formats.write_labels(tmp_path / "labels.tif", labels)
    found = formats.read_labels(tmp_path / "labels.tif")
    assert found.dtype == np.int32
    assert np.array_equal(found, labels)


# 5e-7 is what a pixel of half a micrometre has where metres are taken for micrometres
@pytest.mark.parametrize("um", [1e-300, 5e-7, 0.000123456, 0.1, 1 / 3, 0.25, 1.0, 12.345678, 254.0, 1e30])
def test_written_labels_keep_their_pixel_size(tmp_path, um):
    formats.write_labels(tmp_path / "labels.tif", LABELS, um)
    image = formats.read(tmp_path / "labels.tif")
    assert image.pixel_size_um == pytest.approx(um, rel=1e-9)
    assert image.pixel_size_source == "OME-XML"
    found = formats.read_label_file(tmp_path / "labels.tif")
    assert (found.size.um, found.size.source) == (pytest.approx(um, rel=1e-9), "OME-XML")
    assert found.sha256 == hashlib.sha256((tmp_path / "labels.tif").read_bytes()).hexdigest()


@pytest.mark.parametrize("um", [0.000123456, 0.1, 1 / 3, 1.0])
def test_the_resolution_tags_of_labels_say_the_same(tmp_path, um):
    formats.write_labels(tmp_path / "labels.tif", LABELS, um)
    with tifffile.TiffFile(tmp_path / "labels.tif") as tif:
        per_cm, unit = tif.pages.first.tags["XResolution"].value, tif.pages.first.tags["ResolutionUnit"].value
    assert unit == 3
    assert 1e4 * per_cm[1] / per_cm[0] == pytest.approx(um, rel=1e-6)


def test_labels_without_a_pixel_size_claim_none(tmp_path):
    formats.write_labels(tmp_path / "labels.tif", LABELS)
    assert formats.read(tmp_path / "labels.tif").pixel_size_um is None


def test_labels_may_have_the_longest_name_that_a_disk_allows(tmp_path):
    path = tmp_path / ("n" * 251 + ".tif")
    formats.write_labels(path, LABELS)
    assert np.array_equal(formats.read_labels(path), LABELS)


def test_labels_appear_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "labels.tif"
    formats.write_labels(path, LABELS)

    def fail(_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        formats.write_labels(path, LABELS * 0)
    assert np.array_equal(formats.read_labels(path), LABELS)
    assert os.listdir(tmp_path) == ["labels.tif"]  # noqa: PTH208  (says what is there, hidden or not)


@pytest.mark.parametrize("labels", [LABELS.astype(np.int64), LABELS[np.newaxis], LABELS.astype(np.float32)])
def test_only_int32_planes_are_written_as_labels(tmp_path, labels):
    with pytest.raises(ValueError, match="int32"):
        formats.write_labels(tmp_path / "labels.tif", labels)


def masks():
    index = (LABELS % 251).astype(np.uint8)
    paletted = Image.fromarray(index, "P")
    paletted.putpalette(list(np.random.default_rng(3).integers(0, 256, 768)))
    return {
        "8 bit.png": (pil(index, "PNG"), index),
        "16 bit.png": (pil((LABELS % 65521).astype(np.uint16), "PNG"), LABELS % 65521),
        "palette.png": (pil(paletted, "PNG"), index),
        "palette.tif": (pil(paletted, "TIFF"), index),
        "one bit.png": (pil(index > 99, "PNG"), index > 99),
        "one bit.tif": (tiff(index > 99), index > 99),
        "one is black.tif": (
            tiff(index > 99, photometric="miniswhite", software="scanner", metadata=None),
            index <= 99,
        ),
        "8 bit.tif": (tiff(index), index),
        "16 bit.tif": (tiff((LABELS % 65521).astype(np.uint16)), LABELS % 65521),
        "32 bit.tif": (tiff(LABELS.astype(np.uint32)), LABELS),
        "64 bit.tif": (tiff(LABELS.astype(np.int64)), LABELS),
        "float.tif": (tiff((LABELS % 1000).astype(np.float32)), LABELS % 1000),
        "8 bit.bmp": (pil(index, "BMP"), index),
        "index and alpha.png": (pil(Image.fromarray(np.dstack([index, 255 - index]), "LA"), "PNG"), index),
    }


@pytest.mark.parametrize("name", masks())
def test_a_mask_of_indices_is_read_as_they_are_stored(tmp_path, name):
    data, labels = masks()[name]
    (tmp_path / name).write_bytes(data)
    assert np.array_equal(formats.read_labels(tmp_path / name), labels)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_a_png_of_few_bits_is_read_as_indices(tmp_path, bits):
    index = (LABELS % 2**bits).astype(np.uint8)
    paletted = Image.fromarray(index, "P")
    paletted.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255] * 4)
    (tmp_path / "mask.png").write_bytes(pil(paletted, "PNG", bits=bits))
    assert np.array_equal(formats.read_labels(tmp_path / "mask.png"), index)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
@pytest.mark.parametrize("alpha", [False, True])
def test_each_24_bit_colour_is_a_number_of_its_own(tmp_path, kind, alpha):
    numbers = LABELS.copy() % 2**24
    numbers[0, :4] = [0, 1, 255 * 256, 2**24 - 1]
    colours = np.stack([numbers >> 16, numbers >> 8 & 255, numbers & 255], axis=-1).astype(np.uint8)
    if alpha:
        colours = np.dstack([colours, np.full(numbers.shape, 77, np.uint8)])
    path = tmp_path / f"mask.{kind.lower()}"
    path.write_bytes(pil(colours, kind))
    assert np.array_equal(formats.read_labels(path), numbers)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("scores.tif", tiff(np.full((4, 4), 0.5, np.float32))),
        ("negative.tif", tiff(np.full((4, 4), -1, np.int32))),
        ("huge.tif", tiff(np.full((4, 4), 2**31, np.uint32))),
        ("complex.tif", tiff(np.full((4, 4), 1j, np.complex64))),
        ("nan.tif", tiff(np.full((4, 4), np.nan, np.float32))),
        ("lossy.jpg", pil(GREY, "JPEG")),
        ("deep.tif", tiff(RGB.astype(np.uint16), photometric="rgb")),
        ("empty.png", b""),
        ("cut.png", pil(GREY, "PNG")[:-20]),
        ("stack.tif", tiff(np.stack([GREY] * 3), photometric="minisblack")),
    ],
)
def test_what_holds_no_labels_is_refused(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UnreadableImage, match=name):
        formats.read_labels(tmp_path / name)


@pytest.mark.data
def test_the_grains_of_the_iron_sections_are_as_many_as_their_colours(data):
    path = data / "grains/pure-iron-serial/labels_rgb/001_rows0-511.png"
    colours = np.asarray(Image.open(path)).reshape(-1, 3)
    assert len(np.unique(formats.read_labels(path))) == len(np.unique(colours, axis=0))


# images


@pytest.mark.parametrize("pixels", [GREY, RGB, SIXTEEN, GREY.astype(np.float32) / 7])
def test_an_image_written_as_tiff_is_read_back_with_its_size(tmp_path, pixels):
    formats.write_image(tmp_path / "image.tif", Micrograph(pixels, pixel_size_um=0.25))
    found = formats.read(tmp_path / "image.tif")
    assert np.array_equal(found.pixels.squeeze(), pixels)
    assert (found.pixels.dtype, found.pixel_size_um, found.notes) == (pixels.dtype, 0.25, ())


@pytest.mark.parametrize("pixels", [GREY, RGB, SIXTEEN, RGB.astype(np.uint16) * 256])
def test_an_image_written_as_png_is_read_back(tmp_path, pixels):
    formats.write_image(tmp_path / "image.png", Micrograph(pixels))
    assert np.array_equal(formats.read(tmp_path / "image.png").pixels.squeeze(), pixels)


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("a.jpg", Micrograph(GREY)),
        ("a.png", Micrograph(GREY, pixel_size_um=0.25)),
        ("a.png", Micrograph(GREY.astype(np.float32))),
    ],
)
def test_an_image_is_not_written_where_something_of_it_would_be_lost(tmp_path, name, image):
    with pytest.raises(UnreadableImage, match=r"Call it a\.tif"):
        formats.write_image(tmp_path / name, image)


def test_formats_are_imported_without_torch_and_decoders_are_loaded_when_needed():
    code = "import sys, micro.formats; print(*sys.modules)"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )
    assert not loaded & {"torch", "cv2", "tifffile", "PIL"}
