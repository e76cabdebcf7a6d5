"""How image files were compressed, where that would tell a network the answer."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from micro.folder.folder import Annotated
from micro.micrograph import Micrograph

# Quality of the common re-encoding: high enough to keep what an eye sees, low enough to hide how a file came.
REENCODE_QUALITY = 90


def is_lossless(path: Path) -> bool:
    """Whether a file of this name keeps every pixel value; WebP may, and is not relied on."""
    return path.suffix.lower() not in (".jpg", ".jpeg", ".webp")


def reencoded(image: Micrograph, quality: int = REENCODE_QUALITY) -> Micrograph:
    """Return an 8-bit image as it looks after JPEG compression."""
    done, data = cv2.imencode(
        ".jpg", np.ascontiguousarray(image.pixels[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    assert done
    grey = image.channels == 1
    pixels = np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR))
    return replace(image, pixels=pixels if grey else pixels[..., ::-1])


def tells_class(items: Sequence[Annotated]) -> bool:
    """Whether some classes have 8-bit lossless files and others none: a network would learn the file type."""
    share: dict[str, list[bool]] = defaultdict(list)
    for item in items:
        if item.class_name is not None:
            share[item.class_name].append(item.lossless)
    rates = [sum(flags) / len(flags) for flags in share.values()]
    return bool(rates) and max(rates) - min(rates) > 0.1 and all(item.image.pixels.dtype == np.uint8 for item in items)
