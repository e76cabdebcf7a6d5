"""Drawn micrographs of exfoliated crystals on oxidised silicon, with every thin terrace known.

Colours come from a Fresnel stack (air, crystal, oxide, silicon) seen by a camera with its own channels, white balance,
saturation, gamma, vignette, blur, noise and JPEG. Thin terraces are the regions, one for each connected piece of one
thickness; thick crystals, residue, dust, scratches, shadows, lettering and the stop of the field are background.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from micro.micrograph import Micrograph
from micro.scenes.scene import Scene

PIXEL_SIZE_UM = 0.39  # 20x objective on a common camera
SMALLEST_AREA_PX = 24  # smaller thin crumbs are background
TABLE_STEP_NM = 0.05
TABLE_END_NM = 400.0
SILICON_NM = np.array([420.0, 450, 500, 550, 600, 650, 700])
SILICON_N = np.array([5.08, 4.67, 4.29, 4.08, 3.94, 3.85, 3.78])
SILICON_K = np.array([0.29, 0.14, 0.07, 0.04, 0.025, 0.016, 0.012])
OXIDE = 1.46

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Crystal:
    """One material: (3,) complex index for red, green, blue; thickness of a layer; how many layers count as thin.

    faint_layers: fewer are so pale that nobody would outline them, and none are drawn.
    """

    index: NDArray[np.complex128]
    layer_nm: float
    thin_layers: int
    faint_layers: int = 1


def reflectance(
    thickness_nm: NDArray[np.float64], index: complex, *, oxide_nm: float, wavelength_nm: float
) -> NDArray[np.float64]:
    """Return the reflectance at normal incidence of a film of each thickness on oxide on silicon."""
    silicon = complex(np.interp(wavelength_nm, SILICON_NM, SILICON_N - 1j * SILICON_K))
    turns = 2 * np.pi / wavelength_nm
    below = (OXIDE - silicon) / (OXIDE + silicon) * np.exp(-2j * turns * OXIDE * oxide_nm)
    film_oxide = (index - OXIDE) / (index + OXIDE)
    film = (film_oxide + below) / (1 + film_oxide * below) * np.exp(-2j * turns * index * thickness_nm)
    air_film = (1 - index) / (1 + index)
    return np.asarray(np.abs((air_film + film) / (1 + air_film * film)) ** 2)


def draw(seed: int, height_px: int = 512, width_px: int = 512) -> Scene:
    """Draw one field of view; the same seed gives the same scene."""
    rng = np.random.default_rng(seed)
    crystal = (_graphene, _dichalcogenide, _boron_nitride)[rng.choice(3, p=(0.45, 0.42, 0.13))](rng)
    zoom = 1.0 if rng.random() < 0.75 else rng.uniform(1.5, 4)
    field = Field(rng, crystal, height_px, width_px, zoom)
    field.scatter()
    colours = _colours(rng, crystal)
    light = colours[np.minimum(field.thickness_nm / TABLE_STEP_NM, len(colours) - 1).astype(np.int32)]
    light = lay_residue(rng, rim_thick(rng, light, field.thickness_nm))
    pixels = _camera(rng, light, zoom)
    labels = number_terraces(field.layers, crystal.thin_layers)
    image = Micrograph(pixels, f"flakes-{seed}", PIXEL_SIZE_UM, "drawn at this size")
    return Scene(image, labels, ("flake",) * int(labels.max()))


def _graphene(rng: np.random.Generator) -> Crystal:
    index = np.array([2.75, 2.7, 2.65]) * rng.normal(1, 0.03) - 1j * np.array([1.45, 1.35, 1.3]) * rng.normal(1, 0.06)
    return Crystal(index, 0.335, 8)


def _dichalcogenide(rng: np.random.Generator) -> Crystal:
    """Draw MoS2, WS2, MoSe2 or WSe2, or something between: high index, absorption that grows towards blue."""
    real = np.array([4.3, 4.4, 4.4]) * rng.normal(1, 0.04, 3)
    imaginary = np.array([0.8, 1.0, 1.8]) * np.exp(rng.normal(0, 0.25, 3))
    return Crystal(real - 1j * imaginary, 0.65, 6)


def _boron_nitride(rng: np.random.Generator) -> Crystal:
    return Crystal(np.full(3, 2.15 * rng.normal(1, 0.02), np.complex128), 0.333, 20, 2)


def _colours(rng: np.random.Generator, crystal: Crystal) -> Image:
    """Return linear light (N, 3) for each step of thickness, where the bare substrate is (1, 1, 1)."""
    oxide_nm = rng.uniform(68, 110) if rng.random() < 0.6 else rng.uniform(268, 312)
    oxide_nm *= rng.uniform(0.95, 1)  # the cone of the objective shortens the path
    thickness_nm = np.arange(0, TABLE_END_NM, TABLE_STEP_NM)
    channels = []
    for index, centre_nm in zip(crystal.index, rng.normal((605, 540, 460), 10), strict=True):
        half_nm = rng.uniform(20, 40)
        parts = [
            reflectance(thickness_nm, complex(index), oxide_nm=oxide_nm, wavelength_nm=centre_nm + shift * half_nm)
            for shift in (-1, -0.5, 0, 0.5, 1)
        ]
        light = np.average(parts, axis=0, weights=(1, 2, 3, 2, 1))
        channels.append(light / light[0])
    return np.stack(channels, axis=1).astype(np.float32)


class Field:
    """The specimen while it is drawn: layers (Y, X) int32, 0 on bare substrate; zoom: how much larger all is drawn."""

    def __init__(
        self, rng: np.random.Generator, crystal: Crystal, height_px: int, width_px: int, zoom: float = 1.0
    ) -> None:
        self.rng = rng
        self.crystal = crystal
        self.zoom = zoom
        self.layers = np.zeros((height_px, width_px), np.int32)

    @property
    def thickness_nm(self) -> Image:
        """Height of the crystals (Y, X), 0 on bare substrate."""
        return (self.layers * self.crystal.layer_nm).astype(np.float32)

    def scatter(self) -> None:
        """Put down crystals from thick to thin, then crumbs."""
        share = self.layers.size / (512 * self.zoom) ** 2
        crowd = self.rng.choice([0.4, 1.0, 2.2])
        for _ in range(self.rng.poisson(10 * crowd * share)):
            self.crystal_at(self.zoom * self.rng.lognormal(2.6, 0.7), self.thick_layers())
        for _ in range(self.rng.poisson(3 * crowd * share)):
            self.nest(self.zoom * self.rng.lognormal(3.1, 0.4))
        for _ in range(1 + self.rng.poisson(8 * share)):
            self.thin_flake(self.zoom * self.rng.lognormal(3.1, 0.5))
        for _ in range(self.rng.poisson(60 * crowd * share)):
            layers = self.thin_layers() if self.rng.random() < 0.3 else self.thick_layers()
            self.crystal_at(self.zoom * self.rng.uniform(1.2, 5), layers)

    def thin_layers(self) -> int:
        """Draw a number of layers that counts as thin, small ones more often."""
        fewest, most = self.crystal.faint_layers, self.crystal.thin_layers
        return int(min(fewest - 1 + self.rng.geometric(2 / most), most))

    def thick_layers(self) -> int:
        """Draw dark (just too thick), blue or bulk; layers between thin and clearly thick are left out as nobody's."""
        dark_nm = (self.crystal.thin_layers + 3) * self.crystal.layer_nm
        low_nm, high_nm = [(dark_nm, 2.6 * dark_nm), (2.6 * dark_nm, 30), (30, 380)][
            self.rng.choice(3, p=(0.35, 0.3, 0.35))
        ]
        return int(np.exp(self.rng.uniform(np.log(low_nm), np.log(high_nm))) / self.crystal.layer_nm)

    def crystal_at(self, radius_px: float, layers: int, centre: tuple[float, float] | None = None) -> Mask:
        """Put one crystal of one thickness down and return where it lies."""
        if centre is None:
            centre = self._place()
        shape = _shape(self.rng, self.layers.shape, centre, radius_px)
        self.layers[shape] = layers
        return shape

    def _place(self) -> tuple[float, float]:
        return self.rng.uniform(0, self.layers.shape[0]), self.rng.uniform(0, self.layers.shape[1])

    def thin_flake(self, radius_px: float) -> None:
        """Put down a thin flake that may have terraces, cracks, a fold, and a thick neighbour."""
        centre = self._place()
        layers = self.thin_layers()
        if self.rng.random() < 0.25:
            y, x = centre[0] + self.rng.normal(0, radius_px), centre[1] + self.rng.normal(0, radius_px)
            self.crystal_at(radius_px * self.rng.uniform(0.4, 1.3), self.thick_layers(), (y, x))
        before = self.layers.copy()
        shape = self.crystal_at(radius_px, layers, centre)
        if self.rng.random() < 0.3:  # a thick neighbour lies on top
            shape &= before == 0
            self.layers = np.where(before > 0, before, self.layers)
        for _ in range(self.rng.choice(4, p=(0.4, 0.3, 0.2, 0.1))):
            step = int(self.rng.choice([-2, -1, 1, 1, 2, 3]))
            part = shape & _shape(self.rng, self.layers.shape, _near(self.rng, centre, radius_px), radius_px)
            self.layers[part] = np.maximum(self.layers[part] + step, self.crystal.faint_layers)
        if self.rng.random() < 0.1:  # another flake lies over it
            part = _shape(self.rng, self.layers.shape, _near(self.rng, centre, radius_px), radius_px)
            self.layers[part] += self.thin_layers()
        if self.rng.random() < 0.15:  # an edge that lies folded over, or a crease that stands up
            width_px = self.zoom * self.rng.uniform(1, 4)
            line = shape & (np.abs(_across(self.rng, self.layers.shape, centre, radius_px)) < width_px)
            self.layers[line] *= int(self.rng.choice([2, 3, 12]))
        if self.rng.random() < 0.2:
            self.crack(shape, centre, radius_px)

    def crack(self, shape: Mask, centre: tuple[float, float], radius_px: float) -> None:
        """Open narrow gaps down to the substrate."""
        for _ in range(self.rng.integers(1, 7)):
            width_px = self.zoom * self.rng.uniform(0.6, 2.5)
            gap = np.abs(_across(self.rng, self.layers.shape, centre, radius_px)) < width_px
            self.layers[shape & gap] = 0

    def nest(self, radius_px: float) -> None:
        """Put down a thick crystal with terraces of other thickness, thin ones among them."""
        centre = self._place()
        shape = self.crystal_at(radius_px, self.thick_layers(), centre)
        for _ in range(self.rng.integers(1, 4)):
            layers = self.thin_layers() if self.rng.random() < 0.35 else self.thick_layers()
            part = _shape(self.rng, self.layers.shape, _near(self.rng, centre, radius_px), radius_px * 0.8)
            self.layers[part & shape] = layers


