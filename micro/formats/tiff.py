"""TIFF files as micrographs: one plane, whatever its layout, with what its tags say about it."""

import logging
import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from micro.errors import MicroError, UnreadableImage
from micro.formats.headers import check_packing, check_size, damaged, many_planes, truncated
from micro.formats.pixel_size import PixelSize, of_tiff
from micro.formats.storage import replacing
from micro.micrograph import Micrograph

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage, TiffPageSeries

# tifffile logs each oddity of a tag; without a handler Python would print that into the user's progress bar
logging.getLogger("tifffile").addHandler(logging.NullHandler())

MIN_IS_WHITE, MIN_IS_BLACK, RGB, PALETTE, YCBCR = 0, 1, 2, 3, 6
COLOURS = {
    4: "a transparency mask",
    5: "CMYK, for print",
    8: "CIELab",
    9: "ICCLab",
    10: "ITULab",
    32803: "raw sensor data",
}
MOST_PER_CM = 2.0**32 - 1  # a resolution tag is a fraction of two numbers of 32 bits
JPEG_LIKE = {6, 7, 33003, 33004, 33005, 34712, 50001}  # compressions whose decoder returns red, green and blue

MOST_COMPACT = {1: 1, 5: 4096, 7: 4096, 8: 1040, 32773: 128, 32946: 1040}
"""How many bytes a stored byte can become at most, for the compressions where that is known."""


LAYOUT_TAGS = {254, 256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 317, 320, 322, 323, 324, 325, 338, 339, 347}
"""Codes of the tags without which pixels are read wrongly."""


@dataclass(frozen=True, eq=False)
class Plane:
    """The one image of a TIFF before its values are interpreted.

    stored: (Y, X) or (Y, X, C), any type; values as the file stores them.
    photometric: the TIFF code for what the values mean.
    bits: per value, as stored.
    colours: (N, 3) uint8 table for a palette image, else None.
    """

    stored: NDArray[Any]
    photometric: int
    bits: int
    colours: NDArray[np.uint8] | None
    size: PixelSize
    notes: tuple[str, ...]


def micrograph(file: BinaryIO, name: str) -> Micrograph:
    """Return the image of a TIFF with its pixel size."""
    found = plane(file, name, is_picture=True)
    pixels, notes = _interpreted(found, name)
    return Micrograph(pixels, name, found.size.um, found.size.source, found.notes + notes + found.size.notes)


