"""How large a pixel is, as the file itself says, and which of its statements that was.

A file states the size of its pixels in one of many dialects, and it also states print resolutions, defaults and
leftovers that are none. Only a statement that can be nothing else counts; the rest is None, with a note where a user
would want to know why.
"""

import math
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from micro.errors import BadSetting
from micro.micrograph import GIVEN

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPageSeries

SQUARE = 0.005  # relative difference of x and y that is rounding; more is a non-square pixel

UM_PER_UNIT = {
    "pm": 1e-6,
    "å": 1e-4,
    "angstrom": 1e-4,
    "nm": 1e-3,
    "um": 1.0,
    "micron": 1.0,
    "microns": 1.0,
    "mm": 1e3,
    "cm": 1e4,
    "m": 1e6,
    "inch": 25400.0,
    "inches": 25400.0,
    "in": 25400.0,
}
UM_PER_UNIT |= {
    f"{prefix}{word}": um
    for prefix, um in (("nano", 1e-3), ("micro", 1.0), ("milli", 1e3), ("centi", 1e4), ("", 1e6))
    for word in ("meter", "meters", "metre", "metres")
}

CUSTOMARY_DPI = {72, 75, 90, 96, 100, 120, 144, 180, 200, 240, 250, 350, 360, 400, 720, 1000, 1440, 2000, 2880, 5760}
PRINTED_TIFF_UM = 42.0
"""A TIFF resolution below 600 dpi is a wish about paper or screen; finer and no customary value, a calibration."""

PRINTED_RASTER_UM = 5.0
"""PNG, JPEG and BMP carry a print resolution. No printer or scanner sets more than 4800 dpi, 5.3 um a pixel, so only a
finer value must have been written by someone who meant the specimen."""


@dataclass(frozen=True)
class PixelSize:
    """Edge length of a square pixel and where it is stated; both None if nobody knows."""

    um: float | None = None
    source: str | None = None
    notes: tuple[str, ...] = ()


UNKNOWN = PixelSize()


def um_per(unit: str) -> float | None:
    """Return how many micrometres a unit has, however it is spelled; None for pixels and unknown units."""
    plain = unit.strip().strip("\x00").replace("\\u00B5", "u").replace("\\u00b5", "u")
    plain = plain.replace("\N{MICRO SIGN}", "u").replace("\N{GREEK SMALL LETTER MU}", "u")
    # Mm is a megametre, which no microscope writes; everything else is the same in capitals
    return UM_PER_UNIT.get(plain.lower())


def of_tiff(tif: "TiffFile", series: "TiffPageSeries") -> PixelSize:
    """Return the pixel size that a TIFF states, from the most explicit statement that it makes.

    series: the one that is read; a thumbnail beside it has pixels of another size.
    """
    statements: tuple[Callable[[], PixelSize | None], ...] = (
        lambda: _of_ome(tif, series),
        lambda: _of_imagej(tif, series),
        lambda: _of_fei(tif),
        lambda: _of_zeiss(tif),
        lambda: _of_olympus(tif),
        lambda: _of_micromanager(tif),
        lambda: _of_resolution(series),
    )
    for statement in statements:
        try:
            found = statement()
        except (ArithmeticError, LookupError, TypeError, ValueError, ElementTree.ParseError):
            found = None  # a statement that cannot be understood is none; the next may be
        if found is not None:
            return found
    return UNKNOWN


def of_print_resolution(x_per_m: float, y_per_m: float, source: str) -> PixelSize:
    """Return the pixel size that the resolution of a PNG, JPEG or BMP means, which is nearly always none."""
    if not (x_per_m > 0 and y_per_m > 0) or 1e6 / x_per_m >= PRINTED_RASTER_UM or is_customary(25400e-6 * x_per_m):
        return UNKNOWN
    return square(1e6 / x_per_m, 1e6 / y_per_m, source)


def square(x_um: float, y_um: float, source: str) -> PixelSize:
    """Return the size of a square pixel, or none and the reason."""
    for um in (x_um, y_um):
        if not (math.isfinite(um) and um > 0):
            return PixelSize(notes=(f"{source} states an impossible pixel size ({um:g} um); not used",))
    if abs(x_um - y_um) > SQUARE * max(x_um, y_um):
        return PixelSize(notes=(f"{source} states pixels of {x_um:g} x {y_um:g} um, which are not square; not used",))
    return PixelSize(x_um, source)


