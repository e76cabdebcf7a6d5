"""A folder of annotated images is read, in whatever form a lab keeps it."""

from collections import Counter
from collections.abc import Callable, Collection, Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from micro import annotations, formats
from micro.annotations import Document, Sheet
from micro.errors import BadFolder, UnreadableImage
from micro.folder import consensus, groups
from micro.folder.drawing import drawn_classes, drawn_instances
from micro.folder.encoding import REENCODE_QUALITY, is_lossless, reencoded, tells_class
from micro.folder.folder import Annotated, AnnotatedFolder, annotated
from micro.folder.shelf import Shelf
from micro.folder.values import CLASSES, Names, as_greys, class_names, class_numbers, named_values, numbered
from micro.folder.values import strange_values as strange
from micro.micrograph import Micrograph
from micro.tasks import Annotation, Task

ANNOTATION_FOLDERS = ("masks", "labels", "labels_rgb", "instance_masks", "annotations")
MASK_ENDINGS = ("_label", "_labels", "_mask", "_masks")
IGNORE_FOLDER, TWINS_FOLDER = "ignore", "twins"
BACKGROUND = "background"
Labels = NDArray[np.int32]


@dataclass
class _Found:
    """What is found while a folder is read."""

    items: list[Annotated] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    names: Names = field(default_factory=dict)
    source: str = "masks"
    shelf: Shelf = field(default_factory=Shelf)

    def take(
        self,
        image: Micrograph,
        labels: Labels | None,
        class_name: str | None = None,
        *,
        lossless: bool = True,
        twins: NDArray[np.bool_] | None = None,
    ) -> None:
        """Keep an image with its annotation; labels are values of a table of classes, or instances."""
        if labels is not None:
            labels = self.shelf.keep(class_numbers(labels, self.names) if self.names else numbered(labels))
        item = annotated(image, labels, class_name, lossless)
        twins = None if twins is None else self.shelf.keep(twins)
        self.items.append(replace(item, image=replace(image, pixels=self.shelf.keep(image.pixels)), twins=twins))


@dataclass(frozen=True)
class _Beside:
    """Masks in folders beside the images, by stem: where nothing is known, and where grains are twinned."""

    ignored: Mapping[str, Path]
    twins: Mapping[str, Path]


