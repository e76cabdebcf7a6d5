"""VGG Image Annotator, versions 2 and 3: one JSON file for many images."""

from collections import Counter
from functools import partial
from typing import Any

import numpy as np
from pydantic import Field, FiniteFloat

from micro.annotations.shapes import BadShape, Draw, ellipse, polygons, rectangle
from micro.annotations.sheet import Document, FilePart, Gathering, Sheet, bare_name, checked

_NO_AREA = ("point", "polyline", "line")
# What version 3 calls its shapes, by number; the extreme ones are boxes and circles that were clicked otherwise.
_KINDS_3 = {
    1: "point", 2: "rect", 3: "circle", 4: "ellipse", 5: "line", 6: "polyline", 7: "polygon", 8: "rect", 9: "circle"
}  # fmt: skip
# Attributes that are taken for the class, where a region has several.
_CLASS_NAMES = ("class", "label", "type", "name", "category")

Attributes = dict[str, Any]


class _Outline(FilePart):
    name: str
    all_points_x: tuple[FiniteFloat, ...] = ()
    all_points_y: tuple[FiniteFloat, ...] = ()
    x: FiniteFloat = 0
    y: FiniteFloat = 0
    width: FiniteFloat = 0
    height: FiniteFloat = 0
    cx: FiniteFloat = 0
    cy: FiniteFloat = 0
    r: FiniteFloat = 0
    rx: FiniteFloat = 0
    ry: FiniteFloat = 0
    theta: FiniteFloat = 0


class _Region2(FilePart):
    shape_attributes: _Outline
    region_attributes: Attributes = Field(default_factory=dict)


class _Image2(FilePart):
    filename: str
    regions: tuple[_Region2, ...] | dict[str, _Region2] = ()
    file_attributes: Attributes = Field(default_factory=dict)


class _File2(FilePart):
    images: dict[str, _Image2]


class _Attribute3(FilePart):
    aname: str = ""
    options: dict[str, Any] = Field(default_factory=dict)


class _Metadata3(FilePart):
    vid: str | int
    xy: tuple[FiniteFloat, ...] = ()
    av: dict[str, str] = Field(default_factory=dict)


class _File3(FilePart):
    fid: str | int
    fname: str


class _View3(FilePart):
    fid_list: list[str | int]


class _Project3(FilePart):
    attribute: dict[str, _Attribute3] = Field(default_factory=dict)
    file: dict[str, _File3]
    metadata: dict[str, _Metadata3]
    view: dict[str, _View3]


def fits(content: Any) -> bool:
    """Whether JSON is of either version."""
    if not isinstance(content, dict):
        return False
    images = content.get("_via_img_metadata", content)
    second = isinstance(images, dict) and any(
        isinstance(i, dict) and {"filename", "regions"} <= i.keys() for i in images.values()
    )
    return second or "_via_img_metadata" in content or {"metadata", "file", "view"} <= content.keys()


def document(content: Any, source: str) -> Document:
    """Return what the file says; the attribute of a region that is called class, label or type is its class."""
    if {"metadata", "file", "view"} <= content.keys():
        return _third(checked(_Project3, content), source)
    return _second(checked(_File2, {"images": content.get("_via_img_metadata", content)}), source)


def _second(file: _File2, source: str) -> Document:
    sheets: list[Sheet] = []
    problems: list[str] = []
    left_out: Counter[str] = Counter()
    for image in file.images.values():
        name = bare_name(image.filename)
        gathering = Gathering(source, name)
        regions = tuple(image.regions.values()) if isinstance(image.regions, dict) else image.regions
        for number, region in enumerate(regions, start=1):
            _gather(gathering, number, region.shape_attributes, _class(region.region_attributes))
        problems += gathering.problems
        left_out += gathering.left_out
        sheets.append(Sheet(source, name, tuple(gathering.regions), class_name=_class(image.file_attributes)))
    return Document("VIA 2", tuple(sheets), tuple(problems), left_out)