def _near(rng: np.random.Generator, centre: tuple[float, float], radius_px: float) -> tuple[float, float]:
    return centre[0] + rng.normal(0, 0.7 * radius_px), centre[1] + rng.normal(0, 0.7 * radius_px)


def _across(
    rng: np.random.Generator, shape_px: tuple[int, ...], centre: tuple[float, float], radius_px: float
) -> NDArray[np.float64]:
    """Return the signed distance (Y, X) to a random line near the centre."""
    angle = rng.uniform(0, np.pi)
    y, x = np.ogrid[: shape_px[0], : shape_px[1]]
    start_y, start_x = _near(rng, centre, radius_px)
    return np.asarray((y - start_y) * np.sin(angle) + (x - start_x) * np.cos(angle))


def _shape(rng: np.random.Generator, shape_px: tuple[int, ...], centre: tuple[float, float], radius_px: float) -> Mask:
    """Draw a crystal: straight edges at multiples of 30 degrees, some of them torn, sometimes a bite taken out."""
    inside = np.zeros(shape_px, bool)
    reach = 2.6 * radius_px + 3
    rows, columns = (
        slice(int(np.clip(middle - reach, 0, length)), int(np.clip(middle + reach + 1, 0, length)))
        for middle, length in zip(centre, shape_px, strict=True)
    )
    y, x = np.mgrid[rows, columns].astype(np.float64)
    if y.size == 0:
        return inside
    y, x = y - centre[0], x - centre[1]
    turn, stretch, free = rng.uniform(0, np.pi), np.sqrt(rng.uniform(1, 4)), rng.random() < 0.4
    cut = np.ones(y.shape, bool)
    for angle in rng.permutation(12)[: rng.integers(4, 9)] * np.pi / 6 + (rng.normal(0, 0.25) if free else 0):
        along, off = (
            x * np.sin(angle + turn) - y * np.cos(angle + turn),
            x * np.cos(angle + turn) + y * np.sin(angle + turn),
        )
        far = radius_px * rng.uniform(0.5, 1.2) * (1 / stretch if abs(np.cos(angle)) > 0.7 else 1)
        cut &= off < far + _tear(rng, along, radius_px)
    cut &= (
        np.hypot((x * np.cos(turn) + y * np.sin(turn)) * stretch, x * np.sin(turn) - y * np.cos(turn)) < 2.2 * radius_px
    )
    if rng.random() < 0.35:
        bite_y, bite_x, angle = (*rng.normal(0, radius_px, 2), rng.uniform(0, np.pi))
        along = (x - bite_x) * np.sin(angle) - (y - bite_y) * np.cos(angle)
        off = (x - bite_x) * np.cos(angle) + (y - bite_y) * np.sin(angle)
        cut &= (off < _tear(rng, along, radius_px)) | (along < rng.normal(0, radius_px))
    inside[rows, columns] = cut
    return inside


