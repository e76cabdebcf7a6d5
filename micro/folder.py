"""A folder of annotated images: what is in it, and everything that is wrong with it, before anything is trained."""

import csv
import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

from micro import formats
from micro.errors import BadFolder, UnreadableImage
from micro.micrograph import Micrograph
from micro.tasks import Annotation

ANNOTATION_FOLDERS = ("masks", "labels", "labels_rgb", "instance_masks", "annotations")
MASK_ENDINGS = ("_label", "_labels", "_mask", "_masks")
TWINS = "twins"
GROUPS = "groups.csv"
CLASSES = "classes.yaml"
# Quality of the common re-encoding: high enough to keep what an eye sees, low enough to hide how a file came.
REENCODE_QUALITY = 90


@dataclass(frozen=True, eq=False)
class Annotated:
    """One annotated image, as read.

    labels: (Y, X) int32 instance ids, 0 for background; or numbers of classes, -1 where nothing is known; or None where
        the annotation is the class of the whole frame.
    class_name: class of the frame, or None where the annotation is a mask.
    group: images of one group show the same thing and stay on one side of a split: equal pixels, or one specimen.
    digest: what equal pixels have in common.
    lossless: whether the file kept every pixel value as it was taken.
    twins: (Y, X) bool, where an instance is twinned, which parts it within but makes no instances; None: nowhere.
    """

    image: Micrograph
    labels: NDArray[np.int32] | None
    class_name: str | None
    group: str
    digest: str
    lossless: bool
    twins: NDArray[np.bool_] | None = None


@dataclass(frozen=True, eq=False)
class AnnotatedFolder:
    """Every annotated image of a folder, in the order of their names.

    classes: names of the classes, sorted where they are of frames, by value where they are of pixels; empty where masks
        number instances.
    remarks: what a reader should know and what does not prevent training.
    """

    root: Path
    images: tuple[Annotated, ...]
    classes: tuple[str, ...]
    remarks: tuple[str, ...]

    @property
    def annotation(self) -> Annotation:
        """What the images are annotated with."""
        if any(item.labels is None for item in self.images):
            return "frames"
        return "classes" if self.classes else "instances"

    def describe(self) -> str:
        """Return the page that is printed before a minute is spent."""
        kinds = ", ".join(f"{name} {count}" for name, count in sorted(Counter(self._kinds()).items()))
        return "\n".join((f"{self.root}: {len(self.images)} annotated images ({kinds})", *self.remarks))

    def _kinds(self) -> list[str]:
        masks = f"with masks of {', '.join(self.classes)}" if self.annotation == "classes" else "with masks"
        return [item.class_name or masks for item in self.images]


def read(root: Path) -> AnnotatedFolder:
    """Read `images/` with a folder of masks beside it, or one folder a class, at root or in `root/images`.

    Masks have their image's stem, or that and one of MASK_ENDINGS: instance ids as an index image or label TIFF, or one
    RGB colour an instance; see `formats.read_labels`. Where a `classes.yaml` names the values of the masks, a line
    `value: name` each, they are classes of pixels and no instances; the smallest value is the background, and a value
    without a name means that nothing is known there. Masks of the same names in a folder `twins/` are above 0 where a
    grain is twinned. A `groups.csv` with the columns image,group names images of one specimen, chip or microscope
    setting, which then stay on one side of every split. Raises BadFolder with the list of all problems.
    """
    if not root.is_dir():
        raise BadFolder(f"{root}: no such folder.")
    images = root / "images" if (root / "images").is_dir() else root
    masks = next((root / name for name in ANNOTATION_FOLDERS if (root / name).is_dir()), None)
    if masks is not None:
        names, unnamed = _named_values(root / CLASSES)
        items, problems = _masked(images, masks, names)
        problems += unnamed
        classes = tuple(name for _, name in sorted(names.items()) if name is not None)
    else:
        items, problems = _sorted_by_class(images)
        classes = tuple(sorted({item.class_name for item in items if item.class_name is not None}))
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
    remarks = _twin_remarks(items)
    if _encoding_tells_class(items):
        items = [replace(item, image=reencoded(item.image)) for item in items]
        remarks.append(
            f"some classes have lossless files and others do not: all images were re-encoded alike (JPEG quality "
            f"{REENCODE_QUALITY}), or a network would learn the file type."
        )
    return AnnotatedFolder(root, tuple(items), classes, tuple(remarks))


def annotated(
    image: Micrograph, labels: NDArray[np.int32] | None, class_name: str | None, lossless: bool = True
) -> Annotated:
    """Return an image with its annotation, in a group of its own that only copies of it join."""
    digest = hashlib.sha256(np.ascontiguousarray(image.pixels).data).hexdigest()
    return Annotated(image, labels, class_name, digest, digest, lossless)


def is_lossless(path: Path) -> bool:
    """Whether a file of this name keeps every pixel value; WebP may, and is not relied on."""
    return path.suffix.lower() not in (".jpg", ".jpeg", ".webp")