def read(root: Path, wanted: Collection[Annotation] = (), group_by: str | None = None) -> AnnotatedFolder:
    """Read images with masks, with the files of an annotation tool, or in one folder a class.

    Images lie in `root/images` or at root. Masks lie in one of ANNOTATION_FOLDERS beside `images` and have their
    image's stem, or that and one of MASK_ENDINGS: instance ids as an index image or label TIFF, or one RGB colour an
    instance; see `formats.read_labels`. Where that folder has a folder an annotator instead, what more than half of
    them say counts. Files of annotation tools are those of `annotations.find`.

    A `classes.yaml` names the values of masks, a line `value: name` each: then they are classes of pixels and no
    instances. The smallest value is the background, and what no shape of a tool covers; a value without a name, or with
    the name `ignore`, means that nothing is known there. Masks in a folder `ignore` say so too, where they are above 0,
    and those in a folder `twins` are above 0 where a grain is twinned. A shape of the class `ignore` says that nothing
    is known inside it, and one of the class `annotated` that nothing is known outside.

    wanted: what a task learns from, none of which means anything. Files of annotation tools that name classes serve
        for either kind of mask: without a `classes.yaml` their shapes are instances, or classes over a background of
        that name where these are wanted.
    group_by: a regular expression whose first group, found in an image's name, is the specimen or field it belongs to.

    A `groups.csv` with the columns image,group names images of one specimen, chip or microscope setting, which then
    stay on one side of every split, as nearly equal images do. Raises BadFolder with the list of all problems.
    """
    if not root.is_dir():
        raise BadFolder(f"{root}: no such folder.")
    images = root / "images" if (root / "images").is_dir() else root
    masks = next((root / name for name in ANNOTATION_FOLDERS if _annotators(root / name)), None)
    names, unnamed = named_values(root / CLASSES)
    found = _Found(problems=unnamed, names=names)
    documents = [] if masks else annotations.find(root)
    if masks is not None:
        _take_masks(found, images, masks)
    elif documents:
        _take_documents(found, images, documents, wanted)
    else:
        _take_folders(found, images)
    if not found.items and not found.problems:
        found.problems.append(
            f"nothing annotated: neither images/ with one of {', '.join(ANNOTATION_FOLDERS)}/, nor files of an "
            f"annotation tool ({annotations.KINDS}), nor a folder a class."
        )
    found.items, problems = groups.grouped(found.items, root, group_by)
    found.problems += problems + groups.contradictions(found.items)
    if found.problems:
        listed = "\n".join(f"  - {problem}" for problem in found.problems)
        counted = f"{len(found.items)} annotated images can be used ({found.source}). " if found.items else ""
        raise BadFolder(f"{root}: {counted}problems found: {len(found.problems)}\n{listed}")
    found.items, alike = groups.with_near_copies(found.items, group_by is not None or (root / groups.GROUPS).is_file())
    found.remarks += alike + groups.doubtful_masks(found.items) + _bare(found.items, bool(found.names))
    if tells_class(found.items):
        found.items = [replace(item, image=reencoded(item.image)) for item in found.items]
        found.remarks.append(
            f"some classes have lossless files and others do not: all images were re-encoded alike (JPEG quality "
            f"{REENCODE_QUALITY}), or a network would learn the file type."
        )
    frames = sorted({item.class_name for item in found.items if item.class_name is not None})
    return AnnotatedFolder(
        root,
        tuple(found.items),
        tuple(frames) or class_names(found.names),
        tuple(found.remarks),
        () if frames else tuple(sorted(found.names.items())),
        found.source,
    )


def read_for(task: Task, root: Path, group_by: str | None = None) -> AnnotatedFolder:
    """Read what a task learns from; see `read`. Classes of pixels are instances where the task makes them that.

    Raises BadFolder, and BadSetting for classes that mean nothing to the task.
    """
    found = read(root, task.annotations, group_by)
    if found.annotation != "classes" or task.regions_of is None:
        return found
    items = []
    for item in found.images:
        assert item.labels is not None
        labels, names = task.regions_of(item.labels, found.classes)
        items.append(replace(item, labels=labels, region_classes=names))
    return replace(found, images=tuple(items), classes=(), values=())


def unlabelled(root: Path) -> tuple[Micrograph, ...]:
    """Read every image in a folder and the folders in it; raise BadFolder when there is none, or one cannot be read."""
    if not root.is_dir():
        raise BadFolder(f"{root}: no such folder.")
    shelf, found, problems = Shelf(), [], []
    for path in sorted(path for path in root.rglob("*") if formats.is_image_name(path)):
        try:
            image = formats.read(path)
            found.append(replace(image, pixels=shelf.keep(image.pixels)))
        except UnreadableImage as fault:
            problems.append(f"  - {fault}")
    if problems or not found:
        raise BadFolder("\n".join([f"{root}: {len(found)} images could be read.", *problems]))
    return tuple(found)


# --- masks as images --------------------------------------------------------------------------------------------------


def _annotators(masks: Path) -> dict[str, Path]:
    """Return annotator -> folder with masks; one without a name where the masks lie in the folder itself."""
    if not masks.is_dir():
        return {}
    if any(formats.is_image_name(path) for path in masks.iterdir()):
        return {"": masks}
    below = sorted(path for path in masks.iterdir() if path.is_dir() and not path.name.startswith("."))
    return {path.name: path for path in below if any(formats.is_image_name(each) for each in path.iterdir())}


