"""What was asked for: one value behind flags, form, YAML file and run record."""

from pathlib import Path
from typing import Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from micro.errors import BadSetting

Setting = bool | int | float | str


class Recipe(BaseModel):
    """How images are to be read: the model, the pixel size, and what to change in the task's settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = Field(default=1, ge=1, le=1)
    model: str = Field(description="name of an installed bundle, or its folder")
    pixel_size_um: float | None = Field(default=None, gt=0, description="size of one pixel; overrides the file's own")
    settings: dict[str, Setting] = Field(default_factory=dict, description="task settings that differ from the card's")
    review_below: float | None = Field(default=None, ge=0, le=1, description="less sure verdicts become REVIEW")

    def save(self, path: Path) -> None:
        """Write the recipe as YAML; `Recipe.load` reads it back."""
        path.write_text(yaml.safe_dump(self.model_dump(), sort_keys=False, allow_unicode=True), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a recipe from YAML; raise BadSetting when it is not one."""
        try:
            return cls.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError, yaml.YAMLError, ValidationError) as fault:
            raise BadSetting(f"{path}: not a recipe. {fault}") from fault
