"""The light of one crystal for many possible microscopes at once: a table over oxide, aperture and channel."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from micro.thin_film.camera import WAVELENGTHS_NM, channel_weights
from micro.thin_film.materials import OXIDE, SILICON, refractive_index
from micro.thin_film.stack import reflectance

Real = NDArray[np.float64]

APERTURES = np.sqrt(np.linspace(0.04, 0.82, 7))
OXIDE_STEP_NM = 3.0
SPECTRUM_NM = WAVELENGTHS_NM[::2]
CONE_NODES = 5
CENTRES_NM = np.arange(420.0, 651.0, 10.0)
WIDTHS_NM = np.array([40.0, 60.0, 80.0, 105.0, 140.0])


@dataclass(frozen=True, eq=False)
class Atlas:
    """Light of films of each height (T,), the first 0, relative to nothing but itself.

    oxide_nm: (D,) evenly spaced. light: (A, D, C, W, T) over APERTURES, oxide_nm, CENTRES_NM and WIDTHS_NM.
    """

    height_nm: Real
    oxide_nm: Real
    light: NDArray[np.float32]

    def with_films_of(self, other: "Atlas") -> "Atlas":
        """Return an atlas of the same oxides with the films of another behind its own, the bare substrate once."""
        height_nm = np.append(self.height_nm, other.height_nm[1:])
        return Atlas(height_nm, self.oxide_nm, np.concatenate([self.light, other.light[..., 1:]], axis=-1))

    def relative(self, aperture: Real, oxide_nm: Real, centre_nm: Real, width_nm: Real) -> NDArray[np.float32]:
        """Return (P, 3, T) light relative to the bare substrate, interpolated linearly.

        aperture, oxide_nm, width_nm: (P,). centre_nm: (P, 3). Values beyond the table count as its edge.
        """
        places = [
            _between(np.square(APERTURES), np.square(aperture)[:, np.newaxis]),
            _between(self.oxide_nm, oxide_nm[:, np.newaxis]),
            _between(CENTRES_NM, centre_nm),
            _between(WIDTHS_NM, width_nm[:, np.newaxis]),
        ]
        # The light in a channel is a weighted sum of 16 rows of the table: one row of a sparse matrix.
        row: NDArray[np.int32] = np.zeros((*centre_nm.shape, 1), np.int32)
        weight: NDArray[np.float32] = np.ones((*centre_nm.shape, 1), np.float32)
        for length, (low, share) in zip(self.light.shape, places, strict=False):
            low, share = low[..., np.newaxis].astype(np.int32), share[..., np.newaxis].astype(np.float32)
            row = np.concatenate([row * length + low, row * length + low + 1], axis=2)
            weight = np.concatenate([weight * (1 - share), weight * share], axis=2)
        starts = np.arange(0, row.size + 1, row.shape[2])
        table = self.light.reshape(-1, len(self.height_nm))
        total = csr_array((weight.ravel(), row.ravel(), starts), shape=(len(starts) - 1, len(table))) @ table
        total = total.reshape(*centre_nm.shape, -1)
        return np.asarray(total / total[..., :1], np.float32)


def _between(nodes: Real, values: Real) -> tuple[NDArray[np.intp], Real]:
    """Return the node below each value and how far it is to the next, 0..1."""
    low = np.clip(np.searchsorted(nodes, values) - 1, 0, len(nodes) - 2)
    share = (values - nodes[low]) / (nodes[low + 1] - nodes[low])
    return low, np.clip(share, 0, 1)


@cache
def chart(material: str, height_nm: tuple[float, ...], low_nm: float, high_nm: float) -> Atlas:
    """Return the atlas of a material for films of each height and an oxide between low_nm and high_nm."""
    heights = np.array(height_nm)
    oxide_nm = np.linspace(low_nm, high_nm, max(2, round((high_nm - low_nm) / OXIDE_STEP_NM) + 1))
    indices = [refractive_index(name, SPECTRUM_NM) for name in (material, OXIDE, SILICON)]
    films = heights[:, np.newaxis], oxide_nm[:, np.newaxis, np.newaxis]
    # One polynomial in the square of the sine serves all apertures: each is its average from 0 to the aperture's edge.
    squares = np.square(APERTURES[-1]) * (1 + np.polynomial.legendre.leggauss(CONE_NODES)[0]) / 2
    powers = np.arange(CONE_NODES)
    averages = np.square(APERTURES)[:, np.newaxis] ** powers / (powers + 1) @ np.linalg.inv(squares[:, None] ** powers)
    rays = [
        sum(reflectance(indices, films, SPECTRUM_NM, sine=float(sine), polarization=part) for part in "sp") / 2
        for sine in np.sqrt(squares)
    ]
    centre, width = np.meshgrid(CENTRES_NM, WIDTHS_NM, indexing="ij")
    weights = channel_weights(centre, width, SPECTRUM_NM).reshape(-1, len(SPECTRUM_NM)).T
    light = np.tensordot(averages, np.stack(rays) @ weights, 1)
    light = light.reshape(len(APERTURES), len(oxide_nm), len(heights), *centre.shape)
    return Atlas(heights, oxide_nm, np.ascontiguousarray(np.moveaxis(light, 2, 4), np.float32))
