"""A frame beside the same frame with heat laid over it: what spoke for its class, or what is unlike normal frames."""

from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from numpy.typing import NDArray

from micro.engine.explain import Explanation
from micro.micrograph import Micrograph
from micro.report.pictures import Shown, shown

EDGE_PX = 512
# How much of the heat's colour is laid over the frame where most speaks for the class.
STRONGEST = 0.65


def explained(said: Explanation, image: Micrograph) -> Shown:
    """Return the frame and, at its right, the frame under what spoke for its class (Y, X, 3)."""
    return heated(image, said.heat)


def heated(image: Micrograph, heat: NDArray[np.float32]) -> Shown:
    """Return a frame and, at its right, the frame under its heat (Y, X, 3); small frames are shown larger.

    heat: (Y, X), 0..1.
    """
    frame = shown(image, EDGE_PX)
    times = max(1, EDGE_PX // max(frame.shape[:2]))
    frame = np.asarray(cv2.resize(frame, None, fx=times, fy=times, interpolation=cv2.INTER_NEAREST), np.uint8)
    heat = np.asarray(cv2.resize(heat, frame.shape[1::-1], interpolation=cv2.INTER_LINEAR), np.float32)
    colour = cv2.applyColorMap((255 * heat).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    share = STRONGEST * np.sqrt(heat)[..., np.newaxis]
    over = (frame * (1 - share) + colour * share).round().astype(np.uint8)
    return np.hstack([frame, over])


def write_explained(said: Explanation, image: Micrograph, folder: Path) -> Path:
    """Write the picture as folder/<image path>.png and return where it lies."""
    return write_picture(explained(said, image), image, folder)


def write_picture(picture: Shown, image: Micrograph, folder: Path) -> Path:
    """Write a picture of an image as folder/<image path>.png and return where it lies."""
    path = folder / PurePosixPath(image.name).with_suffix(".png")
    path.parent.mkdir(parents=True, exist_ok=True)
    done, data = cv2.imencode(".png", picture[..., ::-1])
    assert done
    path.write_bytes(data.tobytes())
    return path
