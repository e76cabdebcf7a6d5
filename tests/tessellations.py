"""Polycrystals whose true grain size follows from geometry: Voronoi cells with the exact length of their boundaries."""

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.spatial import KDTree, Voronoi


@dataclass(frozen=True, eq=False)
class Tessellation:
    """labels (Y, X), and what is true of the part of the plane that they show, in pixels."""

    labels: np.ndarray
    grains_per_px2: float
    mean_intercept_px: float


def voronoi(seed: int, grains: int, shape_px: tuple[int, int], *, lloyd: int = 1) -> Tessellation:
    """Draw about `grains` cells in a field; lloyd: steps towards cells of equal size.

    Every inner corner of a Voronoi cell is a triple point, so N_A = points / 2 / area; P_L = 2 / pi boundary / area.
    """
    height, width = shape_px
    rng = np.random.default_rng(seed)
    room = 3 * np.sqrt(height * width / grains)
    extent = np.array([height + 2 * room, width + 2 * room])
    count = round(grains * extent.prod() / (height * width))
    centres = rng.uniform(-room, extent - room, (count, 2))
    for _ in range(lloyd):
        samples = rng.uniform(-room, extent - room, (40 * count, 2))
        owner = KDTree(centres).query(samples)[1]
        held = np.maximum(np.bincount(owner, minlength=count), 1)
        centres = np.stack([np.bincount(owner, samples[:, axis], count) / held for axis in (0, 1)], axis=1)
    diagram = Voronoi(centres)
    low, high = np.array([-0.5, -0.5]), np.array([height, width]) - 0.5
    inside = ((diagram.vertices > low) & (diagram.vertices < high)).all(axis=1)
    length = sum(_inside_px(diagram.vertices[ridge], low, high) for ridge in diagram.ridge_vertices if min(ridge) >= 0)
    area = height * width
    points = np.stack(np.mgrid[:height, :width], axis=-1).reshape(-1, 2)
    cells = KDTree(centres).query(points)[1].reshape(shape_px)
    labels = np.unique(cells, return_inverse=True)[1].reshape(shape_px).astype(np.int32) + 1
    return Tessellation(labels, inside.sum() / 2 / area, np.pi / 2 * area / length)


def shaken_lattice(seed: int, grain_px: int, rows: int, columns: int) -> np.ndarray:
    """Return cells (Y, X) around the points of a shaken square lattice: one grain in grain_px squared."""
    rng = np.random.default_rng(seed)
    lattice = np.stack(np.mgrid[:rows, :columns], axis=-1).reshape(-1, 2)
    y, x = ((lattice + rng.uniform(0.1, 0.9, lattice.shape)) * grain_px).astype(int).T
    empty = np.ones((rows * grain_px, columns * grain_px), np.uint8)
    empty[y, x] = 0
    return cv2.distanceTransformWithLabels(empty, cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL)[1]


def duplex(seed: int, labels: np.ndarray, block_px: int) -> np.ndarray:
    """Return labels (Y, X) in which the grains that begin in one of some square blocks are one large grain each."""
    rng = np.random.default_rng(seed)
    first = np.zeros(int(labels.max()) + 1, np.intp)
    first[labels.ravel()[::-1]] = np.arange(labels.size)[::-1]
    block = first // labels.shape[1] // block_px * labels.shape[1] + first % labels.shape[1] // block_px
    merged = rng.random(int(block.max()) + 1)[block] < 0.3
    return np.where(merged, len(first) + block, np.arange(len(first)))[labels]


def with_lines(labels: np.ndarray, width_px: int) -> np.ndarray:
    """Return labels (Y, X) with boundaries of 0 of about that width."""
    wall = np.zeros(labels.shape, np.uint8)
    wall[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    wall[1:] |= labels[1:] != labels[:-1]
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width_px, width_px))
    return np.where(cv2.dilate(wall, disc) > 0, 0, labels)


def _inside_px(ends: np.ndarray, low: np.ndarray, high: np.ndarray) -> float:
    """Return how much of a segment lies inside a rectangle (Liang and Barsky)."""
    start, step = ends[0], ends[1] - ends[0]
    enters, leaves = 0.0, 1.0
    for axis in (0, 1):
        if step[axis] == 0:
            if not low[axis] <= start[axis] <= high[axis]:
                return 0.0
            continue
        first, last = sorted(((low[axis] - start[axis]) / step[axis], (high[axis] - start[axis]) / step[axis]))
        enters, leaves = max(enters, first), min(leaves, last)
    return max(0.0, leaves - enters) * float(np.hypot(*step))
