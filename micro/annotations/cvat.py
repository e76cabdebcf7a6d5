"""CVAT for images 1.1: one XML file for many images, alone or in the zip that CVAT exports."""

import io
import zipfile
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import PurePosixPath
from xml.etree import ElementTree

import numpy as np

from micro import formats
from micro.annotations.shapes import BadShape, Draw, ellipse, polygons, rectangle, runs
from micro.annotations.sheet import BadDocument, Document, Gathering, Sheet, bare_name
from micro.errors import UnreadableImage
from micro.micrograph import Micrograph

_AREAS = ("polygon", "box", "ellipse", "mask")
_NO_AREA = ("polyline", "points", "cuboid", "skeleton")
MOST_BYTES = 2**30


def fits_zip(names: list[str]) -> bool:
    """Whether a zip with these members is an export of CVAT."""
    return any(bare_name(name) == "annotations.xml" for name in names)


def document(data: bytes, source: str) -> Document:
    """Return what the XML says: shapes, tags of whole images, and who annotated."""
    try:
        root = ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError) as fault:
        raise BadDocument(f"not XML ({fault})") from fault
    if root.tag != "annotations":
        raise BadDocument(f"not an export of CVAT for images: it begins with <{root.tag}>")
    if root.find("track") is not None:
        raise BadDocument("an export of a video; export it as CVAT for images")
    sheets, problems = [], []
    left_out: Counter[str] = Counter()
    for image in root.iter("image"):
        name = bare_name(image.get("name", ""))
        gathering = Gathering(source, name)
        try:
            shape_px = (_whole(image, "height"), _whole(image, "width"))
        except BadShape as fault:
            problems.append(f"{source}: {name or 'an image without a name'} {fault}.")
            continue
        by_depth = sorted(image, key=lambda shape: _depth(shape))
        for number, shape in enumerate(by_depth, start=1):
            if shape.tag in _NO_AREA:
                gathering.leave_out(f"{shape.tag} shapes")
            elif shape.tag in _AREAS:
                class_name = shape.get("label")
                gathering.add(f"{shape.tag} {number} ({class_name})", class_name, partial(_shape, shape))
        tags = [tag.get("label") for tag in image.iter("tag")]
        if len(tags) > 1:
            problems.append(f"{source}: {name} has {len(tags)} tags; one class is expected.")
        problems += gathering.problems
        left_out += gathering.left_out
        sheets.append(Sheet(source, name, tuple(gathering.regions), shape_px, tags[0] if len(tags) == 1 else None))
    return Document("CVAT", tuple(sheets), tuple(problems), left_out)


def zipped(data: bytes, source: str) -> Document:
    """Return what an exported zip says, and the images in it; nothing is unpacked onto the disk."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        infos = archive.infolist()
        escaping = [info.filename for info in infos if _escapes(info.filename)]
        if escaping:
            raise BadDocument(
                f"its member {escaping[0]!r} points outside the zip; no tool writes that. Export it again"
            )
        tables = [info for info in infos if bare_name(info.filename) == "annotations.xml"]
        if len(tables) != 1 or tables[0].file_size > MOST_BYTES:
            raise BadDocument(f"{len(tables)} files annotations.xml in it, or one that is too large")
        found = document(archive.read(tables[0]), f"{source}/{tables[0].filename}")
    except (zipfile.BadZipFile, RuntimeError, OSError, EOFError) as fault:
        raise BadDocument(f"not a zip that can be unpacked ({fault})") from fault
    images: dict[str, Callable[[], Micrograph]] = {}
    twice = []
    for info in infos:
        name = bare_name(info.filename)
        if info.is_dir() or not formats.is_image_name(name):
            continue
        if name in images:
            twice.append(f"{source}/{info.filename}: another image in it has this name. Give each a name of its own.")
        images[name] = partial(_image, archive, info, source)
    return Document("CVAT", found.sheets, (*found.problems, *twice), found.left_out, images)


def _image(archive: zipfile.ZipFile, info: zipfile.ZipInfo, source: str) -> Micrograph:
    if info.file_size > MOST_BYTES:
        raise UnreadableImage(f"{source}/{info.filename}: unpacks to {info.file_size:,} bytes, more than is read.")
    try:
        return formats.decode(archive.read(info), bare_name(info.filename))
    except (zipfile.BadZipFile, RuntimeError, OSError, EOFError) as fault:
        raise UnreadableImage(f"{source}/{info.filename}: cannot be unpacked ({fault}). Export it again.") from fault


def _escapes(name: str) -> bool:
    path = PurePosixPath(name.replace("\\", "/"))
    return path.is_absolute() or ".." in path.parts or any(":" in part for part in path.parts[:1])


def _shape(shape: ElementTree.Element) -> Draw:
    if shape.tag == "polygon":
        pairs = [pair.split(",") for pair in shape.get("points", "").split(";") if pair]
        try:
            corners = np.array(pairs, np.float64).reshape(-1, 2)
        except ValueError as fault:
            raise BadShape("has points that are no numbers") from fault
        return polygons([[corners]])
    if shape.tag == "box":
        x0, y0, x1, y1 = (_number(shape, key) for key in ("xtl", "ytl", "xbr", "ybr"))
        return rectangle(x0, y0, x1, y1, _number(shape, "rotation", "0"), about_middle=True)
    if shape.tag == "ellipse":
        x, y, radius_x, radius_y = (_number(shape, key) for key in ("cx", "cy", "rx", "ry"))
        return ellipse(x, y, radius_x, radius_y, _number(shape, "rotation", "0"))
    try:
        counts = [int(part) for part in shape.get("rle", "").split(",")]
    except ValueError as fault:
        raise BadShape("has runs that are no numbers") from fault
    part = (_whole(shape, "height"), _whole(shape, "width"))
    return runs(counts, part, (_whole(shape, "top"), _whole(shape, "left")), by_column=False)


def _number(shape: ElementTree.Element, key: str, default: str = "") -> float:
    try:
        return float(shape.get(key, default))
    except ValueError as fault:
        raise BadShape(f"has no number {key}") from fault


def _whole(shape: ElementTree.Element, key: str) -> int:
    value = _number(shape, key)
    if not value.is_integer():
        raise BadShape(f"has a {key} of {value}, and whole pixels are expected")
    return int(value)


def _depth(shape: ElementTree.Element) -> int:
    order = shape.get("z_order", "0")
    return int(order) if order.lstrip("-").isdigit() else 0
