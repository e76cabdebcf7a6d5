"""What people changed in the labels of a field after a bundle had found them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from micro import measure

NEAR_PX = 1e-3
"""How far the middle of an unchanged region may move in storage."""

PLACE = ("area_px", "centroid_y_px", "centroid_x_px")
"""The columns by which a region is known again."""


@dataclass(frozen=True)
class Change:
    """How corrected labels differ from those that were found.

    before, after: grains.
    added: grains where there was none. removed: grains in whose place there is none.
    merged: grains that became part of others. split: parts of grains that became grains of their own.
    reshaped: grains that stayed one, with other pixels.

    These are None where the labels as they were found are not kept, and only numbers and areas can be compared.
    """

    before: int
    after: int
    added: int | None = None
    removed: int | None = None
    merged: int | None = None
    split: int | None = None
    reshaped: int | None = None

    def __str__(self) -> str:
        kinds = ("added", "removed", "merged", "split", "reshaped")
        counts = [f"{count} {kind}" for kind in kinds if (count := getattr(self, kind))]
        how = ", ".join(counts) or "the file itself was changed, and what was found is not kept"
        return f"{self.before} grains found, {self.after} measured: {how}"


def compare(before: NDArray[np.int32], after: NDArray[np.int32]) -> Change | None:
    """Return what was changed from one label image (Y, X) to another, whatever their numbers; None if nothing was.

    A grain comes from the one that holds most of its pixels, and goes to the one that gets most of its pixels.
    """
    old, new, area_px = _shared(before, after)
    origin, heir = _largest(new, old, area_px), _largest(old, new, area_px)
    from_grain = np.array([number for number in origin.values() if number > 0], np.int64)
    to_grain = np.array([number for number in heir.values() if number > 0], np.int64)
    parts, sources = (dict(zip(*np.unique(side, return_counts=True), strict=True)) for side in (from_grain, to_grain))
    whole_old, whole_new = (np.bincount(np.unique(side, return_inverse=True)[1], area_px) for side in (old, new))
    is_same = (area_px == whole_old[np.searchsorted(np.unique(old), old)]) & (
        area_px == whole_new[np.searchsorted(np.unique(new), new)]
    )
    same = set(old[is_same].tolist())
    stayed = (one for one, other in heir.items() if other > 0 and parts.get(one) == sources.get(other) == 1)
    change = Change(
        before=len(heir),
        after=len(origin),
        added=len(origin) - len(from_grain),
        removed=len(heir) - len(to_grain),
        merged=len(to_grain) - len(sources),
        split=len(from_grain) - len(parts),
        reshaped=sum(one not in same for one in stayed),
    )
    return change if any((change.added, change.removed, change.merged, change.split, change.reshaped)) else None


def altered(labels: NDArray[np.int32], found: Mapping[int, tuple[int, float, float]]) -> Change | None:
    """Return that labels (Y, X) are not those of which a run stored these regions; None if they are.

    found: number -> area in pixels, y and x of its middle.
    """
    kept = sorted(number for number, (area_px, _, _) in found.items() if area_px)
    if labels.max(initial=0) > max(kept, default=0):  # of which a table would have a row for each number below
        return Change(before=len(kept), after=len(np.unique(labels[labels > 0])))
    table = measure.columns(labels)
    now = np.stack([np.asarray(table[name], np.float64) for name in PLACE], axis=1)
    numbers = np.flatnonzero(now[:, 0]) + 1
    then = np.array([found[number] for number in kept], np.float64).reshape(-1, 3)
    if numbers.tolist() == kept and np.abs(now[numbers - 1] - then).max(initial=0) < NEAR_PX:
        return None
    return Change(before=len(kept), after=len(numbers))


def _shared(
    before: NDArray[np.int32], after: NDArray[np.int32]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the pairs of numbers that share pixels, before and after, and how many each pair shares."""
    keys = (before.astype(np.int64) << 32 | after).reshape(-1)
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    pairs, which = np.unique(keys[starts], return_inverse=True)
    area_px = np.bincount(which, np.diff(starts, append=keys.size)).astype(np.int64)
    return pairs >> 32, pairs & 0xFFFFFFFF, area_px


def _largest(of: NDArray[np.int64], other: NDArray[np.int64], area_px: NDArray[np.int64]) -> dict[int, int]:
    """Return for each number above 0 the other with which it shares most pixels."""
    order = np.argsort(area_px, kind="stable")  # of several, the last one written stays
    return {one: at for one, at in zip(of[order].tolist(), other[order].tolist(), strict=True) if one > 0}
