"""Edits of labels: each returns what to write where, so that napari writes it and can undo it."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from micro.errors import MicroError
from micro.measure import filled

Labels = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Edit:
    """One undoable step: the pixels (y, x) and the value or values they get."""

    pixels: tuple[NDArray[np.intp], NDArray[np.intp]]
    values: int | NDArray[np.int32]


def merge(labels: Labels, numbers: Sequence[int]) -> Edit:
    """Give all regions of these numbers the first number."""
    chosen = [number for number in dict.fromkeys(numbers) if number > 0]
    if len(chosen) < 2:
        raise MicroError("Merging takes two regions or more: drag from one into the next.")
    return Edit(_where(np.isin(labels, chosen[1:])), chosen[0])


def delete(labels: Labels, number: int) -> Edit:
    """Make background of a region."""
    return Edit(_where(labels == _region(labels, number)), 0)


def renumber(labels: Labels, number: int, free: int) -> Edit:
    """Give a region a free number: a change of class is one, so that undo brings number and class back."""
    return Edit(_where(labels == _region(labels, number)), free)


def split(labels: Labels, path: NDArray[np.float64], free: int) -> Edit:
    """Cut the region that most of a path (N, 2) of y, x lies in along that path.

    The largest piece keeps the number, the others get those from `free` on; pixels under the path go to the nearest
    piece. Raises MicroError where the path does not part the region.
    """
    number = crossed(labels, path)
    region = labels == number
    rows, columns = (slice(int(axis.min()), int(axis.max()) + 1) for axis in np.nonzero(region))
    inside = region[rows, columns]
    corner = np.array([rows.start, columns.start])
    cut = np.zeros(inside.shape, np.uint8)
    points = np.round(np.asarray(path) - corner).astype(np.int32)[:, ::-1]
    cv2.polylines(cut, [points], isClosed=False, color=1)
    count, pieces = cv2.connectedComponents((inside & (cut == 0)).astype(np.uint8), connectivity=4)
    if count < 3:
        raise MicroError("The line does not part the region: draw it from edge to edge.")
    nearest, _ = filled(np.asarray(pieces), np.asarray(pieces) > 0)
    order = np.argsort(-np.bincount(nearest[inside], minlength=count)[1:], kind="stable") + 1
    new = np.zeros(count, np.int32)
    new[order] = [number, *range(free, free + count - 2)]
    ys, xs = np.nonzero(inside)
    return Edit((ys + rows.start, xs + columns.start), new[nearest[ys, xs]])


def crossed(labels: Labels, path: NDArray[np.float64]) -> int:
    """Return the region that most of a path (N, 2) of y, x lies in; raise MicroError for the background."""
    counts = np.bincount(under(labels, path))
    counts[:1] = 0
    if not counts.any():
        raise MicroError("There is no region under the line.")
    return int(counts.argmax())


def under(labels: Labels, path: NDArray[np.float64]) -> NDArray[np.int32]:
    """Return the labels (M,) along a path (N, 2) of y, x, pixel by pixel, in its order."""
    points = np.asarray(path, np.float64)
    dense = [points[:1]]
    for here, there in pairwise(points):
        steps = max(1, int(np.ceil(np.abs(there - here).max())))
        dense.append(here + (there - here) * np.arange(1, steps + 1)[:, np.newaxis] / steps)
    pixels = np.round(np.concatenate(dense)).astype(np.intp)
    inside = ((pixels >= 0) & (pixels < labels.shape)).all(axis=1)
    y, x = pixels[inside].T
    return np.asarray(labels[y, x])


def _region(labels: Labels, number: int) -> int:
    if number <= 0 or not (labels == number).any():
        raise MicroError("There is no region there: click inside one.")
    return number


def _where(mask: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    y, x = np.nonzero(mask)
    return y, x
