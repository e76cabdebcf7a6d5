"""A test pattern painted over the field on which it was counted."""

import cv2
import numpy as np
from numpy.typing import NDArray

from micro.grain_size.count import Pattern

LINE = (40, 160, 255)
MARKS = {0.25: (255, 120, 200), 0.5: (255, 200, 0), 1.0: (60, 230, 60)}
MORE = (255, 60, 60)
"""Red, green, blue. Marks: a quarter, a half, one, and more than one."""


def paint(pixels: NDArray[np.generic], pattern: Pattern) -> NDArray[np.uint8]:
    """Return the field (Y, X, 3) uint8 with the pattern on it: its lines blue, each mark coloured by its weight.

    pixels: (Y, X) or (Y, X, C), any type; grey values are stretched from the 0.5th to the 99.5th percentile.
    """
    grey = pixels if pixels.ndim == 2 else pixels.mean(axis=2)
    low, high = np.percentile(grey[:: max(1, grey.shape[0] // 1000), :: max(1, grey.shape[1] // 1000)], (0.5, 99.5))
    stretched = np.clip((grey.astype(np.float32) - low) * (255 / max(high - low, 1e-6)), 0, 255).astype(np.uint8)
    painted = cv2.cvtColor(stretched, cv2.COLOR_GRAY2RGB)
    bold = max(1, round(min(grey.shape) / 600))
    for y0, x0, y1, x1 in np.rint(pattern.lines_px).astype(int).tolist():
        cv2.line(painted, (x0, y0), (x1, y1), LINE, bold, cv2.LINE_AA)
    for y, x, radius in pattern.circles_px.tolist():
        cv2.circle(painted, (round(x), round(y)), round(radius), LINE, bold, cv2.LINE_AA)
    for (y, x), weight in zip(np.rint(pattern.marks_px).astype(int).tolist(), pattern.weights.tolist(), strict=True):
        cv2.circle(painted, (x, y), 2 * bold, MARKS.get(weight, MORE), -1, cv2.LINE_AA)
    return np.asarray(painted, np.uint8)
