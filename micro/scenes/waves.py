"""Smooth random surfaces: uneven light, uneven etching, bent outlines."""

import cv2
import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]


def waves(rng: np.random.Generator, shape_px: tuple[int, ...], length_px: float) -> Plane:
    """Return smooth noise (Y, X) of mean 0 and variance about 1 that changes over length_px."""
    nodes = [max(4, int(np.ceil(side / length_px)) + 3) for side in shape_px]
    coarse = rng.normal(0, 1.5, nodes).astype(np.float32)
    return cv2.resize(coarse, (shape_px[1], shape_px[0]), interpolation=cv2.INTER_CUBIC).astype(np.float32, copy=False)


def noise(shape_px: tuple[int, int], reach_px: tuple[float, float], rng: np.random.Generator) -> Plane:
    """Return noise of mean 0 and standard deviation 1, smooth over reach_px (Y, X)."""
    smooth = cv2.GaussianBlur(rng.normal(size=shape_px), (0, 0), sigmaX=reach_px[1], sigmaY=reach_px[0])
    return np.asarray((smooth - smooth.mean()) / smooth.std(), dtype=np.float32)
