"""Label Studio: one JSON file of tasks; places in percent of the image, brushes as packed bits."""

import re
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, FiniteFloat

from micro.annotations.shapes import BadShape, Draw, Patch, Ring, ellipse, polygons, rectangle
from micro.annotations.sheet import Document, FilePart, Gathering, Sheet, bare_name, checked

_KINDS = ("polygon", "rectangle", "ellipse", "brush")
# Words about an image or a region, which draw nothing.
_WORDS = ("labels", "choices", "taxonomy", "textarea", "rating", "number", "datetime", "relation", "pairwise")
_UPLOAD = re.compile(r"^[0-9a-f]{8}-")


class _Value(FilePart):
    points: tuple[tuple[FiniteFloat, FiniteFloat], ...] = ()
    x: FiniteFloat = 0
    y: FiniteFloat = 0
    width: FiniteFloat = 0
    height: FiniteFloat = 0
    radiusX: FiniteFloat = 0  # noqa: N815  the file's own name
    radiusY: FiniteFloat = 0  # noqa: N815
    rotation: FiniteFloat = 0
    rle: tuple[int, ...] = ()
    polygonlabels: tuple[str, ...] = ()
    rectanglelabels: tuple[str, ...] = ()
    ellipselabels: tuple[str, ...] = ()
    brushlabels: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()


class _Result(FilePart):
    id: str = "without a number"
    type: str
    original_width: int = Field(default=0, ge=0)
    original_height: int = Field(default=0, ge=0)
    value: _Value = _Value()


class _Said(FilePart):
    result: list[_Result]
    was_cancelled: bool = False


class _Task(FilePart):
    id: int | str = ""
    data: dict[str, Any]
    annotations: list[_Said]


class _File(FilePart):
    tasks: list[_Task]


def fits(content: Any) -> bool:
    """Whether JSON is of this format."""
    first = content[0] if isinstance(content, list) and content else None
    return isinstance(first, dict) and "data" in first and "annotations" in first


def document(content: Any, source: str) -> Document:
    """Return what the file says: one sheet for each person who annotated an image."""
    sheets, problems = [], []
    left_out: Counter[str] = Counter()
    for task in checked(_File, {"tasks": content}).tasks:
        image = next((v for v in task.data.values() if isinstance(v, str) and "." in bare_name(v)), None)
        if image is None:
            problems.append(f"{source}: task {task.id} names no image.")
            continue
        name = _UPLOAD.sub("", bare_name(unquote(image.partition("?d=")[2] or image)))
        for said in task.annotations:
            if said.was_cancelled:
                left_out["annotations that were cancelled"] += 1
                continue
            gathering = Gathering(source, name)
            labels = {each.id: each.value.labels for each in said.result if each.type == "labels"}
            for each in said.result:
                _gather(gathering, each, labels.get(each.id, ()))
            choices = [choice for each in said.result if each.type == "choices" for choice in each.value.choices]
            sizes = {(each.original_height, each.original_width) for each in said.result if each.original_width}
            if len(sizes) > 1 or len(choices) > 1:
                several = "sizes of the image" if len(sizes) > 1 else "classes of the image"
                problems.append(f"{source}: {name}: task {task.id} states several {several}.")
                continue
            problems += gathering.problems
            left_out += gathering.left_out
            stated = next(iter(sizes), None)
            sheets.append(Sheet(source, name, tuple(gathering.regions), stated, choices[0] if choices else None))
    return Document("Label Studio", tuple(sheets), tuple(problems), left_out)


def _gather(gathering: Gathering, result: _Result, labels: Sequence[str]) -> None:
    """Add a region, whose class it says itself, or a result of its number where labels and shapes are apart."""
    if result.type in _WORDS:
        return
    if result.type.removesuffix("labels") not in _KINDS:
        gathering.leave_out(f"{result.type} results")
        return
    classes: Sequence[str] = getattr(result.value, result.type, labels)
    class_name = classes[0] if classes else None
    label = f"region {result.id}" + (f" ({class_name})" if class_name else "")
    gathering.add(label, class_name, partial(_shape, result))


def _shape(result: _Result) -> Draw:
    size = np.array([result.original_width, result.original_height], np.float64)
    if not size.all():
        raise BadShape("states no size of the image, so its percentages mean nothing")
    value = result.value
    kind = result.type.removesuffix("labels")
    if kind == "polygon":
        corners: Ring = np.array(value.points, np.float64).reshape(-1, 2) * size / 100
        return polygons([[corners]])
    x, y = np.array([value.x, value.y]) * size / 100
    if kind == "rectangle":
        width, height = np.array([value.width, value.height]) * size / 100
        return rectangle(x, y, x + width, y + height, value.rotation)
    if kind == "ellipse":
        radius_x, radius_y = np.array([value.radiusX, value.radiusY]) * size / 100
        return ellipse(x, y, radius_x, radius_y, value.rotation)
    return partial(_brushed, value.rle, (result.original_height, result.original_width))


def _brushed(packed: Sequence[int], stated_px: tuple[int, int], shape_px: tuple[int, int]) -> Patch:
    if stated_px != shape_px:
        raise BadShape(f"is a mask of {stated_px[0]} x {stated_px[1]} px")
    return Patch(_unpacked(packed, 4 * shape_px[0] * shape_px[1]).reshape(*shape_px, 4)[..., 3] > 0)


def _unpacked(packed: Sequence[int], expected: int) -> NDArray[np.uint8]:
    """Return the values of a brush: red, green, blue and opacity of each pixel, one after the other.

    The bits say: how many values (32 bits), bits of a value less one (5), and bits of four kinds of length, less one (4
    each). Then runs: one bit, whether one value is repeated; two bits, the kind of length; the length less one; and the
    value, or as many values.
    """
    if not packed or min(packed) < 0 or max(packed) > 255:
        raise BadShape("has a brush that is no list of bytes")
    bits = np.unpackbits(np.array(packed, np.uint8))
    at = 0

    def number(width: int) -> int:
        nonlocal at
        if at + width > len(bits):
            raise BadShape("has a brush that ends too early")
        at += width
        return int("".join(map(str, bits[at - width : at])), 2)

    count, width = number(32), number(5) + 1
    if count != expected or width > 8:
        raise BadShape(f"has a brush of {count:,} values of {width} bits for {expected:,} of the image")
    lengths = [number(4) + 1 for _ in range(4)]
    values = np.zeros(count, np.uint8)
    done = 0
    while done < count:
        repeated = number(1)
        length = number(lengths[number(2)]) + 1
        if done + length > count:
            raise BadShape("has a brush of more values than it says")
        if repeated:
            values[done : done + length] = number(width)
        else:
            block = bits[at : at + length * width]
            if len(block) < length * width:
                raise BadShape("has a brush that ends too early")
            values[done : done + length] = block.reshape(length, width) @ (1 << np.arange(width)[::-1])
            at += length * width
        done += length
    return values
