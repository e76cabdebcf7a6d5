"""Which contrasts are one colour, and which of many flakes say what one microscope shows."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from micro.errors import BadSetting
from micro.regions import Columns
from micro.thin_film.profile import MOST_CONTRAST, Colour

CONTRASTS = ("contrast_r_mean", "contrast_g_mean", "contrast_b_mean")
"""Columns of the table of flakes."""

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


def colours_of(images: Sequence[str], table: Columns) -> tuple[Colour, ...]:
    """Return the colours that found flakes have shown, for a profile; saturated ones are left out.

    images: name of the image of each row of the table of flakes, which may be of one image or of many.

    Raises BadSetting where the regions are no flakes, or no colour is left.
    """
    missing = [name for name in ("area_px", "saturated", *CONTRASTS) if name not in table]
    if missing:
        raise BadSetting(f"the regions have no {missing[0]}, so they are no flakes, or were found by an older version.")
    contrast = np.stack([table[name] for name in CONTRASTS], axis=1).astype(np.float64)
    usable = ((contrast > -1) & (contrast < MOST_CONTRAST)).all(1) & ~np.asarray(table["saturated"], bool)
    there = np.flatnonzero(usable)
    if not len(there):
        raise BadSetting(f"none of {len(usable)} regions is a flake of known colour.")
    return picked([images[row] for row in there.tolist()], contrast[there], np.asarray(table["area_px"])[there])
