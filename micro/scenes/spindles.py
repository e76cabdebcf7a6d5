"""Drawn photographs of a ball screw: lands and raceways that wind across the frame, with and without pits in a raceway.

They show what goes into a bundle that finds pits, and say nothing about how well it does on a real spindle.
"""

import cv2
import numpy as np

from micro.micrograph import Micrograph
from micro.scenes.scene import Scene
from micro.scenes.waves import noise

CLASSES = ("sound", "pitting")
SLOPE = -0.13  # rows a column by which the thread climbs


def draw(seed: int, height_px: int = 460, width_px: int = 1130, *, pits: int | None = None) -> Scene:
    """Draw a frame whose pixels are sound or pitted; pits: how many, up to two by the seed if None."""
    if min(height_px, width_px) < 64:
        raise ValueError(f"a frame of {height_px} x {width_px} px has no room for a raceway; take 64 px or more a side")
    rng = np.random.default_rng(seed)
    count = int(rng.integers(3)) if pits is None else pits
    y, x = np.mgrid[:height_px, :width_px].astype(np.float32)
    pitch_px = 0.5 * height_px
    turn = (y - SLOPE * x) / pitch_px + rng.uniform()
    phase = turn % 1
    raceway = phase < 0.65
    # a raceway is a hollow, bright on the side that faces the lamp; a land is flat
    bright = np.where(raceway, 110 + 55 * np.cos(2 * np.pi * (phase / 0.65 - 0.35)), 165)
    bright *= 1 - 0.45 * (2 * x / width_px - 1) ** 4
    bright += 5 * noise((height_px, width_px), (0.7, 12), rng) + 2 * noise((height_px, width_px), (1, 1), rng)
    labels = np.zeros((height_px, width_px), np.int32)
    for number in range(1, count + 1):
        column = rng.uniform(0.2 + 0.3 * (number - 1), 0.4 + 0.3 * (number - 1)) * width_px
        middle = (np.floor(turn[height_px // 2, int(column)]) + 0.32 - rng.uniform(0, 0.05)) * pitch_px
        row = middle - (turn[0, 0] * pitch_px) + SLOPE * column
        row = row if row > 0.1 * height_px else row + pitch_px
        size_px = rng.uniform(14, 28)
        ragged = np.hypot((y - row) / 0.8, x - column) + 5 * noise((height_px, width_px), (4, 4), rng)
        labels[ragged < size_px] = number
    pitted = labels > 0
    rough = 14 * noise((height_px, width_px), (1.5, 1.5), rng)
    bright = np.where(pitted, 0.35 * bright + rough, bright)
    frame = cv2.GaussianBlur(bright.astype(np.float32), (0, 0), 0.8) + rng.normal(0, 1.5, bright.shape)
    image = Micrograph(frame.round().clip(0, 255).astype(np.uint8)[..., np.newaxis], f"spindle-{seed}")
    found = np.unique(labels[pitted])
    numbers = np.zeros(count + 1, np.int32)
    numbers[found] = np.arange(1, len(found) + 1)
    return Scene(image, numbers[labels], (CLASSES[1],) * len(found), classes=CLASSES)
