"""COCO: one JSON file for many images; polygons, or run lengths that go down the columns."""

from collections import Counter
from functools import partial
from typing import Any

from pydantic import FiniteFloat, NonNegativeInt

from micro.annotations.shapes import IGNORE, BadShape, Draw, polygons, runs
from micro.annotations.sheet import Document, FilePart, Gathering, Sheet, as_ring, bare_name, checked


class _Image(FilePart):
    id: int
    file_name: str
    width: int | None = None
    height: int | None = None


class _Category(FilePart):
    id: int
    name: str


class _Runs(FilePart):
    size: tuple[int, int]
    counts: str | list[NonNegativeInt]


class _Annotation(FilePart):
    id: int | str = "without a number"
    image_id: int
    category_id: int
    segmentation: list[list[FiniteFloat]] | _Runs | None = None
    iscrowd: int = 0


class _File(FilePart):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


def fits(content: Any) -> bool:
    """Whether JSON is of this format."""
    return isinstance(content, dict) and {"images", "annotations"} <= content.keys()


def document(content: Any, source: str) -> Document:
    """Return what the file says; category numbers mean what its table says, from whichever number that counts."""
    file = checked(_File, content)
    problems: list[str] = []
    left_out: Counter[str] = Counter()
    class_of = {category.id: category.name for category in file.categories}
    of_image: dict[int, list[_Annotation]] = {image.id: [] for image in file.images}
    if len(of_image) < len(file.images):
        problems.append(f"{source}: two images have the same id.")
    if len(class_of) < len(file.categories):
        problems.append(f"{source}: two categories have the same id.")
    for each in file.annotations:
        if each.image_id not in of_image:
            problems.append(f"{source}: annotation {each.id} belongs to image id {each.image_id}, which is not listed.")
        elif each.category_id not in class_of:
            listed = ", ".join(map(str, class_of)) or "none"
            problems.append(f"{source}: annotation {each.id} has category id {each.category_id}; there are: {listed}.")
        else:
            of_image[each.image_id].append(each)
    sheets = []
    for image in file.images:
        name = bare_name(image.file_name)
        gathering = Gathering(source, name)
        for each in of_image[image.id]:
            if each.iscrowd:
                left_out["crowds, inside which nothing is known"] += 1
            class_name = IGNORE if each.iscrowd else class_of[each.category_id]
            gathering.add(f"annotation {each.id}", class_name, partial(_shape, each))
        problems += gathering.problems
        shape_px = None if image.width is None or image.height is None else (image.height, image.width)
        sheets.append(Sheet(source, name, tuple(gathering.regions), shape_px))
    return Document("COCO", tuple(sheets), tuple(problems), left_out)


def _shape(annotation: _Annotation) -> Draw:
    found = annotation.segmentation
    if not found:
        raise BadShape("has a box or nothing, and no outline")
    if isinstance(found, list):
        return polygons([[as_ring(values)] for values in found])
    counts = _unpacked(found.counts) if isinstance(found.counts, str) else found.counts
    return runs(counts, found.size, by_column=True)


def _unpacked(text: str) -> list[int]:
    """Return the run lengths in COCO's compressed text.

    Each number is written in characters of six bits, from 48 on: five bits of value, lowest first, and one that says
    whether more follow; the last value bit is the sign. From the fourth run on it is the difference to the run before
    the last.
    """
    counts: list[int] = []
    value, shift = 0, 0
    for character in text:
        six = ord(character) - 48
        if not 0 <= six < 64 or shift > 60:
            raise BadShape("has run lengths that are no compressed text")
        value |= (six & 31) << shift
        shift += 5
        if six & 32:
            continue
        if six & 16:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value, shift = 0, 0
    if shift:
        raise BadShape("has run lengths that end in the middle")
    return counts
