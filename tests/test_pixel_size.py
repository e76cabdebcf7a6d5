"""Each dialect in which a file states its pixel size, written here with a known truth."""

import struct

import numpy as np
import pytest
import tifffile
from zoo import GREY, RGB, pil, tiff

from micro import formats
from micro.errors import BadSetting
from micro.formats.pixel_size import UNKNOWN, given, of_print_resolution, square, um_per


def size(data):
    image = formats.decode(data, "image.tif")
    assert (image.pixel_size_um is None) == (image.pixel_size_source is None)
    return image.pixel_size_um, image.pixel_size_source


def notes(data):
    return " ".join(formats.decode(data, "image.tif").notes)


def ome(x, x_unit="µm", y=None, y_unit=None, **options):
    metadata = {"axes": "YX", "PhysicalSizeX": x, "PhysicalSizeXUnit": x_unit}
    if y is not None:
        metadata |= {"PhysicalSizeY": y, "PhysicalSizeYUnit": y_unit or x_unit}
    return tiff(GREY, ome=True, metadata=metadata, **options)


def imagej(unit, per_unit, **options):
    return tiff(GREY, imagej=True, resolution=(per_unit, per_unit), metadata={"unit": unit}, **options)


def tagged(code, text, **options):
    """A TIFF with one private text tag, as SEM software writes it."""
    return tiff(GREY, extratags=[(code, 2, 0, text.encode("latin1"), True)], metadata=None, **options)


@pytest.mark.parametrize(
    ("text", "um", "source"),
    [
        ("222px=50um", 50 / 222, "scale bar, 222 px = 50 um"),
        ("100 px = 0.2 mm", 2.0, "scale bar, 100 px = 0.2 mm"),
        ("250px=500nm", 0.002, "scale bar, 250 px = 500 nm"),
        ("120.5px=10\N{MICRO SIGN}m", 10 / 120.5, "scale bar, 120.5 px = 10 \N{MICRO SIGN}m"),
    ],
)
def test_the_length_of_a_scale_bar_gives_the_pixel_size(text, um, source):
    found = given(None, text)
    assert (found.um, found.source) == (pytest.approx(um), source)


def test_a_pixel_size_is_given_once_or_not_at_all():
    assert given(None, None) == UNKNOWN
    assert (given(0.5, None).um, given(0.5, None).source) == (0.5, "given by the user")
    with pytest.raises(BadSetting, match="Pass one of them"):
        given(0.5, "2px=1um")


@pytest.mark.parametrize("text", ["", "50um", "222=50um", "222px=50", "0px=50um", "222px=0um", "2..2px=5um", "9px=5px"])
def test_what_is_no_scale_bar_is_refused_with_an_example(text):
    with pytest.raises(BadSetting, match="222px=50um"):
        given(None, text)


@pytest.mark.parametrize(
    ("value", "unit", "um"),
    [
        (0.25, "µm", 0.25),
        (12.5, "nm", 0.0125),
        (0.002, "mm", 2.0),
        (850.0, "pm", 0.00085),
        (3.0, "Å", 3e-4),
        (2e-6, "m", 2.0),
    ],
)
def test_ome_units_are_converted(value, unit, um):
    assert size(ome(value, unit, value)) == (pytest.approx(um, rel=1e-9), "OME-XML")


def test_ome_with_only_the_width_of_a_pixel_is_taken_as_square():
    assert size(ome(0.5)) == (0.5, "OME-XML")
    assert size(ome(500.0, "nm")) == (pytest.approx(0.5), "OME-XML")


def test_ome_sizes_in_two_units_are_compared_in_one():
    assert size(ome(500.0, "nm", 0.5, "µm")) == (pytest.approx(0.5), "OME-XML")


def test_ome_size_in_pixels_is_no_size():
    assert size(ome(1.0, "pixel", 1.0)) == (None, None)


def test_ome_wins_over_the_resolution_tags():
    assert size(ome(0.25, y=0.25, resolution=(20000, 20000), resolutionunit="CENTIMETER"))[0] == 0.25


@pytest.mark.parametrize("x", [0.0, -0.5, float("inf")])
def test_an_impossible_ome_size_is_not_used_and_said(x):
    data = ome(x, y=x)
    assert size(data) == (None, None)
    assert "impossible" in notes(data)


def test_pixels_that_are_not_square_have_no_size_and_say_so():
    data = ome(0.25, y=0.30)
    assert size(data) == (None, None)
    assert "0.25 x 0.3 um" in notes(data)


