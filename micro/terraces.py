"""A crystal's terraces from its colour: each has one thickness, so one contrast, with a step to the next."""

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from skimage.segmentation import watershed

from micro.measure import filled

# Contrasts are counted in bins this wide, and the counts smoothed over about two: the noise of a smoothed image.
BIN = 0.01
SMOOTH_BINS = 2.0
# Edges are blurred by the optics over about this many pixels and belong to neither side.
RIM_PX = 2
RIM = np.ones((2 * RIM_PX + 1,) * 2, np.uint8)
LEAST_PEAK = 0.01
DEEPEST_VALLEY = 0.6
# Patches: colours are counted in cells this wide, a place is even within this range, and this many pixels make one.
PATCH_BIN = 0.05
EVEN = 0.05
LEAST_PATCH_PX = 60
# Places that are told by colour alone. Within a square as wide as the rim, contrasts of an even one range over no more
# than this, or so many times the grain, and a share of the contrast itself; a crystal's are that far from bare.
BARE, CRYSTAL = 1, 2
EVEN_RANGE, EVEN_GRAINS, EVEN_SHARE = 0.015, 5.0, 0.1
LEAST_CONTRAST, CONTRAST_GRAINS = 0.012, 4.0
GROWTH = np.ones((11, 11), np.uint8)  # even places end at most so far, in all, from the edge of what they belong to
# What lies around a region is looked at beyond its blurred rim, over so many pixels.
REACH_PX = RIM_PX + 4
# A pale region's own edge is as pale: this share of its contrast is step enough.
OWN_STEP = 0.6
NEAR_PX = 2 * (REACH_PX + RIM_PX) + 1
STRIP_ROWS = 256


def split(
    contrast: NDArray[np.float32], mask: NDArray[np.bool_], *, step: float, min_area_px: int
) -> NDArray[np.int32]:
    """Return the terraces (y, x) of one crystal, numbered from 1; 1 everywhere inside where there is only one.

    The contrasts of the crystal are projected on the line along which they vary most. Each peak of their histogram that
    stands apart from every higher one is a thickness; pixels go to the nearest, connected pieces are terraces, and what
    is smaller than a terrace goes to its neighbour.

    contrast: (C, y, x), smoothed. mask: (y, x), the crystal.
    step: least difference of contrast between two terraces. min_area_px: least area of one.
    """
    whole = mask.astype(np.int32)
    inner = _inner(mask)
    if np.count_nonzero(inner) < 2 * min_area_px:
        return whole
    samples = contrast[:, inner]
    middle = samples.mean(1)
    direction = np.linalg.eigh(np.cov(samples).reshape(len(samples), -1))[1][:, -1]
    along = np.tensordot(direction, contrast - middle[:, np.newaxis, np.newaxis], 1)
    levels = _levels(along[inner], step)
    if len(levels) < 2:
        return whole
    nearest = np.abs(along[..., np.newaxis] - levels).argmin(-1).astype(np.uint8)
    nearest = np.asarray(cv2.medianBlur(nearest, 5))
    parts = np.zeros(mask.shape, np.int32)
    count = 0
    for level in range(len(levels)):
        piece = cv2.morphologyEx(((nearest == level) & mask).astype(np.uint8), cv2.MORPH_OPEN, RIM)
        found, pieces, facts, _ = cv2.connectedComponentsWithStats(piece, connectivity=4)
        for number in range(1, found):
            if facts[number, cv2.CC_STAT_AREA] >= min_area_px:
                count += 1
                parts[pieces == number] = count
    return np.where(mask, filled(parts, parts > 0)[0], 0).astype(np.int32) if count else whole


def places(contrast: NDArray[np.float32], grain: float) -> NDArray[np.uint8]:
    """Return what each pixel (y, x) is by its colour alone: BARE substrate, part of an even CRYSTAL, or 0 for neither.

    contrast: (C, y, x), smoothed. grain: how far single pixels of it stray, a standard deviation.
    """
    off = np.abs(contrast).max(0)
    even = _range(contrast) < max(EVEN_RANGE, EVEN_GRAINS * grain) + EVEN_SHARE * off
    bare = off <= max(LEAST_CONTRAST, CONTRAST_GRAINS * grain)
    return np.where(even, np.where(bare, BARE, CRYSTAL), 0).astype(np.uint8)


