"""Overlapping images of one specimen become one map: where each lies, and which regions are the same thing.

Positions are (y, x) in pixels of the map, of an image's first pixel. Where overlaps show something, images are shifted
until they agree; where they show nothing, what the stage says stands.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from skimage.registration import phase_cross_correlation

LEAST_LIKENESS = 0.35  # correlation of two overlaps from which their shift is believed
LEAST_STRUCTURE = 0.004  # standard deviation of contrasts below which an overlap shows nothing
LEAST_OVERLAP_PX = 12
LEAST_OVERLAP = 0.1  # of an image, where nobody says how far images overlap
MOST_DRIFT = 0.25  # of an image: neighbours in a row lie no further down or up; marks that repeat say they do
RELIEF_PX, MOST_RELIEF = 8, 0.2
DARK = -0.1  # contrast, on average, below which a place may lie in a dark corner
TRUST_IN_THE_STAGE = 0.05  # weight of a stated position beside a measured shift
SAME = 0.5  # share of the smaller of two regions that both must cover to be one

Plane = NDArray[np.float32]
Positions = NDArray[np.float64]


@dataclass(frozen=True)
class Shift:
    """How far (y, x) image `other` lies from image `one`, as their overlap shows; likeness: correlation, up to 1."""

    one: int
    other: int
    y_px: float
    x_px: float
    likeness: float


@dataclass(frozen=True)
class Piece:
    """One region of one image; both from 0 and 1 on, as in its labels."""

    image: int
    index: int


def relief(contrast: Plane) -> Plane:
    """Return what stands out in a contrast (y, x) within few pixels: the vignette and dark corners show in no shift."""
    smooth = cv2.GaussianBlur(contrast, (0, 0), RELIEF_PX)
    bright = (smooth > DARK).astype(np.uint8)
    margin = np.ones((3 * RELIEF_PX + 1,) * 2, np.uint8)
    lit = cv2.erode(bright, margin, borderType=cv2.BORDER_CONSTANT, borderValue=1)
    return np.where(lit > 0, contrast - smooth, 0).clip(-MOST_RELIEF, MOST_RELIEF).astype(np.float32)


def neighbours(positions: Positions, shape_px: tuple[int, int]) -> list[tuple[int, int]]:
    """Return the pairs of images of one size that overlap at their positions (N, 2)."""
    return [
        (one, other)
        for one, other in combinations(range(len(positions)), 2)
        if all(abs(positions[other] - positions[one]) < np.array(shape_px) - LEAST_OVERLAP_PX)
    ]


def pitch(pairs: Sequence[tuple[Plane, Plane]], axis: int) -> NDArray[np.float64] | None:
    """Return by how much (y, x) the second image of each pair lies further on; None where no pair shows it.

    pairs: neighbours in a row (axis 1) or a column (axis 0), as reliefs (y, x).
    """
    found = []
    for one, other in pairs:
        everywhere = np.ones(one.shape, bool)
        moved, _, _ = phase_cross_correlation(  # type: ignore[no-untyped-call]
            one, other, reference_mask=everywhere, moving_mask=everywhere, overlap_ratio=LEAST_OVERLAP
        )
        shift = _shift(one, other, moved, 2)
        if shift is None or shift[2] < LEAST_LIKENESS:
            continue
        if abs(shift[1 - axis]) < min(shift[axis], MOST_DRIFT * one.shape[1 - axis]):
            found.append(shift[:2])
    return np.median(found, axis=0) if found else None


def shifts(planes: Sequence[Plane], positions: Positions, slack_px: int) -> Iterator[Shift]:
    """Yield what the overlaps of images show of their shifts, at most slack_px from the stated ones.

    planes: reliefs (y, x) of one size. positions: (N, 2), stated.
    """
    for one, other in neighbours(positions, (planes[0].shape[0], planes[0].shape[1])):
        found = _shift(planes[one], planes[other], positions[other] - positions[one], slack_px)
        if found is not None:
            yield Shift(one, other, *found)


def settle(positions: Positions, measured: Sequence[Shift]) -> Positions:
    """Return the positions (N, 2) that agree best with stated ones and with the shifts that are believed.

    Least squares, where a shift counts twenty times a stated position; a shift that the others contradict counts less.
    """
    believed = [shift for shift in measured if shift.likeness >= LEAST_LIKENESS]
    count = len(positions)
    found = positions.copy()
    trust = np.ones(len(believed))
    for _ in range(5):
        rows = np.zeros((len(believed) + count, count))
        wanted = np.zeros((len(believed) + count, 2))
        for row, (shift, weight) in enumerate(zip(believed, trust, strict=True)):
            rows[row, shift.other], rows[row, shift.one] = weight, -weight
            wanted[row] = weight * shift.y_px, weight * shift.x_px
        rows[len(believed) :] = TRUST_IN_THE_STAGE * np.eye(count)
        wanted[len(believed) :] = TRUST_IN_THE_STAGE * positions
        found = np.asarray(np.linalg.lstsq(rows, wanted, rcond=None)[0], np.float64)
        strays = [np.hypot(*(found[shift.other] - found[shift.one] - (shift.y_px, shift.x_px))) for shift in believed]
        trust = 1 / (1 + np.square(np.array(strays) / 2))
    return found


def same_things(
    labels_of: Callable[[int], NDArray[np.int32]], positions: NDArray[np.int64], shapes_px: Sequence[tuple[int, int]]
) -> list[tuple[Piece, ...]]:
    """Return the regions of all images, those together that are one thing: half of the smaller lies in the other.

    labels_of: the labels (Y, X) of an image, read when they are needed. positions: (N, 2) whole pixels of the map.
    """
    pieces: list[Piece] = []
    for image in range(len(positions)):
        numbers = np.unique(labels_of(image))
        pieces += [Piece(image, int(number)) for number in numbers[numbers > 0]]
    place = {piece: index for index, piece in enumerate(pieces)}
    joined = []
    for one, other in combinations(range(len(positions)), 2):
        windows = _common(positions[one], shapes_px[one], positions[other], shapes_px[other])
        if windows is None:
            continue
        here, there = labels_of(one)[windows[0]], labels_of(other)[windows[1]]
        both = (here > 0) & (there > 0)
        pairs, counts = np.unique(np.stack([here[both], there[both]]), axis=1, return_counts=True)
        here_px, there_px = np.bincount(here.ravel()), np.bincount(there.ravel())
        for (first, second), area_px in zip(pairs.T.tolist(), counts.tolist(), strict=True):
            if area_px >= SAME * min(here_px[first], there_px[second]):
                joined.append((place[Piece(one, first)], place[Piece(other, second)]))
    first_of, second_of = np.array(joined, np.intp).reshape(-1, 2).T
    table = coo_array((np.ones(len(joined)), (first_of, second_of)), shape=(len(pieces), len(pieces)))
    count, group = connected_components(table, directed=False)
    things: list[list[Piece]] = [[] for _ in range(count)]
    for piece, number in zip(pieces, group, strict=True):
        things[number].append(piece)
    return [tuple(thing) for thing in things]


def union(
    thing: Sequence[Piece], labels_of: Callable[[int], NDArray[np.int32]], positions: Mapping[int, NDArray[np.int64]]
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Return where a thing lies, as a mask (y, x) and the place (2,) of its first pixel on the map."""
    found = []
    for piece in thing:
        inside = labels_of(piece.image) == piece.index
        rows, across = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
        cut = inside[rows[0] : rows[-1] + 1, across[0] : across[-1] + 1]
        found.append((cut, positions[piece.image] + (rows[0], across[0])))
    start = np.min([corner for _, corner in found], axis=0)
    stop = np.max([corner + cut.shape for cut, corner in found], axis=0)
    mask = np.zeros(stop - start, bool)
    for cut, corner in found:
        y, x = corner - start
        mask[y : y + cut.shape[0], x : x + cut.shape[1]] |= cut
    return mask, start