def _tear(rng: np.random.Generator, along: NDArray[np.float64], radius_px: float) -> NDArray[np.float64] | float:
    """Return how far an edge wanders along its length: not at all where it is cleaved, by a jagged line where torn."""
    if rng.random() < 0.6:
        return 0.0
    size_px = rng.uniform(0.03, 0.2) * radius_px
    knots = np.arange(-4 * radius_px, 4 * radius_px, rng.uniform(0.08, 0.5) * radius_px + 2)
    return np.interp(along.ravel(), knots, rng.normal(0, size_px, len(knots))).reshape(along.shape)


def number_terraces(layers: NDArray[np.int32], thin_layers: int) -> NDArray[np.int32]:
    """Number the connected pieces (Y, X) of equal thickness among the thin ones."""
    labels = np.zeros(layers.shape, np.int32)
    last = 0
    for count in range(1, thin_layers + 1):
        _, pieces, stats, _ = cv2.connectedComponentsWithStats((layers == count).astype(np.uint8), connectivity=4)
        keep = stats[:, cv2.CC_STAT_AREA] >= SMALLEST_AREA_PX
        keep[0] = False
        number = np.where(keep, last + np.cumsum(keep), 0).astype(np.int32)
        labels += number[pieces]
        last += int(keep.sum())
    return labels


