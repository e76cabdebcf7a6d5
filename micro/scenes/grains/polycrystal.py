"""The geometry of a section: grains as cells of a power diagram, the twins in them and the walls between them."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from micro.measure import filled
from micro.scenes.waves import Plane, waves

SMALLEST_PX = 30
TWINNED_PX = 24  # twins in smaller grains would be a pixel wide

Labels = NDArray[np.int32]


@dataclass(frozen=True)
class Shape:
    """What kind of polycrystal it is.

    grain_px: mean grain diameter.
    spread: range from which the lognormal spread of the cells' radii is drawn.
    most_bend: how far boundaries may stray from the straight, in grain diameters.
    stretch: length of a grain along `turn_rad` against its width, on average.
    """

    grain_px: float
    spread: tuple[float, float] = (0.1, 0.4)
    most_bend: float = 0.12
    stretch: float = 1.0
    turn_rad: float = 0.0


def tessellate(rng: np.random.Generator, shape_px: tuple[int, int], shape: Shape) -> Labels:
    """Return a power diagram (Y, X) with lognormal radii and bent boundaries, numbered in raster order.

    The cell of a pixel x is the one with the smallest |x - centre|^2 - radius^2 (F. Aurenhammer, SIAM J. Comput. 16
    (1987) 78): the nearest centre in a space with one more axis, where a centre lies sqrt(largest^2 - radius^2) away.
    """
    height, width = shape_px
    room = 2 * shape.grain_px
    squeeze = _squeeze(shape)
    corners = np.array([[0, 0], [0, width], [height, 0], [height, width]]) @ squeeze.T
    low, high = corners.min(0) - room, corners.max(0) + room
    count = max(4, round(float(np.prod(high - low)) / (np.pi / 4 * shape.grain_px**2)))
    centres = rng.uniform(low, high, (count, 2))
    for _ in range(2):  # two Lloyd steps: grains do not nucleate on top of each other
        samples = rng.uniform(low, high, (30 * count, 2))
        owner = KDTree(centres).query(samples)[1]
        held = np.maximum(np.bincount(owner, minlength=count), 1)[:, np.newaxis]
        mean = np.stack([np.bincount(owner, samples[:, axis], count) for axis in range(2)], axis=1) / held
        centres = np.where(mean != 0, mean, centres)
    squared_radius = (shape.grain_px / 2 * rng.lognormal(0, rng.uniform(*shape.spread), count).clip(0.2, 2)) ** 2
    bend = rng.uniform(0, shape.most_bend) * shape.grain_px
    bent = [
        axis + bend * waves(rng, shape_px, shape.grain_px / 2) for axis in np.mgrid[:height, :width].astype(np.float32)
    ]
    places = np.stack(bent, -1).reshape(-1, 2) @ squeeze.T
    lift = np.sqrt(squared_radius.max() - squared_radius)
    tree = KDTree(np.column_stack([centres, lift]))
    cells = tree.query(np.column_stack([places, np.zeros(len(places))]))[1]
    return tidy(cells.reshape(shape_px).astype(np.int32))


def _squeeze(shape: Shape) -> NDArray[np.float64]:
    """Return the matrix (2, 2) of rows and columns that makes stretched grains round, area kept."""
    cos, sin = np.cos(shape.turn_rad), np.sin(shape.turn_rad)
    turn = np.array([[cos, sin], [-sin, cos]])
    return np.asarray(turn.T @ np.diag([shape.stretch**0.5, shape.stretch**-0.5]) @ turn)


def tidy(cells: Labels) -> Labels:
    """Return cells (Y, X) in connected pieces of at least SMALLEST_PX, the rest given to the nearest, renumbered."""
    differs_y, differs_x = cells[1:] != cells[:-1], cells[:, 1:] != cells[:, :-1]
    # on a grid of twice the size, walls between the pixels of different cells part what only shares a name
    open_ = np.ones((2 * cells.shape[0] - 1, 2 * cells.shape[1] - 1), np.uint8)
    open_[1::2, ::2], open_[::2, 1::2], open_[1::2, 1::2] = ~differs_y, ~differs_x, 0
    pieces = cv2.connectedComponents(open_, connectivity=4)[1][::2, ::2]
    keep = np.bincount(pieces.ravel()) >= SMALLEST_PX
    _, first, part = np.unique(filled(pieces, keep[pieces])[0], return_index=True, return_inverse=True)
    number = np.empty(len(first), np.int32)
    number[np.argsort(first)] = np.arange(1, len(first) + 1)
    tidied: Labels = number[part.reshape(cells.shape)]
    return tidied


def joined(rng: np.random.Generator, labels: Labels, share: float) -> Labels:
    """Return grains (Y, X), as many of their pairs of neighbours made one as are that share of the grains.

    The cells of a power diagram are convex, so that two corners that face each other tell of a boundary between them.
    In a ferrite that grew around others they tell nothing.
    """
    count = int(labels.max()) + 1
    pairs = walls(labels).pairs
    one = pairs[rng.permutation(len(pairs))[: rng.binomial(count - 1, share)]]
    links = coo_array((np.ones(len(one), bool), (one[:, 0], one[:, 1])), shape=(count, count))
    number = connected_components(links, directed=False)[1].astype(np.int32)
    return tidy(number[labels])


def twinned(rng: np.random.Generator, labels: Labels, share: float) -> Labels:
    """Return crystals (Y, X): grains, of which a share is crossed by one or two bands of parallel straight sides.

    Crystal 2 i is grain i itself and 2 i + 1 its twins. Some bands end inside the grain, as annealing twins do.
    """
    count = int(labels.max()) + 1
    area_px = np.bincount(labels.ravel(), minlength=count)
    rows, columns = np.indices(labels.shape, np.float32)
    middle = [np.bincount(labels.ravel(), axis.ravel(), count) / np.maximum(area_px, 1) for axis in (rows, columns)]
    size = np.sqrt(area_px)
    turn = rng.uniform(0, np.pi, count)
    cos, sin = np.cos(turn).astype(np.float32), np.sin(turn).astype(np.float32)
    down, right = rows - middle[0].astype(np.float32)[labels], columns - middle[1].astype(np.float32)[labels]
    across, along = down * cos[labels] + right * sin[labels], right * cos[labels] - down * sin[labels]
    band = np.zeros(labels.shape, bool)
    for chance in (share, share / 2):
        has = (rng.random(count) < chance) & (size > TWINNED_PX)
        half = np.maximum(size * rng.lognormal(np.log(0.08), 0.5, count).clip(0.03, 0.2), 1.5)
        offset = size * rng.uniform(-0.35, 0.35, count)
        end = np.where(rng.random(count) < 0.25, size * rng.uniform(-0.2, 0.3, count), np.inf)
        wide = np.where(has, half, -1).astype(np.float32)
        band |= (np.abs(across - offset.astype(np.float32)[labels]) < wide[labels]) & (
            along < end.astype(np.float32)[labels]
        )
    return 2 * labels + band


@dataclass(frozen=True, eq=False)
class Walls:
    """Where crystals meet.

    distance_px: (Y, X) float32, distance of each pixel from the nearest that touches another crystal.
    pair: (Y, X) int, index into `pairs` of the wall that is nearest.
    pairs: (P, 2), the crystals on both sides of each wall, the smaller number first.
    """

    distance_px: Plane
    pair: NDArray[np.intp]
    pairs: Labels


def walls(labels: Labels) -> Walls:
    """Return the walls of crystals (Y, X); one crystal alone has none, and is infinitely far from any."""
    wall = np.zeros(labels.shape, bool)
    pair = np.zeros(labels.shape, np.int64)
    for first, second in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        low, high = np.minimum(labels[first], labels[second]), np.maximum(labels[first], labels[second])
        differs = low != high
        for side in (first, second):
            wall[side] |= differs
            pair[side][differs] = (low.astype(np.int64) << 32 | high)[differs]
    if not wall.any():
        far = np.full(labels.shape, np.inf, np.float32)
        return Walls(far, np.zeros(labels.shape, np.intp), np.full((1, 2), labels.flat[0], np.int32))
    distance, nearest = cv2.distanceTransformWithLabels(
        (~wall).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    pairs, part = np.unique(pair[wall], return_inverse=True)
    index = np.zeros(int(nearest.max()) + 1, np.intp)
    index[nearest[wall]] = part
    both = np.stack([pairs >> 32, pairs & 0xFFFFFFFF], axis=1).astype(np.int32)
    return Walls(np.asarray(distance, np.float32), index[nearest], both)


def junctions(labels: Labels) -> NDArray[np.intp]:
    """Return the places (J, 2) where three grains or more meet: the lower right of the four pixels around each."""
    four = np.stack([labels[:-1, :-1], labels[:-1, 1:], labels[1:, :-1], labels[1:, 1:]])
    four.sort(axis=0)
    return np.argwhere((np.diff(four, axis=0) != 0).sum(axis=0) >= 2) + 1