def test_pixels_square_but_for_rounding_have_a_size():
    assert size(ome(0.2500, y=0.2501))[0] == 0.25


@pytest.mark.parametrize(
    ("unit", "per_unit", "um"),
    [
        ("micron", 4.0, 0.25),
        ("um", 8.0, 0.125),
        ("\\u00B5m", 2.0, 0.5),
        ("nm", 0.603, 1 / 603),
        ("nanometers", 0.603, 1 / 603),
        ("micrometers", 4.0, 0.25),
        ("millimetres", 500.0, 2.0),
        ("mm", 500.0, 2.0),
        ("cm", 20000.0, 0.5),
        ("inch", 25400.0, 1.0),
    ],
)
def test_imagej_units_are_converted(unit, per_unit, um):
    assert size(imagej(unit, per_unit))[0] == pytest.approx(um, rel=1e-5)


def test_imagej_size_says_that_it_comes_from_imagej():
    assert size(imagej("nm", 0.603))[1] == "ImageJ"


def test_imagej_with_the_default_resolution_is_not_calibrated_and_says_so():
    data = tiff(GREY, imagej=True, metadata={"unit": "um"})
    assert size(data) == (None, None)
    assert "(1, 1)" in notes(data)


def test_imagej_that_writes_one_pixel_a_micrometre_in_its_own_way_is_calibrated():
    # tifffile shortens the fraction that ImageJ writes, so it is put in by hand
    data = imagej("micron", 1.5).replace(struct.pack("<II", 3, 2), struct.pack("<II", 10**6, 10**6))
    assert size(data) == (1.0, "ImageJ")


@pytest.mark.parametrize("unit", ["pixel", "furlong", ""])
def test_imagej_without_a_unit_of_length_is_not_calibrated(unit):
    assert size(imagej(unit, 4.0)) == (None, None)


def test_imagej_in_inches_or_centimetres_at_a_print_resolution_is_not_calibrated():
    assert size(imagej("inch", 72.0, resolutionunit="INCH")) == (None, None)
    assert size(imagej("cm", 1200 / 2.54)) == (None, None)


FEI = "[User]\r\nUser=supervisor\r\n[Scan]\r\nPixelWidth={0}\r\nPixelHeight={1}\r\nDwelltime=1e-6\r\n"


@pytest.mark.parametrize("code", [34680, 34682])
def test_fei_states_the_pixel_in_metres(code):
    assert size(tagged(code, FEI.format("3.37273e-009", "3.37273e-009"))) == (pytest.approx(0.00337273), "FEI tag")
    assert size(tagged(code, FEI.format("3,37273e-009", "3,37273e-009"))) == (pytest.approx(0.00337273), "FEI tag")
    for section in ("[EScan]", "[IScan]"):
        text = FEI.format("1e-8", "1e-8").replace("[Scan]", section)
        assert size(tagged(code, text)) == (pytest.approx(0.01), "FEI tag")


def test_fei_wins_over_a_resolution_tag_left_by_the_software():
    data = tagged(34682, FEI.format("1e-8", "1e-8"), resolution=(20000, 20000), resolutionunit="CENTIMETER")
    assert size(data) == (pytest.approx(0.01), "FEI tag")


def test_fei_pixels_of_a_tilted_stage_are_not_square():
    assert size(tagged(34682, FEI.format("1e-8", "1.4e-8"))) == (None, None)


def test_fei_xml_states_the_pixel_with_its_unit():
    xml = "<Metadata><PixelWidth unit='nm'>12.5</PixelWidth><PixelHeight unit='nm'>12.5</PixelHeight></Metadata>"
    assert size(tagged(34683, xml)) == (pytest.approx(0.0125), "FEI tag")
    assert size(tagged(34683, xml.replace(" unit='nm'>12.5", ">1.25e-8"))) == (pytest.approx(0.0125), "FEI tag")
    assert size(tagged(34683, xml.replace("12.5</PixelHeight", "17.5</PixelHeight"))) == (None, None)


ZEISS = "\r\n0\r\nAP_PIXEL_SIZE\r\nPixel Size = 999.0 nm\r\nAP_IMAGE_PIXEL_SIZE\r\nImage Pixel Size = {0}\r\n"


@pytest.mark.parametrize(
    ("text", "um"),
    [("26.05 nm", 0.02605), ("450.2 pm", 0.0004502), ("500,0 nm", 0.5), ("1.116 µm", 1.116), ("2 mm", 2000)],
)
def test_zeiss_states_the_pixel_of_the_image_and_not_of_the_scan(text, um):
    assert size(tagged(34118, ZEISS.format(text))) == (pytest.approx(um), "Zeiss tag")


