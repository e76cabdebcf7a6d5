"""The drawn sample images in napari's File > Open Sample menu."""

from pathlib import Path

from micro.errors import UnreadableImage
from micro_napari.reader import LayerData, read

PLACES = (Path(__file__).parent / "sample_images", Path(__file__).parents[2] / "sample_images")
"""Inside the installed package, and in a checkout, where the package lies in plugins/."""


def flakes() -> list[LayerData]:
    """Return drawn flakes on an oxidised wafer."""
    return sample("flakes")


def grains() -> list[LayerData]:
    """Return drawn grains of a polycrystal."""
    return sample("grains")


def strip() -> list[LayerData]:
    """Return the drawn edge of a steel strip."""
    return sample("strip")


def sample(stem: str) -> list[LayerData]:
    """Return the sample image of that name, or raise UnreadableImage with those there are."""
    images = sample_images()
    found = [path for path in images if path.stem == stem]
    if not found:
        known = ", ".join(path.stem for path in images) or "none"
        raise UnreadableImage(f"{stem}: no such sample image. Installed: {known}. Reinstall micro to get all.")
    return read(str(found[0]))


def sample_images() -> list[Path]:
    """Return the sample images that are installed."""
    folder = next((place for place in PLACES if place.is_dir()), None)
    return [] if folder is None else sorted(path for path in folder.iterdir() if path.suffix in (".png", ".tif"))
