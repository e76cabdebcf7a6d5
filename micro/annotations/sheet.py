"""What annotation files say, whatever tool wrote them."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from micro.annotations.shapes import BadShape, Draw, Region, Ring
from micro.micrograph import Micrograph

MOST_LISTED = 12


class FilePart(BaseModel):
    """Some part of an annotation file; what nobody asks for is passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore")


Part = TypeVar("Part", bound=FilePart)


class BadDocument(ValueError):
    """A file is not what its name or its beginning promises; the message says why."""


@dataclass(frozen=True, eq=False)
class Sheet:
    """What one annotator said of one image.

    source: name of the file that says it. image: name of the image's file, without folders.
    stem_only: the file knows the image's name without its suffix.
    shape_px: height and width of the image, where the file states them.
    regions: in the order in which they were drawn; later ones lie over earlier ones.
    class_name: of the whole image, where the file gives one.
    """

    source: str
    image: str
    regions: tuple[Region, ...] = ()
    shape_px: tuple[int, int] | None = None
    class_name: str | None = None
    stem_only: bool = False


@dataclass(frozen=True, eq=False)
class Document:
    """What an annotation file says of images, and what is wrong with it.

    kind: which tool's format it is. left_out: what -> how often: what the file holds and no region came of.
    images: name -> how to read it, of the images that lie in the file itself.
    """

    kind: str
    sheets: tuple[Sheet, ...] = ()
    problems: tuple[str, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)
    images: Mapping[str, Callable[[], Micrograph]] = field(default_factory=dict)


def bare_name(path: str) -> str:
    """Return the name of an image's file as an annotation file has it, without folders of any system."""
    return PurePosixPath(path.replace("\\", "/")).name


def checked(kind: type[Part], content: Any) -> Part:
    """Return the content of a file as its format has it, or raise BadDocument with the places where it is not."""
    try:
        return kind.model_validate(content)
    except ValidationError as fault:
        errors = fault.errors(include_url=False, include_input=False)
        listed = [f"{'.'.join(map(str, error['loc'])) or 'file'}: {error['msg']}" for error in errors[:MOST_LISTED]]
        more = [f"and {len(errors) - MOST_LISTED} more"] if len(errors) > MOST_LISTED else []
        raise BadDocument("; ".join(listed + more)) from fault


def as_ring(values: Sequence[float]) -> Ring:
    """Return x, y, x, y, ... as corners."""
    if len(values) % 2:
        raise BadShape(f"has {len(values)} coordinates, an odd number")
    return np.array(values, np.float64).reshape(-1, 2)


class Gathering:
    """The regions of one image as they are read off a file; what cannot be drawn is listed instead."""

    def __init__(self, source: str, image: str) -> None:
        """Name the file and the image for messages."""
        self._where = f"{source}: {image}"
        self.regions: list[Region] = []
        self.problems: list[str] = []
        self.left_out: Counter[str] = Counter()

    def add(self, label: str, class_name: str | None, shape: Callable[[], Draw]) -> None:
        """Add a region; shape makes out how it is drawn."""
        try:
            self.regions.append(Region(label, class_name, shape()))
        except BadShape as fault:
            self.problems.append(f"{self._where}: {label} {fault}.")

    def leave_out(self, what: str) -> None:
        """Count something that encloses nothing."""
        self.left_out[what] += 1
