"""ImageJ: regions of interest, alone (.roi) or many in a zip; one file an image."""

import io
import re
import struct
import zipfile
from functools import partial
from pathlib import PurePath

import numpy as np
from roifile import ROI_TYPE, ImagejRoi

from micro.annotations.shapes import BadShape, Draw, ellipse, polygons
from micro.annotations.sheet import BadDocument, Document, Gathering, Sheet

ENDINGS = ("_RoiSet", "_rois", "_ROIs", "_roi")
MOST_BYTES = 2**28
_AREAS = (ROI_TYPE.POLYGON, ROI_TYPE.FREEHAND, ROI_TYPE.TRACED, ROI_TYPE.RECT, ROI_TYPE.OVAL)
_NUMBERS = re.compile(r"^[\d\s_.:-]*$")
_COUNT = re.compile(r"[\s_.:-]*\d*$")


def fits_zip(names: list[str]) -> bool:
    """Whether a zip with these members is a set of regions."""
    return any(name.lower().endswith(".roi") for name in names)


def document(data: bytes, source: str) -> Document:
    """Return what the file says of the image that has its stem; a name such as "pore-12" means the class "pore"."""
    stem = PurePath(source).stem
    image = next((stem.removesuffix(ending) for ending in ENDINGS if stem.endswith(ending)), stem)
    gathering = Gathering(source, image)
    for name, part in _members(data, source):
        try:
            roi = ImagejRoi.frombytes(part)
            paths = [np.asarray(path, np.float64).reshape(-1, 2) for path in roi.coordinates(multi=True)]
        except (ValueError, IndexError, TypeError, KeyError, struct.error, OverflowError) as fault:
            gathering.problems.append(f"{source}: {name} is no region of ImageJ ({fault}).")
            continue
        if roi.roitype not in _AREAS:
            gathering.leave_out(f"{roi.roitype.name.lower()} regions")
            continue
        gathering.add(name, _class(roi.name or PurePath(name).stem), partial(_shape, roi, paths))
    sheet = Sheet(source, image, tuple(gathering.regions), stem_only=True)
    return Document("ImageJ ROI", (sheet,), tuple(gathering.problems), gathering.left_out)


def _members(data: bytes, source: str) -> list[tuple[str, bytes]]:
    if not data.startswith(b"PK"):
        return [(source, data)]
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = [info for info in archive.infolist() if info.filename.lower().endswith(".roi")]
            if sum(info.file_size for info in infos) > MOST_BYTES:
                raise BadDocument("unpacks to more than any set of regions")
            return [(info.filename, archive.read(info)) for info in infos]
    except (zipfile.BadZipFile, zipfile.LargeZipFile, RuntimeError, OSError, EOFError) as fault:
        raise BadDocument(f"not a zip that can be unpacked ({fault})") from fault


def _shape(roi: ImagejRoi, paths: list[np.ndarray]) -> Draw:
    if roi.roitype == ROI_TYPE.OVAL:
        return ellipse(
            (roi.left + roi.right) / 2,
            (roi.top + roi.bottom) / 2,
            (roi.right - roi.left) / 2,
            (roi.bottom - roi.top) / 2,
        )
    if not paths:
        raise BadShape("has no outline")
    # the parts of a composite region cross each other out, which makes holes
    return polygons([paths])


def _class(name: str) -> str | None:
    """Return the class in a region's name; the numbers that ImageJ gives by itself are none."""
    return None if _NUMBERS.match(name) else _COUNT.sub("", name) or None
