"""Polycrystals as a polished and etched section shows them, drawn with their true grains."""

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from micro.micrograph import Micrograph
from micro.scenes.scene import Scene

PIXEL_SIZE_UM = 0.5
GRAIN_PX = (32.0, 70.0)
SMALLEST_PX = 30

Plane = NDArray[np.float32]


def draw(seed: int, height_px: int = 512, width_px: int = 512, *, grain_px: float | None = None) -> Scene:
    """Draw one section; the same seed gives the same scene.

    Boundaries are etched to different depths and have gaps; there are scratches, pits, uneven light, blur and noise.

    grain_px: mean grain diameter; None draws one from GRAIN_PX.
    """
    if min(height_px, width_px) < 32:
        raise ValueError(f"a section of {height_px} x {width_px} px has no room for grains; take 32 px or more a side")
    rng = np.random.default_rng(seed)
    drawn_px = rng.uniform(*GRAIN_PX)
    labels = _grains(rng, (height_px, width_px), drawn_px if grain_px is None else grain_px)
    light = _grey(rng, labels) - _etching(rng, labels)
    light = _pits(rng, _scratches(rng, light))
    light = light * (1 - rng.uniform(0, 0.05) * _waves(rng, light.shape, max(light.shape)))
    pixels = _camera(rng, light)
    image = Micrograph(pixels, f"grains-{seed}", PIXEL_SIZE_UM, "drawn at this size")
    return Scene(image, labels, ("grain",) * int(labels.max()))


def _grains(rng: np.random.Generator, shape_px: tuple[int, int], grain_px: float) -> NDArray[np.int32]:
    """Return a power diagram (Y, X) with lognormal radii and bent boundaries, numbered in raster order."""
    height, width = shape_px
    room = 2 * grain_px
    count = max(4, round((height + 2 * room) * (width + 2 * room) / (np.pi / 4 * grain_px**2)))
    extent = np.array([height + 2 * room, width + 2 * room])
    centres = rng.uniform(-room, extent - room, (count, 2))
    for _ in range(2):  # two Lloyd steps: grains do not nucleate on top of each other
        samples = rng.uniform(-room, extent - room, (30 * count, 2))
        owner = KDTree(centres).query(samples)[1]
        held = np.maximum(np.bincount(owner, minlength=count), 1)[:, np.newaxis]
        mean = np.stack([np.bincount(owner, samples[:, axis], count) for axis in range(2)], axis=1) / held
        centres = np.where(mean != 0, mean, centres)
    # a larger spread would need more than the 16 neighbours that are asked below
    squared_radius = (grain_px / 2 * rng.lognormal(0, rng.uniform(0.1, 0.4), count).clip(0.2, 2)) ** 2
    bend = rng.uniform(0, 0.12) * grain_px
    bent = [axis + bend * _waves(rng, shape_px, grain_px / 2) for axis in np.mgrid[:height, :width].astype(np.float32)]
    distance, near = KDTree(centres).query(np.stack(bent, -1).reshape(-1, 2), k=min(16, count))
    chosen = (distance**2 - squared_radius[near]).argmin(1)
    cells = near[np.arange(len(near)), chosen].reshape(shape_px).astype(np.int32)
    return _tidy(cells)


