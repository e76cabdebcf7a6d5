"""A field of view made ready for counting: every grain one label, boundaries without width."""

from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from micro import measure
from micro.errors import UnreadableImage

Pixel = TypeVar("Pixel", bound=np.generic)

WIDEST_BOUNDARY_PX = 24
"""Where 0 is wider than this it is no boundary but a place that was not measured."""

SMALLEST_FIELD_PX = 8


@dataclass(frozen=True, eq=False)
class Section:
    """Grains of one field that touch each other.

    labels: (Y, X) int32, 1 to the number of grains; 0 only where nothing was measured.
    numbers: (N,) the value that each grain had in the image it came from.
    own_px: (N,) int64, the pixels that carry that value.
    area_px: (N,) int64, these with the grain's share of the boundaries around it.
    is_cut: (N,) whether a grain meets the frame, or a place that was not measured, and may go on behind it.
    middles_px: (N, 2) y and x of the middle of each grain.
    """

    labels: NDArray[np.int32]
    numbers: NDArray[np.int64]
    own_px: NDArray[np.int64]
    area_px: NDArray[np.int64]
    is_cut: NDArray[np.bool_]
    middles_px: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def measured_px(self) -> int:
        """Pixels that belong to a grain."""
        return int(self.area_px.sum())

    @property
    def rough_intercept_px(self) -> float:
        """Mean intercept along rows and columns, to choose how large a test pattern should be."""
        steps = sum(int(np.count_nonzero(_differs(*pair))) for pair in _beside(self.labels))
        return 2 * self.measured_px / max(steps, 1)


def section_of(labels: NDArray[np.integer]) -> Section:
    """Make a label image ready: number its grains 1 to N and share out its boundaries.

    labels: (Y, X); every value above 0 is one grain, whether grains touch or lines of 0 part them. Lines up to
        WIDEST_BOUNDARY_PX wide are given to the nearest grain, pixel by pixel: areas are measured with boundaries of no
        width (E1382-97 asks for boundaries of one pixel). What is wider, or negative, stays out as not measured.

    A gap in a line of 0 joins nothing here, since a grain is what carries one number; whoever makes numbers from a
    mask of boundaries (`grains_between`) gets one grain where a boundary is broken.

    Raises UnreadableImage where there is no grain, or hardly a field.
    """
    if labels.ndim != 2:
        raise ValueError(f"labels are (Y, X), not {labels.shape}")
    if min(labels.shape) < SMALLEST_FIELD_PX:
        raise UnreadableImage(f"A field of {labels.shape[0]} x {labels.shape[1]} px has no room for a test line.")
    numbered, numbers = _numbered(labels)
    if not len(numbers):
        raise UnreadableImage("There is no grain in these labels: every pixel is 0. Is this the right file?")
    closed = _shared_out(numbered, labels)
    table = measure.columns(closed)
    area_px, is_cut = table["area_px"].astype(np.int64), table["touches_frame"].astype(bool)
    if area_px.sum() < closed.size:
        for first, second in _beside(closed):
            meets = (first == 0) != (second == 0)
            is_cut[np.maximum(first[meets], second[meets]) - 1] = True
    middles_px = np.stack([table["centroid_y_px"], table["centroid_x_px"]], axis=1).astype(np.float64)
    own_px = area_px
    if closed is not numbered:
        own_px = np.bincount(numbered.ravel(), minlength=len(numbers) + 1)[1:].astype(np.int64)
    return Section(closed, numbers, own_px, area_px, is_cut, middles_px)


def grains_between(boundary: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Return a label image (Y, X) of the grains that a mask of boundaries (Y, X) leaves; 0 on the boundaries.

    Pixels of one grain hang together over their edges, not over corners, so that a boundary of one pixel that runs
    diagonally is closed. A boundary that is broken for a pixel joins two grains into one: a limit of every mask.
    """
    return cv2.connectedComponents((~boundary).astype(np.uint8), connectivity=4, ltype=cv2.CV_32S)[1].astype(
        np.int32, copy=False
    )


def without_small(labels: NDArray[np.integer], min_area_px: int) -> NDArray[np.integer]:
    """Return labels (Y, X) with grains below min_area_px given to their neighbours, pixel by pixel to the nearest.

    Small ones that adjoin no other grain become 0.
    """
    numbered, numbers = _numbered(labels)
    small = np.bincount(numbered.ravel(), minlength=len(numbers) + 1) < min_area_px
    small[0] = False
    if not small.any():
        return labels
    gone, kept = small[numbered], (numbered > 0) & ~small[numbered]
    without = np.where(gone, 0, labels)
    if kept.any():
        taken = gone & _adjoining(_shared_out(numbered, labels), small)
        without[taken] = measure.filled(labels, kept)[0][taken]
    return without


def _adjoining(closed: NDArray[np.int32], small: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return where closed (Y, X) is of small grains (N + 1,) that adjoin others, be it over further small ones."""
    parts = cv2.connectedComponents(small[closed].astype(np.uint8), connectivity=4, ltype=cv2.CV_32S)[1]
    beside_kept = np.zeros(int(parts.max()) + 1, bool)
    is_kept = (closed > 0) & (parts == 0)
    for (first, second), (first_kept, second_kept) in zip(_beside(parts), _beside(is_kept), strict=True):
        beside_kept[first[second_kept]] = True
        beside_kept[second[first_kept]] = True
    beside_kept[0] = False
    return np.asarray(beside_kept[parts])


def _numbered(labels: NDArray[np.integer]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return labels numbered 1 to N in the order of their values, 0 where they are not above 0, and those values.

    Sorts runs of equal labels in place of pixels.
    """
    flat = np.ascontiguousarray(labels).reshape(-1)
    starts = np.flatnonzero(np.concatenate([[True], flat[1:] != flat[:-1]])) if flat.size else np.zeros(0, np.intp)
    values, which = np.unique(flat[starts], return_inverse=True)
    wanted = values > 0
    number = np.where(wanted, np.cumsum(wanted), 0).astype(np.int32)
    runs = np.diff(starts, append=flat.size)
    return np.repeat(number[which], runs).reshape(labels.shape), values[wanted].astype(np.int64)


def _shared_out(numbered: NDArray[np.int32], labels: NDArray[np.integer]) -> NDArray[np.int32]:
    """Return numbered (Y, X) with its thin 0 given to the nearest grain."""
    empty = numbered == 0
    if not empty.any():
        return numbered
    closed, distance_px = measure.filled(numbered, ~empty)
    closed[labels < 0] = 0
    core = distance_px > WIDEST_BOUNDARY_PX / 2
    if core.any():  # a place is what a disc of that width fits into: the rim around its core belongs to it
        from_core_px = cv2.distanceTransform((~core).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
        closed[empty & (from_core_px <= WIDEST_BOUNDARY_PX / 2)] = 0
    return np.asarray(closed, np.int32)


def _beside(labels: NDArray[Pixel]) -> tuple[tuple[NDArray[Pixel], NDArray[Pixel]], ...]:
    """Return the pixels and their neighbours, once along rows and once along columns."""
    return (labels[:, :-1], labels[:, 1:]), (labels[:-1], labels[1:])


def _differs(first: NDArray[np.int32], second: NDArray[np.int32]) -> NDArray[np.bool_]:
    differs: NDArray[np.bool_] = (first != second) & (first > 0) & (second > 0)
    return differs