def plane(file: BinaryIO, name: str, *, is_picture: bool = False) -> Plane:
    """Return the one plane of a TIFF; raise UnreadableImage if it has none, several, or a broken one.

    is_picture: refuse what packs more than pictures do; labels may.
    """
    with _opened(file, name) as tif:
        _check_chain(tif, name)
        series, notes = _main_series(tif, name)
        page = series.keyframe
        _check_tags(tif, page, name)
        check_size(page.imagewidth, page.imagelength, name)
        photometric, bits = int(page.photometric), _bits(page)
        if photometric in COLOURS or (photometric == YCBCR and int(page.compression) not in JPEG_LIKE):
            what = COLOURS.get(photometric, "YCbCr")
            raise UnreadableImage(f"{name}: a TIFF in {what}. Save it as grey or RGB, best from the original.")
        order = _axis_order(series, name)
        stored_bytes = _check_segments(tif, series, name)
        if is_picture:
            check_packing(math.prod(series.shape) * _bits(page) // 8, stored_bytes, name)
        stored = series.asarray().reshape([size for size in series.shape if size > 1] or [1])
        stored = stored.reshape([size for size, _ in order]).transpose(np.argsort([rank for _, rank in order]))
        colours = _colours(page, name) if photometric == PALETTE else None
        if photometric == MIN_IS_WHITE and bits == 1 and page.software.startswith("tifffile"):
            photometric = MIN_IS_BLACK  # tifffile stamps MinIsWhite on every array of bool without inverting it
        if "C" in series.axes and "S" not in series.axes and stored.ndim == 3:
            notes += ("three channels read as red, green, blue",)
        if page.tags.valueof("Orientation", 1) not in (0, 1):
            notes += ("orientation tag not applied: rows are as stored, as in ImageJ",)
        stored = stored.astype(stored.dtype.newbyteorder("="), copy=False)
        return Plane(stored, photometric, bits, colours, of_tiff(tif, series), notes)


@contextmanager
def _opened(file: BinaryIO, name: str) -> Iterator["TiffFile"]:
    from tifffile import TiffFile

    file.seek(0)
    try:
        with TiffFile(file, name=name, _multifile=False) as tif:
            if not tif.pages:
                raise truncated(name)
            yield tif
    except MicroError:
        raise
    except MemoryError as error:
        raise UnreadableImage(f"{name}: not enough memory for this image. Cut it into parts.") from error
    except (struct.error, EOFError) as error:
        raise truncated(name) from error
    except Exception as error:  # tifffile and its codecs raise what they please on damaged files
        raise damaged(name, str(error) or type(error).__name__) from error


def _check_chain(tif: "TiffFile", name: str) -> None:
    """Raise UnreadableImage if the list of pages runs in a circle (tifffile never ends there) or out of the file."""
    file, layout, seen = tif.filehandle, tif.tiff, set[int]()
    offset = tif.pages.first.offset
    while offset:
        if offset in seen:
            raise damaged(name, "its list of pages runs in a circle")
        seen.add(offset)
        file.seek(offset)
        (count,) = struct.unpack(layout.tagnoformat, file.read(layout.tagnosize))
        file.seek(offset + layout.tagnosize + count * layout.tagsize)
        (offset,) = struct.unpack(layout.offsetformat, file.read(layout.offsetsize))
    if len(tif.pages.first.subifds or ()) > 64:
        raise damaged(name, "more reduced copies than an image can have")


def _main_series(tif: "TiffFile", name: str) -> tuple["TiffPageSeries", tuple[str, ...]]:
    """Return the series to read, and what was left aside: only smaller copies of it may be."""
    every = tif.series
    if not every:
        raise truncated(name)
    main = max(every, key=lambda series: series.keyframe.imagewidth * series.keyframe.imagelength)
    others = [series for series in every if series is not main and not _is_smaller_copy(series.keyframe, main.keyframe)]
    if others:
        raise many_planes(name, f"{len(others) + 1} images")
    if len(every) > 1 or len(main.levels) > 1:
        return main, ("the full resolution of a pyramid or of an image with a thumbnail",)
    return main, ()


def _is_smaller_copy(page: "TiffPage", main: "TiffPage") -> bool:
    if page.subfiletype & 1:
        return True
    ratio = page.imagewidth / main.imagewidth
    # a thumbnail's sides are rounded to whole pixels
    return ratio <= 0.5 and abs(page.imagelength - ratio * main.imagelength) <= 1 + ratio


def _axis_order(series: "TiffPageSeries", name: str) -> list[tuple[int, int]]:
    """Return size and target position of each axis that is kept: Y, X, then the channels."""
    kept = [(axis, size) for axis, size in zip(series.axes, series.shape, strict=True) if size > 1 or axis in "YX"]
    sizes = dict(kept)
    if len(sizes) != len(kept):
        raise many_planes(name, f"an image of axes {series.axes}")
    stacked = {axis: size for axis, size in sizes.items() if axis not in "YXSC"}
    if stacked:
        words = {"Z": "slices in depth (Z)", "T": "times (T)", "Q": "pages", "I": "pages"}
        what = " x ".join(f"{size} {words.get(axis, f'planes along {axis}')}" for axis, size in stacked.items())
        raise many_planes(name, what)
    channels, samples = sizes.get("C", 1), sizes.get("S", 1)
    if channels > 1 and (channels != 3 or samples > 1):
        raise many_planes(name, f"{channels} channels")
    in_colour = int(series.keyframe.photometric) in (RGB, YCBCR)
    has_alpha = any(int(extra) in (1, 2) for extra in series.keyframe.extrasamples)
    # three values without a word on what they are can only be meant as colours; two or four can be anything
    if samples > 1 and samples not in ((3, 4) if in_colour else (2, 3) if has_alpha else (3,)):
        raise many_planes(name, f"{samples} values a pixel")
    if not {"Y", "X"} <= sizes.keys() or any(one is None for one in series.pages):
        raise truncated(name)
    return [(size, {"Y": 0, "X": 1}.get(axis, 2)) for axis, size in kept]


def _check_tags(tif: "TiffFile", page: "TiffPage", name: str) -> None:
    """Raise UnreadableImage if a tag on the layout of the pixels is there but cannot be read.

    tifffile leaves such a tag out and goes on with a default: another bit depth, and so another picture.
    """
    file, layout = tif.filehandle, tif.tiff
    file.seek(page.offset)
    (count,) = struct.unpack(layout.tagnoformat, file.read(layout.tagnosize))
    entries = file.read(count * layout.tagsize)
    for at in range(0, count * layout.tagsize, layout.tagsize):
        (code,) = struct.unpack_from(f"{tif.byteorder}H", entries, at)
        if code in LAYOUT_TAGS and code not in page.tags:
            raise damaged(name, f"TIFF tag {code} points to nowhere")


def _check_segments(tif: "TiffFile", series: "TiffPageSeries", name: str) -> int:
    """Return how many bytes hold the pixels; raise UnreadableImage if that is too few for what the tags announce."""
    page, stored_bytes = series.keyframe, 0
    pages = [one for one in series.pages if one is not None]
    for one in pages:
        ends = (start + count for start, count in zip(one.dataoffsets, one.databytecounts, strict=False))
        if max(ends, default=0) > tif.filehandle.size:
            raise truncated(name)
        stored_bytes += sum(one.databytecounts)
    values = math.prod(series.shape) if page.photometric != YCBCR else page.imagewidth * page.imagelength
    compact = MOST_COMPACT.get(int(page.compression), 2**20)
    if values * _bits(page) // 8 > compact * stored_bytes:
        raise truncated(name)
    return stored_bytes


def _bits(page: "TiffPage") -> int:
    bits = page.bitspersample
    return int(bits) if isinstance(bits, int) else int(max(bits))


def _colours(page: "TiffPage", name: str) -> NDArray[np.uint8]:
    table = np.asarray(page.colormap).T
    if table.ndim != 2 or table.shape[1] != 3:
        raise damaged(name, "its palette is not one of red, green and blue")
    # the standard has 16 bit; some writers fill in 0..255
    return (table if table.max(initial=0) < 256 else table >> 8).astype(np.uint8)


def _interpreted(found: Plane, name: str) -> tuple[NDArray[np.generic], tuple[str, ...]]:
    """Return pixels of a Micrograph's type and channels, and what had to be done for that."""
    pixels, notes = found.stored, tuple[str, ...]()
    if pixels.ndim == 3 and pixels.shape[2] in (2, 4):
        pixels, notes = pixels[..., : pixels.shape[2] - 1], ("alpha channel dropped",)
    if found.colours is not None:
        if pixels.ndim != 2 or int(pixels.max()) >= len(found.colours):
            raise damaged(name, "a pixel has a colour that the palette lacks")
        is_grey = bool((found.colours == found.colours[:, :1]).all())
        indices = pixels.astype(np.uint8) if pixels.dtype == np.bool_ else pixels
        return (found.colours[:, 0] if is_grey else found.colours)[indices], notes
    if pixels.dtype.kind == "u" and found.bits < 8:
        pixels = pixels.astype(np.uint8) * np.uint8(255 // (2**found.bits - 1))
    if pixels.dtype == np.bool_:
        pixels = pixels.astype(np.uint8) * np.uint8(255)
    if found.photometric == MIN_IS_WHITE:
        if pixels.dtype.kind != "u":
            raise UnreadableImage(
                f"{name}: white is the smallest of signed or float values. Save it the usual way round."
            )
        top = 2**found.bits - 1 if 8 < found.bits < 16 else np.iinfo(pixels.dtype).max
        pixels = top - pixels
    if pixels.dtype in (np.uint8, np.uint16, np.float32):
        return np.ascontiguousarray(pixels), notes
    return _as_float32(pixels, name), (*notes, f"{pixels.dtype} values read as float32")


def _as_float32(pixels: NDArray[Any], name: str) -> NDArray[np.float32]:
    """Return the values as float32, or refuse where that would blur the differences that the image shows."""
    if pixels.dtype.kind not in "iuf":
        raise UnreadableImage(f"{name}: pixels are {pixels.dtype}, which no image here is. Save it as float or 16 bit.")
    low, high = float(pixels.min()), float(pixels.max())
    step = max(abs(low), abs(high)) * 2.0**-24
    exact = pixels.dtype.kind in "iu" and max(abs(low), abs(high)) <= 2**24
    if math.isfinite(step) and not exact and (step > 1e-5 * (high - low) > 0 or max(-low, high) > 3e38):
        raise UnreadableImage(
            f"{name}: values from {low:g} to {high:g} ({pixels.dtype}) do not fit in 32-bit floats without loss. "
            f"Subtract the offset, or save it as 16 bit."
        )
    return pixels.astype(np.float32)


def write(path: Path, pixels: NDArray[Any], pixel_size_um: float | None) -> None:
    """Write one plane as OME-TIFF that readers of OME, ImageJ and plain tags agree on.

    pixels: (Y, X) or (Y, X, 3), of any type.
    """
    from tifffile import imwrite

    metadata: dict[str, Any] = {"axes": "YXS" if pixels.ndim == 3 else "YX"}
    resolution, unit = None, None
    if pixel_size_um is not None:
        metadata |= {f"PhysicalSize{axis}": pixel_size_um for axis in "XY"}
        metadata |= {f"PhysicalSize{axis}Unit": "\N{MICRO SIGN}m" for axis in "XY"}
        per_cm = 1e4 / pixel_size_um
        if 1 / MOST_PER_CM <= per_cm <= MOST_PER_CM:
            resolution, unit = (per_cm, per_cm), "CENTIMETER"
    large = max(pixels.shape[:2]) > 2048
    with replacing(path) as part:
        imwrite(
            part,
            pixels,
            ome=True,
            metadata=metadata,
            photometric="rgb" if pixels.ndim == 3 else "minisblack",
            resolution=resolution,
            resolutionunit=unit,
            compression="zlib",
            compressionargs={"level": 1},
            tile=(512, 512) if large else None,
        )
