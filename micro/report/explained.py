"""A frame beside the same frame with heat laid over it: what spoke for its class, or what is unlike normal frames."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from numpy.typing import NDArray

from micro import formats
from micro.errors import BadSetting
from micro.line.sources import Source
from micro.micrograph import Micrograph
from micro.report.pictures import Shown, enlarged

EDGE_PX = 512
# How much of the heat's colour is laid over the frame where most speaks for the class.
STRONGEST = 0.65


def heated(image: Micrograph, heat: NDArray[np.float32]) -> Shown:
    """Return a frame and, at its right, the frame under its heat (Y, X, 3); small frames are shown larger.

    heat: (Y, X), 0..1.
    """
    frame = enlarged(image, EDGE_PX)
    heat = np.asarray(cv2.resize(heat, frame.shape[1::-1], interpolation=cv2.INTER_LINEAR), np.float32)
    colour = cv2.applyColorMap((255 * heat).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    share = STRONGEST * np.sqrt(heat)[..., np.newaxis]
    over = (frame * (1 - share) + colour * share).round().astype(np.uint8)
    return np.hstack([frame, over])


def places(sources: Sequence[Source], folder: Path) -> dict[str, Path]:
    """Return where the picture of each image goes, by its name: folder/<image path>.png.

    Images that differ only in their suffix keep it in front of that. Raises BadSetting where a picture would take the
    place of an image.
    """
    paths = {source.name: PurePosixPath(source.name) for source in sources}
    stems = Counter(path.with_suffix("") for path in paths.values())
    found = {}
    for name, path in paths.items():
        is_alone = stems[path.with_suffix("")] == 1
        found[name] = folder / (path.with_suffix(".png") if is_alone else f"{name}.png")
    images = {os.path.realpath(source.address) for source in sources if not source.is_remote}
    for place in found.values():
        if os.path.realpath(place) in images:
            raise BadSetting(f"{place}: is one of the images, and a picture would take its place. Give another --out.")
    return found


def write_picture(picture: Shown, place: Path) -> None:
    """Write a picture as PNG, and the folders that it lies in."""
    place.parent.mkdir(parents=True, exist_ok=True)
    formats.write_image(place, Micrograph(picture))
