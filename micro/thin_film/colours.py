"""Which contrasts are one colour, and which of many flakes say what one microscope shows."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from micro.thin_film.profile import Colour

SAME_COLOUR = 0.02  # regions closer than this are one piece of evidence, not many
MOST_COLOURS = 40  # each makes the naming of an image a little longer

Real = NDArray[np.float64]


def seen_before(row: Real, others: Real) -> bool:
    """Whether a contrast (3,) is the colour of one of others (N, 3)."""
    return len(others) > 0 and bool(np.abs(others - row).max(1).min() <= SAME_COLOUR)


def distinct(contrast: Real) -> NDArray[np.intp]:
    """Return the indices of contrasts (R, 3) that are the first of their colour."""
    kept: list[int] = []
    for index, row in enumerate(contrast):
        if not seen_before(row, contrast[kept]):
            kept.append(index)
    return np.array(kept, np.intp)


def picked(images: Sequence[str], contrast: Real, area_px: NDArray[np.generic]) -> tuple[Colour, ...]:
    """Return the colours of flakes on images of one microscope, each of the largest flake that shows it.

    images: name of the image of each flake. contrast: (R, 3), all finite. Of more than 40 colours, 40 that are spread
    evenly from the darkest to the brightest.
    """
    largest_first = np.argsort(-np.asarray(area_px, np.float64), kind="stable")
    found = largest_first[distinct(contrast[largest_first])]
    by_depth = found[np.argsort(contrast[found].mean(1), kind="stable")]
    even = np.linspace(0, len(found) - 1, min(len(found), MOST_COLOURS)).round().astype(np.intp)
    return tuple(
        Colour(image=images[index], contrast_r=red, contrast_g=green, contrast_b=blue)
        for index in by_depth[even].tolist()
        for red, green, blue in [contrast[index].tolist()]
    )
