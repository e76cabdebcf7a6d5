"""One image as it was taken: pixels, and how large they are in the world."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from micro.errors import UnknownPixelSize, UnreadableImage

PIXEL_TYPES = (np.uint8, np.uint16, np.float32)

# No camera and no detector counts this far; files mark with such numbers (-3.4e38, 1e20) what was not measured.
MOST_BRIGHT = 1e15

GIVEN = "given by the user"
WAYS_TO_GIVE_PIXEL_SIZE = (
    "Pass --pixel-size-um, pass the length of the scale bar as --scale-bar 222px=50um, or save the image with its "
    "calibration (OME-TIFF, ImageJ, the microscope's own tags). In napari, set the scale of the layer."
)


@dataclass(frozen=True, eq=False)
class Micrograph:
    """Pixels (Y, X, C) with their size, read-only.

    pixels: (Y, X, C) or (Y, X), uint8, uint16 or finite float32 within +-1e15; C is 1 (grey) or 3 (red, green, blue).
    pixel_size_um: edge length of one square pixel; None if nobody knows.
    pixel_size_source: where that size came from, in words to print ("OME-XML", "FEI tag", "given by the user").
    notes: what a reader should know about how the pixels were obtained ("alpha channel dropped").

    Raises UnreadableImage when the array is not such an image.
    """

    pixels: NDArray[np.generic]
    name: str = "image"
    pixel_size_um: float | None = None
    pixel_size_source: str | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if np.ma.is_masked(self.pixels):
            raise UnreadableImage(f"{self.name}: some pixels are masked. Fill or crop them first.")
        pixels = np.asarray(self.pixels)
        pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
        if pixels.ndim == 2:
            pixels = pixels[..., np.newaxis]
        if pixels.ndim != 3 or pixels.shape[2] not in (1, 3):
            raise UnreadableImage(
                f"{self.name}: an image is (Y, X), (Y, X, 1) or (Y, X, 3), and this one is {pixels.shape}. "
                f"Take one plane of a stack, or name the channels."
            )
        if 0 in pixels.shape:
            raise UnreadableImage(f"{self.name}: the image has no pixels ({pixels.shape[0]} x {pixels.shape[1]}).")
        if pixels.dtype not in PIXEL_TYPES:
            raise UnreadableImage(f"{self.name}: pixels are uint8, uint16 or float32, and these are {pixels.dtype}.")
        if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
            raise UnreadableImage(f"{self.name}: some pixels are NaN or infinite. Fill or crop them first.")
        if pixels.dtype.kind == "f" and abs(far := max(pixels.min(), pixels.max(), key=abs)) > MOST_BRIGHT:
            raise UnreadableImage(
                f"{self.name}: some pixels are {far:.3g}, as where nothing was measured. Fill or crop them first."
            )
        if self.pixel_size_um is not None and not (np.isfinite(self.pixel_size_um) and self.pixel_size_um > 0):
            raise UnknownPixelSize(f"{self.name}: a pixel size of {self.pixel_size_um} um is impossible.")
        view = pixels.view()
        view.flags.writeable = False
        object.__setattr__(self, "pixels", view)

    @property
    def height_px(self) -> int:
        """Number of rows."""
        return int(self.pixels.shape[0])

    @property
    def width_px(self) -> int:
        """Number of columns."""
        return int(self.pixels.shape[1])

    @property
    def channels(self) -> int:
        """1 for grey, 3 for red, green and blue."""
        return int(self.pixels.shape[2])

    @property
    def is_coloured(self) -> bool:
        """Whether any pixel is more than a grey: files with three equal channels are not."""
        red, green, blue = (self.pixels[..., channel] for channel in (0, self.channels // 2, self.channels - 1))
        return bool((red != green).any() or (green != blue).any())

    def known_pixel_size_um(self) -> float:
        """Return the pixel size, or raise UnknownPixelSize with the three ways to give one."""
        if self.pixel_size_um is None:
            raise UnknownPixelSize(f"{self.name}: no pixel size in the file. {WAYS_TO_GIVE_PIXEL_SIZE}")
        return self.pixel_size_um


class Item(NamedTuple):
    """One image of many: its name, and how to read it (called once, perhaps in another thread)."""

    name: str
    read: Callable[[], Micrograph]