def corrected(folder: AnnotatedFolder, said: Sequence[Annotated]) -> AnnotatedFolder:
    """Return a folder as people corrected it since: their word on an image that is in it, and further images behind.

    said: frames with a class of the folder, or masks whose values mean what they mean in the folder.
    Raises BadFolder with the list of those that say something that the folder cannot.
    """
    names, _ = _named_values(folder.root / CLASSES) if folder.annotation == "classes" else ({}, [])
    problems = []
    for item in said:
        if (item.labels is None) != (folder.annotation == "frames"):
            problems.append(f"{item.image.name}: corrected with a {'class' if item.labels is None else 'mask'}.")
        elif item.labels is None and item.class_name not in folder.classes:
            problems.append(f"{item.image.name}: no class {item.class_name!r} in the folder.")
        elif names and item.labels is not None and len(strange := np.setdiff1d(item.labels, list(names))):
            problems.append(f"{item.image.name}: values that {CLASSES} does not name: {', '.join(map(str, strange))}.")
    if problems:
        listed = "\n".join(f"  - {problem}" for problem in problems)
        raise BadFolder(f"{folder.root}: corrections that do not fit: {len(problems)}\n{listed}")
    if _encoding_tells_class(folder.images):
        said = [replace(item, image=reencoded(item.image)) for item in said]
    words = {
        item.digest: item if item.labels is None else replace(item, labels=_numbered(item.labels, names))
        for item in said
    }
    own = [
        replace(item, labels=word.labels, class_name=word.class_name) if (word := words.get(item.digest)) else item
        for item in folder.images
    ]
    known = {item.digest for item in own}
    further = [word for digest, word in words.items() if digest not in known]
    remark = f"corrected since: {len(words) - len(further)} images of the folder, and {len(further)} further ones"
    return replace(folder, images=(*own, *further), remarks=(*folder.remarks, remark))


def reencoded(image: Micrograph, quality: int = REENCODE_QUALITY) -> Micrograph:
    """Return an 8-bit image as it looks after JPEG compression."""
    done, data = cv2.imencode(
        ".jpg", np.ascontiguousarray(image.pixels[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    assert done
    grey = image.channels == 1
    pixels = np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR))
    return replace(image, pixels=pixels if grey else pixels[..., ::-1])


def _named_values(path: Path) -> tuple[dict[int, str | None], list[str]]:
    """Return value -> class of a table of classes, nothing where there is none, and what is wrong with it."""
    if not path.is_file():
        return {}, []
    try:
        table = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as fault:
        return {}, [f"{path}: not YAML. {fault}"]
    if not isinstance(table, dict) or not all(
        type(value) is int and value >= 0 and (name is None or (isinstance(name, str) and name))
        for value, name in table.items()
    ):
        return {}, [f"{path}: one line `value: name` for each class is expected, such as `0: matrix`."]
    names = [name for name in table.values() if name is not None]
    if len(names) < 2 or len(set(names)) < len(names):
        return {}, [f"{path}: two classes or more are expected, each with a name of its own; it has {names}."]
    return table, []


def _masked(images: Path, masks: Path, names: Mapping[int, str | None]) -> tuple[list[Annotated], list[str]]:
    """Pair images with masks of the same stem; names: of the masks' values, none where they number instances."""
    items: list[Annotated] = []
    problems: list[str] = []
    image_of, twice = _by_stem(images)
    mask_of, masks_twice = _by_stem(masks, MASK_ENDINGS, image_of.keys())
    beside = masks.parent / TWINS
    twins_of, twins_twice = _by_stem(beside) if beside.is_dir() else ({}, [])
    twice += masks_twice + twins_twice
    problems += [f"{path}: another file of this folder has the same stem." for path in twice]
    problems += [
        f"{image_of[stem]}: no mask {stem}.* in {masks.name}/." for stem in sorted(image_of.keys() - mask_of.keys())
    ]
    problems += [
        f"{of[stem]}: no image {stem}.* in {images.name}/."
        for of in (mask_of, twins_of)
        for stem in sorted(of.keys() - image_of.keys())
    ]
    for stem in sorted(image_of.keys() & mask_of.keys()):
        try:
            image = formats.read(image_of[stem])
            labels = formats.read_labels(mask_of[stem])
            twins = formats.read_labels(twins_of[stem]) > 0 if stem in twins_of else None
        except UnreadableImage as fault:
            problems.append(str(fault))
            continue
        misfits = [
            f"{path}: {mask.shape[0]} x {mask.shape[1]} px, and its image is {image.height_px} x {image.width_px}."
            for path, mask in ((mask_of[stem], labels), (twins_of.get(stem), twins))
            if mask is not None and mask.shape != (image.height_px, image.width_px)
        ]
        if misfits:
            problems += misfits
            continue
        strange = np.setdiff1d(labels, list(names)) if names else np.array([])
        if len(strange):
            problems.append(f"{mask_of[stem]}: values that {CLASSES} does not name: {', '.join(map(str, strange))}.")
            continue
        items.append(replace(annotated(image, _numbered(labels, names), None), twins=twins))
    return items, problems


def _numbered(labels: NDArray[np.int32], names: Mapping[int, str | None]) -> NDArray[np.int32]:
    """Return values (Y, X) as numbers of their classes, -1 for those without a name; instances stay as they are."""
    if not names:
        return labels
    values = sorted(names)
    named = [value for value in values if names[value] is not None]
    numbers = np.array([named.index(value) if value in named else -1 for value in values], np.int32)
    numbered: NDArray[np.int32] = numbers[np.searchsorted(values, labels)]
    return numbered


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
            items.append(annotated(image, None, folder.name, is_lossless(path)))
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


def _by_stem(
    folder: Path, endings: tuple[str, ...] = (), wanted: Collection[str] = ()
) -> tuple[dict[str, Path], list[Path]]:
    """Return stem -> image file of a folder, and the files whose stem was taken already.

    A stem that is not wanted loses one of the endings, where it has one.
    """
    found: dict[str, Path] = {}
    twice = []
    for path in sorted(folder.iterdir()):
        if formats.is_image_name(path):
            bare = next((path.stem.removesuffix(ending) for ending in endings if path.stem.endswith(ending)), path.stem)
            stem = path.stem if path.stem in wanted else bare
            if stem in found:
                twice.append(path)
            found.setdefault(stem, path)
    return found, twice


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
