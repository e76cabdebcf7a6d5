"""Whether a strip may ship: rules of a product, and what was found along it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from micro.decide.verdict import NG, OK, REVIEW
from micro.document import no_truth, read_yaml, reasons
from micro.errors import BadSetting

METRE_MM = 1000.0


@dataclass(frozen=True)
class Defect:
    """One defect of a strip.

    along_mm: of its middle, from the head of the strip. area_mm2: None where a whole frame is the answer.
    frames: which cameras saw it, each with the frame that shows most of it, counted along the strip.
    """

    class_name: str
    side: str
    along_mm: float
    area_mm2: float | None
    frames: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Unclear:
    """What nobody judged for certain: frames that are REVIEW, and frames without a verdict (unreadable or missing)."""

    review: int = 0
    unseen: int = 0


class Rule(BaseModel):
    """A limit on some kind of defect; a strip that breaks it gets `verdict`.

    classes: which defects count; all if none is named. side: only those of one side.
    area_from_mm2, area_below_mm2: only those of such areas.
    at_most: on the whole strip. at_most_a_metre: within any metre. in_a_row: on consecutive frames of one camera.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    classes: tuple[str, ...] = ()
    side: str | None = None
    area_from_mm2: float | None = Field(default=None, ge=0)
    area_below_mm2: float | None = Field(default=None, gt=0)
    at_most: int | None = Field(default=None, ge=0)
    at_most_a_metre: int | None = Field(default=None, ge=0)
    in_a_row: int | None = Field(default=None, ge=0)
    verdict: Literal["NG", "REVIEW"] = "NG"

    _no_truth = field_validator("*", mode="before")(no_truth)

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if self.at_most is None and self.at_most_a_metre is None and self.in_a_row is None:
            raise ValueError("a rule has a limit: at_most, at_most_a_metre or in_a_row")
        low, high = self.area_from_mm2, self.area_below_mm2
        above = math.inf if high is None else high
        if low is not None and low >= above:
            raise ValueError(f"no area is from {low:g} and below {above:g} mm2: such a rule would limit nothing")
        return self

    def counts(self, defect: Defect) -> bool:
        """Whether a defect is of the kind that this rule limits; raise BadSetting where its area is not known."""
        if self.classes and defect.class_name not in self.classes:
            return False
        if self.side is not None and defect.side != self.side:
            return False
        if self.area_from_mm2 is None and self.area_below_mm2 is None:
            return True
        if defect.area_mm2 is None:
            raise BadSetting(
                "A rule asks for areas, and the bundle names whole frames. Take a bundle that finds regions, or leave "
                "area_from_mm2 and area_below_mm2 out."
            )
        large = self.area_from_mm2 is None or defect.area_mm2 >= self.area_from_mm2
        return large and (self.area_below_mm2 is None or defect.area_mm2 < self.area_below_mm2)

    @property
    def kind(self) -> str:
        """Which defects it limits, in words."""
        names = ", ".join(self.classes) or "all defects"
        side = f" on the {self.side}" if self.side else ""
        low = "" if self.area_from_mm2 is None else f" from {self.area_from_mm2:g} mm2"
        return f"{names}{side}{low}" + ("" if self.area_below_mm2 is None else f" below {self.area_below_mm2:g} mm2")


class Rules(BaseModel):
    """What a product may carry; the version stands in every verdict."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    product: str = Field(min_length=1)
    version: int = Field(ge=1)
    rules: tuple[Rule, ...] = Field(min_length=1)

    _no_truth = field_validator("*", mode="before")(no_truth)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read rules from YAML; raise BadSetting when the file holds none."""
        try:
            return cls.model_validate(read_yaml(path))
        except (OSError, UnicodeDecodeError, yaml.YAMLError, ValidationError) as fault:
            raise BadSetting(f"{path}: not the rules of a product. {reasons(fault)}") from fault


@dataclass(frozen=True)
class StripVerdict:
    """OK, REVIEW or NG for a whole strip, why, and by which rules."""

    verdict: str
    reasons: tuple[str, ...]
    rules: str

    def describe(self) -> str:
        """Return the verdict and its reasons to print."""
        return "\n".join((f"{self.verdict} by {self.rules}", *(f"  {reason}" for reason in self.reasons)))


def judge_strip(defects: Sequence[Defect], unclear: Unclear, rules: Rules | None) -> StripVerdict:
    """Judge a strip by the rules of a product, or without any: one defect makes it NG.

    A strip that no rule condemns is REVIEW while some of its frames are, or while nobody saw some of them.
    """
    broken: list[tuple[str, str]] = []
    if rules is None:
        if defects:
            broken.append((NG, f"{len(defects)} defects"))
    else:
        broken += [finding for rule in rules.rules for finding in _broken(rule, defects)]
    if unclear.review:
        broken.append((REVIEW, f"{unclear.review} frames wait for a person's eye"))
    if unclear.unseen:
        broken.append((REVIEW, f"{unclear.unseen} frames were not seen: missing, or unreadable"))
    said = {verdict for verdict, _ in broken}
    verdict = NG if NG in said else REVIEW if said else OK
    name = "the plain rule that no defect ships" if rules is None else f"{rules.product}, version {rules.version}"
    return StripVerdict(verdict, tuple(f"{each}: {reason}" for each, reason in broken), name)


def _broken(rule: Rule, defects: Sequence[Defect]) -> list[tuple[str, str]]:
    """Return the limits of a rule that are exceeded, each with its verdict, in words."""
    mine = [defect for defect in defects if rule.counts(defect)]
    found = []
    if rule.at_most is not None and len(mine) > rule.at_most:
        found.append(f"{rule.kind}: {len(mine)} on the strip, at most {rule.at_most}")
    if rule.at_most_a_metre is not None and mine:
        count, from_mm = _densest(np.sort([defect.along_mm for defect in mine]))
        if count > rule.at_most_a_metre:
            where = f"from {from_mm / METRE_MM:.2f} m on"
            found.append(f"{rule.kind}: {count} within a metre {where}, at most {rule.at_most_a_metre}")
    if rule.in_a_row is not None:
        run, camera, frame = _longest_run(mine)
        if run > rule.in_a_row:
            where = f"of {camera}, from frame {frame} on"
            found.append(f"{rule.kind}: on {run} frames in a row {where}, at most {rule.in_a_row}")
    return [(rule.verdict, words) for words in found]


def _densest(along_mm: NDArray[np.float64]) -> tuple[int, float]:
    """Return the most defects within any metre, and where that metre begins."""
    counts = np.searchsorted(along_mm, along_mm + METRE_MM, side="left") - np.arange(len(along_mm))
    first = int(counts.argmax())
    return int(counts[first]), float(along_mm[first])


def _longest_run(defects: Sequence[Defect]) -> tuple[int, str, int]:
    """Return the longest run of consecutive frames of one camera with such a defect: length, camera, first frame."""
    best = (0, "", 0)
    frames = sorted({each for defect in defects for each in defect.frames})
    run = 0
    for index, (camera, frame) in enumerate(frames):
        run = run + 1 if index and frames[index - 1] == (camera, frame - 1) else 1
        best = max(best, (run, camera, frame - run + 1), key=lambda found: found[0])
    return best
