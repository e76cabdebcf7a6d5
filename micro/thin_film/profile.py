"""One microscope setting, known by a few flakes whose layers somebody has counted, or whose heights he has measured."""

from pathlib import Path
from typing import Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from micro.document import read_yaml, reasons
from micro.errors import BadSetting

MOST_POINT_LAYERS = 10
MOST_POINT_NM = 120.0


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Point(_Part):
    """One place whose layers were counted or whose height was measured, by AFM as a rule, and its contrast.

    contrast_<channel>: I / I_substrate - 1.
    """

    image: str
    layers: int | None = Field(default=None, ge=1, le=MOST_POINT_LAYERS)
    height_nm: float | None = Field(default=None, gt=0, le=MOST_POINT_NM)
    contrast_r: float = Field(gt=-1, lt=20)
    contrast_g: float = Field(gt=-1, lt=20)
    contrast_b: float = Field(gt=-1, lt=20)

    @model_validator(mode="after")
    def _is_known(self) -> Self:
        if (self.layers is None) == (self.height_nm is None):
            raise ValueError("either its layers are known or its height_nm")
        return self

    @property
    def known(self) -> str:
        """What is known of it, as people write it."""
        return f"{self.height_nm:g} nm" if self.layers is None else f"{self.layers}L"


class Profile(_Part):
    """A microscope setting: objective, lamp, camera, exposure and chip of its points.

    The points themselves are kept, so that each image is named with everything that is known, and so that a reader sees
    what the profile rests on.
    """

    schema_version: int = Field(default=1, ge=1, le=1)
    material: Literal["graphene", "mos2", "ws2", "mose2", "wse2", "hbn"]
    oxide_nm: float | None = Field(default=None, gt=10, lt=1000, description="None where it is not known")
    gamma: float | None = Field(default=None, ge=0.5, le=3, description="1.0 for a linear camera; None if not known")
    points: tuple[Point, ...] = Field(min_length=1)

    def save(self, path: Path) -> None:
        """Write the profile as YAML; `Profile.load` reads it back."""
        path.write_text(yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a profile from YAML; raise BadSetting when it is not one."""
        try:
            return cls.model_validate(read_yaml(path))
        except (OSError, UnicodeDecodeError, yaml.YAMLError, ValidationError) as fault:
            raise BadSetting(
                f"{path}: not a microscope profile. `micro profile` makes one. {reasons(fault)}"
            ) from fault
