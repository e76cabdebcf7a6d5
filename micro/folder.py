"""A folder of annotated images: what is in it, and everything that is wrong with it, before anything is trained."""

import csv
import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from micro import formats
from micro.errors import BadFolder, UnreadableImage
from micro.micrograph import Micrograph

ANNOTATION_FOLDERS = ("masks", "labels", "labels_rgb", "instance_masks", "annotations")
GROUPS = "groups.csv"
# Quality of the common re-encoding: high enough to keep what an eye sees, low enough to hide how a file came.
REENCODE_QUALITY = 90


@dataclass(frozen=True, eq=False)
class Annotated:
    """One annotated image, as read.

    labels: (Y, X) int32 instance ids, 0 for background, or None where the annotation is the class of the whole frame.
    class_name: class of the frame, or None where the annotation is a mask.
    group: images of one group show the same thing and stay on one side of a split: equal pixels, or one specimen.
    digest: what equal pixels have in common.
    lossless: whether the file kept every pixel value as it was taken.
    """

    image: Micrograph
    labels: NDArray[np.int32] | None
    class_name: str | None
    group: str
    digest: str
    lossless: bool


@dataclass(frozen=True, eq=False)
class AnnotatedFolder:
    """Every annotated image of a folder, in the order of their names.

    classes: names of the frame classes, sorted; empty where the annotations are masks.
    remarks: what a reader should know and what does not prevent training.
    """

    root: Path
    images: tuple[Annotated, ...]
    classes: tuple[str, ...]
    remarks: tuple[str, ...]

    def describe(self) -> str:
        """Return the page that is printed before a minute is spent."""
        kinds = ", ".join(f"{name} {count}" for name, count in sorted(Counter(self._kinds()).items()))
        return "\n".join((f"{self.root}: {len(self.images)} annotated images ({kinds})", *self.remarks))

    def _kinds(self) -> list[str]:
        return [item.class_name or "with masks" for item in self.images]


def read(root: Path) -> AnnotatedFolder:
    """Read `images/` with a folder of masks beside it, or one folder a class, at root or in `root/images`.

    Masks have their image's stem: instance ids as an index image or label TIFF, or one RGB colour an instance; see
    `formats.read_labels`. A `groups.csv` with the columns image,group names images of one specimen, chip or microscope
    setting, which then stay on one side of every split. Raises BadFolder with the list of all problems.
    """
    if not root.is_dir():
        raise BadFolder(f"{root}: no such folder.")
    images = root / "images" if (root / "images").is_dir() else root
    masks = next((root / name for name in ANNOTATION_FOLDERS if (root / name).is_dir()), None)
    if masks is not None:
        items, problems = _masked(images, masks)
    else:
        items, problems = _sorted_by_class(images)
    items, unknown = _grouped(items, root / GROUPS)
    problems += unknown
    if not items and not problems:
        problems = [
            f"nothing annotated: neither images/ with one of {', '.join(ANNOTATION_FOLDERS)}/, nor a folder a class."
        ]
    problems += _contradictions(items)
    if problems:
        listed = "\n".join(f"  - {problem}" for problem in problems)
        raise BadFolder(f"{root}: problems found: {len(problems)}\n{listed}")
    classes = tuple(sorted({item.class_name for item in items if item.class_name is not None}))
    remarks = _twin_remarks(items)
    if _encoding_tells_class(items):
        items = [replace(item, image=reencoded(item.image)) for item in items]
        remarks.append(
            f"some classes have lossless files and others do not: all images were re-encoded alike (JPEG quality "
            f"{REENCODE_QUALITY}), or a network would learn the file type."
        )
    return AnnotatedFolder(root, tuple(items), classes, tuple(remarks))


