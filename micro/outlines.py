"""Which places of a chip are terraces of crystals, by their colour: what a network outlined, and what it did not see.

Each region is seen in a window of its own, so it does not matter how large the image is; no float map of it is made.
"""

from dataclasses import dataclass
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from micro import terraces
from micro.illumination import Scaling, grain
from micro.tiles import Tiling, blocks

Window = tuple[slice, slice]

SMOOTH_PX = 5
GRAINS = 1.5  # of the substrate's grain, which a terrace shows too, add to how uneven it may be
LEAST_BOUNDED = 0.6  # of a terrace's outline; a tenth more would cost drawn chips right regions
PLACES_PX = 1024
# Of what is found by colour alone: pixels of an even place, how much of its hull it fills, how much of it may belong to
# what is outlined already, and by how much of its contrast it may be less even: strong colours are sharpened more.
LEAST_PLACE_PX, LEAST_SOLIDITY, MOST_KNOWN, UNEVEN_SHARE = 25, 0.85, 0.3, 0.05


@dataclass(frozen=True)
class Limits:
    """What a terrace must be: its step of contrast to the next one, how far it may stray from one colour, its area."""

    step: float
    max_unevenness: float
    min_area_px: int


@dataclass(frozen=True, eq=False)
class Chip:
    """A photograph of crystals on a substrate.

    pixels: (Y, X, C). scaling: to contrast against the substrate.
    stray: how far single smoothed pixels of the bare substrate stray, a standard deviation.
    """

    pixels: NDArray[np.generic]
    scaling: Scaling
    limits: Limits
    stray: float

    @classmethod
    def of(cls, pixels: NDArray[np.generic], scaling: Scaling, limits: Limits) -> Self:
        """Return the chip of an image (Y, X, C), whose grain is measured."""
        return cls(pixels, scaling, limits, grain(pixels, scaling, SMOOTH_PX))

    @property
    def shape_px(self) -> tuple[int, int]:
        """Height and width."""
        return self.pixels.shape[0], self.pixels.shape[1]

    def contrast(self, window: Window) -> NDArray[np.float32]:
        """Return the smoothed contrast (C, y, x) to the substrate in a window."""
        _, spread = self.scaling.window(self.shape_px, *window)
        smooth = np.asarray(cv2.medianBlur(np.ascontiguousarray(self.pixels[window]), SMOOTH_PX))
        return (smooth.transpose(2, 0, 1) / spread - 1).astype(np.float32)

    def is_terrace(self, contrast: NDArray[np.float32], part: NDArray[np.bool_], uneven_share: float = 0.0) -> bool:
        """Return whether a region (y, x) is large enough, of one colour that is not the substrate's, and has an edge.

        uneven_share: of its contrast, by which it may be less even than the limits say.
        """
        if np.count_nonzero(part) < self.limits.min_area_px:
            return False
        off = float(np.abs(np.median(contrast[:, part], axis=1)).max())
        most_uneven = np.hypot(self.limits.max_unevenness, GRAINS * self.stray) + uneven_share * off
        return bool(
            off >= terraces.LEAST_CONTRAST
            and terraces.unevenness(contrast, part) <= most_uneven
            and terraces.bounded(contrast, part, self.limits.step) >= LEAST_BOUNDED
        )


def split(labels: NDArray[np.int32], chip: Chip) -> tuple[NDArray[np.int32], list[int]]:
    """Return the terraces (Y, X) of outlined regions, numbered from 1, and for each the place of its region from 0."""
    found = np.zeros(labels.shape, np.int32)
    kept: list[int] = []
    for index, tight in enumerate(find_objects(labels)):
        window = _widened(tight, labels.shape)
        contrast = chip.contrast(window)
        parts = terraces.split(
            contrast,
            labels[window] == index + 1,
            step=chip.limits.step,
            min_area_px=max(1, chip.limits.min_area_px // 2),
        )
        for number in range(1, int(parts.max()) + 1):
            part = parts == number
            if chip.is_terrace(contrast, part):
                kept.append(index)
                found[window][part] = len(kept)
    return found, kept


def add_by_colour(labels: NDArray[np.int32], chip: Chip) -> int:
    """Add crystals that colour alone tells to labels (Y, X), in place; return how many these are."""
    kinds = np.empty(labels.shape, np.uint8)
    for tile in blocks(labels.shape, Tiling(size_px=PLACES_PX, halo_px=16, stride_px=16)):
        kinds[tile.write] = terraces.places(chip.contrast(tile.read), chip.stray)[tile.keep]
    if not (kinds == terraces.BARE).any():
        return 0  # a black frame: without a substrate there is no contrast to it
    _, found, facts, _ = cv2.connectedComponentsWithStats(
        (kinds == terraces.CRYSTAL).view(np.uint8), connectivity=4, ltype=cv2.CV_32S
    )
    first = number = int(labels.max(initial=0))
    for place in 1 + np.flatnonzero(facts[1:, cv2.CC_STAT_AREA] >= LEAST_PLACE_PX):
        left, top, width, height, _ = facts[place].tolist()
        window = _widened((slice(top, top + height), slice(left, left + width)), labels.shape)
        contrast = chip.contrast(window)
        known = labels[window] > 0
        crystal = terraces.grown(contrast, found[window] == place, kinds[window] > 0)
        if (
            chip.is_terrace(contrast, crystal, UNEVEN_SHARE)
            and terraces.solidity(crystal) >= LEAST_SOLIDITY
            and np.count_nonzero(crystal & known) <= MOST_KNOWN * np.count_nonzero(crystal)
        ):
            number += 1
            labels[window][crystal & ~known] = number
    return number - first


def _widened(window: Window, shape_px: tuple[int, ...]) -> Window:
    """Return a window with what lies around it, as far as the image reaches."""
    reach_px = terraces.REACH_PX + SMOOTH_PX // 2
    rows, columns = (
        slice(max(part.start - reach_px, 0), min(part.stop + reach_px, length_px))
        for part, length_px in zip(window, shape_px, strict=True)
    )
    return rows, columns
