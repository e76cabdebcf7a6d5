"""Grains counted on an area, and their mean area."""

import numpy as np
from numpy.typing import NDArray

from micro.grain_size.count import AREA, DENSITY, Count, Method, Pattern
from micro.grain_size.section import Section

JEFFRIES = Method(
    "planimetric_jeffries",
    "planimetric, circle (Jeffries)",
    DENSITY,
    "ASTM E112-13, 11",
    "grains",
    "reads one grain in the count too fine on average (Li and Zhou 2011)",
)
SALTIKOV = Method(
    "planimetric_saltikov", "planimetric, rectangle (Saltikov)", DENSITY, "ASTM E1382-97; ISO 643", "grains"
)
MEAN_AREA = Method(
    "mean_area",
    "mean area of whole grains",
    AREA,
    "ASTM E1382-97, 13.9 and 14; E2627",
    "grains",
    "reads too fine: grains that the frame cuts are left out, and large grains are cut more often",
)
TRIPLE_POINTS = Method(
    "triple_points",
    "triple points",
    DENSITY,
    "Vander Voort, Metallography: Principles and Practice, 1984",
    "grains",
    "reads one grain in the count too fine on average",
)

Part = tuple[NDArray[np.bool_], float | NDArray[np.float64]]
"""Which grains are in one part of a count, and the weight of each."""


def jeffries(section: Section) -> Count:
    """Count grains in the largest circle that the field holds, whose middle is the field's.

    E112-13, 11: a grain inside counts 1, one that the circle cuts 1/2; N_A is their sum over the area of the circle.
    Grains that the frame cuts where it touches the circle count as cut by the circle. Li and Zhou (J. Test. Eval. 2011,
    JAI103476): this counts one grain too many; `unbiased` gives the other figure.
    """
    height, width = section.labels.shape
    radius_px = min(height, width) / 2
    y, x = (height - 1) / 2, (width - 1) / 2
    # one chord a row: what lies in the circle is a slice of each row
    reach = np.sqrt(np.maximum(radius_px**2 - (np.arange(height) - y) ** 2, 0))
    first, last = np.ceil(x - reach).astype(int), np.floor(x + reach).astype(int)
    within = np.zeros(len(section) + 1, np.int64)
    columns = np.arange(width)
    for start in range(0, height, 512):
        rows = slice(start, start + 512)
        inside = (columns >= first[rows, np.newaxis]) & (columns <= last[rows, np.newaxis])
        within += np.bincount(section.labels[rows][inside], minlength=len(section) + 1)
    held = within[1:] > 0
    cut = held & ((within[1:] < section.area_px) | section.is_cut)
    circle = np.array([[y, x, radius_px]])
    return _weighted(
        JEFFRIES, section, {"inside": (held & ~cut, 1.0), "edge": (cut, 0.5)}, float(within[1:].sum()), circle
    )


def saltikov(section: Section) -> Count:
    """Count grains in the whole field, a rectangle.

    Inside 1, cut by an edge 1/2, cut by a corner 1/4 (four corners together one grain). On average this is the true
    number for any size of the field. Grains at a place that was not measured count as cut by an edge.
    """
    corners = section.labels[[0, 0, -1, -1], [0, -1, 0, -1]]
    in_corner = np.zeros(len(section) + 1)
    np.add.at(in_corner, corners, 0.25)
    corner = in_corner[1:] > 0
    weights: dict[str, Part] = {
        "inside": (~section.is_cut, 1.0),
        "edge": (section.is_cut & ~corner, 0.5),
        "corner": (corner, in_corner[1:][corner]),
    }
    return _weighted(SALTIKOV, section, weights, float(section.measured_px), np.zeros((0, 3)))


def mean_area(section: Section) -> Count:
    """Average the area of the grains that the frame does not cut.

    E1382-97, 13.9 and 14, and E2627. What is left out are large grains more often than small ones: with 50 to 90 grains
    left this reads 0.2 to 0.25 G finer than a count on the same field, and the standards accept that.
    """
    whole = ~section.is_cut
    return _weighted(
        MEAN_AREA, section, {"inside": (whole, 1.0)}, float(section.area_px[whole].sum()), np.zeros((0, 3))
    )


def triple_points(section: Section) -> Count:
    """Count the points where three grains meet: N_A = (P / 2 + 1) / area, P with 2 for a point where four meet."""
    labels = section.labels
    sides = (labels[:, 1:] != labels[:, :-1]).view(np.uint8), (labels[1:] != labels[:-1]).view(np.uint8)
    ends = sides[0][:-1] + sides[0][1:] + sides[1][:, :-1] + sides[1][:, 1:]
    y, x = np.nonzero(ends >= 3)
    around = np.sort(np.stack([labels[y, x], labels[y, x + 1], labels[y + 1, x], labels[y + 1, x + 1]]), axis=0)
    meet = 1 + np.count_nonzero(np.diff(around, axis=0), axis=0)
    true = (meet >= 3) & (around[0] > 0)
    weights = meet[true] - 2.0
    marks = np.stack([y[true] + 0.5, x[true] + 0.5], axis=1)
    parts = {"triple": int((weights == 1).sum()), "quadruple": int((weights == 2).sum())}
    return Count(
        TRIPLE_POINTS, float(weights.sum() / 2 + 1), float(section.measured_px), parts, Pattern(marks, weights)
    )


def unbiased(count: Count) -> float:
    """Return the grains of a count by `jeffries` that are there on average: inside + 1/2 cut - 1 (Li and Zhou 2011).

    The corners of a rectangle take that one off already.
    """
    return count.count - 1


def _weighted(
    method: Method,
    section: Section,
    parts: dict[str, Part],
    extent_px: float,
    circles_px: NDArray[np.float64],
) -> Count:
    """Return a count of grains, each with the weight of its part and a mark in its middle."""
    weights = np.zeros(len(section))
    for chosen, weight in parts.values():
        weights[chosen] = weight
    counted = weights > 0
    pattern = Pattern(section.middles_px[counted], weights[counted], circles_px=circles_px)
    numbers = {name: int(chosen.sum()) for name, (chosen, _) in parts.items()}
    return Count(method, float(weights.sum()), extent_px, numbers, pattern)
