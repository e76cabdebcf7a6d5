"""Light on a stack of thin films: Fresnel's coefficients and the interference of all reflections.

The recursion from the substrate upwards gives what the product of the films' 2 x 2 transfer matrices gives, without
their overflow in thick absorbers. M. Born and E. Wolf, Principles of Optics, 7th ed., section 1.6; O. S. Heavens,
Optical Properties of Thin Solid Films, chapter 4. Indices are n + ik.

Layered crystals lie with their axis upright, and light whose field has a part along it is refracted by another index
there: k_z = n k sqrt(1 - (sin / n_upright)^2) for p, with the index n in the plane (Born and Wolf, section 15.3).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from micro.thin_film.materials import Index

# R is smooth in the square of the sine; four Gauss nodes reach 0.001 up to an aperture of 0.9.
CONE_NODES = 4

Real = NDArray[np.float64]


def reflectance(
    indices: Sequence[Index], thicknesses_nm: Sequence[Real], wavelengths_nm: Real, *, sine: float, polarization: str
) -> Real:
    """Return the reflectance in air of films on a substrate; all arrays are broadcast against each other.

    indices: of the films from the top and, last, of the substrate.
    thicknesses_nm: of the films from the top, one fewer than indices.
    sine: of the angle of incidence. polarization: "s" or "p".
    """
    if len(indices) != len(thicknesses_nm) + 1:
        raise ValueError(f"{len(indices)} indices for {len(thicknesses_nm)} films: one more is needed, the substrate's")
    media = (Index(*np.ones((2, 1), np.complex128)), *indices)
    if polarization == "s":
        cosines = [np.sqrt(1 - np.square(sine / index.plane)) for index in media]
        tilts = [index.plane * cosine for index, cosine in zip(media, cosines, strict=True)]
    else:
        cosines = [np.sqrt(1 - np.square(sine / index.upright)) for index in media]
        tilts = [cosine / index.plane for index, cosine in zip(media, cosines, strict=True)]
    below = (tilts[-2] - tilts[-1]) / (tilts[-2] + tilts[-1])
    for film in range(len(thicknesses_nm), 0, -1):
        phase = 4j * np.pi * media[film].plane * cosines[film] * thicknesses_nm[film - 1] / wavelengths_nm
        below = below * np.exp(phase)
        above = (tilts[film - 1] - tilts[film]) / (tilts[film - 1] + tilts[film])
        below = (above + below) / (1 + above * below)
    return np.asarray(np.square(np.abs(below)))


def cone_reflectance(
    indices: Sequence[Index], thicknesses_nm: Sequence[Real], wavelengths_nm: Real, aperture: float
) -> Real:
    """Return the reflectance of unpolarised light that fills the cone of an objective evenly.

    aperture: the objective's numerical aperture in air. An aplanatic pupil that is evenly lit weighs every angle by
    d(sin^2).
    """
    nodes, weights = np.polynomial.legendre.leggauss(CONE_NODES)
    total: Real = np.zeros(())
    for node, weight in zip(nodes, weights, strict=True):
        sine = aperture * np.sqrt((1 + node) / 2)
        for polarization in "sp":
            total = total + weight / 4 * reflectance(
                indices, thicknesses_nm, wavelengths_nm, sine=sine, polarization=polarization
            )
    return total
