"""Label images: each pixel holds the number of its region, 0 is background."""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from micro.errors import UnreadableImage
from micro.formats import raster, tiff
from micro.formats.headers import Header, damaged, header, kind_of
from micro.formats.image import unknown_kind
from micro.formats.pixel_size import UNKNOWN, PixelSize, of_print_resolution
from micro.formats.storage import opened


def write_labels(path: Path, labels: NDArray[np.int32], pixel_size_um: float | None = None) -> None:
    """Write labels as a compressed OME-TIFF whose tags hold the pixel size; a reader never sees half a file.

    labels: (Y, X) int32.
    """
    if labels.ndim != 2 or labels.dtype != np.int32:
        raise ValueError(f"labels are (Y, X) int32, not {labels.shape} {labels.dtype}")
    tiff.write(path, labels, pixel_size_um)


@dataclass(frozen=True, eq=False)
class LabelFile:
    """What a mask file holds.

    labels: (Y, X) int32.
    size: of a pixel, as the file's own tags say; unknown in most masks.
    sha256: of the file's bytes.
    """

    labels: NDArray[np.int32]
    size: PixelSize
    sha256: str


def read_labels(path: Path | str) -> NDArray[np.int32]:
    """Return the labels (Y, X) int32 in a mask file; see `read_label_file`."""
    return read_label_file(path).labels


def read_label_file(path: Path | str) -> LabelFile:
    """Read a mask file: indices, or RGB colours read as red*65536 + green*256 + blue.

    A palette image gives its indices, not its colours; true pixels of a 1-bit image give 1; alpha is ignored.

    Raises UnreadableImage when the file is no such mask.
    """
    path = Path(path)
    with opened(path, path.name) as file:
        data = file.read()
    kind = kind_of(data[:32])
    if kind is None:
        raise unknown_kind(data[:32], path.name)
    if kind in ("JPEG", "GIF"):
        raise UnreadableImage(f"{path.name}: {kind} does not keep label values. Save the mask as PNG or TIFF.")
    stored, size = (_stored_tiff if kind == "TIFF" else _stored_raster)(data, path.name)
    return LabelFile(_numbered(stored, path.name), size, hashlib.sha256(data).hexdigest())


def _stored_tiff(data: bytes, name: str) -> tuple[NDArray[Any], PixelSize]:
    found = tiff.plane(io.BytesIO(data), name)
    inverted = found.stored.dtype == np.bool_ and found.photometric == tiff.MIN_IS_WHITE
    return ~found.stored if inverted else found.stored, found.size


def _stored_raster(data: bytes, name: str) -> tuple[NDArray[Any], PixelSize]:
    facts = header(data, name)
    size = of_print_resolution(*facts.per_m, f"{facts.kind} resolution") if facts.per_m else UNKNOWN
    if facts.palette:
        return _palette_indices(data, facts, name), size
    pixels: NDArray[Any] = raster.decoded(data, facts, name)
    return pixels // np.uint8(255 // (2**facts.bits - 1)) if facts.bits < 8 else pixels, size


def _palette_indices(data: bytes, facts: Header, name: str) -> NDArray[Any]:
    # OpenCV only returns colours
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as image:
            indices = np.asarray(image)
    except Exception as error:  # Pillow's decoders raise what they please on damaged files
        raise damaged(name, str(error)) from error
    if indices.shape != (facts.height_px, facts.width_px):
        raise damaged(name, f"no decoder reads the indices of this {facts.kind}")
    return indices


def _numbered(stored: NDArray[Any], name: str) -> NDArray[np.int32]:
    if stored.ndim == 3:
        if stored.dtype != np.uint8 or stored.shape[2] not in (2, 3, 4):
            raise UnreadableImage(f"{name}: colours of labels have 8 bits, these are {stored.dtype}. Save indices.")
        if stored.shape[2] == 2:
            return stored[..., 0].astype(np.int32)
        labels = stored[..., 0].astype(np.int32)
        for channel in (1, 2):
            labels <<= 8
            labels |= stored[..., channel]
        return labels
    kind = stored.dtype.kind
    if kind not in "biuf" or (kind == "f" and not (stored == np.floor(stored)).all()):
        raise UnreadableImage(
            f"{name}: labels are whole numbers, and some of these are not. Save the mask, not scores."
        )
    if kind != "b" and (stored.min() < 0 or stored.max() > np.iinfo(np.int32).max):
        raise UnreadableImage(f"{name}: labels are from 0 to 2147483647, and some of these are not. Number them anew.")
    return stored.astype(np.int32)
