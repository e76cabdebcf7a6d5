"""Pictures small enough to travel inside a page."""

import base64
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from micro.micrograph import Micrograph

Shown = NDArray[np.uint8]
"""(Y, X, 3) red, green, blue."""

INK = (232, 62, 30)
# What people drew, beside what a network found: blue and vermilion stay apart for most eyes.
DRAWN, FOUND = (0, 114, 178), (213, 94, 0)
TINT = 0.45


def shown(image: Micrograph, edge_px: int) -> Shown:
    """Return an image as it is shown: colour of 8 bits, its longer edge at most edge_px.

    Eight bits are kept as they are; deeper pixels are spread between their 0.5 and 99.5 percentiles.
    """
    pixels = scaled(np.ascontiguousarray(image.pixels), edge_px)
    if pixels.dtype != np.uint8:
        low, high = np.percentile(pixels, (0.5, 99.5))
        pixels = np.clip((pixels - low) * (255 / max(high - low, 1e-9)), 0, 255).astype(np.uint8)
    if pixels.ndim == 2 or pixels.shape[2] == 1:
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB), np.uint8)
    return np.asarray(pixels, np.uint8)


def enlarged(image: Micrograph, edge_px: int) -> Shown:
    """Return an image as `shown` does, a small one so many whole times larger as fit on edge_px."""
    picture = shown(image, edge_px)
    times = max(1, edge_px // max(picture.shape[:2]))
    return np.asarray(cv2.resize(picture, None, fx=times, fy=times, interpolation=cv2.INTER_NEAREST), np.uint8)


def edges(labels: NDArray[np.int32], size_px: tuple[int, int]) -> NDArray[np.bool_]:
    """Return where one region ends and the next begins, one pixel wide as it is shown.

    labels: (Y, X) int32 of any size; they are laid over the whole picture of size_px, (height, width).
    """
    small = cv2.resize(labels, size_px[::-1], interpolation=cv2.INTER_NEAREST)
    found = np.zeros(size_px, bool)
    found[:, :-1] |= small[:, :-1] != small[:, 1:]
    found[:-1] |= small[:-1] != small[1:]
    return found


def outlined(picture: Shown, labels: NDArray[np.int32], ink: tuple[int, int, int] = INK) -> Shown:
    """Return the picture with the edges of the regions drawn over it."""
    height, width = picture.shape[:2]
    drawn = picture.copy()
    drawn[edges(labels, (height, width))] = ink
    return drawn


def tinted(picture: Shown, mask: NDArray[np.bool_], ink: tuple[int, int, int]) -> Shown:
    """Return the picture with TINT of a colour where the mask (Y, X), of any size, is true."""
    height, width = picture.shape[:2]
    there = cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST) > 0
    drawn = picture.copy()
    drawn[there] = (drawn[there] * (1 - TINT) + np.array(ink) * TINT).round().astype(np.uint8)
    return drawn


def as_address(picture: Shown, quality: int = 80) -> str:
    """Return the picture as a `data:` address that holds it as a JPEG."""
    done, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"


def mask_address(mask: NDArray[np.bool_]) -> str:
    """Return a mask as a `data:` address that holds a PNG, inked where the mask is true and clear elsewhere."""
    pixels = np.zeros((*mask.shape, 4), np.uint8)
    pixels[mask] = (*INK[::-1], 255)
    done, data = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    assert done
    return f"data:image/png;base64,{base64.b64encode(data.tobytes()).decode()}"


def scaled(pixels: NDArray[Any], edge_px: int) -> NDArray[Any]:
    """Return pixels whose longer edge is at most edge_px, each the mean of those it stands for."""
    height, width = pixels.shape[:2]
    scale = edge_px / max(height, width)
    if scale >= 1:
        return pixels
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA))