def rim_thick(rng: np.random.Generator, light: Image, thickness_nm: Image) -> Image:
    """Darken the outlines of thick crystals, whose edges are out of focus, and throw the shadow of a lifted corner."""
    thick = (thickness_nm > 15).astype(np.uint8)
    width = 2 * int(rng.integers(0, 3)) + 1
    rim = cv2.GaussianBlur(
        (cv2.dilate(thick, np.ones((width, width), np.uint8)) - thick).astype(np.float32), (0, 0), 0.7
    )
    light = light * (1 - rim[..., np.newaxis] * rng.uniform((0.4, 0.4, 0.1), (0.7, 0.7, 0.4)).astype(np.float32))
    if rng.random() < 0.25 and thick.any():
        y, x = np.argwhere(thick)[rng.integers(thick.sum())]
        shadow = np.zeros(thick.shape, np.float32)
        axes = tuple(int(length) for length in rng.uniform(4, 25, 2))
        cv2.ellipse(shadow, (int(x), int(y)), axes, rng.uniform(0, 180), 0, 360, 1.0, -1)
        shadow = cv2.GaussianBlur(shadow, (0, 0), rng.uniform(1, 6)) * (1 - thick)
        light = light * (1 - rng.uniform(0.6, 1) * shadow[..., np.newaxis])
    return light


