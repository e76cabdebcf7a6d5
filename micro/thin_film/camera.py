"""What a camera makes of the light of thin films: three channels, stray light, saturation of colours, gamma."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from micro.thin_film.materials import OXIDE, SILICON, find, refractive_index
from micro.thin_film.stack import cone_reflectance

Real = NDArray[np.float64]

WAVELENGTHS_NM = np.arange(400.0, 701.0, 5.0)
WAVELENGTHS_NM.flags.writeable = False
LAMP_K = 3200.0
_PLANCK_NM_K = 1.438777e7  # h c / k


@dataclass(frozen=True)
class Camera:
    """One microscope with one camera setting.

    aperture: numerical aperture of the objective.
    centre_nm, width_nm: of the three channels, red first: a Gaussian of lamp and sensor together; width at half height.
    saturation: how far colours are pushed from grey (above 0) or mixed (below 0), for a white-balanced substrate.
    stray: light that reaches the sensor without the specimen, as a share of the substrate's.
    gamma: pixels are linear light to the power 1 / gamma; 1.0 for a linear camera.
    """

    aperture: float = 0.45
    centre_nm: tuple[float, float, float] = (600.0, 540.0, 460.0)
    width_nm: float = 80.0
    saturation: float = 0.0
    stray: float = 0.0
    gamma: float = 1.0


def channel_weights(centre_nm: Real, width_nm: Real | float, wavelengths_nm: Real = WAVELENGTHS_NM) -> Real:
    """Return (..., W) weights of each wavelength in channels of centre and full width at half height (...)."""
    lamp = wavelengths_nm**-5 / np.expm1(_PLANCK_NM_K / (wavelengths_nm * LAMP_K))
    offset = (wavelengths_nm - np.asarray(centre_nm)[..., np.newaxis]) / np.asarray(width_nm)[..., np.newaxis]
    weights = lamp * np.exp(-4 * np.log(2) * np.square(offset))
    return np.asarray(weights / weights.sum(-1, keepdims=True))


def recorded(
    light: NDArray[Any], matrix: NDArray[Any], stray: NDArray[Any] | float, exponent: NDArray[Any] | float
) -> NDArray[Any]:
    """Return contrast (..., N, 3) as pixels show it, for light (..., N, 3) that is 1 on the bare substrate.

    matrix: (..., 3, 3), from what the sensor saw to what is kept; its rows sum to 1, so that grey stays grey.
    """
    mixed = (light + stray) / (1 + stray) @ np.swapaxes(matrix, -1, -2)
    return np.asarray(mixed.clip(1e-3) ** exponent - 1)


def contrast(material: str, layers: NDArray[np.integer] | Real, oxide_nm: float, camera: Camera) -> Real:
    """Return (N, 3) contrast I / I_substrate - 1 in red, green, blue of crystals of layers (N,) on oxide on silicon."""
    index, oxide, silicon = (refractive_index(name, WAVELENGTHS_NM) for name in (material, OXIDE, SILICON))
    height_nm = np.append(0.0, np.asarray(layers, np.float64) * find(material).layer_nm)[:, np.newaxis]
    light = (
        cone_reflectance((index, oxide, silicon), (height_nm, np.array(oxide_nm)), WAVELENGTHS_NM, camera.aperture)
        @ channel_weights(np.array(camera.centre_nm), camera.width_nm).T
    )
    matrix = (1 + camera.saturation) * np.eye(3) - camera.saturation / 3
    return recorded(light[1:] / light[0], matrix, camera.stray, 1 / camera.gamma)
