"""How brightness varies over an image when the specimen does not, and how pixels are scaled because of it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Scaling:
    """The numbers, found once an image, that turn its pixels into what a network reads: (pixels - center) / spread.

    center, spread: (C, gy, gx) float32 grids spanned over the whole image, pixel centre to pixel centre, and interpolated
    bilinearly; 1 x 1 where one number serves the image. spread is positive.
    """

    center: NDArray[np.float32]
    spread: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.center.shape != self.spread.shape or self.center.ndim != 3:
            raise ValueError(f"center {self.center.shape} and spread {self.spread.shape} are one (C, gy, gx) grid each")
        if not (np.isfinite(self.center).all() and (self.spread > 0).all()):
            raise ValueError("center must be finite and spread positive")

    def window(self, shape_px: tuple[int, int], y_px: slice, x_px: slice) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return center and spread over one window of an image of shape_px: (C, y, x), or (C, 1, 1) for a uniform scaling.

        The window may reach past the image, where the edge's value goes on.
        """
        if self.center.shape[1:] == (1, 1):
            return self.center, self.spread
        rows = _interpolation(self.center.shape[1], shape_px[0], y_px)
        columns = _interpolation(self.center.shape[2], shape_px[1], x_px)
        return rows @ self.center @ columns.T, rows @ self.spread @ columns.T


def _interpolation(nodes: int, length_px: int, window_px: slice) -> NDArray[np.float32]:
    """Return (window, nodes) weights of linear interpolation between nodes spread evenly over 0 .. length_px - 1."""
    places = np.arange(window_px.start, window_px.stop).clip(0, length_px - 1) * ((nodes - 1) / max(length_px - 1, 1))
    weights = 1 - np.abs(places[:, np.newaxis] - np.arange(nodes))
    return weights.clip(0).astype(np.float32)


def uniform(pixels: NDArray[np.generic]) -> Scaling:
    """Scale by the median and the spread of the middle 98 % of each channel; for images whose light is even.

    pixels: (Y, X, C). A blank image gets the spread 1.
    """
    sample = pixels[:: max(1, pixels.shape[0] // 512), :: max(1, pixels.shape[1] // 512)]
    low, middle, high = np.percentile(sample.reshape(-1, pixels.shape[2]), (1, 50, 99), axis=0)
    spread = np.where(high > low, (high - low) / 2, 1)
    return Scaling(middle.astype(np.float32)[:, np.newaxis, np.newaxis], spread.astype(np.float32)[:, np.newaxis, np.newaxis])