def lay_residue(rng: np.random.Generator, light: Image) -> Image:
    """Lay what is no crystal over the specimen: tape residue, dried rings, scratches, dust, dots and lettering."""
    height_px, width_px = light.shape[:2]
    light = light.copy()
    share = height_px * width_px / 512**2

    def place() -> tuple[int, int]:
        return int(rng.integers(width_px)), int(rng.integers(height_px))

    def tint(mask: NDArray[Any], contrast: NDArray[np.float64]) -> None:
        light[...] *= 1 + mask[..., np.newaxis] * contrast.astype(np.float32)

    for _ in range(rng.poisson(3 * share)):  # outlines that a drop or the tape left
        mask = np.zeros(light.shape[:2], np.float32)
        angles = np.sort(rng.uniform(0, rng.uniform(1, 2 * np.pi), rng.integers(4, 30)))
        far = rng.lognormal(3.6, 0.6) * (1 + rng.normal(0, rng.uniform(0.02, 0.2), len(angles)))
        points = np.stack([far * np.cos(angles), far * np.sin(angles)], axis=1) + place()
        cv2.polylines(mask, [points.astype(np.int32)], bool(rng.random() < 0.3), 1.0, 1, cv2.LINE_AA)
        patchy = cv2.resize(rng.random((9, 9), np.float32), (width_px, height_px))
        tint(np.multiply(mask, patchy), rng.normal((-0.1, -0.05, 0.1), 0.12))
    for _ in range(rng.poisson(1.5 * share)):  # smudges without an edge
        mask = np.zeros(light.shape[:2], np.float32)
        cv2.ellipse(mask, place(), tuple(int(a) for a in rng.uniform(5, 60, 2)), rng.uniform(0, 180), 0, 360, 1.0, -1)
        tint(cv2.GaussianBlur(mask, (0, 0), rng.uniform(4, 15)), rng.normal(0, 0.06, 3))
    if rng.random() < 0.3:  # scratches
        mask = np.zeros(light.shape[:2], np.float32)
        for _ in range(rng.integers(1, 4)):
            cv2.line(mask, place(), place(), 1.0, int(rng.integers(1, 3)), cv2.LINE_AA)
        tint(mask, np.full(3, rng.uniform(-0.5, 0.3)))
    dots = np.zeros(light.shape, np.float32)
    for _ in range(rng.poisson(25 * share)):
        contrast = rng.uniform(-0.9, -0.2) * rng.uniform((0.9, 0.9, 0.4), 1)
        cv2.circle(dots, place(), int(rng.integers(1, 4)), contrast.tolist(), -1)
    light *= 1 + dots
    for _ in range(rng.poisson(0.8 * share)):  # dust, out of focus
        mask = np.zeros(light.shape[:2], np.float32)
        angles = np.linspace(0, 2 * np.pi, int(rng.integers(5, 16)), endpoint=False)
        far = rng.uniform(3, 25) * rng.uniform(0.5, 1.3, len(angles))
        points = np.stack([rng.uniform(1, 3) * far * np.cos(angles), far * np.sin(angles)], axis=1) + place()
        cv2.fillPoly(mask, [points.astype(np.int32)], 1.0)
        tint(cv2.GaussianBlur(mask, (0, 0), rng.uniform(2, 8)), np.full(3, rng.uniform(-0.9, -0.05)))
    if rng.random() < 0.1:  # marks and scale bars
        letters = np.zeros(light.shape[:2], np.uint8)
        text = "".join(rng.choice(list("ABCDEFGHKXY+0123456789"), 3))
        cv2.putText(letters, text, place(), cv2.FONT_HERSHEY_SIMPLEX, rng.uniform(0.6, 3), 1, int(rng.integers(1, 9)))
        tint(letters.astype(np.float32), np.full(3, rng.uniform(-0.8, 3)))
    return light


