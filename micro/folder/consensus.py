"""What several annotators say of one image, as one annotation."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from micro.score import regions

LEAST_IOU = 0.5


def classes(said: Sequence[NDArray[np.int32]]) -> NDArray[np.int32]:
    """Return the class (Y, X) that more than half of the annotators gave a pixel, and -1 where no class has that."""
    agreed = np.full(said[0].shape, -1, np.int32)
    for number in range(max(int(labels.max(initial=0)) for labels in said) + 1):
        votes = sum((labels == number).astype(np.int32) for labels in said)
        agreed[2 * votes > len(said)] = number
    return agreed


def instances(said: Sequence[NDArray[np.int32]]) -> NDArray[np.int32]:
    """Return the regions (Y, X) that more than half of the annotators drew: an overlap of half with each other.

    A pixel belongs to such a region if more than half of those who drew it say so. Nothing is known of other pixels
    that half of the annotators or more gave to some region, or of which half or more say that nothing is known.
    """
    agreed = np.zeros(said[0].shape, np.int32)
    taken: list[set[int]] = [set() for _ in said]
    for first, labels in enumerate(said):
        partners = [_partners(labels, other) if second != first else {} for second, other in enumerate(said)]
        for region in np.unique(labels[labels > 0]).tolist():
            if region in taken[first]:
                continue
            mates = {first: region}
            for second, partner in enumerate(partners):
                mate = partner.get(region)
                if mate is not None and mate not in taken[second]:
                    mates[second] = mate
            for second, mate in mates.items():
                taken[second].add(mate)
            if 2 * len(mates) > len(said):
                votes = sum((said[second] == mate).astype(np.int32) for second, mate in mates.items())
                agreed[(2 * votes > len(mates)) & (agreed == 0)] = int(agreed.max()) + 1
    drawn = sum((labels > 0).astype(np.int32) for labels in said)
    unsaid = sum((labels < 0).astype(np.int32) for labels in said)
    agreed[(agreed == 0) & ((2 * drawn >= len(said)) | (2 * unsaid >= len(said)))] = -1
    return agreed


def _partners(labels: NDArray[np.int32], other: NDArray[np.int32]) -> dict[int, int]:
    """Return region -> the region of another annotator that overlaps it by LEAST_IOU or more."""
    cells = regions.overlap(labels.clip(0), other.clip(0))
    rows, columns = (np.unique(part, return_inverse=True)[1] for part in (cells.truth, cells.found))
    union = np.bincount(rows, cells.area_px)[rows] + np.bincount(columns, cells.area_px)[columns] - cells.area_px
    good = (cells.truth > 0) & (cells.found > 0) & (cells.area_px >= LEAST_IOU * union)
    return dict(zip(cells.truth[good].tolist(), cells.found[good].tolist(), strict=True))