def _third(project: _Project3, source: str) -> Document:
    problems: list[str] = []
    left_out: Counter[str] = Counter()
    gatherings = {key: Gathering(source, bare_name(file.fname)) for key, file in project.file.items()}
    class_names: dict[str, str] = {}
    for number, (key, said) in enumerate(project.metadata.items(), start=1):
        view = project.view.get(str(said.vid))
        files = [str(each) for each in view.fid_list] if view else []
        if len(files) != 1 or files[0] not in gatherings:
            problems.append(f"{source}: metadata {key} belongs to view {said.vid}, which shows no listed image.")
            continue
        words: dict[str, Any] = {}
        for attribute, value in said.av.items():
            known = project.attribute.get(attribute, _Attribute3())
            words[known.aname or attribute] = known.options.get(value, value)
        if not said.xy:
            if (class_name := _class(words)) is not None:
                class_names[files[0]] = class_name
            continue
        kind, *values = said.xy
        outline = _outline3(_KINDS_3.get(int(kind), f"kind {kind:g}"), values)
        _gather(gatherings[files[0]], number, outline, _class(words))
    sheets = []
    for key, file in project.file.items():
        problems += gatherings[key].problems
        left_out += gatherings[key].left_out
        regions = tuple(gatherings[key].regions)
        sheets.append(Sheet(source, bare_name(file.fname), regions, class_name=class_names.get(key)))
    return Document("VIA 3", tuple(sheets), tuple(problems), left_out)


def _outline3(kind: str, values: list[float]) -> _Outline:
    if kind == "rect":
        x, y, width, height = (*values, 0, 0, 0, 0)[:4]
        return _Outline(name=kind, x=x, y=y, width=width, height=height)
    if kind in ("circle", "ellipse"):
        cx, cy, rx, ry = (*values, 0, 0, 0, 0)[:4]
        return _Outline(name=kind, cx=cx, cy=cy, r=rx, rx=rx, ry=ry)
    return _Outline(name=kind, all_points_x=tuple(values[::2]), all_points_y=tuple(values[1::2]))


def _gather(gathering: Gathering, number: int, outline: _Outline, class_name: str | None) -> None:
    if outline.name in _NO_AREA:
        gathering.leave_out(f"{outline.name}s")
        return
    label = f"region {number}" + (f" ({class_name})" if class_name else "")
    gathering.add(label, class_name, partial(_shape, outline))


def _shape(outline: _Outline) -> Draw:
    if outline.name == "polygon":
        if len(outline.all_points_x) != len(outline.all_points_y):
            raise BadShape(f"has {len(outline.all_points_x)} x and {len(outline.all_points_y)} y")
        return polygons([[np.array([outline.all_points_x, outline.all_points_y], np.float64).T]])
    if outline.name == "rect":
        return rectangle(outline.x, outline.y, outline.x + outline.width, outline.y + outline.height)
    if outline.name == "circle":
        return ellipse(outline.cx, outline.cy, outline.r, outline.r)
    if outline.name == "ellipse":
        return ellipse(outline.cx, outline.cy, outline.rx, outline.ry, np.rad2deg(outline.theta))
    raise BadShape(f"is of a kind that is not known, {outline.name!r}")


def _class(attributes: Attributes) -> str | None:
    """Return the class among the attributes: the one that is called so, or the only one; a ticked box is its name."""
    words = {key: _word(value) for key, value in attributes.items()}
    said = {key: word for key, word in words.items() if word}
    for key, word in said.items():
        if key.lower() in _CLASS_NAMES:
            return word
    return next(iter(said.values())) if len(said) == 1 else None


def _word(value: Any) -> str:
    if isinstance(value, dict):
        ticked = [str(key) for key, is_ticked in value.items() if is_ticked]
        return ticked[0] if len(ticked) == 1 else ""
    return value.strip() if isinstance(value, str) else ""
