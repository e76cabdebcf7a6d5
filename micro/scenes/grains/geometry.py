"""What a label image itself says of the size of its grains, with nothing estimated from a picture."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Geometry:
    """Grains of a rectangular field that they fill.

    grains_per_mm2: N_A of ASTM E112 and Saltikov: a grain inside counts 1, one cut by a side 1/2, one at a corner 1/4.
    mean_intercept_um: all rows and columns of pixels as test lines; their length divided by the boundaries they cross.
    """

    grains_per_mm2: float
    mean_intercept_um: float


def geometry(labels: NDArray[np.int32], pixel_size_um: float) -> Geometry:
    """Measure grains (Y, X) that touch and fill the field; one single grain has an infinite intercept."""
    height, width = labels.shape
    weight = np.ones(int(labels.max()) + 1)
    for side in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        weight[side] = 0.5
    counted = weight[1:].sum()
    for corner in labels[[0, 0, -1, -1], [0, -1, 0, -1]]:
        counted -= weight[corner] - 0.25
        weight[corner] = 0.25
    crossings = np.count_nonzero(np.diff(labels, axis=0)) + np.count_nonzero(np.diff(labels, axis=1))
    length_um = 2 * height * width * pixel_size_um
    return Geometry(
        grains_per_mm2=float(counted / (height * width * (pixel_size_um / 1000) ** 2)),
        mean_intercept_um=length_um / crossings if crossings else float("inf"),
    )