def reencoded(image: Micrograph, quality: int = REENCODE_QUALITY) -> Micrograph:
    """Return an 8-bit image as it looks after JPEG compression."""
    done, data = cv2.imencode(
        ".jpg", np.ascontiguousarray(image.pixels[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    assert done
    grey = image.channels == 1
    pixels = np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR))
    return replace(image, pixels=pixels if grey else pixels[..., ::-1])


def _masked(images: Path, masks: Path) -> tuple[list[Annotated], list[str]]:
    """Pair images with masks of the same stem."""
    items: list[Annotated] = []
    problems: list[str] = []
    image_of, twice = _by_stem(images)
    mask_of, masks_twice = _by_stem(masks)
    problems += [f"{path}: another file of this folder has the same stem." for path in twice + masks_twice]
    problems += [
        f"{image_of[stem]}: no mask {stem}.* in {masks.name}/." for stem in sorted(image_of.keys() - mask_of.keys())
    ]
    problems += [
        f"{mask_of[stem]}: no image {stem}.* in {images.name}/." for stem in sorted(mask_of.keys() - image_of.keys())
    ]
    for stem in sorted(image_of.keys() & mask_of.keys()):
        try:
            image = formats.read(image_of[stem])
            labels = formats.read_labels(mask_of[stem])
        except UnreadableImage as fault:
            problems.append(str(fault))
            continue
        if labels.shape != (image.height_px, image.width_px):
            problems.append(
                f"{mask_of[stem]}: {labels.shape[0]} x {labels.shape[1]} px, and its image is "
                f"{image.height_px} x {image.width_px}."
            )
        else:
            digest = _digest(image)
            items.append(Annotated(image, labels, None, digest, digest, True))
    return items, problems


def _sorted_by_class(images: Path) -> tuple[list[Annotated], list[str]]:
    """Take each folder's name as the class of the images in it."""
    items: list[Annotated] = []
    problems: list[str] = []
    for folder in sorted(path for path in images.iterdir() if path.is_dir() and not path.name.startswith(".")):
        paths = sorted(path for path in folder.iterdir() if formats.is_image_name(path))
        if not paths:
            problems.append(f"{folder}: no images for the class {folder.name!r}.")
        for path in paths:
            try:
                image = formats.read(path, name=f"{folder.name}/{path.name}")
            except UnreadableImage as fault:
                problems.append(str(fault))
                continue
            lossless = path.suffix.lower() not in (".jpg", ".jpeg", ".webp")
            digest = _digest(image)
            items.append(Annotated(image, None, folder.name, digest, digest, lossless))
    if len({item.class_name for item in items}) == 1:
        problems.append(f"{images}: only one class, {items[0].class_name!r}; a classifier needs two.")
    return items, problems


def _grouped(items: Sequence[Annotated], path: Path) -> tuple[list[Annotated], list[str]]:
    """Give images the groups that a table names; copies of one image count as one group as it is."""
    if not path.is_file():
        return list(items), []
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows or not {"image", "group"} <= rows[0].keys():
        return list(items), [f"{path}: a table with the columns image,group is expected."]
    group_of = {row["image"]: row["group"] for row in rows}
    names = {item.image.name for item in items}
    problems = [f"{path}: no image {name!r} in the folder." for name in group_of if name not in names]
    problems += [f"{path}: no group for the image {name!r}." for name in sorted(names - group_of.keys())]
    return [replace(item, group=group_of.get(item.image.name, item.group)) for item in items], problems


def _by_stem(folder: Path) -> tuple[dict[str, Path], list[Path]]:
    """Return stem -> image file of a folder, and the files whose stem was taken already."""
    found: dict[str, Path] = {}
    twice = []
    for path in sorted(folder.iterdir()):
        if formats.is_image_name(path):
            if path.stem in found:
                twice.append(path)
            found.setdefault(path.stem, path)
    return found, twice


def _digest(image: Micrograph) -> str:
    """Return what equal pixels have in common: copies of one image get one group."""
    return hashlib.sha256(np.ascontiguousarray(image.pixels).data).hexdigest()


def _twins(items: Sequence[Annotated]) -> Mapping[str, list[Annotated]]:
    groups: dict[str, list[Annotated]] = defaultdict(list)
    for item in items:
        groups[item.digest].append(item)
    return groups


def _contradictions(items: Sequence[Annotated]) -> list[str]:
    """Name images that are equal and annotated differently."""
    problems = []
    for twins in _twins(items).values():
        first = twins[0]
        for other in twins[1:]:
            same_mask = first.labels is None or other.labels is None or np.array_equal(first.labels, other.labels)
            if first.class_name != other.class_name or not same_mask:
                problems.append(f"{first.image.name} and {other.image.name}: equal pixels, different annotations.")
    return problems


def _twin_remarks(items: Sequence[Annotated]) -> list[str]:
    return [
        "the same image more than once, kept on one side of every split: "
        + ", ".join(twin.image.name for twin in twins)
        for twins in _twins(items).values()
        if len(twins) > 1
    ]


def _encoding_tells_class(items: Sequence[Annotated]) -> bool:
    """Whether some classes have 8-bit lossless files and others none: a network would learn the file type."""
    share: dict[str, list[bool]] = defaultdict(list)
    for item in items:
        if item.class_name is not None:
            share[item.class_name].append(item.lossless)
    rates = [sum(flags) / len(flags) for flags in share.values()]
    return bool(rates) and max(rates) - min(rates) > 0.1 and all(item.image.pixels.dtype == np.uint8 for item in items)
