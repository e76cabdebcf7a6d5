"""Annotation files in a folder, known by what is in them."""

import io
import json
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from micro.annotations import coco, cvat, imagej, label_studio, labelme, qupath, via
from micro.annotations.sheet import BadDocument, Document

PLACES = ("", "annotations", "labels", "masks", "rois", "json", "images")
SUFFIXES = (".json", ".geojson", ".xml", ".zip", ".roi")
JSON_FORMATS: tuple[ModuleType, ...] = (coco, label_studio, qupath, labelme, via)
KINDS = "COCO, LabelMe, VIA 2 or 3, CVAT, Label Studio, QuPath GeoJSON, ImageJ ROI"
MOST_BYTES = 2**30


def find(root: Path) -> list[Document]:
    """Return what the annotation files of a folder say, in the order of their names.

    They lie at root or in one of PLACES below it. A file that is none of the known formats is passed over, unless its
    suffix promises annotations; one that is damaged is a document with a problem and nothing else.
    """
    found = []
    for path in _candidates(root):
        source = path.relative_to(root).as_posix()
        try:
            read = _read(path, source)
        except BadDocument as fault:
            read = Document("unknown", problems=(f"{source}: {fault}.",))
        except RecursionError:
            read = Document("unknown", problems=(f"{source}: nested too deeply to be an annotation file.",))
        if read is not None:
            found.append(read)
    return found


def _candidates(root: Path) -> Iterator[Path]:
    for place in PLACES:
        folder = root / place
        if folder.is_dir():
            files = (path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
            yield from sorted(path for path in files if not path.name.startswith("."))


def _read(path: Path, source: str) -> Document | None:
    if path.stat().st_size > MOST_BYTES:
        raise BadDocument(f"{path.stat().st_size:,} bytes are more than any annotation file")
    try:
        data = path.read_bytes()
    except OSError as fault:
        raise BadDocument(f"cannot be read ({fault.strerror or fault})") from fault
    suffix = path.suffix.lower()
    if suffix == ".zip":
        return _zipped(data, source)
    if suffix == ".roi":
        return imagej.document(data, source)
    if suffix == ".xml":
        return cvat.document(data, source)
    try:
        content = json.loads(data)
    except ValueError as fault:
        raise BadDocument(f"not JSON ({fault})") from fault
    return _of_json(content, source)


def _of_json(content: Any, source: str) -> Document | None:
    for kind in JSON_FORMATS:
        if kind.fits(content):
            document: Document = kind.document(content, source)
            return document
    return None


def _zipped(data: bytes, source: str) -> Document | None:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, EOFError) as fault:
        raise BadDocument(f"not a zip ({fault})") from fault
    kinds: Sequence[tuple[Callable[[list[str]], bool], Callable[[bytes, str], Document]]] = (
        (cvat.fits_zip, cvat.zipped),
        (imagej.fits_zip, imagej.document),
    )
    return next((document(data, source) for fits, document in kinds if fits(names)), None)
