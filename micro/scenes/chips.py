"""Drawn chips of a named material on a named oxide, under cameras of every make: the layers of each terrace are known.

Colours are integrated over the spectrum of a lamp and the curves of a sensor, through the cone of an objective, and go
through a colour matrix and a tone curve; see `micro.thin_film`. Nothing here is fitted to how layers are counted: the
curves are lopsided, the indices are off by some percent, the matrix is any that keeps grey grey.
"""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from micro.micrograph import Micrograph
from micro.scenes.flakes import (
    PIXEL_SIZE_UM,
    TABLE_END_NM,
    TABLE_STEP_NM,
    Crystal,
    Field,
    lay_residue,
    number_terraces,
    rim_thick,
)
from micro.scenes.scene import Scene
from micro.thin_film import MATERIALS, Index, find, refractive_index
from micro.thin_film.camera import WAVELENGTHS_NM
from micro.thin_film.stack import cone_reflectance

OXIDES_NM = (90.0, 285.0, 300.0)
APERTURES = (0.4, 0.45, 0.5, 0.8, 0.9)
THIN_LAYERS = {"graphene": 8, "hbn": 12}  # of the others, 5

Image = NDArray[np.float32]
Real = NDArray[np.float64]


def draw(
    seed: int,
    height_px: int = 512,
    width_px: int = 512,
    *,
    material: str | None = None,
    oxide_nm: float | None = None,
    microscope: int | None = None,
) -> Scene:
    """Draw one field of view; the same seed gives the same scene. Classes are "1L", "2L" and so on.

    material, oxide_nm: drawn too, where not given. microscope: seed of the lamp, the camera and its exposure, for many
        scenes under one; every scene has another where none is given.
    """
    rng = np.random.default_rng([seed, 7])
    material = material or str(rng.choice(MATERIALS))
    oxide_nm = oxide_nm or float(rng.choice(OXIDES_NM))
    thin_layers = THIN_LAYERS.get(material, 5)
    field = Field(rng, Crystal(np.ones(3, np.complex128), find(material).layer_nm, thin_layers), height_px, width_px)
    field.scatter()
    optics = rng if microscope is None else np.random.default_rng([microscope, 8])
    colours = _colours(optics, material, oxide_nm)
    light = colours[np.minimum(field.thickness_nm / TABLE_STEP_NM, len(colours) - 1).astype(np.int32)]
    light = lay_residue(rng, rim_thick(rng, light, field.thickness_nm))
    pixels = _photographed(optics, light, rng)
    labels = number_terraces(field.layers, thin_layers)
    layers = np.zeros(int(labels.max()) + 1, np.int64)
    layers[labels] = field.layers
    image = Micrograph(pixels, f"chip-{seed}-{material}-{oxide_nm:.0f}", PIXEL_SIZE_UM, "drawn at this size")
    return Scene(image, labels, tuple(f"{count}L" for count in layers[1:]))


def _colours(rng: np.random.Generator, material: str, oxide_nm: float) -> Image:
    """Return light (N, 3) for each step of thickness, where the bare substrate is (1, 1, 1)."""
    index = refractive_index(material, WAVELENGTHS_NM)
    n, k = rng.normal(1, 0.015), rng.normal(1, 0.03)
    index = Index(*(part.real * n + 1j * part.imag * k for part in index))
    below = refractive_index("oxide", WAVELENGTHS_NM), refractive_index("silicon", WAVELENGTHS_NM)
    # coarse where curves are smooth, so that a scene takes no longer to colour than to draw
    heights_nm = np.concatenate([np.arange(0, 12, 0.1), np.arange(12, TABLE_END_NM, 2)])
    light = cone_reflectance(
        (index, *below),
        (heights_nm[:, np.newaxis], np.array(oxide_nm * rng.normal(1, 0.02))),
        WAVELENGTHS_NM,
        float(rng.choice(APERTURES)),
    )
    channels = light @ (_lamp(rng) * _sensor(rng)).T
    channels /= channels[0]
    steps_nm = np.arange(0, TABLE_END_NM, TABLE_STEP_NM)
    return np.stack([np.interp(steps_nm, heights_nm, channel) for channel in channels.T], axis=1).astype(np.float32)


