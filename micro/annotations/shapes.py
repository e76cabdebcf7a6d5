"""What annotators draw, as pixels: outlines with holes, ellipses and run lengths.

Coordinates are those of every annotation tool's canvas: x to the right, y down, in px from the corner of the image, so
that pixel (row, column) covers column .. column + 1 and row .. row + 1. A pixel belongs to a shape whose outline
encloses its middle; regions that share an outline therefore share no pixel and leave none between them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Ring = NDArray[np.float64]
"""Corners (N, 2) of a closed outline, x and y in px."""

IGNORE, ANNOTATED = "ignore", "annotated"
"""Classes with a meaning of their own: nothing is known inside the one, and nothing outside the other."""

ELLIPSE_CORNERS = 720
# An outline crosses each row of pixels a few times; what crosses more often than this was not drawn by a person.
MOST_CROSSINGS = 50_000_000


class BadShape(ValueError):
    """A shape cannot be drawn; the message says why, and goes into the list of problems."""


class Patch(NamedTuple):
    """Some pixels of an image: inside (y, x) bool, its first pixel at row top_px and column left_px."""

    inside: NDArray[np.bool_]
    top_px: int = 0
    left_px: int = 0

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the image."""
        height, width = self.inside.shape
        return slice(self.top_px, self.top_px + height), slice(self.left_px, self.left_px + width)


Draw = Callable[[tuple[int, int]], Patch]
"""Height and width of an image in px -> the pixels of a shape in it; raises BadShape."""


@dataclass(frozen=True, eq=False)
class Region:
    """One annotated region.

    label: what its file calls it, for messages ("annotation 17").
    class_name: None where the file names no classes. IGNORE and ANNOTATED mean what they say.
    """

    label: str
    class_name: str | None
    draw: Draw

    @property
    def is_ignored(self) -> bool:
        """Whether nothing is known inside."""
        return self.class_name is not None and self.class_name.lower() == IGNORE

    @property
    def is_area(self) -> bool:
        """Whether this is the part of the image that was annotated."""
        return self.class_name is not None and self.class_name.lower() == ANNOTATED


def polygons(parts: Sequence[Sequence[Ring]]) -> Draw:
    """Return how to draw polygons: of each the first ring is the outline, and further ones are holes."""
    if not parts:
        raise BadShape("has no outline")
    for rings in parts:
        for ring in rings:
            if len(ring) < 3:
                raise BadShape(f"has {len(ring)} corners, and an outline needs three")
            if not np.isfinite(ring).all():
                raise BadShape("has corners that are no finite numbers")
    return lambda shape_px: _united([_enclosed(rings, shape_px) for rings in parts])


def rectangle(x0: float, y0: float, x1: float, y1: float, degrees: float = 0.0, *, about_middle: bool = False) -> Draw:
    """Return how to draw a rectangle that was turned by so many degrees about its corner (x0, y0), or its middle."""
    corners = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], np.float64)
    return polygons([[_turned(corners, corners.mean(axis=0) if about_middle else corners[0], degrees)]])


def ellipse(x: float, y: float, radius_x: float, radius_y: float, degrees: float = 0.0) -> Draw:
    """Return how to draw an ellipse that was turned by so many degrees about its middle."""
    if not (radius_x > 0 and radius_y > 0):
        raise BadShape(f"is an ellipse with radii {radius_x:g} and {radius_y:g}")
    angle = np.linspace(0, 2 * np.pi, ELLIPSE_CORNERS, endpoint=False)
    ring = np.stack([x + radius_x * np.cos(angle), y + radius_y * np.sin(angle)], axis=1)
    return polygons([[_turned(ring, np.array([x, y]), degrees)]])


