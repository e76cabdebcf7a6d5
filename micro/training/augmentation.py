"""What may be changed in a training image without changing its answer."""

import os
from random import Random

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask the network for its newest version at import

import albumentations as A
import cv2
import numpy as np
from numpy.typing import NDArray

from micro.tasks import Task

MIRROR = cv2.BORDER_REFLECT_101
# Share of the frames under a lamp that has slipped or a lens that darkens, and how much darker or brighter that makes
# the corners at most.
UNEVEN, FALL = 0.4, 0.35


class Augmentation:
    """Random changes of camera and place for one task; everything follows from the generator that is passed in.

    A colour that is evidence keeps its contrast; an orientation that is evidence is only mirrored or tilted a little.
    """

    def __init__(self, task: Task) -> None:
        mirrors = [A.HorizontalFlip(p=0.5), A.VerticalFlip(p=0.5)]
        self._light_changes = not task.colour_is_evidence
        self._optics = A.Compose(
            [
                A.GaussianBlur(blur_limit=0, sigma_limit=(0.3, 1.5), p=0.3),
                A.GaussNoise(std_range=(0.003, 0.025), p=0.3),
                A.ImageCompression(quality_range=(50, 95), p=0.3),
            ]
        )
        tilt = A.Affine(scale=(0.8, 1.25), rotate=(-20, 20), shear=(-5, 5), border_mode=MIRROR, p=0.5)
        self._geometry = A.Compose(mirrors if task.orientation_is_evidence else [A.D4(p=1), tilt])
        exposure = [
            A.RandomBrightnessContrast(brightness_limit=0.08, contrast_limit=0.25, p=0.6),
            A.RandomGamma(gamma_limit=(85, 118), p=0.2),
        ]
        shift = A.Affine(
            scale=(0.9, 1.15),
            translate_percent=(-0.1, 0.1),
            rotate=(-4, 4),
            shear=(-3, 3),
            border_mode=MIRROR,
            p=0.8,
        )
        # a frame is named by marks of a few grey levels, which a lens, a moving sheet or noise may nearly hide
        blurs = [A.GaussianBlur(blur_limit=3, sigma_limit=(0.3, 0.9)), A.MotionBlur(blur_limit=(3, 5))]
        # compression smooths the noise before it away, and many cameras deliver theirs uncompressed
        recording = [A.GaussNoise(std_range=(0.005, 0.03), p=0.5), A.ImageCompression(quality_range=(45, 95), p=0.7)]
        self._frame = A.Compose(
            [
                *(mirrors if task.orientation_is_evidence else [A.D4(p=1)]),
                shift,
                *(exposure if self._light_changes else []),
                A.OneOf(blurs, p=1 / 3),
                A.RandomOrder(recording, n=len(recording)),
            ]
        )

    def frame(self, pixels: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
        """Return a whole frame (y, x, C) uint8 as it might have been taken another time."""
        changed = _changed(self._frame, pixels, random)
        return _unevenly_lit(changed, random) if self._light_changes and random.random() < UNEVEN else changed

    def optics(self, pixels: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
        """Return a crop (y, x, C) uint8 as another camera might have taken it."""
        return _changed(self._optics, pixels, random)

    def geometry(
        self, pixels: NDArray[np.float32], labels: NDArray[np.int32], random: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Return pixels (y, x, C) float32 and labels (y, x) int32 as they lie when the specimen is turned or moved."""
        changed = _drawing(self._geometry, random)(image=pixels, mask=labels)
        return changed["image"].reshape(*changed["mask"].shape[:2], pixels.shape[2]), changed["mask"]

    def light(self, scaled: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.float32]:
        """Return scaled pixels (y, x, C) under other light and contrast; scaled ones cannot saturate."""
        if not self._light_changes:
            return scaled
        changed: NDArray[np.float32] = scaled * np.float32(np.exp(random.uniform(-0.4, 0.4)))
        return changed + np.float32(random.uniform(-0.3, 0.3))


def _changed(change: A.Compose, pixels: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    changed: NDArray[np.uint8] = _drawing(change, random)(image=np.ascontiguousarray(pixels))["image"]
    return changed.reshape(pixels.shape)


def _drawing(change: A.Compose, random: np.random.Generator) -> A.Compose:
    """Let all parts draw from one generator; after set_random_seed each would draw the same numbers as the others."""
    change.set_random_state(random, Random(int(random.integers(2**63))))
    return change


def _unevenly_lit(pixels: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    """Return a frame (y, x, C) that grows darker, or brighter, away from a point near its middle."""
    y, x = (np.linspace(-1, 1, edge, dtype=np.float32) - random.uniform(-0.25, 0.25) for edge in pixels.shape[:2])
    light = 1 - random.uniform(-FALL / 2, FALL) * (y[:, np.newaxis] ** 2 + x**2) / 2
    return (pixels * light[..., np.newaxis]).clip(0, 255).astype(np.uint8)
