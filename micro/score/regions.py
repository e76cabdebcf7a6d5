"""Annotated regions against found regions of one image.

Everything is read off one table, the pixels that each true region shares with each found region. As a partition
(adjusted Rand index, variation of information) the background 0 is one part among the others; as objects (F1, AP) it
is none. Pixels whose truth is negative are not counted anywhere.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import maximum_bipartite_matching


@dataclass(frozen=True, eq=False)
class Overlap:
    """The cells of the truth x found table that are not empty.

    truth, found: (N,) int64, the two labels of each cell.
    area_px: (N,) int64, the pixels that carry both labels.
    """

    truth: NDArray[np.int64]
    found: NDArray[np.int64]
    area_px: NDArray[np.int64]


@dataclass(frozen=True)
class Variation:
    """Variation of information: what found splits of the truth and what it merges; both 0 for the same partition."""

    split_bits: float
    merge_bits: float

    @property
    def total_bits(self) -> float:
        """The figure that the literature calls VI."""
        return self.split_bits + self.merge_bits


@dataclass(frozen=True)
class Matches:
    """How many true regions were found, at one IoU."""

    matched: int
    only_found: int
    only_truth: int

    @property
    def precision(self) -> float:
        """Share of the found regions that are true."""
        return _share(self.matched, self.matched + self.only_found)

    @property
    def recall(self) -> float:
        """Share of the true regions that were found."""
        return _share(self.matched, self.matched + self.only_truth)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return _share(2 * self.matched, 2 * self.matched + self.only_found + self.only_truth)

    @property
    def average_precision(self) -> float:
        """TP / (TP + FP + FN), as cell segmentation counts it."""
        return _share(self.matched, self.matched + self.only_found + self.only_truth)


@dataclass(frozen=True, eq=False)
class Pairs:
    """True and found regions that belong together, one to one.

    truth, found: (N,) int64, their labels.
    """

    truth: NDArray[np.int64]
    found: NDArray[np.int64]


def _share(part: int, whole: int) -> float:
    """Return part / whole; nothing to find and nothing found is a right answer."""
    return part / whole if whole else 1.0


def overlap(truth: NDArray[np.integer], found: NDArray[np.integer]) -> Overlap:
    """Count the pixels of every pair of labels.

    truth: (Y, X), negative where the annotation says nothing.
    found: (Y, X), 0 or more.
    """
    if truth.shape != found.shape:
        raise ValueError(f"truth {truth.shape} and found {found.shape} are one image each")
    if found.min(initial=0) < 0:
        raise ValueError("found labels are 0 or more")
    known = truth >= 0
    # intp, since labels read from colours reach 2**24 and scipy picks the index type itself
    rows, columns = truth[known].astype(np.intp), found[known].astype(np.intp)
    table = sparse.coo_array((np.ones(rows.size, np.int64), (rows, columns))).tocsr() if rows.size else None
    if table is None:
        empty = np.zeros(0, np.int64)
        return Overlap(empty, empty, empty)
    table.sum_duplicates()
    cells = table.tocoo()
    return Overlap(cells.row.astype(np.int64), cells.col.astype(np.int64), cells.data)


def without_specks(truth: NDArray[np.integer], min_area_px: int) -> NDArray[np.int64]:
    """Return truth (Y, X) with -1 in place of regions smaller than min_area_px, which annotation tools leave behind."""
    _, part, area_px = np.unique(truth, return_inverse=True, return_counts=True)
    small = (area_px < min_area_px)[part.reshape(truth.shape)]
    return np.where(small & (truth > 0), -1, truth).astype(np.int64)


def mostly_known(found: NDArray[np.integer], truth: NDArray[np.integer]) -> NDArray[np.integer]:
    """Return found (Y, X) with 0 in place of regions of which more than half lies where truth is negative.

    They are cut by the edge of what was annotated, and the rest of them is no region of its own.
    """
    areas_px = np.bincount(found.ravel())
    known_px = np.bincount(found[truth >= 0], minlength=len(areas_px))
    return np.where((2 * known_px >= areas_px)[found], found, 0)


def adjusted_rand_index(cells: Overlap) -> float:
    """Return how far pairs of pixels agree on being together, 1 for the same partition and about 0 for chance."""
    together = _pairs(cells.area_px)
    true_pairs, found_pairs = _pairs(_totals(cells.truth, cells.area_px)), _pairs(_totals(cells.found, cells.area_px))
    pairs = _pairs(np.array([cells.area_px.sum()]))
    expected = true_pairs * found_pairs / pairs if pairs else 0.0
    best = (true_pairs + found_pairs) / 2
    return 1.0 if best == expected else (together - expected) / (best - expected)


def _pairs(area_px: NDArray[np.int64]) -> float:
    areas = area_px.astype(np.float64)
    return float((areas * (areas - 1) / 2).sum())


def _totals(labels: NDArray[np.int64], area_px: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the area of each label that occurs."""
    _, part = np.unique(labels, return_inverse=True)
    totals: NDArray[np.int64] = np.bincount(part, weights=area_px).astype(np.int64)
    return totals


def variation_of_information(cells: Overlap) -> Variation:
    """Return H(found | truth), which grows with splits, and H(truth | found), which grows with merges."""
    whole = cells.area_px.sum()
    if not whole:
        return Variation(0.0, 0.0)
    joint = _entropy_bits(cells.area_px / whole)
    true_bits = _entropy_bits(_totals(cells.truth, cells.area_px) / whole)
    found_bits = _entropy_bits(_totals(cells.found, cells.area_px) / whole)
    return Variation(split_bits=max(joint - true_bits, 0.0), merge_bits=max(joint - found_bits, 0.0))


def _entropy_bits(share: NDArray[np.float64]) -> float:
    return float(-(share * np.log2(share)).sum())


def pairs(cells: Overlap, iou: float = 0.5) -> Pairs:
    """Pair true and found regions one to one where their intersection over union is at least iou.

    iou: 0.5 to 1; above 0.5 no region has two partners.
    """
    if not 0.5 <= iou <= 1:
        raise ValueError(f"an IoU of {iou} does not decide who belongs to whom; take 0.5 to 1")
    truth, row = np.unique(cells.truth, return_inverse=True)
    found, column = np.unique(cells.found, return_inverse=True)
    true_px, found_px = np.bincount(row, weights=cells.area_px), np.bincount(column, weights=cells.area_px)
    cell_iou = cells.area_px / (true_px[row] + found_px[column] - cells.area_px)
    near = (cell_iou >= iou) & (cells.truth > 0) & (cells.found > 0)
    table = sparse.csr_array((cell_iou[near], (row[near], column[near])), shape=(len(truth), len(found)))
    partner = maximum_bipartite_matching(table, perm_type="column")
    rows = np.flatnonzero(partner >= 0)
    return Pairs(truth[rows], found[partner[rows]])


def match(cells: Overlap, iou: float = 0.5) -> Matches:
    """Count the `pairs` of true and found regions, and those that have no partner."""
    together = pairs(cells, iou)
    return Matches(
        matched=len(together.truth),
        only_found=len(np.unique(cells.found[cells.found > 0])) - len(together.truth),
        only_truth=len(np.unique(cells.truth[cells.truth > 0])) - len(together.truth),
    )


def pooled(images: Iterable[Matches]) -> Matches:
    """Add up the matches of several images, so that each region counts once wherever it lies."""
    parts = tuple(images)
    return Matches(
        matched=sum(part.matched for part in parts),
        only_found=sum(part.only_found for part in parts),
        only_truth=sum(part.only_truth for part in parts),
    )