def grown(contrast: NDArray[np.float32], seed: NDArray[np.bool_], others: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return an even place (y, x) with its rim, up to where the colour steps most between it and other even places.

    The rim is shared out by a watershed on the range of contrast (S. Beucher, F. Meyer, in Mathematical Morphology in
    Image Processing, 1993).
    """
    steps = (255 * _range(contrast).clip(0, 1)).astype(np.uint8)
    shared = watershed(steps, seed.astype(np.int32) + 2 * (others & ~seed))  # type: ignore[no-untyped-call]
    near = np.asarray(cv2.dilate(seed.astype(np.uint8), GROWTH)) > 0
    return np.asarray((shared == 1) & near, np.bool_)


def solidity(mask: NDArray[np.bool_]) -> float:
    """Return the share of its convex hull that a region (y, x) fills: near 1 for a crystal, less for wandering dirt."""
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    hull_px2 = cv2.contourArea(cv2.convexHull(np.concatenate(outlines)))
    return min(1.0, float(np.count_nonzero(mask) / max(hull_px2, 1)))


def _range(contrast: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return over how much (y, x) contrasts (C, y, x) range near each pixel, in the channel that ranges most."""
    ranges = [cv2.dilate(plane, RIM) - cv2.erode(plane, RIM) for plane in contrast]
    return np.asarray(np.maximum.reduce(ranges), np.float32)


def even_patches(contrast: NDArray[np.float32], allowed: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the contrasts (N, C) of the even places of an image, the most common first, each colour once.

    contrast: (C, y, x), smoothed. allowed: (y, x), where a place may count.
    """
    even = allowed & (_range(contrast) < EVEN + 0.1 * np.abs(contrast).max(0))
    samples = contrast[:, even].T.astype(np.float64)
    cells, places, counts = np.unique(
        np.floor(samples / PATCH_BIN).astype(np.int64), axis=0, return_inverse=True, return_counts=True
    )
    sums = np.stack([np.bincount(places.ravel(), values, len(cells)) for values in samples.T], axis=1)
    order = np.argsort(-counts, kind="stable")
    kept: list[NDArray[np.float64]] = []
    shares: list[int] = []
    for index in order:
        mean = sums[index] / counts[index]
        same = [number for number, other in enumerate(kept) if np.abs(other - mean).max() < PATCH_BIN]
        if same:
            shares[same[0]] += int(counts[index])
        else:
            kept.append(mean)
            shares.append(int(counts[index]))
    large = [mean for mean, share in zip(kept, shares, strict=True) if share >= LEAST_PATCH_PX]
    return np.array(large).reshape(-1, len(contrast))


def crystals(labels: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return for each terrace of labels (Y, X) the number of its crystal, from 1: terraces that touch share one."""
    count = int(labels.max(initial=0))
    pairs = [np.zeros((0, 2), np.int32)]
    for start in range(0, labels.shape[0], STRIP_ROWS):
        strip = labels[start : start + STRIP_ROWS + 1]
        for here, there in ((strip[1:], strip[:-1]), (strip[:, 1:], strip[:, :-1])):
            touch = (here != there) & (here > 0) & (there > 0)
            pairs.append(np.unique(np.stack([here[touch], there[touch]], axis=1), axis=0))
    first, second = np.concatenate(pairs).T - 1
    touching = coo_array((np.ones(len(first)), (first, second)), shape=(count, count))
    number: NDArray[np.int32] = connected_components(touching, directed=False)[1]
    return number.astype(np.int64) + 1


def unevenness(contrast: NDArray[np.float32], mask: NDArray[np.bool_]) -> float:
    """Return how far the contrast of a region (y, x) strays from its own middle: a robust standard deviation.

    1.48 times the median absolute deviation, of the channel that strays most. A terrace is even; residue is not.
    """
    inner = _inner(mask)
    samples = contrast[:, inner if inner.any() else mask]
    strays = np.abs(samples - np.median(samples, axis=1, keepdims=True))
    return float(1.48 * np.median(strays, axis=1).max())


def bounded(contrast: NDArray[np.float32], mask: NDArray[np.bool_], step: float) -> float:
    """Return the share of what lies around a region (y, x) that differs from it: 1 all round a terrace, 0 in a shadow.

    The contrast of a crystal steps at its outline. A dark corner of the field, or a patch that was cut out of something
    larger, has an outline where nothing happens.

    contrast: (C, y, x), smoothed, 0 on the substrate, of a window that reaches `REACH_PX` beyond the region.
    step: least difference of contrast in one channel.
    """
    away_px = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5)
    inner = _inner(mask)
    around = (away_px > RIM_PX) & (away_px <= REACH_PX)
    nearby = _box_sum(inner.astype(np.float32))
    around &= nearby > 0.5
    if not around.any():
        return 1.0
    own = np.stack([_box_sum(np.where(inner, channel, 0))[around] for channel in contrast]) / nearby[around]
    differs = np.abs(contrast[:, around] - own).max(0) > np.minimum(step, OWN_STEP * np.abs(own).max(0))
    return float(differs.mean())


def _box_sum(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the sum (y, x) of what lies near each pixel."""
    total = cv2.boxFilter(values, -1, (NEAR_PX, NEAR_PX), normalize=False, borderType=cv2.BORDER_CONSTANT)
    return np.asarray(total, np.float32)


def _inner(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the mask (y, x) without its rim, which a window's edge may cut."""
    eroded = cv2.erode(mask.astype(np.uint8), RIM, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return np.asarray(eroded) > 0


def _levels(values: NDArray[np.float32], step: float) -> NDArray[np.float64]:
    """Return the contrasts of the thicknesses, sorted: peaks of the histogram, with a valley to every higher one."""
    low, high = float(values.min()) - 3 * BIN, float(values.max()) + 3 * BIN
    counts, edges = np.histogram(values, bins=max(3, round((high - low) / BIN)), range=(low, high))
    density = gaussian_filter1d(counts.astype(np.float64), SMOOTH_BINS)
    centers = (edges[1:] + edges[:-1]) / 2
    rises = density[1:-1] >= density[:-2]
    falls = density[1:-1] > density[2:]
    peaks = 1 + np.flatnonzero(rises & falls & (density[1:-1] > LEAST_PEAK * density.sum()))
    kept: list[int] = []
    for peak in peaks[np.argsort(-density[peaks], kind="stable")].tolist():
        if all(
            abs(centers[peak] - centers[other]) >= step
            and density[min(peak, other) : max(peak, other) + 1].min() <= DEEPEST_VALLEY * density[peak]
            for other in kept
        ):
            kept.append(peak)
    return np.sort(centers[kept])
