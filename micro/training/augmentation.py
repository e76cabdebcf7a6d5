"""What may be changed in a training image without changing its answer."""

import os

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask the network for its newest version at import

import albumentations as A
import cv2
import numpy as np
from numpy.typing import NDArray

from micro.tasks import Task


class Augmentation:
    """Random changes of the camera and of the place, for one task.

    A colour that is evidence keeps its contrast, and an orientation that is evidence is only mirrored.
    """

    def __init__(self, task: Task) -> None:
        camera = [
            A.GaussianBlur(blur_limit=0, sigma_limit=(0.3, 1.5), p=0.3),
            A.GaussNoise(std_range=(0.003, 0.025), p=0.3),
            A.ImageCompression(quality_range=(50, 95), p=0.3),
        ]
        mirrors = [A.HorizontalFlip(p=0.5), A.VerticalFlip(p=0.5)]
        turns = [
            A.D4(p=1),
            A.Affine(scale=(0.8, 1.25), rotate=(-20, 20), shear=(-5, 5), border_mode=cv2.BORDER_REFLECT_101, p=0.5),
        ]
        self._light_changes = not task.colour_is_evidence
        self._optics = A.Compose(camera)
        self._geometry = A.Compose(mirrors if task.orientation_is_evidence else turns)

    def optics(self, pixels: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
        """Return pixels (y, x, C) uint8 as another camera might have taken them."""
        self._optics.set_random_seed(int(random.integers(2**31)))
        changed: NDArray[np.uint8] = self._optics(image=np.ascontiguousarray(pixels))["image"]
        return changed.reshape(pixels.shape)

    def geometry(
        self, pixels: NDArray[np.float32], labels: NDArray[np.int32], random: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Return pixels (y, x, C) float32 and labels (y, x) int32 as they lie when the specimen is turned or moved."""
        self._geometry.set_random_seed(int(random.integers(2**31)))
        changed = self._geometry(image=pixels, mask=labels)
        return changed["image"].reshape(*changed["mask"].shape[:2], pixels.shape[2]), changed["mask"]

    def light(self, scaled: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.float32]:
        """Return scaled pixels (y, x, C) under other light and contrast; scaled ones cannot saturate."""
        if not self._light_changes:
            return scaled
        changed: NDArray[np.float32] = scaled * np.float32(np.exp(random.uniform(-0.4, 0.4)))
        return changed + np.float32(random.uniform(-0.3, 0.3))
