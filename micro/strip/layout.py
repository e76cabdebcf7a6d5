"""Where a line's cameras look: from a frame and a pixel to a place on the strip in mm."""

import bisect
import csv
import math
import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from micro.document import no_truth, read_yaml, reasons
from micro.errors import BadSetting

# Rolls of a strip mill and of its straighteners have diameters of 0.05 to 2 m.
LONGEST_PERIOD_MM = 6500.0
SHORTEST_PERIOD_MM = 150.0
SAME_ROLL = 0.02


class Camera(BaseModel):
    """One camera over or under the strip. Rows of its frames follow the strip from head to tail, columns lie across.

    images: pattern of its images' paths in the run, such as cam1/*.
    mm_per_px_along, mm_per_px_across: size of a pixel on the strip.
    along_mm: how far its first row lies behind the zero of frame numbers or encoder. across_mm: where its first column
    lies, from the strip's left edge. is_mirrored: columns count towards that edge, as seen from below.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field(min_length=1)
    images: str = "*"
    side: str = "top"
    mm_per_px_along: float = Field(gt=0)
    mm_per_px_across: float = Field(gt=0)
    along_mm: float = 0.0
    across_mm: float = 0.0
    is_mirrored: bool = False

    _no_truth = field_validator("mm_per_px_along", "mm_per_px_across", "along_mm", "across_mm", mode="before")(no_truth)

    def across(self, column_px: float) -> float:
        """Return the place across the strip of a column, in mm from its left edge."""
        return self.across_mm + (-1 if self.is_mirrored else 1) * column_px * self.mm_per_px_across


class Layout(BaseModel):
    """The cameras of a line, and what tells how far the strip has moved.

    frame_step_mm: how far it moves from one frame to the next; frames are numbered by `frame_number`, a regular
    expression whose first group is the number in an image's path. positions: in place of the step, a CSV table
    image,position beside the layout's file, in mm or in counts of an encoder of mm_per_count, which is below 0 where it
    counts from tail to head.
    lanes_mm: where slit strips meet, from the left edge.
    rolls_mm: diameters of the line's rolls by name, to say which one left a mark.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    width_mm: float = Field(gt=0)
    cameras: tuple[Camera, ...] = Field(min_length=1)
    frame_step_mm: float | None = Field(default=None, gt=0)
    frame_number: str = r"(\d+)\D*$"
    positions: Path | None = None
    mm_per_count: float = 1.0
    lanes_mm: tuple[float, ...] = ()
    rolls_mm: dict[str, float] = Field(default_factory=dict)
    longest_period_mm: float = Field(default=LONGEST_PERIOD_MM, gt=0)

    _no_truth = field_validator("*", mode="before")(no_truth)

    @field_validator("frame_number")
    @classmethod
    def _has_a_group(cls, expression: str) -> str:
        try:
            groups = re.compile(expression).groups
        except re.error as fault:
            raise ValueError(f"no regular expression: {fault}") from fault
        if not groups:
            raise ValueError("the number of the frame is the first group (...) of the expression")
        return expression

    @field_validator("mm_per_count")
    @classmethod
    def _moves(cls, mm: float) -> float:
        if mm == 0:
            raise ValueError("a count of the encoder is some mm, below 0 where it counts from tail to head")
        return mm

    @model_validator(mode="after")
    def _knows_where(self) -> Self:
        if (self.frame_step_mm is None) == (self.positions is None):
            raise ValueError("either frame_step_mm or positions says how far the strip has moved")
        if len({camera.name for camera in self.cameras}) < len(self.cameras):
            raise ValueError("two cameras have the same name")
        if list(self.lanes_mm) != sorted(self.lanes_mm) or any(not 0 < edge < self.width_mm for edge in self.lanes_mm):
            raise ValueError(f"lanes meet at rising places between 0 and {self.width_mm:g} mm")
        return self

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a layout from YAML; raise BadSetting when the file holds none."""
        try:
            made = cls.model_validate(read_yaml(path))
        except (OSError, UnicodeDecodeError, yaml.YAMLError, ValidationError) as fault:
            raise BadSetting(f"{path}: not the layout of a line. {reasons(fault)}") from fault
        if made.positions is not None:
            made = made.model_copy(update={"positions": path.parent / made.positions})
        return made

    def camera_of(self, image: str) -> Camera | None:
        """Return the first camera whose pattern an image's path fits, None where there is none."""
        return next((camera for camera in self.cameras if fnmatchcase(image, camera.images)), None)

    def lane(self, across_mm: float) -> int:
        """Return the number of the lane at a place across, 1 at the left edge."""
        return bisect.bisect_right(self.lanes_mm, across_mm) + 1

    def encoder_mm(self) -> Mapping[str, float]:
        """Return the place of each image of `positions`, in mm; nothing where frames are counted.

        Raises BadSetting where the table cannot be read, or has two positions of one image.
        """
        if self.positions is None:
            return {}
        try:
            with self.positions.open(encoding="utf-8-sig", newline="") as file:
                places = [(row["image"], float(row["position"]) * self.mm_per_count) for row in csv.DictReader(file)]
            found = dict(places)
            if strange := [image for image, place_mm in found.items() if not math.isfinite(place_mm)]:
                raise ValueError(f"the position of {strange[0]} is no number")
            if twice := [image for image, place_mm in places if found[image] != place_mm]:
                raise ValueError(f"{twice[0]} has two positions")
            return found
        except (OSError, UnicodeDecodeError, KeyError, TypeError, ValueError) as fault:
            raise BadSetting(f"{self.positions}: a table image,position is expected. {fault}") from fault

    def frame_of(self, image: str) -> int:
        """Return the number of the frame in an image's path, or raise BadSetting."""
        found = re.search(self.frame_number, image.rpartition(".")[0] or image)
        if found is None or not (found[1] or "").isdecimal():
            raise BadSetting(f"{image}: no frame number in the path by {self.frame_number!r}.")
        return int(found[1])

    def roll_of(self, diameter_mm: float) -> str | None:
        """Return the roll whose diameter is nearest, None where each differs by more than SAME_ROLL of it."""
        if not self.rolls_mm:
            return None
        name = min(self.rolls_mm, key=lambda each: abs(self.rolls_mm[each] - diameter_mm))
        return name if abs(self.rolls_mm[name] - diameter_mm) <= SAME_ROLL * diameter_mm else None
