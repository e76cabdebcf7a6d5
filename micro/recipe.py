"""What was asked for: one value behind flags, form, YAML file and run record."""

import json
from pathlib import Path
from typing import Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from micro.document import no_truth, read_yaml, reasons
from micro.errors import BadSetting

Setting = bool | int | float | str


def setting_of(text: str) -> Setting:
    """Return what a user typed for a setting: the number or the truth that it looks like, else the text."""
    try:
        read = json.loads(text)
    except json.JSONDecodeError:
        return text
    return read if isinstance(read, bool | int | float) else text


class Decision(BaseModel):
    """Which frames may ship, by their probability of a defect; `micro calibrate` finds it.

    A frame is OK where the classes that may not ship have a probability of less than ok_below together, NG from ng_from
    on, and REVIEW between.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    temperature: float = Field(
        ge=1e-3, le=1e3, description="the classifier's logits are divided by it, in place of the card's"
    )
    ok_classes: tuple[str, ...] = Field(min_length=1, description="classes that may ship")
    ok_below: float = Field(ge=0, le=1, description="probability of a defect below which a frame is OK")
    ng_from: float = Field(ge=0, le=1, description="probability of a defect from which a frame is NG")
    weights_sha256: str | None = Field(default=None, description="of the bundle whose answers the limits come from")
    origin: str = Field(default="", description="what the limits come from, and what they did")

    _no_truth = field_validator("*", mode="before")(no_truth)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.ok_below > self.ng_from:
            raise ValueError(f"OK below {self.ok_below:g} and NG from {self.ng_from:g} on overlap")
        return self


class Recipe(BaseModel):
    """How images are to be read: the model, the pixel size, and what to change in the task's settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = Field(default=1, ge=1, le=1)
    model: str = Field(description="name of an installed bundle, or its folder")
    pixel_size_um: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="size of one pixel; overrides the file's own"
    )
    settings: dict[str, Setting] = Field(default_factory=dict, description="task settings that differ from the card's")
    review_below: float | None = Field(default=None, ge=0, le=1, description="less sure verdicts become REVIEW")
    decision: Decision | None = Field(default=None, description="limits that `micro calibrate` found")

    _no_truth = field_validator("*", mode="before")(no_truth)

    @model_validator(mode="after")
    def _decided_once(self) -> Self:
        if self.decision is not None and (self.review_below is not None or "ok_classes" in self.settings):
            raise ValueError(
                "a decision says what ships and what is reviewed: leave review_below and ok_classes out, or calibrate "
                "anew"
            )
        return self

    def save(self, path: Path) -> None:
        """Write the recipe as YAML; `Recipe.load` reads it back."""
        path.write_text(
            yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True), encoding="utf-8"
        )

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a recipe from YAML; raise BadSetting when it is not one."""
        try:
            return cls.model_validate(read_yaml(path))
        except (OSError, UnicodeDecodeError, yaml.YAMLError, ValidationError) as fault:
            raise BadSetting(f"{path}: not a recipe. {reasons(fault)}") from fault