def test_zeiss_without_the_pixel_of_the_image_is_not_calibrated():
    assert size(tagged(34118, ZEISS.partition("AP_IMAGE")[0].format())) == (None, None)


def sis(x, y, exponent):
    """An Olympus SIS structure, whose offsets count from the start of the file, at the very end of a TIFF."""
    plain = tiff(GREY, extratags=[(33560, 4, 1, 0xABCDEF, True)], metadata=None)
    start = len(plain)
    head = struct.pack("<4s6xhhhhh6x32sH", b"SIS0", 0, 12, 1, 1, 120, b"image", 1)
    head += struct.pack("<hhI", 1, 1, start + len(head) + 8)
    body = struct.pack("<10xhdd8xd2x34s32s", exponent, x, y, 50.0, b"camera", b"type")
    return plain.replace(struct.pack("<I", 0xABCDEF), struct.pack("<I", start)) + head + body + bytes(200)


def test_olympus_states_the_pixel_with_a_power_of_ten():
    assert size(sis(137.5, 137.5, -9)) == (pytest.approx(0.1375), "Olympus SIS tag")


def test_olympus_pixels_may_not_be_square():
    assert size(sis(137.5, 150.0, -9)) == (None, None)


def micromanager(um):
    """A TIFF as Micro-Manager writes it: resolution tags of 1 um a pixel, and the truth in a JSON tag."""
    text = f'{{"PixelSizeUm": {um}, "Camera": "Flea3"}}'
    return tagged(51123, text, resolution=(10000, 10000), resolutionunit="CENTIMETER")


def test_micromanager_states_the_pixel_in_its_own_tag():
    assert size(micromanager(0.1858)) == (0.1858, "Micro-Manager")


def test_micromanager_without_calibration_does_not_mean_its_resolution_tags():
    assert size(micromanager(0.0)) == (None, None)


@pytest.mark.parametrize(
    ("per_unit", "unit", "um"), [(20000, "CENTIMETER", 0.5), (101600, "INCH", 0.25), (700, "CENTIMETER", 1e4 / 700)]
)
def test_an_honest_resolution_tag_is_a_pixel_size(per_unit, unit, um):
    assert size(tiff(GREY, resolution=(per_unit, per_unit), resolutionunit=unit)) == (
        pytest.approx(um),
        "TIFF resolution",
    )


@pytest.mark.parametrize("dpi", [1, 72, 96, 150, 200, 300, 600, 750, 1200, 2400, 4800, 9600])
@pytest.mark.parametrize(("unit", "inches"), [("INCH", 1.0), ("CENTIMETER", 2.54)])
def test_a_print_resolution_is_no_pixel_size_in_any_unit(dpi, unit, inches):
    assert size(tiff(GREY, resolution=(dpi / inches, dpi / inches), resolutionunit=unit)) == (None, None)


@pytest.mark.parametrize("unit", ["NONE", "INCH", "CENTIMETER"])
def test_a_resolution_of_one_is_no_pixel_size(unit):
    assert size(tiff(GREY, resolution=(1, 1), resolutionunit=unit)) == (None, None)


def test_a_resolution_without_a_unit_is_no_pixel_size():
    assert size(tiff(GREY, resolution=(20000, 20000), resolutionunit="NONE")) == (None, None)


def test_a_coarse_resolution_is_not_used_and_said():
    data = tiff(GREY, resolution=(123.4, 123.4), resolutionunit="CENTIMETER")
    assert size(data) == (None, None)
    assert "most likely on paper" in notes(data)


def test_a_resolution_of_zero_is_no_pixel_size():
    assert size(tiff(GREY, resolution=((0, 1), (0, 1)), resolutionunit="CENTIMETER")) == (None, None)


@pytest.mark.parametrize("dpi", [72, 96, 150, 300, 1200, 3700, 4800, 5760])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP"])
def test_the_print_resolution_of_a_picture_is_no_pixel_size(kind, dpi):
    assert size(pil(RGB, kind, dpi=(dpi, dpi))) == (None, None)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP"])
@pytest.mark.parametrize("um", [0.5, 4.0])
def test_a_resolution_of_a_picture_that_no_printer_has_is_a_pixel_size(kind, um):
    dpi = round(25_400 / um)
    assert size(pil(RGB, kind, dpi=(dpi, dpi))) == (pytest.approx(um, rel=1e-4), f"{kind} resolution")


