"""Image files -> napari layers, through the same reader that the command line uses."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from micro import formats
from micro.micrograph import Micrograph

LayerData = tuple[NDArray[Any], dict[str, Any], str]
"""What napari makes a layer of: the array, the layer's arguments, and its type."""

Reader = Callable[[str | list[str]], list[LayerData]]


def get_reader(path: str | list[str]) -> Reader | None:
    """Return a function that reads these files, or None if one of them is no image file by its name."""
    try:
        paths = _paths(path)
        ours = all(formats.is_image_name(one) and one.is_file() for one in paths)
    except (
        OSError,
        TypeError,
        ValueError,
    ):  # napari asks with whatever was dropped on it, and nothing may be raised here
        return None
    return read if paths and ours else None


def read(path: str | list[str]) -> list[LayerData]:
    """Read each file as an image layer that knows its scale and where that is stated."""
    layers = []
    for one in _paths(path):
        pixels, arguments, kind = to_layer(formats.read(one))
        arguments["metadata"]["path"] = str(one.absolute())
        layers.append((pixels, arguments, kind))
    return layers


def to_layer(image: Micrograph) -> LayerData:
    """Return an image layer; without a known pixel size its units are pixels."""
    um = image.pixel_size_um
    arguments = {
        "name": Path(image.name).stem,
        "rgb": image.channels == 3,
        "scale": (1.0, 1.0) if um is None else (um, um),
        "units": ("pixel", "pixel") if um is None else ("um", "um"),
        "axis_labels": ("y", "x"),
        "metadata": {"pixel_size_um": um, "pixel_size_source": image.pixel_size_source, "notes": list(image.notes)},
    }
    pixels = image.pixels if image.channels == 3 else image.pixels[..., 0]
    return pixels, arguments, "image"


def _paths(path: str | list[str]) -> list[Path]:
    return [Path(one) for one in ([path] if isinstance(path, str) else path)]