def given(pixel_size_um: float | None, scale_bar: str | None) -> PixelSize:
    """Return the pixel size that a user gave in one of two ways; unknown where in neither.

    Raises BadSetting where it is given in both, or is no length.
    """
    if pixel_size_um is None:
        return UNKNOWN if scale_bar is None else of_scale_bar(scale_bar)
    if scale_bar is not None:
        raise BadSetting("--pixel-size-um and --scale-bar say the same thing. Pass one of them.")
    if not 0 < pixel_size_um < math.inf:
        raise BadSetting(f"--pixel-size-um {pixel_size_um:g}: a pixel is larger than 0. Pass its edge in micrometres.")
    return PixelSize(pixel_size_um, GIVEN)


def of_scale_bar(text: str) -> PixelSize:
    """Return the pixel size that the length of a scale bar gives, written as 222px=50um; raise BadSetting otherwise.

    The length is in any unit that `um_per` knows.
    """
    found = re.fullmatch(r"\s*([0-9.]+)\s*px\s*=\s*([0-9.]+)\s*(\D+?)\s*", text)
    factor = um_per(found[3]) if found else None
    try:
        um = float(found[2]) * factor / float(found[1]) if found and factor else 0.0
    except (ValueError, ZeroDivisionError):
        um = 0.0
    if not 0 < um < math.inf:
        raise BadSetting(
            f"{text}: write the scale bar as its length in pixels and in the specimen, such as 222px=50um."
        )
    assert found
    return PixelSize(um, f"scale bar, {found[1]} px = {found[2]} {found[3]}")


def is_customary(dpi: float) -> bool:
    """Return whether a resolution is one that programs, printers and scanners write by themselves."""
    nearest = round(dpi)
    return abs(dpi - nearest) < 2e-3 * dpi and (nearest in CUSTOMARY_DPI or (nearest % 150 == 0 and nearest <= 9600))


def _of_ome(tif: "TiffFile", series: "TiffPageSeries") -> PixelSize | None:
    if not tif.ome_metadata:
        return None
    images = list(_elements(ElementTree.fromstring(tif.ome_metadata), "pixels"))
    pixels = images[tif.series.index(series)]
    if "PhysicalSizeX" not in pixels.attrib:
        return None
    sizes = []
    # the schema lets Y be absent; what writes only X (tifffile by default) means square pixels
    for axis in "XY" if "PhysicalSizeY" in pixels.attrib else "XX":
        unit = pixels.get(f"PhysicalSize{axis}Unit", "um")
        factor = um_per(unit)
        if factor is None:
            return PixelSize(notes=(f"OME-XML states the pixel size in {unit!r}, which is no length; not used",))
        sizes.append(float(pixels.attrib[f"PhysicalSize{axis}"]) * factor)
    return square(sizes[0], sizes[1], "OME-XML")


def _of_imagej(tif: "TiffFile", series: "TiffPageSeries") -> PixelSize | None:
    facts = tif.imagej_metadata
    unit = str(facts.get("unit", "")) if facts else ""
    factor = um_per(unit)
    if factor is None:
        return None
    resolution = _resolution(series)
    if resolution is None:
        return None
    if resolution.raw == ((1, 1), (1, 1)):
        # ImageJ itself writes one pixel a unit as 1000000/1000000; 1/1 is what libraries write for "unknown"
        return PixelSize(notes=(f"ImageJ unit is {unit} but the resolution is the default (1, 1); not used",))
    if factor in (UM_PER_UNIT["inch"], UM_PER_UNIT["cm"]):
        # ImageJ opens any picture with a print resolution as calibrated in inches
        return _if_not_print(factor / resolution.x, factor / resolution.y, "ImageJ")
    return square(factor / resolution.x, factor / resolution.y, "ImageJ")


def _of_fei(tif: "TiffFile") -> PixelSize | None:
    tags = tif.pages.first.tags
    for code in (34682, 34680, 34683):
        facts = tags.valueof(code)
        if isinstance(facts, Mapping):
            for section in ("Scan", "EScan", "IScan"):
                part = facts.get(section, {})
                if isinstance(part, Mapping) and "PixelWidth" in part:
                    width_m = _number(part["PixelWidth"])
                    return square(width_m * 1e6, _number(part.get("PixelHeight", width_m)) * 1e6, "FEI tag")
        elif isinstance(facts, str | bytes):
            found = _of_fei_xml(facts)
            if found is not None:
                return found
    return None