def _take_masks(found: _Found, images: Path, masks: Path) -> None:
    """Pair images with masks of the same stem, of one annotator or of several."""
    image_of, twice = _by_stem(images)
    beside = _beside(found, images, image_of)
    masks_of: dict[str, list[Path]] = {stem: [] for stem in image_of}
    annotators = _annotators(masks)
    for folder in annotators.values():
        mask_of, masks_twice = _by_stem(folder, MASK_ENDINGS, image_of)
        twice += masks_twice
        for stem, path in mask_of.items():
            if stem in masks_of:
                masks_of[stem].append(path)
            else:
                found.problems.append(f"{path}: no image {stem}.* in {images.name}/.")
    found.problems += [f"{path}: another file of this folder has the same stem." for path in twice]
    if len(annotators) > 1:
        found.source = f"masks of {len(annotators)} annotators ({', '.join(annotators)})"
    for stem, paths in sorted(masks_of.items()):
        if not paths:
            found.problems.append(f"{image_of[stem]}: no mask {stem}.* in {masks.name}/.")
            continue
        try:
            image = formats.read(image_of[stem])
        except UnreadableImage as fault:
            found.problems.append(str(fault))
            continue
        said = [labels for path in paths if (labels := _mask(found, path, image)) is not None]
        if len(said) == len(paths):
            _take(found, image, said, beside, stem)


def _take(found: _Found, image: Micrograph, said: Sequence[Labels], beside: _Beside, stem: str) -> None:
    """Take what annotators agree on, with what the masks beside say of it."""
    ignored, twins = (
        _mask(found, masks[stem], image, plain=True) if stem in masks else np.zeros((1, 1), np.int32)
        for masks in (beside.ignored, beside.twins)
    )
    if ignored is not None and twins is not None:
        labels = np.where(ignored > 0, np.int32(-1), _agreed(said, found.names))
        found.take(image, labels, twins=twins > 0 if stem in beside.twins else None)


def _mask(found: _Found, path: Path, image: Micrograph, plain: bool = False) -> Labels | None:
    """Return the values of a mask, or list what is wrong with it; a plain one has no classes."""
    try:
        labels = formats.read_labels(path)
    except UnreadableImage as fault:
        found.problems.append(str(fault))
        return None
    if labels.shape != (image.height_px, image.width_px):
        found.problems.append(
            f"{path}: {labels.shape[0]} x {labels.shape[1]} px, and its image is {image.height_px} x {image.width_px}."
        )
        return None
    if plain or not found.names:
        return labels
    labels = as_greys(labels, found.names)
    if others := strange(labels, found.names):
        more = f" and {len(others) - 12} more" if len(others) > 12 else ""
        found.problems.append(f"{path}: values that {CLASSES} does not name: {', '.join(map(str, others[:12]))}{more}.")
        return None
    return labels


def _agreed(said: Sequence[Labels], names: Names) -> Labels:
    """Return what annotators agree on; classes come and go as values of their table."""
    if all(np.array_equal(said[0], labels) for labels in said[1:]):
        return said[0]
    if not names:
        return consensus.instances(said)
    named = np.array([value for value, name in sorted(names.items()) if name is not None], np.int32)
    agreed = consensus.classes([class_numbers(labels, names) for labels in said])
    return np.where(agreed < 0, np.int32(-1), named[agreed])


# --- files of annotation tools ----------------------------------------------------------------------------------------