def test_a_jpeg_may_count_its_pixels_a_centimetre():
    data = bytearray(pil(RGB, "JPEG", dpi=(20_000, 20_000)))
    data[13] = 2  # the unit in its JFIF segment
    assert size(bytes(data)) == (pytest.approx(0.5), "JPEG resolution")


def test_a_resolution_along_one_axis_only_is_no_pixel_size():
    assert of_print_resolution(2e6, 0, "file") == of_print_resolution(0, 2e6, "file") == UNKNOWN
    assert "0.5 x 0.25 um, which are not square" in of_print_resolution(2e6, 4e6, "file").notes[0]


def test_pixels_that_are_square_but_for_rounding_have_one_size():
    assert square(1.0, 1.004, "file").um == 1.0
    assert square(1.006, 1.0, "file").um is square(1.0, 1.006, "file").um is None


def test_a_jpeg_density_of_all_ones_is_no_pixel_size():
    assert size(pil(RGB, "JPEG", dpi=(65535, 65535))) == (None, None)


def test_a_plain_file_has_no_pixel_size_and_no_note():
    assert size(tiff(GREY)) == (None, None)
    assert notes(tiff(GREY)) == ""
    assert size(pil(RGB, "WEBP")) == (None, None)


def test_a_broken_statement_is_passed_over_for_the_next():
    data = tagged(34682, FEI.format("wide", "high"), resolution=(20000, 20000), resolutionunit="CENTIMETER")
    assert size(data) == (pytest.approx(0.5), "TIFF resolution")


@pytest.mark.parametrize("unit", ["µm", "μm", "um", "micron", "Micron", "microns", "\\u00B5m", " um "])
def test_a_micrometre_is_known_however_it_is_spelled(unit):
    assert um_per(unit) == 1.0


@pytest.mark.parametrize(
    ("unit", "um"),
    [("nanometre", 1e-3), ("Millimeters", 1e3), ("centimetre", 1e4), ("metres", 1e6), ("inches", 25400), ("in", 25400)],
)
def test_a_length_is_known_by_its_whole_name(unit, um):
    assert um_per(unit) == um


def test_an_angstrom_is_known_by_its_sign_and_its_letter():
    assert um_per("\N{ANGSTROM SIGN}") == um_per("\N{LATIN CAPITAL LETTER A WITH RING ABOVE}") == 1e-4


@pytest.mark.parametrize("unit", ["", "pixel", "px", "reference frame", "dpi"])
def test_what_is_no_length_has_no_micrometres(unit):
    assert um_per(unit) is None


@pytest.mark.data
def test_a_real_micromanager_image_has_the_size_of_its_metadata_and_not_of_its_resolution(data):
    image = formats.read(data / "flakes/monark_flea_graphene/images/chip_5_MD_NDTiffStack.tif")
    assert (image.pixel_size_um, image.pixel_size_source) == (0.1858, "Micro-Manager")


@pytest.mark.data
def test_real_images_without_calibration_get_no_pixel_size(data):
    for path in sorted((data / "grains/pure-iron-serial/images").iterdir()):
        assert formats.read(path).pixel_size_um is None
    for path in sorted((data / "flakes/graphene_100x/images").glob("3-*.jpg")):
        assert formats.read(path).pixel_size_um is None


def test_the_largest_level_of_a_pyramid_has_the_size_of_the_file(tmp_path):
    path = tmp_path / "pyramid.ome.tif"
    large = np.tile(GREY, (8, 8))
    with tifffile.TiffWriter(path) as writer:
        metadata = {"axes": "YX", "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25}
        writer.write(large, subifds=1, tile=(64, 64), metadata=metadata)
        writer.write(large[::2, ::2], subfiletype=1, tile=(64, 64))
    image = formats.read(path)
    assert (image.height_px, image.pixel_size_um) == (large.shape[0], 0.25)
    assert "pyramid" in image.notes[0]


@pytest.mark.parametrize("ome", [False, True])
def test_a_thumbnail_before_the_image_does_not_lend_it_its_pixel_size(tmp_path, ome):
    path = tmp_path / "thumbnail.tif"
    with tifffile.TiffWriter(path, ome=ome) as writer:
        for step, um in ((4, 2.0), (1, 0.5)):
            stated = {"PhysicalSizeX": um, "PhysicalSizeY": um} if ome else None
            per_cm = (1e4 / um, 1e4 / um)
            writer.write(GREY[::step, ::step], resolution=per_cm, resolutionunit="CENTIMETER", metadata=stated)
    image = formats.read(path)
    assert (image.height_px, image.pixel_size_um) == (GREY.shape[0], pytest.approx(0.5))
