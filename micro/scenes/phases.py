"""Drawn electron micrographs of a precipitate-hardened alloy, every pixel's phase known.

Secondary precipitates are large, lobed and often parted by a thin channel of matrix; tertiary ones are fine discs that
lie in swarms between them. Both are a little darker than the matrix, which is brightest at the rims of large ones.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from micro.micrograph import Micrograph
from micro.scenes.scene import Scene
from micro.scenes.waves import Plane, waves

PHASES = ("matrix", "secondary", "tertiary")
SMALLEST_PX = 10
SPACING_PX = (80.0, 130.0)
CHANNEL_PX = 5

Mask = NDArray[np.bool_]


def draw(seed: int, height_px: int = 512, width_px: int = 512) -> Scene:
    """Draw one field; the same seed gives the same scene. Each connected piece of a precipitate phase is a region."""
    if min(height_px, width_px) < 64:
        raise ValueError(f"a field of {height_px} x {width_px} px has no room for precipitates; take 64 px or more")
    rng = np.random.default_rng(seed)
    shape_px = (height_px, width_px)
    secondary = _lobed(rng, shape_px)
    tertiary = _swarms(rng, secondary)
    counts: list[int] = []
    labels = np.zeros(shape_px, np.int32)
    for mask in (secondary, tertiary):
        count, pieces = cv2.connectedComponents(mask.view(np.uint8), connectivity=4, ltype=cv2.CV_32S)
        labels[mask] = pieces[mask] + sum(counts)
        counts.append(count - 1)
    names = tuple(name for name, count in zip(PHASES[1:], counts, strict=True) for _ in range(count))
    pixels = _detector(rng, _signal(rng, secondary, tertiary))
    return Scene(Micrograph(pixels, f"phases-{seed}"), labels, names, classes=PHASES)


def _lobed(rng: np.random.Generator, shape_px: tuple[int, int]) -> Mask:
    """Return where large precipitates are (Y, X): groups of blunt lobes, some of which grew together."""
    spacing = rng.uniform(*SPACING_PX)
    inside = np.zeros(shape_px, np.uint8)
    for y in np.arange(-spacing, shape_px[0] + spacing, spacing):
        for x in np.arange(-spacing, shape_px[1] + spacing, spacing):
            middle = np.array([x, y]) + rng.uniform(-0.3, 0.3, 2) * spacing
            for _ in range(rng.integers(1, 6)):
                place = middle + rng.normal(0, 0.18, 2) * spacing
                axes = spacing * rng.uniform(0.18, 0.36, 2)
                (left, top), (long, short) = np.round(place).astype(int).tolist(), np.round(axes).astype(int).tolist()
                cv2.ellipse(inside, (left, top), (long, short), rng.uniform(0, 180), 0, 360, 255, -1)
    # rounded corners and a wavy outline
    smooth = cv2.GaussianBlur(inside, (0, 0), 5).astype(np.float32) / 255 + 0.06 * waves(rng, shape_px, 14)
    grown = (smooth > 0.5).astype(np.uint8)
    return _without_specks(grown, 200)


def _swarms(rng: np.random.Generator, secondary: Mask) -> Mask:
    """Return where fine precipitates are (Y, X): discs in some places of the matrix, clear of the large ones."""
    room = cv2.distanceTransform((~secondary).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
    density = waves(rng, secondary.shape, 90)
    discs = np.zeros(secondary.shape, np.uint8)
    there = np.zeros((0, 3))
    for _ in range(round(rng.uniform(800, 2000) * secondary.size / 512**2)):
        y, x = int(rng.integers(secondary.shape[0])), int(rng.integers(secondary.shape[1]))
        radius = rng.lognormal(np.log(4), 0.35)
        apart_px = np.hypot(there[:, 0] - y, there[:, 1] - x) - there[:, 2] - radius
        if room[y, x] > radius + CHANNEL_PX and density[y, x] > 0.2 and apart_px.min(initial=9) > 2:
            there = np.vstack([there, (y, x, radius)])
            # one more bit of place than pixels have, so that small discs differ in shape
            centre = (round(16 * (x + rng.uniform(-0.5, 0.5))), round(16 * (y + rng.uniform(-0.5, 0.5))))
            cv2.circle(discs, centre, round(16 * radius), 255, -1, cv2.LINE_8, 4)
    return _without_specks((discs > 0).astype(np.uint8), SMALLEST_PX)


def _without_specks(mask: NDArray[np.uint8], smallest_px: int) -> Mask:
    _, pieces = cv2.connectedComponents(mask, connectivity=4, ltype=cv2.CV_32S)
    keep = np.bincount(pieces.ravel()) >= smallest_px
    keep[0] = False
    kept: Mask = keep[pieces]
    return kept


def _signal(rng: np.random.Generator, secondary: Mask, tertiary: Mask) -> Plane:
    """Return the brightness (Y, X) of the polished field: phases, bright rims, scratches and a slope."""
    step = rng.uniform(0.07, 0.12)
    signal = np.where(secondary, -0.5 * step, 0.5 * step).astype(np.float32)
    signal[tertiary] = rng.uniform(-0.6, -0.2) * step
    outside = cv2.distanceTransform((~secondary).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
    rim = np.exp(-0.5 * ((outside - 3) / 3) ** 2)
    signal += rng.uniform(0.2, 0.6) * step * np.where(secondary, 0, rim).astype(np.float32)
    signal += 0.15 * step * waves(rng, secondary.shape, 60)
    marks = np.zeros(secondary.shape, np.float32)
    for _ in range(rng.poisson(3)):
        (x0, y0), turn, reach = rng.uniform(0, secondary.shape[::-1]), rng.uniform(-0.3, 0.3), rng.uniform(20, 150)
        end = (round(x0 + reach * np.cos(turn)), round(y0 + reach * np.sin(turn)))
        cv2.line(marks, (round(x0), round(y0)), end, rng.uniform(-0.4, 0.3) * step, 1, cv2.LINE_AA)
    rows, columns = (np.linspace(-1, 1, edge) for edge in secondary.shape)
    slope = np.add.outer(rows, columns)
    return signal + marks + np.asarray(rng.uniform(-0.25, 0.25) * step * slope, np.float32)


def _detector(rng: np.random.Generator, signal: Plane) -> NDArray[np.uint8]:
    """Return the signal (Y, X) in grey values: blurred by the beam, noisy, on a level of its own."""
    seen = cv2.GaussianBlur(signal, (0, 0), rng.uniform(0.8, 1.4))
    noise = cv2.GaussianBlur(rng.normal(0, 1, signal.shape).astype(np.float32), (0, 0), 0.7)
    grey = rng.uniform(0.45, 0.75) + seen + rng.uniform(0.01, 0.02) * noise
    return np.round(255 * grey).clip(0, 255).astype(np.uint8)
