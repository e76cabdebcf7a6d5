"""Corrected images -> a folder that `micro train` reads."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

from micro import formats, tasks
from micro.annotations import IGNORE
from micro.errors import MicroError
from micro.folder.values import CLASSES, named_values
from micro.micrograph import Micrograph
from micro_napari.finding import Finding
from micro_napari.layers import fingerprint

IMAGES, MASKS = "images", "masks"
GROUND = "substrate"
"""What lies below regions that a task makes of classes; its value is the smallest of a table."""


@dataclass(frozen=True)
class PixelClasses:
    """What the labels of a task mean that learns from masks of classes.

    names: the classes that a table of them must have, background first. of_number: class of each label.
    """

    names: tuple[str, ...]
    of_number: Mapping[int, str]


def pixel_classes(finding: Finding, labels: NDArray[np.int32]) -> PixelClasses | None:
    """Return what labels (Y, X) mean where the task learns from their classes; None where it learns regions alone.

    That is also so for a task that makes regions of classes, where no class says anything of its region.
    Raises BadSetting for classes that mean nothing to such a task.
    """
    segmenter, task = finding.card.segmenter, tasks.find(finding.card.task)
    numbers = [int(number) for number in np.unique(labels) if number > 0]
    unnamed = finding.unnamed
    of_number = {number: finding.classes.get(number, unnamed) for number in numbers}
    if segmenter is not None and task.of_classes is not None:
        return PixelClasses(segmenter.outputs, of_number)
    if task.regions_of is None:
        return None
    names = (GROUND, *sorted(set(of_number.values())))
    regions, _ = task.regions_of(np.arange(1, len(names), dtype=np.int32)[np.newaxis], names)
    return PixelClasses((GROUND,), of_number) if (regions >= 0).any() else None


def add(folder: Path, image: Micrograph, labels: NDArray[np.int32], classes: PixelClasses | None = None) -> Path:
    """Write an image and its corrected labels (Y, X) into a training folder; return the image's path.

    The same image again replaces its labels. Another image of the same name gets a name of its own. With classes the
    mask holds their values, which a `classes.yaml` beside it names.
    Raises MicroError when the folder holds classes of frames or another kind of masks, or nothing is labelled.
    """
    if not labels.any():
        raise MicroError(f"{image.name}: no region is labelled; an image without any teaches nothing.")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / IMAGES).is_dir():
        raise MicroError(f"{folder}: holds other things. Take a new folder, or one with {IMAGES}/ and {MASKS}/ in it.")
    if classes is None and (folder / CLASSES).is_file():
        raise MicroError(f"{folder}: its masks hold classes of pixels, and these labels regions. Take a new folder.")
    mask = labels if classes is None else _values(folder, labels, classes)
    for name in (IMAGES, MASKS):
        (folder / name).mkdir(parents=True, exist_ok=True)
    plain = re.sub(r"[^\w.-]+", "-", image.name).strip("-.") or "image"
    stem = f"{plain}-{fingerprint(image)[:8]}"
    path = folder / IMAGES / f"{stem}.tif"
    formats.write_image(path, image)
    formats.write_labels(folder / MASKS / f"{stem}.tif", mask, image.pixel_size_um)
    return path


def count(folder: Path) -> int:
    """Return how many annotated images a folder holds, without reading them."""
    images = folder / IMAGES
    return sum(map(formats.is_image_name, images.iterdir())) if images.is_dir() else 0


def _values(folder: Path, labels: NDArray[np.int32], classes: PixelClasses) -> NDArray[np.int32]:
    """Return the values (Y, X) of the classes of labels, by the folder's table, which gets those that it lacks."""
    path = folder / CLASSES
    if not path.is_file() and count(folder):
        raise MicroError(f"{folder}: its masks hold regions, and these labels classes of pixels. Take a new folder.")
    table, wrong = named_values(path)
    if wrong:
        raise MicroError(wrong[0])
    value_of = {name or IGNORE: value for value, name in table.items()}
    background = classes.names[0]
    if table and table[min(table)] != background:
        raise MicroError(f"{path}: its smallest value is {table[min(table)]}, and {background} here: take a new one.")
    numbers = [int(number) for number in np.unique(labels) if number > 0]
    told = dict.fromkeys((*classes.names, *(classes.of_number[number] for number in numbers)))
    lacking = [name for name in told if name not in value_of]
    lines = {max(table, default=-1) + place: name for place, name in enumerate(lacking, 1)}
    value_of |= {name: value for value, name in lines.items()}
    if lines:
        before = path.read_text(encoding="utf-8").rstrip("\n") + "\n" if path.is_file() else ""
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(before + yaml.safe_dump(lines, allow_unicode=True), encoding="utf-8")
    values = np.full(int(labels.max()) + 1, value_of[background], np.int32)
    values[numbers] = [value_of[classes.of_number[number]] for number in numbers]
    return values[np.maximum(labels, 0)]
