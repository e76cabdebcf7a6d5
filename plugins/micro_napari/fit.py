"""Whether an image fits a bundle, said before anything is loaded or run."""

from dataclasses import dataclass

from micro.card import Card
from micro.formats import MAX_PIXELS
from micro.tiles import Tiling, tiles
from micro_napari.layers import Facts

COARSE = 4.0
"""An image scaled by more than this, or by less than its inverse, deserves a second look at its pixel size."""


@dataclass(frozen=True)
class Fit:
    """Whether Run may be pressed, and one line that says what will happen or why nothing can.

    needs_pixel_size: nobody knows the size of a pixel.
    tiles: how many the network will see; grid_px: (Y, X) of the grid that they cover.
    """

    fine: bool
    says: str
    needs_pixel_size: bool = False
    tiles: int = 1
    grid_px: tuple[int, int] = (1, 1)


def fit(card: Card, image: Facts, device: str, tile_px: int) -> Fit:
    """Compare an image with a card, axis by axis: plane, channels, scale, size."""
    if image.problem:
        return Fit(False, image.problem)
    shape_px, scaled = image.shape_px, "at its own scale"
    if card.pixel_size_um is not None:
        if image.pixel_size_um is None:
            return Fit(
                False,
                f"No pixel size: {card.name} was trained at {card.pixel_size_um:g} um a pixel. Give it below.",
                needs_pixel_size=True,
            )
        factor = image.pixel_size_um / card.pixel_size_um
        shape_px = (max(1, round(shape_px[0] * factor)), max(1, round(shape_px[1] * factor)))
        if shape_px[0] * shape_px[1] > MAX_PIXELS:
            return Fit(False, f"{image.pixel_size_um:g} um a pixel would make it {_size(shape_px)}. Is that right?")
        scaled = f"scaled {factor:.3g} times to {card.pixel_size_um:g} um a pixel"
        if not 1 / COARSE <= factor <= COARSE:
            scaled += " (far from what it was trained on)"
    parts = [f"{_size(image.shape_px)} {'colour' if image.channels == 3 else 'grey'}", scaled]
    if card.channels == "rgb" and image.channels == 1:
        parts.append("grey read as three equal channels")
    elif card.channels == "grey" and image.channels == 3:
        parts.append("colour read as grey")
    count = 1
    if card.segmenter is not None:
        stride_px = card.segmenter.stride_px
        tiling = Tiling(tile_px - tile_px % stride_px, card.segmenter.halo_px, stride_px)
        count = len(tiles(shape_px, tiling))
        parts.append(f"{count} tile{'s' if count > 1 else ''}")
    else:
        parts.append("whole frame")
    if image.pixel_size_um is None:
        parts.append("lengths in pixels: no pixel size")
    says = ", ".join([*parts, *image.notes, f"device {device}"])
    return Fit(True, says, image.pixel_size_um is None, count, shape_px)


def _size(shape_px: tuple[int, int]) -> str:
    return f"{shape_px[0]} x {shape_px[1]} px"