def _shift(one: Plane, other: Plane, stated: NDArray[np.float64], slack_px: int) -> tuple[float, float, float] | None:
    """Return shift (y, x) and likeness of two overlaps near a stated shift; None where they show nothing."""
    whole = np.rint(stated).astype(np.int64)
    windows = _common(np.zeros(2, np.int64), one.shape, whole, other.shape)
    if windows is None:
        return None
    here, there = one[windows[0]], other[windows[1]]
    slack = min(slack_px, min(there.shape) // 3)
    if slack < 1:
        return None
    middle = there[slack:-slack, slack:-slack]
    if min(middle.std(), here.std()) < LEAST_STRUCTURE:
        return None
    likeness = cv2.matchTemplate(here, np.ascontiguousarray(middle), cv2.TM_CCOEFF_NORMED)
    y, x = np.unravel_index(int(likeness.argmax()), likeness.shape)
    best = float(likeness[y, x])
    moved = (
        _peak(likeness[:, x], int(y)) - slack + whole[0],
        _peak(likeness[y], int(x)) - slack + whole[1],
    )
    return float(moved[0]), float(moved[1]), best


def _peak(values: NDArray[Any], index: int) -> float:
    """Return where the parabola through a maximum and its two neighbours is highest."""
    if not 0 < index < len(values) - 1:
        return float(index)
    before, here, after = values[index - 1 : index + 2].astype(np.float64)
    bend = before - 2 * here + after
    return index + (0.5 * (before - after) / bend if bend < 0 else 0.0)


def _common(
    one: NDArray[np.int64], one_px: tuple[int, ...], other: NDArray[np.int64], other_px: tuple[int, ...]
) -> tuple[tuple[slice, slice], tuple[slice, slice]] | None:
    """Return the windows of two images that show the same; None where there is nothing of that."""
    start, stop = np.maximum(one, other), np.minimum(one + one_px[:2], other + other_px[:2])
    if (stop - start < 1).any():
        return None
    first, second = (
        (slice(int(start[0] - at[0]), int(stop[0] - at[0])), slice(int(start[1] - at[1]), int(stop[1] - at[1])))
        for at in (one, other)
    )
    return first, second