def _lamp(rng: np.random.Generator) -> Real:
    """Return a spectrum (W,): a halogen lamp, or a white light-emitting diode with its blue line."""
    if rng.random() < 0.5:
        return np.asarray(WAVELENGTHS_NM**-5 / np.expm1(1.4388e7 / WAVELENGTHS_NM / rng.uniform(2800, 3500)))
    blue = np.exp(-np.square((WAVELENGTHS_NM - rng.uniform(445, 460)) / 14))
    phosphor = np.exp(-np.square((WAVELENGTHS_NM - rng.uniform(555, 590)) / 75))
    return np.asarray(blue + rng.uniform(0.5, 1.1) * phosphor)


def _sensor(rng: np.random.Generator) -> Real:
    """Return the curves (3, W) of a colour sensor behind its infrared filter: lopsided, and each leaks into all."""
    peaks = rng.uniform((590, 525, 448), (618, 548, 470))[:, np.newaxis]
    offset = WAVELENGTHS_NM - peaks
    width = np.where(offset < 0, rng.uniform(20, 45, (3, 1)), rng.uniform(25, 55, (3, 1)))
    curves = np.exp(-0.5 * np.square(offset / width)) + rng.uniform(0.01, 0.06, (3, 1))
    return np.asarray(curves / (1 + np.exp((WAVELENGTHS_NM - rng.uniform(645, 690)) / 8)))


def _photographed(rng: np.random.Generator, light: Image, chance: np.random.Generator) -> NDArray[np.uint8]:
    """Turn light (Y, X, 3), 1 on the substrate, into the 8-bit picture of some camera; chance makes its noise."""
    height_px, width_px = light.shape[:2]
    matrix = rng.normal(0, 0.06, (3, 3)) + np.eye(3) * rng.uniform(0, 0.3)
    matrix += np.eye(3) - np.diag(matrix.sum(1))  # grey stays grey
    light = np.maximum(light @ matrix.T.astype(np.float32), 0)
    blurs = rng.uniform(0.6, 1.4, 3)
    light = np.stack([cv2.GaussianBlur(light[..., channel], (0, 0), blurs[channel]) for channel in range(3)], axis=2)
    light += np.float32(rng.uniform(0, 0.03))
    y, x = np.ogrid[-1 : 1 : height_px * 1j, -1 : 1 : width_px * 1j]
    middle = rng.normal(0, 0.25, 2)
    shade = 1 - rng.uniform(0, 0.15) * ((y - middle[0]) ** 2 + (x - middle[1]) ** 2) / 2 + rng.normal(0, 0.03) * x
    light = light * shade[..., np.newaxis].astype(np.float32)
    tone = _tone(rng)
    level = rng.uniform(0.12, 0.6) * rng.normal(1, 0.08, 3).clip(0.8, 1.2)  # of the substrate in the picture
    exposure = np.array([_inverse(tone, part) for part in level])
    encoded = tone((light * exposure).clip(0, 1)) * 255
    grain = chance.normal(0, rng.uniform(0.3, 2.0), encoded.shape) * np.sqrt(0.3 + encoded / 180)
    raw = np.rint((encoded + grain).clip(0, 255)).astype(np.uint8)
    stream = cv2.imencode(".jpg", raw[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(85, 99))])[1]
    return np.ascontiguousarray(np.asarray(cv2.imdecode(stream, cv2.IMREAD_COLOR), np.uint8)[..., ::-1])


def _tone(rng: np.random.Generator) -> Callable[[NDArray[np.floating]], NDArray[np.floating]]:
    """Return a curve from light 0..1 to pixels 0..1: linear, the one of screens, a power, or with a shoulder."""
    kind = rng.choice(["linear", "screen", "power", "shoulder"], p=[0.45, 0.25, 0.15, 0.15])
    if kind == "linear":
        return lambda light: light
    if kind == "screen":
        return lambda light: np.where(
            light <= 0.0031308, 12.92 * light, 1.055 * np.maximum(light, 1e-9) ** (1 / 2.4) - 0.055
        )
    if kind == "power":
        power = rng.uniform(0.55, 0.95)
        return lambda light: light**power
    strength = rng.uniform(0.5, 2)
    return lambda light: light * (1 + strength) / (1 + strength * light)


def _inverse(tone: Callable[[NDArray[np.floating]], NDArray[np.floating]], level: float) -> float:
    light = np.linspace(0, 1, 4001)
    return float(np.interp(level, tone(light), light))
