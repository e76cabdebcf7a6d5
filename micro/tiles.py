"""Where to read, what to keep, where to write: an image of any size as tiles with a real halo."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

import cv2
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Tiling:
    """How an image is cut.

    size_px: edge of the largest square tile, halo included. An image of no more pixels than that is one tile.
    halo_px: context read around a tile and thrown away; a multiple of stride_px.
    stride_px: tile starts are multiples of it, as the network's own grid is.
    """

    size_px: int = 1024
    halo_px: int = 64
    stride_px: int = 32

    def __post_init__(self) -> None:
        if self.stride_px < 1 or self.halo_px % self.stride_px or self.size_px % self.stride_px:
            raise ValueError(f"{self}: size and halo are multiples of the stride")
        if self.size_px <= 2 * self.halo_px:
            raise ValueError(f"{self}: a tile must be larger than its two halos")


@dataclass(frozen=True)
class Tile:
    """One tile: `read` of the padded image goes through the network, `keep` of that answer is written to `write`.

    Each is a pair of slices (Y, X). `read` may reach past the image's lower and right edge, where `cut` mirrors it.
    """

    read: tuple[slice, slice]
    keep: tuple[slice, slice]
    write: tuple[slice, slice]


def tiles(shape_px: tuple[int, int], tiling: Tiling) -> list[Tile]:
    """Return the tiles that cover an image of shape_px, all of one size, row by row.

    The written parts are disjoint and cover the image. The tile is no larger than it needs to be: an image of 1100 px
    is not read as two tiles of 1024.
    """
    height_px, width_px = (_up(length_px, tiling.stride_px) for length_px in shape_px)
    if height_px * width_px <= tiling.size_px**2:
        whole = slice(0, shape_px[0]), slice(0, shape_px[1])
        return [Tile(read=(slice(0, height_px), slice(0, width_px)), keep=whole, write=whole)]
    rows = _spans(shape_px[0], tiling)
    columns = _spans(shape_px[1], tiling)
    return [
        Tile(read=(row[0], column[0]), keep=(row[1], column[1]), write=(row[2], column[2]))
        for row in rows
        for column in columns
    ]


def _spans(length_px: int, tiling: Tiling) -> list[tuple[slice, slice, slice]]:
    """Return (read, keep, write) along one axis."""
    stride, halo = tiling.stride_px, tiling.halo_px
    padded = _up(length_px, stride)
    if padded <= tiling.size_px:
        whole = slice(0, length_px)
        return [(slice(0, padded), whole, whole)]
    count = ceil((padded - 2 * halo) / (tiling.size_px - 2 * halo))
    size = _up(ceil((padded + 2 * halo * (count - 1)) / count), stride)
    spans = []
    done = 0
    for index in range(count):
        last = index == count - 1
        start = padded - size if last else index * (size - 2 * halo)
        stop = length_px if last else start + size - halo
        spans.append((slice(start, start + size), slice(done - start, stop - start), slice(done, stop)))
        done = stop
    return spans


def _up(length_px: int, stride_px: int) -> int:
    return ceil(length_px / stride_px) * stride_px


def cut(image: NDArray[np.generic], tile: Tile) -> NDArray[np.generic]:
    """Return the pixels (Y, X, C) that a tile reads, mirrored where it reaches past the lower or right edge."""
    part = image[tile.read]
    below = tile.read[0].stop - tile.read[0].start - part.shape[0]
    beside = tile.read[1].stop - tile.read[1].start - part.shape[1]
    if not (below or beside):
        return part
    return np.pad(part, ((0, below), (0, beside), (0, 0)), mode="symmetric")


def paste(target: NDArray[np.uint8], answer: NDArray[np.uint8], tile: Tile) -> None:
    """Write what a tile keeps of its answer (K, y, x) into target (K, Y, X)."""
    target[(slice(None), *tile.write)] = answer[(slice(None), *tile.keep)]


def blocks(shape_px: tuple[int, int], tiling: Tiling) -> Iterator[Tile]:
    """Yield tiles whose `read` stays inside the image, for work on arrays instead of through a network."""
    height, width = shape_px
    for tile in tiles(shape_px, tiling):
        rows, columns = tile.read
        inside = slice(rows.start, min(rows.stop, height)), slice(columns.start, min(columns.stop, width))
        yield Tile(inside, tile.keep, tile.write)


def resize(image: NDArray[np.generic], shape_px: tuple[int, int]) -> NDArray[np.generic]:
    """Resample pixels (Y, X, C) to shape_px: by area where it shrinks, bilinearly where it grows."""
    if image.shape[:2] == shape_px:
        return image
    shrinks = shape_px[0] * shape_px[1] < image.shape[0] * image.shape[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    resized = cv2.resize(np.asarray(image), shape_px[::-1], interpolation=how)
    return resized.reshape(*shape_px, image.shape[2])
