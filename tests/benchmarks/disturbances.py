"""What a camera and its cable do to a frame on a bad day, at strengths that were fixed before anything was measured."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from micro.folder import Annotated, reencoded
from micro.micrograph import Micrograph

NOISE_GREY_LEVELS = 5.0
MOTION_PX = 3
GAIN = 0.2
# how much darker the corners are than the middle
VIGNETTE = 0.3


def disturbed(items: list[Annotated], disturbance: Callable[[Micrograph], Micrograph]) -> list[Annotated]:
    """Return the same frames, of the same classes, as they look after a disturbance."""
    return [replace(item, image=disturbance(item.image)) for item in items]


def noisy(image: Micrograph) -> Micrograph:
    """Add gaussian noise, the same for all channels of a pixel; it follows from the image's name."""
    random = np.random.default_rng(list(image.name.encode()))
    return _changed(image, image.pixels + random.normal(0, NOISE_GREY_LEVELS, (*image.pixels.shape[:2], 1)))


def moved(image: Micrograph, axis: int) -> Micrograph:
    """Blur along an axis (0: Y, 1: X) as the sheet that runs on during the exposure."""
    kernel = np.full((MOTION_PX, 1) if axis == 0 else (1, MOTION_PX), 1 / MOTION_PX)
    blurred = cv2.filter2D(image.pixels.astype(np.float64), -1, kernel, borderType=cv2.BORDER_REFLECT_101)
    return _changed(image, blurred.reshape(image.pixels.shape))


def amplified(image: Micrograph, gain: float) -> Micrograph:
    """Multiply all grey values; what exceeds white is cut off."""
    return _changed(image, image.pixels * gain)


def vignetted(image: Micrograph) -> Micrograph:
    """Darken towards the corners, as the square of the distance from the middle."""
    y, x = np.meshgrid(*(np.linspace(-1, 1, edge) for edge in image.pixels.shape[:2]), indexing="ij")
    return _changed(image, image.pixels * (1 - VIGNETTE * (x**2 + y**2) / 2)[..., np.newaxis])


def shifted(image: Micrograph, axis: int) -> Micrograph:
    """Move the frame by one pixel; the row or column at the border is there twice."""
    end = [slice(None)] * 3
    end[axis] = slice(0, -1)
    widths = [(0, 0)] * 3
    widths[axis] = (1, 0)
    return _changed(image, np.pad(image.pixels[tuple(end)], widths, mode="edge"))


def _changed(image: Micrograph, values: NDArray[np.generic]) -> Micrograph:
    return replace(image, pixels=np.asarray(values).round().clip(0, 255).astype(np.uint8))


DISTURBANCES: Mapping[str, Callable[[Micrograph], Micrograph]] = {
    "JPEG q75": partial(reencoded, quality=75),
    "JPEG q50": partial(reencoded, quality=50),
    f"noise, {NOISE_GREY_LEVELS:g} grey levels": noisy,
    f"motion blur, {MOTION_PX} px along X": partial(moved, axis=1),
    f"motion blur, {MOTION_PX} px along Y": partial(moved, axis=0),
    f"gain -{GAIN:.0%}": partial(amplified, gain=1 - GAIN),
    f"gain +{GAIN:.0%}": partial(amplified, gain=1 + GAIN),
    f"vignette, corners -{VIGNETTE:.0%}": vignetted,
    "shift by 1 px along X": partial(shifted, axis=1),
    "shift by 1 px along Y": partial(shifted, axis=0),
}
