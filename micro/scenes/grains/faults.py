"""What lies between a section and its picture: faults of preparation, light, lens and camera."""

import cv2
import numpy as np
from numpy.typing import NDArray

from micro.scenes.waves import Plane, waves


def scratches(rng: np.random.Generator, light: Plane) -> Plane:
    """Return light (Y, X) with straight dark lines of nearly one direction."""
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


def pits(rng: np.random.Generator, light: Plane) -> Plane:
    """Return light (Y, X) with etch pits, from fine specks to round holes of a few pixels."""
    dark = np.zeros(light.shape, np.uint8)
    for radius_px, count in ((0, 250), (1, 40), (3, 6)):
        for _ in range(rng.poisson(rng.uniform(0, 2) * count * light.size / 512**2)):
            y, x = int(rng.uniform(0, light.shape[0])), int(rng.uniform(0, light.shape[1]))
            radius = radius_px + (int(rng.integers(0, 3)) if radius_px > 1 else 0)
            shade = int(rng.uniform(20, 90 if radius_px < 2 else 200))
            cv2.circle(dark, (x, y), radius, shade, -1, cv2.LINE_AA)
    return np.asarray(light - cv2.GaussianBlur(dark, (0, 0), 0.6) / np.float32(255), np.float32)


def stains(rng: np.random.Generator, shape_px: tuple[int, int]) -> Plane:
    """Return what part of the light (Y, X) stains let through: blots with soft edges, and rings where drops dried."""
    passed = np.ones(shape_px, np.float32)
    rows, columns = np.indices(shape_px, np.float32)
    for _ in range(rng.integers(1, 4)):
        y, x = rng.uniform(0, shape_px)
        axes = rng.uniform(0.06, 0.35, 2) * max(shape_px)
        rim = np.hypot((rows - y) / axes[0], (columns - x) / axes[1]) + 0.15 * waves(rng, shape_px, axes.min())
        soft = rng.uniform(0.03, 0.3)
        if rng.random() < 0.5:
            blot = 1 / (1 + np.exp(((rim - 1) / soft).clip(-50, 50)))
        else:
            blot = np.exp(-0.5 * ((rim - 1) / soft) ** 2)
        passed *= 1 - rng.uniform(0.05, 0.35) * blot.astype(np.float32)
    return passed


def lamp(rng: np.random.Generator, shape_px: tuple[int, int]) -> Plane:
    """Return how bright (Y, X) the lamp is: a slope, a vignette, or both; 1 on average."""
    rows, columns = np.mgrid[-1 : 1 : shape_px[0] * 1j, -1 : 1 : shape_px[1] * 1j].astype(np.float32)
    turn = rng.uniform(0, 2 * np.pi)
    slope = rng.uniform(0, 0.2) * (rows * np.sin(turn) + columns * np.cos(turn))
    vignette = rng.uniform(0, 0.25) * (rows**2 + columns**2)
    light = 1 + slope - vignette
    return np.asarray(light / light.mean(), np.float32)


def out_of_focus(rng: np.random.Generator, light: Plane, grain_px: float) -> Plane:
    """Return light (Y, X) or (Y, X, C) as a tilted or wavy section looks: blurred where it leaves the focal plane.

    The blur stays below a size at which grains of that diameter could not be told apart.
    """
    most_px = rng.uniform(0.5, 1) * min(3.0, 0.06 * grain_px)
    shape_px = (light.shape[0], light.shape[1])
    share = (0.5 + 0.5 * waves(rng, shape_px, 0.7 * max(shape_px))).clip(0, 1)
    if light.ndim == 3:
        share = share[..., np.newaxis]
    return np.asarray(light + share * (cv2.GaussianBlur(light, (0, 0), most_px) - light), np.float32)


def camera(rng: np.random.Generator, light: Plane, most_noise: float = 0.03) -> NDArray[np.uint8]:
    """Return the light (Y, X) or (Y, X, C) in grey values: blurred by the lens, noisy, and at times overexposed.

    most_noise: largest standard deviation of the noise, as a share of white, before it is smeared a little.
    """
    seen = cv2.GaussianBlur(light, (0, 0), rng.uniform(0.4, 1.4))
    grain = rng.normal(0, 1, light.shape).astype(np.float32)
    noise = rng.uniform(0.002, most_noise) * cv2.GaussianBlur(grain, (0, 0), rng.uniform(0.3, 0.8)) * 1.5
    return np.round(255 * (rng.uniform(0.8, 1.15) * seen + noise)).clip(0, 255).astype(np.uint8)


def scanning_detector(rng: np.random.Generator, light: Plane) -> NDArray[np.uint8]:
    """Return the signal (Y, X) of a scanned beam in grey values: counted electrons, and lines that differ a little."""
    seen = cv2.GaussianBlur(light, (0, 0), rng.uniform(0.4, 1.3))
    electrons = 10 ** rng.uniform(1.9, 3.5)
    counted = rng.poisson(seen.clip(0.01, None) * electrons) / electrons
    lines = rng.uniform(0, 0.02) * rng.normal(0, 1, (light.shape[0], 1))
    # a frame average of shifted scans smears the counts a little
    smooth = cv2.GaussianBlur((counted + lines).astype(np.float32), (0, 0), rng.uniform(0.3, 0.8))
    return np.round(255 * smooth).clip(0, 255).astype(np.uint8)
