"""napari layers <-> micrographs and predictions; a layer here is anything with the attributes of one."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from micro.errors import UnreadableImage
from micro.formats import pixel_size as sizes
from micro.micrograph import GIVEN, PIXEL_TYPES, Micrograph

LAYER_SCALE = "scale of the napari layer"


class ImageLayer(Protocol):
    """What is needed of a napari image layer."""

    name: str
    rgb: bool
    multiscale: bool
    scale: Any
    units: Any
    metadata: dict[str, Any]

    @property
    def data(self) -> Any:
        """Array-like of the layer, or a list of them for a pyramid."""

    @property
    def translate(self) -> Any:
        """Where its first pixel lies in the world."""


@dataclass(frozen=True)
class Facts:
    """What is known of the image in a layer before its pixels are touched; the layer may be changed or gone later.

    shape_px: (Y, X). problem: why it cannot be read, or "". data: array-like of the full resolution.
    """

    name: str
    data: Any
    shape_px: tuple[int, int] = (0, 0)
    channels: int = 1
    pixel_size_um: float | None = None
    pixel_size_source: str | None = None
    notes: tuple[str, ...] = ()
    problem: str = ""

    def image(self) -> Micrograph:
        """Read the pixels, which may take a while; raise UnreadableImage for what is no single image."""
        if self.problem:
            raise UnreadableImage(self.problem)
        pixels = np.asarray(self.data)
        if self.channels == 3:
            pixels = pixels[..., :3]
        if pixels.dtype == np.float64:
            pixels = pixels.astype(np.float32)
        return Micrograph(pixels, self.name, self.pixel_size_um, self.pixel_size_source, self.notes)


def facts(layer: ImageLayer) -> Facts:
    """Look at a layer without reading its pixels."""
    data = layer.data[0] if layer.multiscale else layer.data
    shape = tuple(int(length) for length in data.shape)
    planes = shape[:-1] if layer.rgb else shape
    if len(planes) != 2:
        problem = (
            f"{layer.name}: {' x '.join(map(str, shape))} is a stack, and one plane is read at a time. "
            f"Split it: right-click the layer, Split Stack."
        )
        return Facts(layer.name, data, problem=problem)
    known = pixel_size(layer)
    dtype = np.dtype(data.dtype)
    # what the reader remarked on the file, and says on the command line too
    of_file = layer.metadata.get("notes", ()) if "pixel_size_source" in layer.metadata else ()
    problem, notes = "", [*of_file, *known.notes]
    if dtype == np.float64:
        notes.append("64-bit values read as 32-bit")
    elif dtype not in PIXEL_TYPES:
        problem = f"{layer.name}: pixels are {dtype}, and 8 or 16 bit or float is read. Right-click, Convert Data Type."
    if layer.rgb and shape[-1] == 4:
        notes.append("alpha channel dropped")
    return Facts(
        name=layer.name,
        data=data,
        shape_px=(planes[0], planes[1]),
        channels=3 if layer.rgb else 1,
        pixel_size_um=known.um,
        pixel_size_source=known.source,
        notes=tuple(dict.fromkeys(notes)),
        problem=problem,
    )


def cropped(image: Micrograph, corners: NDArray[Any], most_px: int) -> tuple[Micrograph, tuple[int, int]]:
    """Return the part of an image that is in view, at most most_px high and wide, and where its first pixel lies.

    corners: ((y, x), (y, x)) of what is in view, in pixels, as napari keeps them for each layer.
    """
    spans = []
    for (low, high), length_px in zip(np.asarray(corners).T[-2:], (image.height_px, image.width_px), strict=True):
        first, last = max(0, int(low)), min(length_px, int(high) + 1)
        if last <= first:
            first, last = 0, length_px
        spare = max(0, last - first - most_px)
        spans.append(slice(first + spare // 2, last - (spare - spare // 2)))
    part = Micrograph(
        image.pixels[spans[0], spans[1]], image.name, image.pixel_size_um, image.pixel_size_source, image.notes
    )
    return part, (spans[0].start, spans[1].start)


def pixel_size(layer: ImageLayer) -> sizes.PixelSize:
    """Return the size of the layer's pixels, where it came from, or why it is not known."""
    scales = [float(step) for step in np.asarray(layer.scale)[-2:]]
    factors = [sizes.um_per(str(unit)) for unit in tuple(layer.units)[-2:]]
    if factors[0] is None or factors[1] is None:
        return sizes.UNKNOWN
    y_um, x_um = scales[0] * factors[0], scales[1] * factors[1]
    noted = layer.metadata.get("pixel_size_um")
    if noted is not None and np.isclose(noted, x_um, rtol=1e-9) and np.isclose(noted, y_um, rtol=1e-9):
        # the very number of the file: what passed through a scale may differ in its last bit
        return sizes.PixelSize(float(noted), layer.metadata.get("pixel_size_source"))
    return sizes.square(x_um, y_um, LAYER_SCALE)


def give_pixel_size(layer: ImageLayer, um: float) -> None:
    """Set scale and units of a layer, and note that the user gave them."""
    count = len(np.asarray(layer.scale))
    layer.scale = (um,) * count
    layer.units = ("um",) * count
    layer.metadata = {**layer.metadata, "pixel_size_um": um, "pixel_size_source": GIVEN}


def placed_like(
    layer: ImageLayer, corner_px: Sequence[float] = (0, 0), step_px: Sequence[float] = (1, 1)
) -> Mapping[str, Any]:
    """Return the arguments that put a new layer onto this one.

    corner_px: (y, x) of the first pixel, and step_px: edges (y, x) of one pixel of the new layer, in this one's pixels.
    """
    scale = np.asarray(layer.scale, np.float64)[-2:]
    step, corner = np.asarray(step_px, np.float64), np.asarray(corner_px, np.float64)
    middle = corner + (step - 1) / 2  # layers lie by the middle of their first pixel
    return {
        "scale": tuple(scale * step),
        "translate": tuple(np.asarray(layer.translate, np.float64)[-2:] + scale * middle),
        "units": tuple(layer.units)[-2:],
        "axis_labels": ("y", "x"),
    }


def lay_on(upper: Any, layer: ImageLayer) -> None:
    """Put a layer that is there already onto this one again, whose pixel size or place may have changed since."""
    for name, value in placed_like(layer).items():
        setattr(upper, name, value)


def fingerprint(image: Micrograph) -> str:
    """Return what equal pixels have in common, short enough for the name of a folder."""
    head = f"{image.pixels.shape} {image.pixels.dtype}".encode()
    return hashlib.sha256(head + np.ascontiguousarray(image.pixels).data).hexdigest()[:16]