def _tidy(cells: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return cells (Y, X) in connected pieces of at least SMALLEST_PX, the rest given to the nearest, renumbered."""
    differs_y, differs_x = cells[1:] != cells[:-1], cells[:, 1:] != cells[:, :-1]
    # on a grid of twice the size, walls between the pixels of different cells part what only shares a name
    open_ = np.ones((2 * cells.shape[0] - 1, 2 * cells.shape[1] - 1), np.uint8)
    open_[1::2, ::2], open_[::2, 1::2], open_[1::2, 1::2] = ~differs_y, ~differs_x, 0
    pieces = cv2.connectedComponents(open_, connectivity=4)[1][::2, ::2]
    keep = np.bincount(pieces.ravel()) >= SMALLEST_PX
    kept = keep[pieces]
    _, nearest = cv2.distanceTransformWithLabels(
        (~kept).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    value = np.zeros(int(nearest.max()) + 1, np.int32)
    value[nearest[kept]] = pieces[kept]
    _, first, part = np.unique(value[nearest], return_index=True, return_inverse=True)
    number = np.empty(len(first), np.int32)
    number[np.argsort(first)] = np.arange(1, len(first) + 1)
    tidy: NDArray[np.int32] = number[part.reshape(cells.shape)]
    return tidy


def _grey(rng: np.random.Generator, labels: NDArray[np.int32]) -> Plane:
    """Return the brightness (Y, X) of the grains themselves: how the etchant took each orientation."""
    contrast = rng.choice([0.0, 0.02, 0.08], p=[0.5, 0.3, 0.2])
    grey = rng.uniform(0.7, 0.95) + contrast * rng.normal(0, 1, int(labels.max()) + 1)
    return np.asarray(grey[labels], np.float32)


def _etching(rng: np.random.Generator, labels: NDArray[np.int32]) -> Plane:
    """Return how dark (Y, X) the grooves of the boundaries are: a depth for each pair of grains, and gaps."""
    wall = np.zeros(labels.shape, bool)
    pair = np.zeros(labels.shape, np.int64)
    for first, second in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        low, high = np.minimum(labels[first], labels[second]), np.maximum(labels[first], labels[second])
        differs = low != high
        for side in (first, second):
            wall[side] |= differs
            pair[side][differs] = (low.astype(np.int64) << 32 | high)[differs]
    if not wall.any():
        return np.zeros(labels.shape, np.float32)
    distance, nearest = cv2.distanceTransformWithLabels(
        (~wall).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    pairs, part = np.unique(pair[wall], return_inverse=True)
    depth_of_pair = rng.uniform(0.15, 0.5) * rng.beta(2.5, 1.5, len(pairs)).clip(0.12, 1)
    depth = np.zeros(int(nearest.max()) + 1, np.float32)
    depth[nearest[wall]] = depth_of_pair[part]
    gaps = 1 / (1 + np.exp(-8 * (_waves(rng, labels.shape, 14) + rng.uniform(1.2, 2.6))))
    width = rng.uniform(0.7, 1.5)
    groove = np.exp(-0.5 * (np.maximum(distance - 0.3, 0) / width) ** 2)
    return np.asarray(depth[nearest] * gaps * groove, np.float32)


def _scratches(rng: np.random.Generator, light: Plane) -> Plane:
    height, width = light.shape
    angle = rng.uniform(0, np.pi)
    marks = np.zeros(light.shape, np.float32)
    for _ in range(rng.poisson(rng.uniform(0, 8) * light.size / 512**2)):
        turn = angle + rng.normal(0, 0.15)
        middle = rng.uniform(0, (width, height))
        reach = rng.uniform(20, 250) * np.array([np.cos(turn), np.sin(turn)])
        (x0, y0), (x1, y1) = np.round([middle - reach, middle + reach]).astype(int).tolist()
        mark = cv2.line(np.zeros((height, width), np.uint8), (x0, y0), (x1, y1), 255, 1, cv2.LINE_AA)
        marks = np.maximum(marks, rng.uniform(0.02, 0.25) * mark.astype(np.float32) / 255)
    return light - marks


def _pits(rng: np.random.Generator, light: Plane) -> Plane:
    """Return light with etch pits, from fine specks to round holes of a few pixels."""
    dark = np.zeros(light.shape, np.uint8)
    for radius_px, count in ((0, 250), (1, 40), (3, 6)):
        for _ in range(rng.poisson(rng.uniform(0, 2) * count * light.size / 512**2)):
            y, x = int(rng.uniform(0, light.shape[0])), int(rng.uniform(0, light.shape[1]))
            radius = radius_px + (int(rng.integers(0, 3)) if radius_px > 1 else 0)
            shade = int(rng.uniform(20, 90 if radius_px < 2 else 200))
            cv2.circle(dark, (x, y), radius, shade, -1, cv2.LINE_AA)
    return np.asarray(light - cv2.GaussianBlur(dark, (0, 0), 0.6) / np.float32(255), np.float32)


def _waves(rng: np.random.Generator, shape_px: tuple[int, ...], length_px: float) -> Plane:
    """Return smooth noise (Y, X) of mean 0 and variance about 1 that changes over length_px."""
    nodes = [max(4, int(np.ceil(side / length_px)) + 3) for side in shape_px]
    coarse = rng.normal(0, 1.5, nodes).astype(np.float32)
    return cv2.resize(coarse, (shape_px[1], shape_px[0]), interpolation=cv2.INTER_CUBIC).astype(np.float32, copy=False)


def _camera(rng: np.random.Generator, light: Plane) -> NDArray[np.uint8]:
    """Return the light (Y, X) in grey values: blurred by the lens, noisy, and at times overexposed."""
    seen = cv2.GaussianBlur(light, (0, 0), rng.uniform(0.4, 1.4))
    grain = rng.normal(0, 1, light.shape).astype(np.float32)
    noise = rng.uniform(0.002, 0.03) * cv2.GaussianBlur(grain, (0, 0), rng.uniform(0.3, 0.8)) * 1.5
    return np.round(255 * (rng.uniform(0.8, 1.15) * seen + noise)).clip(0, 255).astype(np.uint8)
