"""One file -> one micrograph, and back."""

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from micro.errors import UnreadableImage
from micro.formats import raster, tiff
from micro.formats.headers import HEAD_BYTES, kind_of
from micro.formats.storage import opened, replacing
from micro.micrograph import Micrograph

IMAGE_SUFFIXES = frozenset({".tif", ".tiff", ".png", ".jpg", ".jpeg", ".jpe", ".bmp", ".webp", ".gif"})
"""What a folder scan takes for images. GIF is among them so that an animation is refused aloud, not passed over."""


def is_image_name(path: Path | str) -> bool:
    """Return whether a file of this name is taken for an image when a folder is scanned."""
    # by texts: a folder of many small images is scanned in half the time
    name = os.path.basename(path)  # noqa: PTH119
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES and not name.startswith(".")  # noqa: PTH122


def read(path: Path | str, name: str | None = None) -> Micrograph:
    """Read an image file of any supported kind, known by its content and not by its suffix.

    name: what the image is called in results and messages; the file's name by default.

    Raises UnreadableImage, and nothing else, when the file is not one image that can be measured.
    """
    path = Path(path)
    # a name that is no valid text, as old cameras leave, must still fit into tables and messages
    name = os.fsencode(path.name).decode(errors="replace") if name is None else name
    with opened(path, name) as file:
        head = file.read(HEAD_BYTES)
        if kind_of(head) == "TIFF":
            return tiff.micrograph(io.BufferedReader(file), name)
        return decode(head + file.read(), name)


def decode(data: bytes, name: str) -> Micrograph:
    """Return the image in the bytes of a file, as `read` would."""
    kind = kind_of(data)
    if kind is None:
        raise unknown_kind(data[:HEAD_BYTES], name)
    if kind == "TIFF":
        return tiff.micrograph(io.BytesIO(data), name)
    return raster.micrograph(data, name)


def unknown_kind(head: bytes, name: str) -> UnreadableImage:
    """Return the refusal of a file that starts like no image we read."""
    if not head:
        return UnreadableImage(f"{name}: the file is empty. Copy or save it again.")
    text = all(byte in b"\t\r\n" or 32 <= byte < 127 for byte in head)
    what = "holds text" if text else f"starts with {head[:4].hex(' ')}, like no image that is read here"
    return UnreadableImage(f"{name}: the file {what}. Save the image as TIFF, PNG, JPEG, BMP or WebP.")


def write_image(path: Path, image: Micrograph) -> None:
    """Write an image losslessly as PNG or, keeping its pixel size, as TIFF; the suffix says which.

    Raises UnreadableImage for another suffix, and for float pixels or a pixel size where a PNG is asked for.
    """
    pixels = image.pixels[..., 0] if image.channels == 1 else image.pixels
    suffix = path.suffix.lower()
    if suffix in (".tif", ".tiff"):
        tiff.write(path, pixels, image.pixel_size_um)
        return
    if suffix != ".png" or pixels.dtype == np.float32 or image.pixel_size_um is not None:
        raise UnreadableImage(
            f"{path.name}: an image is written as .tif, or as .png if it has integer pixels and no pixel size. "
            f"Call it {path.stem}.tif."
        )
    import cv2

    bgr: NDArray[Any] = pixels if image.channels == 1 else pixels[..., ::-1]
    done, data = cv2.imencode(".png", bgr)
    assert done
    with replacing(path) as part:
        part.write_bytes(data.tobytes())
