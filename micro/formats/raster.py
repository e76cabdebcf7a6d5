"""PNG, JPEG, BMP, WebP and GIF files as micrographs."""

import numpy as np
from numpy.typing import NDArray

from micro.formats.headers import Header, check_packing, damaged, header, truncated
from micro.formats.pixel_size import UNKNOWN, of_print_resolution
from micro.micrograph import Micrograph


def micrograph(data: bytes, name: str) -> Micrograph:
    """Return the image in the bytes of a file, upright as its EXIF orientation says."""
    facts = header(data, name)
    values = facts.width_px * facts.height_px * (1 if facts.grey else 3)
    check_packing(values * (2 if facts.bits > 8 else 1), len(data), name)
    size = of_print_resolution(*facts.per_m, f"{facts.kind} resolution") if facts.per_m else UNKNOWN
    notes = ("alpha channel dropped",) if facts.alpha else ()
    return Micrograph(decoded(data, facts, name), name, size.um, size.source, notes + size.notes)


def decoded(data: bytes, facts: Header, name: str) -> NDArray[np.generic]:
    """Return the pixels, (Y, X) if the file is grey and (Y, X, 3) otherwise, uint8 or uint16."""
    import cv2

    flags = (cv2.IMREAD_GRAYSCALE if facts.grey else cv2.IMREAD_COLOR_RGB) | cv2.IMREAD_ANYDEPTH
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except (cv2.error, MemoryError) as error:
        raise damaged(name, str(error)) from error
    if pixels is None:
        raise damaged(name, f"no decoder reads this {facts.kind}")
    if sorted(pixels.shape[:2]) != sorted((facts.width_px, facts.height_px)):
        raise truncated(name)
    return np.asarray(pixels)