def _take_documents(found: _Found, images: Path, documents: Sequence[Document], wanted: Collection[Annotation]) -> None:
    """Draw what the files of annotation tools say of each image."""
    counts = Counter(document.kind for document in documents)
    found.source = ", ".join(f"{kind} ({count} {'file' if count == 1 else 'files'})" for kind, count in counts.items())
    found.problems += [problem for document in documents for problem in document.problems]
    readers = _readers(images) | {name: read for document in documents for name, read in document.images.items()}
    of_stem = {Path(name).stem: name for name in sorted(readers, reverse=True)}
    sheets: dict[str, list[Sheet]] = {name: [] for name in sorted(readers)}
    for document in documents:
        for sheet in document.sheets:
            name = of_stem.get(sheet.image) if sheet.stem_only else sheet.image
            if name not in sheets:
                where = f"no image {sheet.image}{'.*' if sheet.stem_only else ''} in the folder"
                found.problems.append(f"{sheet.source}: {where}.")
            else:
                sheets[name].append(sheet)
    found.problems += [
        f"{', '.join(path.relative_to(images).as_posix() for path in paths)}: images of one name in several folders, "
        f"and annotations and splits tell images apart by their names. Give each a name of its own."
        for name, paths in _images_by_name(images).items()
        if len(paths) > 1 and sheets.get(name)
    ]
    if without := [name for name, own in sheets.items() if not own]:
        listed = ", ".join(without[:6]) + (f" and {len(without) - 6} more" if len(without) > 6 else "")
        found.remarks.append(f"{len(without)} images are not annotated and do not train: {listed}")
    said = [sheet for each in sheets.values() for sheet in each]
    no_region = bool(said) and not any(sheet.regions for sheet in said)
    if tuple(wanted) == ("frames",) or (no_region and (not wanted or "frames" in wanted)):
        _take_named_frames(found, sheets, readers)
        _refuse_one_class(found, images)
        return
    known = sorted({region.class_name for sheet in said for region in sheet.regions
                    if region.class_name and not (region.is_ignored or region.is_area)})  # fmt: skip
    if not found.names and "classes" in wanted and "instances" not in wanted:
        classes = [BACKGROUND, *(name for name in known if name != BACKGROUND)]
        found.names = dict(enumerate(classes))
    elif not found.names and known:
        found.remarks.append(f"the file names classes ({', '.join(known)}); its regions are taken as instances.")
    beside = _beside(found, images, of_stem)
    for name, own in sheets.items():
        if own:
            _take_drawn(found, name, own, readers[name], beside)
    left_out = sum((Counter(document.left_out) for document in documents), Counter[str]())
    found.remarks += [f"{count} {what}: not taken as regions" for what, count in sorted(left_out.items())]
    several = sum(len(own) > 1 for own in sheets.values())
    if several:
        found.remarks.append(f"{several} images have several annotators: what more than half of them say counts")


def _take_drawn(
    found: _Found, name: str, sheets: Sequence[Sheet], load: Callable[[], Micrograph], beside: _Beside
) -> None:
    try:
        image = load()
    except UnreadableImage as fault:
        found.problems.append(str(fault))
        return
    shape_px = (image.height_px, image.width_px)
    said = []
    faults: list[str] = []
    for sheet in sheets:
        if sheet.shape_px not in (None, shape_px):
            assert sheet.shape_px is not None
            faults.append(
                f"{sheet.source}: {name} was annotated at {sheet.shape_px[0]} x {sheet.shape_px[1]} px, and the image "
                f"is {shape_px[0]} x {shape_px[1]}."
            )
            continue
        drawn = drawn_classes(sheet, shape_px, found.names) if found.names else drawn_instances(sheet, shape_px)
        faults += [f"{sheet.source}: {name}: {problem}" for problem in drawn.problems]
        found.remarks += [f"{name}: {remark}" for remark in drawn.remarks]
        said.append(drawn.labels)
    found.problems += faults
    if not faults:
        _take(found, image, said, beside, Path(name).stem)


def _take_named_frames(
    found: _Found, sheets: Mapping[str, Sequence[Sheet]], readers: Mapping[str, Callable[[], Micrograph]]
) -> None:
    """Take the class that the files give whole images."""
    for name, own in sheets.items():
        classes = sorted({sheet.class_name for sheet in own if sheet.class_name is not None})
        if len(classes) > 1:
            found.problems.append(f"{own[0].source}: {name} is said to be {' and '.join(classes)}.")
        elif own and not classes:
            found.problems.append(f"{own[0].source}: {name} has no class as a whole.")
        if len(classes) != 1:
            continue
        try:
            found.take(readers[name](), None, classes[0], lossless=is_lossless(Path(name)))
        except UnreadableImage as fault:
            found.problems.append(str(fault))


def _readers(images: Path) -> dict[str, Callable[[], Micrograph]]:
    """Return name -> how to read it, of the images of a folder and of the folders in it."""

    def reader(path: Path) -> Callable[[], Micrograph]:
        return lambda: formats.read(path)

    return {name: reader(paths[-1]) for name, paths in _images_by_name(images).items()}