def runs(
    counts: Sequence[int], shape_px: tuple[int, int], corner_px: tuple[int, int] | None = None, *, by_column: bool
) -> Draw:
    """Return how to draw run lengths of pixels outside and inside in turn, which begin outside.

    shape_px: height and width of what the runs fill: the whole image, or a part of it with its first pixel at row and
        column corner_px. by_column: runs go down the columns, and not along the rows.
    """
    height, width = shape_px
    if height < 1 or width < 1 or min(counts, default=0) < 0 or sum(counts) != height * width:
        raise BadShape(f"has runs of {sum(counts):,} pixels for {height} x {width} px")

    def draw(image_px: tuple[int, int]) -> Patch:
        if corner_px is None and shape_px != image_px:
            raise BadShape(f"is a mask of {height} x {width} px, and its image is {image_px[0]} x {image_px[1]}")
        flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
        inside = flat.reshape(width, height).T if by_column else flat.reshape(height, width)
        return placed(inside, corner_px or (0, 0), image_px)

    return draw


def placed(inside: NDArray[np.bool_], corner_px: tuple[int, int], image_px: tuple[int, int]) -> Patch:
    """Return a mask (y, x) with its first pixel at corner_px; raise BadShape where it leaves the image."""
    (height, width), (top, left) = inside.shape, corner_px
    if min(top, left) < 0 or top + height > image_px[0] or left + width > image_px[1]:
        raise BadShape(f"is a mask of {height} x {width} px at row {top} and column {left}, outside the image")
    return Patch(inside, top, left)


def union(parts: Sequence[Draw]) -> Draw:
    """Return how to draw several shapes as one region."""
    return parts[0] if len(parts) == 1 else lambda shape_px: _united([part(shape_px) for part in parts])


def _turned(corners: Ring, about: NDArray[np.float64], degrees: float) -> Ring:
    angle = np.deg2rad(degrees)
    along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    shifted = corners - about
    return about + shifted[:, :1] * along + shifted[:, 1:] * across if degrees else corners


def _enclosed(rings: Sequence[Ring], shape_px: tuple[int, int]) -> Patch:
    """Return the pixels whose middle lies inside an odd number of rings.

    The boundaries cross the middle line of each row at some x; from pixel to pixel along the row, inside and outside
    change places at each crossing.
    """
    height, width = shape_px
    start = np.concatenate(rings)
    stop = np.concatenate([np.roll(ring, -1, axis=0) for ring in rings])
    low, high = np.minimum(start[:, 1], stop[:, 1]), np.maximum(start[:, 1], stop[:, 1])
    first, last = (np.ceil(edge - 0.5).clip(0, height).astype(np.int64) for edge in (low, high))
    count = last - first
    if not (total := int(count.sum())):
        return Patch(np.zeros((0, 0), bool))
    if total > MOST_CROSSINGS:
        raise BadShape(f"has {len(start):,} corners that cross {total:,} rows")
    side = np.repeat(np.arange(len(start)), count)
    row = np.arange(total) - np.repeat(np.cumsum(count) - count, count) + first[side]
    slope = (stop[side, 0] - start[side, 0]) / (stop[side, 1] - start[side, 1])
    x = start[side, 0] + (row + 0.5 - start[side, 1]) * slope
    column = np.ceil(x - 0.5).clip(0, width).astype(np.int64)
    top, left = int(row.min()), int(column.min())
    changes = np.zeros((int(row.max()) + 1 - top, int(column.max()) + 1 - left), np.int32)
    np.add.at(changes, (row - top, column - left), 1)
    return Patch(np.cumsum(changes, axis=1)[:, : width - left] % 2 == 1, top, left)


def _united(patches: Sequence[Patch]) -> Patch:
    if len(patches) == 1:
        return patches[0]
    patches = [patch for patch in patches if patch.inside.size] or [Patch(np.zeros((0, 0), bool))]
    top, left = min(patch.top_px for patch in patches), min(patch.left_px for patch in patches)
    bottom = max(patch.top_px + patch.inside.shape[0] for patch in patches)
    right = max(patch.left_px + patch.inside.shape[1] for patch in patches)
    inside = np.zeros((bottom - top, right - left), bool)
    for patch in patches:
        rows, columns = patch.window
        inside[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] |= patch.inside
    return Patch(inside, top, left)
