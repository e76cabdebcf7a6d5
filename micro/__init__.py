"""Reads micrographs and sheet images and says what is there: flake layers, grains, surface defects."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from micro.engine import Engine
    from micro.errors import MicroError
    from micro.formats import read
    from micro.micrograph import Micrograph
    from micro.recipe import Recipe
    from micro.regions import Prediction, Progress, Regions

__all__ = ["Engine", "MicroError", "Micrograph", "Prediction", "Progress", "Recipe", "Regions", "read"]

_HOMES = {
    "Engine": "micro.engine",
    "MicroError": "micro.errors",
    "Micrograph": "micro.micrograph",
    "Prediction": "micro.regions",
    "Progress": "micro.regions",
    "Recipe": "micro.recipe",
    "Regions": "micro.regions",
    "read": "micro.formats",
}


def __getattr__(name: str) -> object:
    # torch and pydantic are loaded by whoever asks for a name that needs them, not by `import micro`
    if name not in _HOMES:
        raise AttributeError(f"module 'micro' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
