"""How many of the boundaries between drawn grains a picture shows at all, whoever looks for them."""

from dataclasses import dataclass
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from micro.micrograph import Micrograph
from micro.scenes.grains.polycrystal import walls
from micro.tiles import resize

ON_PX, FLANK_PX = 1.5, (3.0, 12.0)
SEEN = 3.0
"""Standard errors by which a boundary must differ from what lies beside it, or one of its sides from the other."""


def seen(image: Micrograph, labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return the grains (Y, X) that are left when those are joined whose boundary shows nothing in the image.

    A boundary counts as seen where its whole length together is darker or brighter than its flanks, or one flank than
    the other, by SEEN standard errors. To know where it lies is an advantage that nobody has who looks for it, and
    noise that is alike in neighbouring pixels says less than is assumed here. It is no bound for what can be found: who
    knows how grains are shaped closes some where a boundary does not show.
    """
    pixels = resize(image.pixels, (labels.shape[0], labels.shape[1])).astype(np.float32)
    grey = pixels[..., 0] if pixels.shape[2] == 1 else cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    met = walls(labels)
    beside = (met.distance_px >= FLANK_PX[0]) & (met.distance_px <= FLANK_PX[1])
    wall, left, right = (
        _Part.of(grey, np.where(part, met.pair, -1), len(met.pairs))
        for part in (
            met.distance_px <= ON_PX,
            beside & (labels == met.pairs[met.pair, 0]),
            beside & (labels == met.pairs[met.pair, 1]),
        )
    )
    noise = np.sqrt((left.variance + right.variance) / 2) + 0.5  # no camera tells less than half a grey value apart
    line = np.abs(wall.mean - (left.mean + right.mean) / 2) / np.sqrt(1 / wall.count + 1 / (left.count + right.count))
    step = np.abs(left.mean - right.mean) / np.sqrt(1 / left.count + 1 / right.count)
    unseen = met.pairs[np.maximum(line, step) < SEEN * noise]
    size = int(labels.max()) + 1
    links = coo_array((np.ones(len(unseen), bool), (unseen[:, 0], unseen[:, 1])), shape=(size, size))
    number = connected_components(links, directed=False)[1]
    return (np.unique(number[labels], return_inverse=True)[1].reshape(labels.shape) + 1).astype(np.int32)


@dataclass(frozen=True, eq=False)
class _Part:
    """How many pixels of each wall there are in a part of the image, their mean and their variance: (P,) each."""

    count: NDArray[np.float64]
    mean: NDArray[np.float64]
    variance: NDArray[np.float64]

    @classmethod
    def of(cls, grey: NDArray[np.float32], wall: NDArray[np.intp], walls_in_all: int) -> Self:
        held, values = wall[wall >= 0], grey[wall >= 0].astype(np.float64)
        count = np.maximum(np.bincount(held, minlength=walls_in_all), 1)
        mean = np.bincount(held, values, walls_in_all) / count
        return cls(count, mean, np.maximum(np.bincount(held, values**2, walls_in_all) / count - mean**2, 0))