def _camera(rng: np.random.Generator, light: Image, zoom: float) -> NDArray[np.uint8]:
    """Turn linear light (Y, X, 3), 1 on the substrate, into the 8-bit picture of a camera."""
    height_px, width_px = light.shape[:2]
    for channel, colour_error in enumerate((rng.normal(0, 0.001), 0, rng.normal(0, 0.001))):
        larger = np.eye(2) * (1 + colour_error)  # about the middle of the field
        shift = -colour_error / 2 * np.array([[width_px], [height_px]])
        plane = cv2.warpAffine(
            light[..., channel], np.hstack([larger, shift]), (width_px, height_px), borderMode=cv2.BORDER_REPLICATE
        )
        light[..., channel] = cv2.GaussianBlur(plane, (0, 0), rng.uniform(0.7, 1.3) * np.sqrt(zoom))
    halo_px = rng.uniform(3, 15)
    light += rng.uniform(0, 0.03) * cv2.GaussianBlur(np.minimum(light, 4) - 1, (0, 0), halo_px)

    y, x = np.ogrid[-1 : 1 : height_px * 1j, -1 : 1 : width_px * 1j]
    middle = rng.normal(0, 0.3, 2)
    shade = 1 - rng.uniform(0, 0.15) * ((y - middle[0]) ** 2 + (x - middle[1]) ** 2) / 2 + rng.normal(0, 0.04) * x
    if rng.random() < 0.3:  # the stop of the field darkens a corner or a side
        middle = rng.normal(0, 0.7, 2)
        far = np.hypot(y - middle[0], x - middle[1])
        edge = far.max() * rng.uniform(0.75, 1)
        shade *= 1 - rng.uniform(0.2, 1) / (1 + np.exp((edge - far) / rng.uniform(0.02, 0.12)))
    light = light * shade[..., np.newaxis].astype(np.float32)

    hue = rng.normal((1, 0.95, 1.1), 0.25).clip(0.35, 1.7)
    substrate = (rng.uniform(0.15, 0.75) * hue / hue.mean()).clip(0.08, 0.85)
    gamma = 1.0 if rng.random() < 0.5 else rng.uniform(0.45, 1.1)
    encoded = np.maximum(light, 0) ** gamma * substrate.astype(np.float32)
    grey = encoded.mean(axis=2, keepdims=True)
    encoded = (grey + rng.uniform(0.85, 1.25) * (encoded - grey)).clip(0, 1) * rng.uniform(235, 255)

    grain = rng.normal(0, 1, encoded.shape).astype(np.float32)
    grain = cv2.GaussianBlur(grain, (0, 0), rng.uniform(0.4, 0.8)) * 1.6
    noisy = encoded + grain * rng.uniform(0.5, 3.5) * np.sqrt(0.3 + encoded / 180).astype(np.float32)
    raw = np.rint(noisy.clip(0, 255)).astype(np.uint8)
    _, stream = cv2.imencode(".jpg", raw[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(75, 98))])
    decoded = np.asarray(cv2.imdecode(stream, cv2.IMREAD_COLOR), np.uint8)
    return np.ascontiguousarray(decoded[..., ::-1])
