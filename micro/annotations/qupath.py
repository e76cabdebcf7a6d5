"""QuPath: GeoJSON, one file an image; outlines with holes."""

from functools import partial
from pathlib import PurePath
from typing import Any

import numpy as np
from pydantic import FiniteFloat

from micro.annotations.shapes import IGNORE, BadShape, Draw, polygons
from micro.annotations.sheet import Document, FilePart, Gathering, Sheet, checked

# What QuPath itself calls the class of what is not to be looked at.
_IGNORE = "Ignore*"


class _Classification(FilePart):
    name: str | None = None


class _Properties(FilePart):
    classification: _Classification | None = None


class _Geometry(FilePart):
    type: str
    coordinates: tuple[Any, ...] = ()


class _Feature(FilePart):
    id: str | int = "without a number"
    geometry: _Geometry
    properties: _Properties | None = None


class _File(FilePart):
    features: list[_Feature]


class _Polygon(FilePart):
    coordinates: list[list[list[FiniteFloat]]]


class _MultiPolygon(FilePart):
    coordinates: list[list[list[list[FiniteFloat]]]]


def fits(content: Any) -> bool:
    """Whether JSON is of this format: a collection, or a list of features as QuPath also writes it."""
    if isinstance(content, list):
        return bool(content) and isinstance(content[0], dict) and content[0].get("type") == "Feature"
    return isinstance(content, dict) and content.get("type") in ("FeatureCollection", "Feature")


def document(content: Any, source: str) -> Document:
    """Return what the file says of the image that has its stem."""
    if isinstance(content, dict):
        content = content.get("features") if content["type"] == "FeatureCollection" else [content]
    file = checked(_File, {"features": content})
    image = PurePath(source).stem
    gathering = Gathering(source, image)
    for number, feature in enumerate(file.features, start=1):
        kind = feature.geometry.type
        if kind not in ("Polygon", "MultiPolygon"):
            gathering.leave_out(f"{kind} objects")
            continue
        said = feature.properties.classification if feature.properties else None
        class_name = said.name if said else None
        class_name = IGNORE if class_name == _IGNORE else class_name
        label = f"object {number}" + (f" ({class_name})" if class_name else "")
        gathering.add(label, class_name, partial(_shape, feature.geometry))
    sheet = Sheet(source, image, tuple(gathering.regions), stem_only=True)
    return Document("QuPath GeoJSON", (sheet,), tuple(gathering.problems), gathering.left_out)


def _shape(geometry: _Geometry) -> Draw:
    content = {"coordinates": geometry.coordinates}
    try:
        if geometry.type == "Polygon":
            parts = [checked(_Polygon, content).coordinates]
        else:
            parts = checked(_MultiPolygon, content).coordinates
        rings = [[np.array(ring, np.float64)[:, :2] for ring in part] for part in parts]
    except (ValueError, IndexError) as fault:
        raise BadShape("has coordinates that are no lists of x and y") from fault
    if not all(parts) or any(ring.ndim != 2 or ring.shape[1] != 2 for part in rings for ring in part):
        raise BadShape("has coordinates that are no lists of x and y")
    # the first corner comes again as the last
    return polygons(
        [[ring[:-1] if len(ring) and (ring[0] == ring[-1]).all() else ring for ring in part] for part in rings]
    )
