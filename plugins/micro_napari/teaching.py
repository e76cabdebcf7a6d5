"""Corrected images -> a folder that `micro train` reads."""

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from micro import formats
from micro.errors import MicroError
from micro.micrograph import Micrograph
from micro_napari.layers import fingerprint

IMAGES, MASKS = "images", "masks"


def add(folder: Path, image: Micrograph, labels: NDArray[np.int32]) -> Path:
    """Write an image and its corrected labels (Y, X) into a training folder; return the image's path.

    The same image again replaces its labels. Another image of the same name gets a name of its own.
    Raises MicroError when the folder holds classes of frames, or nothing is labelled.
    """
    if not labels.any():
        raise MicroError(f"{image.name}: no region is labelled; an image without any teaches nothing.")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / IMAGES).is_dir():
        raise MicroError(f"{folder}: holds other things. Take a new folder, or one with {IMAGES}/ and {MASKS}/ in it.")
    for name in (IMAGES, MASKS):
        (folder / name).mkdir(parents=True, exist_ok=True)
    plain = re.sub(r"[^\w.-]+", "-", image.name).strip("-.") or "image"
    stem = f"{plain}-{fingerprint(image)[:8]}"
    path = folder / IMAGES / f"{stem}.tif"
    formats.write_image(path, image)
    formats.write_labels(folder / MASKS / f"{stem}.tif", labels, image.pixel_size_um)
    return path


def count(folder: Path) -> int:
    """Return how many annotated images a folder holds, without reading them."""
    images = folder / IMAGES
    return sum(map(formats.is_image_name, images.iterdir())) if images.is_dir() else 0
