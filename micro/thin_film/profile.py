"""One microscope setting, known by flakes that somebody has counted or measured, and by what else it has shown."""

from pathlib import Path
from typing import Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from micro.document import read_yaml, reasons
from micro.errors import BadSetting

MOST_POINT_LAYERS = 10
MOST_POINT_NM = 120.0
MOST_CONTRAST = 20.0


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Colour(_Part):
    """The contrast of a flake of which nothing else is known.

    contrast_<channel>: I / I_substrate - 1.
    """

    image: str
    contrast_r: float = Field(gt=-1, lt=MOST_CONTRAST)
    contrast_g: float = Field(gt=-1, lt=MOST_CONTRAST)
    contrast_b: float = Field(gt=-1, lt=MOST_CONTRAST)

    @property
    def contrast(self) -> tuple[float, float, float]:
        """Of red, green and blue."""
        return self.contrast_r, self.contrast_g, self.contrast_b


class Point(Colour):
    """One place whose layers were counted or whose height was measured, by AFM as a rule, and its contrast."""

    layers: int | None = Field(default=None, ge=1, le=MOST_POINT_LAYERS)
    height_nm: float | None = Field(default=None, gt=0, le=MOST_POINT_NM)

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
    """A microscope setting: objective, lamp, camera, exposure and chip of its points and of what it has seen.

    These themselves are kept, so that each image is named with everything that is known, and so that a reader sees what
    the profile rests on.

    seen: flakes that nobody counted. One microscope has one curve of colours, so that the terraces of one image name
        the lone flake of another.
    """

    schema_version: int = Field(default=1, ge=1, le=1)
    material: Literal["graphene", "mos2", "ws2", "mose2", "wse2", "hbn"]
    oxide_nm: float | None = Field(default=None, gt=10, lt=1000, description="None where it is not known")
    gamma: float | None = Field(default=None, ge=0.5, le=3, description="1.0 for a linear camera; None if not known")
    points: tuple[Point, ...] = ()
    seen: tuple[Colour, ...] = ()

    @model_validator(mode="after")
    def _knows_something(self) -> Self:
        if not (self.points or self.seen):
            raise ValueError("a profile has points or has seen flakes")
        return self

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
