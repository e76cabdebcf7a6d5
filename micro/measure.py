"""Regions -> a plain dict of columns: area, place, size and shape, whatever the task.

All columns come from sums over pixels, so that thousands of regions cost no more than one.
"""

from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from micro.regions import Columns

Scalar = TypeVar("Scalar", bound=np.generic)

BAND_PX = 1 << 21
"""Pixels that are summed at once: what a 20,000 x 20,000 image needs beside its labels stays near 100 MB."""


def columns(labels: NDArray[np.int32], pixel_size_um: float | None = None) -> Columns:
    """Measure every region; row i of each column is region i + 1.

    labels: (Y, X), 0 background, regions 1 to their number; a number that no pixel carries has the area 0 and its other
        measures are NaN.
    pixel_size_um: None leaves the columns in micrometres out.

    Lengths of axes, aspect ratio and orientation are those of the ellipse with the same second moments. The orientation
    is the angle from the x axis to the long axis, counter-clockwise as seen on the screen, -90 to 90 degrees.
    """
    count = int(labels.max(initial=0))
    area, sum_y, sum_x, sum_yy, sum_xx, sum_xy = _sums(labels, count)
    with np.errstate(invalid="ignore", divide="ignore"):
        y, x = sum_y / area, sum_x / area
        # 1/12 is the second moment of one square pixel, so that a single pixel has a size
        yy, xx, xy = sum_yy / area - y**2 + 1 / 12, sum_xx / area - x**2 + 1 / 12, sum_xy / area - y * x
        middle, reach = (yy + xx) / 2, np.hypot((yy - xx) / 2, xy)
        major, minor = 4 * np.sqrt(middle + reach), 4 * np.sqrt((middle - reach).clip(0))
        aspect = major / minor
    # the y axis of an image points down, hence the minus
    orientation = np.where(area > 0, np.degrees(-np.arctan2(2 * xy, xx - yy) / 2), np.nan)
    diameter = np.where(area > 0, np.sqrt(4 / np.pi * area), np.nan)
    table: Columns = {"area_px": area.astype(np.int64)}
    if pixel_size_um is not None:
        table["area_um2"] = area * pixel_size_um**2
    table["centroid_x_px"], table["centroid_y_px"] = x, y
    lengths = {"equivalent_diameter": diameter, "major_axis": major, "minor_axis": minor}
    table |= {f"{name}_px": values for name, values in lengths.items()}
    if pixel_size_um is not None:
        table |= {f"{name}_um": values * pixel_size_um for name, values in lengths.items()}
    table["aspect_ratio"], table["orientation_deg"] = aspect, orientation
    table["touches_frame"] = touches_frame(labels)
    return table


def adjoining_columns(labels: NDArray[np.int32], pixel_size_um: float | None = None) -> Columns:
    """Measure regions that adjoin each other, as grains do: `columns`, and how many neighbours each has."""
    return columns(labels, pixel_size_um) | {"neighbours": neighbours(labels)}


def touches_frame(labels: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Return for each region whether it has a pixel in the first or last row or column of labels (Y, X)."""
    touches = np.zeros(int(labels.max(initial=0)) + 1, bool)
    for edge in (labels[:1], labels[-1:], labels[:, :1], labels[:, -1:]):
        touches[edge] = True
    return touches[1:]


def neighbours(labels: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return for each region of labels (Y, X) how many others it shares an edge of a pixel with."""
    count = int(labels.max(initial=0))
    found = []
    width = labels.shape[1]
    for rows in _bands(labels.shape):
        band = labels[rows.start : rows.stop + 1]  # with the first row of the next, to which the last has a border too
        flat = band.reshape(-1)
        beside = np.flatnonzero(flat[1:] != flat[:-1])
        below = np.flatnonzero(flat[width:] != flat[:-width])
        for first, step in ((beside[(beside + 1) % width > 0], 1), (below, width)):
            one, other = flat[first], flat[first + step]
            border = (one > 0) & (other > 0)
            one, other = one[border].astype(np.int64), other[border]
            pair = np.minimum(one, other) * (count + 1) + np.maximum(one, other)
            found.append(np.unique(pair[np.diff(pair, prepend=-1) != 0]))  # along a border one pair follows itself
    pairs = np.unique(np.concatenate(found)) if found else np.zeros(0, np.int64)
    return np.bincount(np.concatenate([pairs // (count + 1), pairs % (count + 1)]), minlength=count + 1)[1:]


def means(labels: NDArray[np.int32], values: NDArray[np.generic]) -> NDArray[np.float64]:
    """Return the mean of values (Y, X) in each region of labels (Y, X); NaN where a region has no pixel."""
    count = int(labels.max(initial=0))
    area, total = np.zeros(count + 1), np.zeros(count + 1)
    for rows in _bands(labels.shape):
        part = labels[rows].ravel()
        area += np.bincount(part, minlength=count + 1)
        total += np.bincount(part, values[rows].ravel(), count + 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean: NDArray[np.float64] = total[1:] / area[1:]
    return mean


def filled(values: NDArray[Scalar], known: NDArray[np.bool_]) -> tuple[NDArray[Scalar], NDArray[np.float32]]:
    """Return values (Y, X) in which each that is not known is that of the nearest known one, and its distance in px."""
    distance_px, nearest = cv2.distanceTransformWithLabels(
        (~known).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    value_of = np.zeros(int(nearest.max()) + 1, values.dtype)
    value_of[nearest[known]] = values[known]
    return np.where(known, values, value_of[nearest]), np.asarray(distance_px, np.float32)


def _bands(shape_px: tuple[int, ...]) -> list[slice]:
    step = max(1, BAND_PX // max(shape_px[1], 1))
    return [slice(start, start + step) for start in range(0, shape_px[0], step)]


def _sums(labels: NDArray[np.int32], count: int) -> NDArray[np.float64]:
    """Return (6, count): the sums of 1, y, x, y^2, x^2 and x y over each region.

    One run of equal labels in a row is summed in closed form: a run costs what a pixel would.
    """
    total = np.zeros((6, count + 1))
    for rows in _bands(labels.shape):
        band = labels[rows]
        starts = np.ones(band.shape, bool)
        np.not_equal(band[:, 1:], band[:, :-1], out=starts[:, 1:])
        first = np.flatnonzero(starts)
        run = band.reshape(-1)[first]
        length = np.diff(first, append=band.size).astype(np.float64)
        wanted = run > 0
        first, run, length = first[wanted], run[wanted], length[wanted]
        y = (first // band.shape[1] + rows.start).astype(np.float64)
        x = (first % band.shape[1]).astype(np.float64)
        along = length * x + length * (length - 1) / 2
        squares = length * x * x + x * length * (length - 1) + (length - 1) * length * (2 * length - 1) / 6
        for row, weights in enumerate((length, length * y, along, length * y * y, squares, along * y)):
            total[row] += np.bincount(run, weights, count + 1)
    return total[:, 1:]
