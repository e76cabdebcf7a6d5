"""LabelMe: one JSON file an image, beside it or in a folder of its own."""

import base64
import binascii
from functools import partial
from math import hypot
from pathlib import PurePath
from typing import Any

import cv2
import numpy as np
from pydantic import FiniteFloat

from micro.annotations.shapes import BadShape, Draw, Ring, ellipse, placed, polygons, rectangle, union
from micro.annotations.sheet import Document, FilePart, Gathering, Sheet, bare_name, checked

_NO_AREA = ("point", "points", "line", "linestrip")


class _Shape(FilePart):
    label: str
    points: list[tuple[FiniteFloat, FiniteFloat]]
    shape_type: str | None = "polygon"
    group_id: int | None = None
    mask: str | None = None


class _File(FilePart):
    shapes: list[_Shape]
    imagePath: str | None = None  # noqa: N815  the file's own name
    imageHeight: int | None = None  # noqa: N815
    imageWidth: int | None = None  # noqa: N815
    flags: dict[str, bool] | None = None


def fits(content: Any) -> bool:
    """Whether JSON is of this format."""
    return isinstance(content, dict) and "shapes" in content


def document(content: Any, source: str) -> Document:
    """Return what the file says; shapes of one label and group are one region, and a flag is the class of the image."""
    file = checked(_File, content)
    image = bare_name(file.imagePath) if file.imagePath else PurePath(source).stem
    gathering = Gathering(source, image)
    groups: dict[object, list[int]] = {}
    for number, shape in enumerate(file.shapes):
        if shape.shape_type in _NO_AREA:
            gathering.leave_out(f"{shape.shape_type}s")
            continue
        key = number if shape.group_id is None else (shape.label, shape.group_id)
        groups.setdefault(key, []).append(number)
    for numbers in groups.values():
        shapes = [file.shapes[number] for number in numbers]
        label = f"shape {numbers[0] + 1} ({shapes[0].label})"
        gathering.add(label, shapes[0].label, partial(_together, shapes))
    raised = [flag for flag, is_raised in (file.flags or {}).items() if is_raised]
    if len(raised) > 1:
        gathering.problems.append(
            f"{source}: {len(raised)} flags are raised ({', '.join(raised)}); one class is expected."
        )
    stated = None if file.imageHeight is None or file.imageWidth is None else (file.imageHeight, file.imageWidth)
    sheet = Sheet(
        source, image, tuple(gathering.regions), stated, raised[0] if raised else None, stem_only=not file.imagePath
    )
    return Document("LabelMe", (sheet,), tuple(gathering.problems), gathering.left_out)


def _together(shapes: list[_Shape]) -> Draw:
    return union([_shape(each) for each in shapes])


def _shape(shape: _Shape) -> Draw:
    points: Ring = np.array(shape.points, np.float64).reshape(-1, 2)
    if shape.shape_type in ("polygon", None):
        return polygons([[points]])
    if shape.shape_type in ("rectangle", "circle", "mask") and len(points) != 2:
        raise BadShape(f"is a {shape.shape_type} of {len(points)} points, and two are expected")
    if shape.shape_type == "rectangle":
        return rectangle(*points.min(axis=0), *points.max(axis=0))
    if shape.shape_type == "circle":
        radius = hypot(*(points[1] - points[0]))
        return ellipse(points[0, 0], points[0, 1], radius, radius)
    if shape.shape_type == "mask":
        return _mask(shape.mask or "", points)
    raise BadShape(f"is of a kind that is not known, {shape.shape_type!r}")


def _mask(text: str, points: Ring) -> Draw:
    """Return how to draw a PNG that fills the box between two pixels, both of them in it."""
    try:
        data = base64.b64decode(text, validate=True)
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    except (binascii.Error, ValueError, cv2.error) as fault:
        raise BadShape("has a mask that is no PNG") from fault
    if pixels is None:
        raise BadShape("has a mask that is no PNG")
    left, top = (round(float(edge)) for edge in points.min(axis=0))
    return partial(placed, np.asarray(pixels) > 0, (top, left))