def _of_fei_xml(text: str | bytes) -> PixelSize | None:
    root = ElementTree.fromstring(text.strip("\x00 \r\n") if isinstance(text, str) else text.strip(b"\x00 \r\n"))
    sizes = []
    for wanted in ("pixelwidth", "pixelheight"):
        element = next(_elements(root, wanted), None)
        if element is None or not element.text:
            return None
        factor = um_per(element.get("unit", "m"))
        if factor is None:
            return None
        sizes.append(_number(element.text) * factor)
    return square(sizes[0], sizes[1], "FEI tag")


def _number(value: object) -> float:
    """Return what a microscope wrote, which in some languages has a comma before its decimals."""
    return float(str(value).replace(",", "."))


def _of_zeiss(tif: "TiffFile") -> PixelSize | None:
    facts = tif.sem_metadata
    # AP_PIXEL_SIZE is that of the live scan; a picture stored at another size has AP_IMAGE_PIXEL_SIZE
    entry = facts.get("ap_image_pixel_size") if facts else None
    # "500.0 nm" comes as a number and its unit, "500,0 nm" as the text that it is
    number, _, unit = " ".join(map(str, entry[1:])).partition(" ") if entry else ("", "", "")
    factor = um_per(unit)
    return None if factor is None else square(_number(number) * factor, _number(number) * factor, "Zeiss tag")


def _of_olympus(tif: "TiffFile") -> PixelSize | None:
    facts = tif.sis_metadata
    if not facts or "pixelsizex" not in facts:
        return None
    x_um, y_um = float(facts["pixelsizex"]) * 1e6, float(facts["pixelsizey"]) * 1e6
    return square(x_um, y_um, "Olympus SIS tag")


def _of_micromanager(tif: "TiffFile") -> PixelSize | None:
    facts = tif.pages.first.tags.valueof(51123)
    if not isinstance(facts, Mapping) or "PixelSizeUm" not in facts:
        return None
    um = float(facts["PixelSizeUm"])
    # 0 is its word for unknown; its resolution tags then say 1 um a pixel, as they also do where the size is known
    return UNKNOWN if um == 0 else square(um, um, "Micro-Manager")


def _of_resolution(series: "TiffPageSeries") -> PixelSize | None:
    resolution = _resolution(series)
    um_per_unit = {2: UM_PER_UNIT["inch"], 3: UM_PER_UNIT["cm"], 4: 1e3, 5: 1.0}
    if resolution is None or resolution.unit not in um_per_unit or resolution.raw == ((1, 1), (1, 1)):
        return None
    um = um_per_unit[resolution.unit]
    return _if_not_print(um / resolution.x, um / resolution.y, "TIFF resolution")


def _if_not_print(x_um: float, y_um: float, source: str) -> PixelSize:
    dpi = UM_PER_UNIT["inch"] / x_um
    if is_customary(dpi) or dpi < 5:  # a pixel or two a unit: a default
        return UNKNOWN
    if x_um > PRINTED_TIFF_UM:
        return PixelSize(notes=(f"{source} means {x_um:.4g} um a pixel, most likely on paper; not used",))
    return square(x_um, y_um, source)


@dataclass(frozen=True)
class _Resolution:
    """Pixels a unit; unit as in the TIFF tag (1 none, 2 inch, 3 cm, 4 mm, 5 um); raw as the fractions in the file."""

    x: float
    y: float
    unit: int
    raw: tuple[Any, Any]


def _resolution(series: "TiffPageSeries") -> _Resolution | None:
    tags = series.keyframe.tags
    raw = tags.valueof("XResolution"), tags.valueof("YResolution")
    if raw[0] is None or raw[1] is None:
        return None
    x, y = (value[0] / value[1] if isinstance(value, tuple) else float(value) for value in raw)
    if not (x > 0 and y > 0 and math.isfinite(x) and math.isfinite(y)):
        return None
    return _Resolution(x, y, int(tags.valueof("ResolutionUnit", 2)), raw)


def _elements(root: ElementTree.Element, local_name: str) -> Iterator[ElementTree.Element]:
    """Yield elements by name, whatever their namespace and capitals."""
    return (element for element in root.iter() if element.tag.rpartition("}")[2].lower() == local_name)