def _images_by_name(images: Path) -> dict[str, list[Path]]:
    """Return name -> the images that are called so, in a folder and in the folders in it."""
    aside = {IGNORE_FOLDER, TWINS_FOLDER}
    found: dict[str, list[Path]] = {}
    for path in sorted(images.rglob("*")):
        is_hidden = any(part.startswith(".") for part in path.relative_to(images).parts)
        if formats.is_image_name(path) and path.parent.name not in aside and not is_hidden:
            found.setdefault(path.name, []).append(path)
    return found


# --- one folder a class -----------------------------------------------------------------------------------------------


def _take_folders(found: _Found, images: Path) -> None:
    """Take each folder's name as the class of the images in it."""
    for folder in sorted(path for path in images.iterdir() if path.is_dir() and not path.name.startswith(".")):
        paths = sorted(path for path in folder.iterdir() if formats.is_image_name(path))
        if not paths:
            found.problems.append(f"{folder}: no images for the class {folder.name!r}.")
        for path in paths:
            try:
                image = formats.read(path, name=f"{folder.name}/{path.name}")
            except UnreadableImage as fault:
                found.problems.append(str(fault))
                continue
            found.take(image, None, folder.name, lossless=is_lossless(path))
    _refuse_one_class(found, images)
    places = (path.relative_to(images) for path in sorted(images.rglob("*")) if formats.is_image_name(path))
    left = [str(place) for place in places if len(place.parts) != 2 and not any(p.startswith(".") for p in place.parts)]
    if left:
        listed = ", ".join(left[:6]) + (f" and {len(left) - 6} more" if len(left) > 6 else "")
        found.remarks.append(f"{len(left)} images lie in no folder of a class, or deeper in one: left out: {listed}")


def _refuse_one_class(found: _Found, images: Path) -> None:
    if len({item.class_name for item in found.items}) == 1:
        found.problems.append(f"{images}: only one class, {found.items[0].class_name!r}; a classifier needs two.")


def _bare(items: Sequence[Annotated], has_classes: bool) -> list[str]:
    """Name images that say less than whoever drew them may have meant: nothing at all, or all regions as one."""
    labels_of = {item.image.name: item.labels for item in items if item.labels is not None}
    most = {name: int(labels.max(initial=0)) for name, labels in labels_of.items()}
    remarks = []
    if empty := [name for name, number in most.items() if not number and (labels_of[name] == 0).any()]:
        listed = ", ".join(empty[:6]) + (f" and {len(empty) - 6} more" if len(empty) > 6 else "")
        remarks.append(f"{len(empty)} images are annotated as empty, all background, and train so: {listed}")
    if has_classes or max(most.values(), default=0) != 1:
        return remarks
    pieces = [cv2.connectedComponents((labels == 1).astype(np.uint8))[0] - 1 for labels in labels_of.values()]
    if max(pieces) > 1:
        remarks.append(
            f"no mask numbers more than one region, and these lie in {sum(pieces)} pieces: where each piece is a "
            f"region, number them, or each mask counts as one"
        )
    return remarks


# --- names of files ---------------------------------------------------------------------------------------------------


def _beside(found: _Found, images: Path, stems: Mapping[str, object]) -> _Beside:
    """Return the masks beside the images that say where nothing is known, and where grains are twinned."""
    root = images.parent if images.name == "images" else images
    masks_of = []
    for name in (IGNORE_FOLDER, TWINS_FOLDER):
        masks, twice = _by_stem(root / name, MASK_ENDINGS, stems) if (root / name).is_dir() else ({}, [])
        found.problems += [f"{path}: another file of this folder has the same stem." for path in twice]
        found.problems += [
            f"{p}: no image {stem}.* in {images.name}/." for stem, p in masks.items() if stem not in stems
        ]
        masks_of.append(masks)
    return _Beside(*masks_of)


def _by_stem(
    folder: Path, endings: tuple[str, ...] = (), wanted: Container[str] = ()
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
