"""How a section shows its grains: by grooves at the boundaries, by brightness, by colour, or to an electron beam."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from micro.scenes.grains.polycrystal import Labels, Walls, junctions, walls
from micro.scenes.waves import Plane, waves

# Sulfite and sulfide films on steels and copper alloys: (N, 3) red, green, blue from thin to thick.
FILMS = (
    np.array([[0.88, 0.83, 0.72], [0.80, 0.62, 0.38], [0.55, 0.33, 0.30], [0.30, 0.34, 0.60], [0.45, 0.66, 0.80]]),
    np.array([[0.93, 0.90, 0.84], [0.83, 0.72, 0.50], [0.62, 0.42, 0.26], [0.38, 0.24, 0.20]]),
    np.array([[0.70, 0.80, 0.88], [0.36, 0.52, 0.78], [0.40, 0.30, 0.58], [0.70, 0.45, 0.45], [0.88, 0.78, 0.48]]),
)


@dataclass(frozen=True)
class Grooves:
    """Ranges from which the grooves of one section are drawn.

    depth: of the deepest boundary, as a part of full brightness.
    width_px: standard deviation of a groove's profile.
    openness: how rare gaps are; at 1.2 a tenth of the boundary is missing, at 2.6 hardly any.
    gap_px: length over which a groove comes and goes.
    """

    depth: tuple[float, float] = (0.15, 0.5)
    width_px: tuple[float, float] = (0.7, 1.5)
    openness: tuple[float, float] = (1.2, 2.6)
    gap_px: float = 14


def grooves(rng: np.random.Generator, met: Walls, of: Grooves) -> Plane:
    """Return how dark (Y, X) the grooves of the boundaries are: a depth for each pair of crystals, and gaps."""
    depth = rng.uniform(*of.depth) * rng.beta(2.5, 1.5, len(met.pairs)).clip(0.12, 1)
    gaps = 1 / (1 + np.exp(-8 * (waves(rng, met.pair.shape, of.gap_px) + rng.uniform(*of.openness))))
    profile = np.exp(-0.5 * (np.maximum(met.distance_px - 0.3, 0) / rng.uniform(*of.width_px)) ** 2)
    return np.asarray(depth.astype(np.float32)[met.pair] * gaps * profile, np.float32)


@dataclass(frozen=True, eq=False)
class Section:
    """A polished section before it is etched.

    grains: (Y, X) int32, the answer.
    crystals: (Y, X) int32, grain i as 2 i and its twins as 2 i + 1; what light and etchant tell apart.
    met: the walls between crystals.
    """

    grains: Labels
    crystals: Labels
    met: Walls
    grain_px: float


def section(grains: Labels, crystals: Labels, grain_px: float) -> Section:
    """Return a section of these grains and twins, its walls found."""
    return Section(grains, crystals, walls(crystals), grain_px)


def plain(rng: np.random.Generator, grains: Labels) -> Plane:
    """Return iron etched at its boundaries: the brightness (Y, X) of the grains less their grooves."""
    contrast = rng.choice([0.0, 0.02, 0.08], p=[0.5, 0.3, 0.2])
    grey = rng.uniform(0.7, 0.95) + contrast * rng.normal(0, 1, int(grains.max()) + 1)
    return np.asarray(grey[grains], np.float32) - grooves(rng, walls(grains), Grooves())


def boundaries(rng: np.random.Generator, cut: Section) -> Plane:
    """Return a section (Y, X) whose boundaries the etchant took: dark lines, or bright ones in dark field."""
    contrast = rng.choice([0.0, 0.015, 0.05], p=[0.4, 0.4, 0.2])
    grey = rng.uniform(0.7, 1.1) + contrast * _tones(rng, cut)[cut.crystals]
    if rng.random() < 0.15:  # grains of another constituent, as pearlite in ferrite
        other = _apart(rng, cut, rng.uniform(0.03, 0.25))
        shade = rng.uniform(0.25, 0.6) + 0.08 * waves(rng, cut.grains.shape, 5)
        grey = np.where(other[cut.grains], grey * shade, grey)
    dark = _lines(rng, cut, depth=(0.15, 0.75)) + _islands(rng, cut)
    if rng.random() < 0.12:
        return np.asarray(0.12 + 0.15 * grey + 1.3 * dark, np.float32)
    return np.asarray(grey - np.minimum(dark, 0.9 * grey), np.float32)


def contrast(rng: np.random.Generator, cut: Section) -> Plane:
    """Return a section (Y, X) whose grains differ in brightness, each etched as its orientation lets it be."""
    grey = rng.uniform(0.45, 0.85) + rng.uniform(0.06, 0.17) * _tones(rng, cut)[cut.crystals]
    grey += _texture(rng, cut, amplitude=rng.choice([0.0, 0.015, 0.05]))
    dark = _lines(rng, cut, depth=(0.02, 0.4))
    return np.asarray(grey.clip(0.08, 1) - dark, np.float32)


def tint(rng: np.random.Generator, cut: Section) -> Plane:
    """Return a section (Y, X, 3) under a film whose colour follows the orientation, or (Y, X) as a grey camera sees it.

    The film is thicker on some grains than on others; colours run through one of FILMS.
    """
    film = FILMS[rng.integers(len(FILMS))]
    middle, spread = rng.uniform(0.3, 0.7), rng.uniform(0.15, 0.35)
    thickness = middle + spread * _tones(rng, cut)[cut.crystals]
    thickness = thickness + rng.uniform(0, 0.08) * waves(rng, cut.grains.shape, max(cut.grains.shape) / 2)
    place = (thickness.clip(0, 1) * (len(film) - 1)).ravel()
    colours = np.stack([np.interp(place, np.arange(len(film)), channel) for channel in film.T], axis=-1)
    light = colours.reshape(*cut.grains.shape, 3).astype(np.float32)
    light -= _lines(rng, cut, depth=(0.02, 0.35))[..., np.newaxis]
    light *= rng.uniform(0.75, 1.1)
    return light if rng.random() < 0.5 else np.asarray(cv2.cvtColor(light, cv2.COLOR_RGB2GRAY), np.float32)


def channeling(rng: np.random.Generator, cut: Section) -> Plane:
    """Return a section (Y, X) as backscattered electrons show it: brightness by orientation, which bends in a grain."""
    grey = rng.uniform(0.35, 0.65) + rng.uniform(0.05, 0.15) * _tones(rng, cut)[cut.crystals]
    rows, columns = np.indices(cut.grains.shape, np.float32)
    count = int(cut.crystals.max()) + 1
    bend = rng.uniform(0, 0.06) / cut.grain_px
    slope = (bend * rng.normal(0, 1, (2, count))).astype(np.float32)
    held = np.maximum(np.bincount(cut.crystals.ravel(), minlength=count), 1)
    middle = [
        (np.bincount(cut.crystals.ravel(), axis.ravel(), count) / held).astype(np.float32) for axis in (rows, columns)
    ]
    grey += slope[0][cut.crystals] * (rows - middle[0][cut.crystals])
    grey += slope[1][cut.crystals] * (columns - middle[1][cut.crystals])
    edge = rng.choice([-1.0, 0.0, 1.0], p=[0.25, 0.25, 0.5]) * _lines(rng, cut, depth=(0.05, 0.25))
    return np.asarray(grey.clip(0.05, 1) - edge, np.float32)


def _tones(rng: np.random.Generator, cut: Section) -> NDArray[np.float64]:
    """Return a brightness for each crystal, of mean 0 and variance 1, within three deviations."""
    return rng.normal(0, 1, int(cut.crystals.max()) + 1).clip(-3, 3)


def _lines(rng: np.random.Generator, cut: Section, depth: tuple[float, float]) -> Plane:
    """Return how dark (Y, X) the walls are: fine grooves, some wider for a part of the way, weaker where etching was.

    Coarse grains are seen at a larger scale, so that their grooves are wider too.
    """
    scale = float(np.clip((cut.grain_px / 50) ** 0.5, 0.6, 1.8))
    gap_px = max(10.0, cut.grain_px * rng.uniform(0.15, 0.5))
    fine = Grooves(depth, (0.5 * scale, 1.3 * scale), (1.2, 4.0), gap_px)
    dark = grooves(rng, cut.met, fine)
    if rng.random() < 0.5:
        wide = Grooves(depth, (0.8 * scale, 2.2 * scale), (-1.5, 1.5), cut.grain_px * rng.uniform(0.4, 1.5))
        dark = np.maximum(dark, grooves(rng, cut.met, wide))
    in_a_grain = cut.met.pairs[:, 0] // 2 == cut.met.pairs[:, 1] // 2
    dark *= np.where(in_a_grain, rng.uniform(0.2, 1), 1).astype(np.float32)[cut.met.pair]
    uneven = waves(rng, cut.grains.shape, max(cut.grains.shape) / 1.5)
    return np.asarray(dark * (1 - rng.uniform(0, 0.35) * (1 + uneven).clip(0, 2)).clip(0.15, 1), np.float32)


def _apart(rng: np.random.Generator, cut: Section, share: float) -> NDArray[np.bool_]:
    """Return which grains are drawn, background first: about a share of them, no two of them neighbours."""
    drawn = rng.random(int(cut.grains.max()) + 1) < share
    beside = cut.met.pairs // 2
    both = drawn[beside].all(axis=1) & (beside[:, 0] != beside[:, 1])
    drawn[beside[both].max(axis=1)] = False
    return drawn


def _islands(rng: np.random.Generator, cut: Section) -> Plane:
    """Return how dark (Y, X) carbides and the like at junctions of grains are; most sections have none."""
    dark = np.zeros(cut.grains.shape, np.uint8)
    if rng.random() < 0.3:
        share = rng.uniform(0.05, 0.5)
        for y, x in junctions(cut.grains).tolist():
            if rng.random() < share:
                axes = np.maximum(1, rng.uniform(0.01, 0.07, 2) * cut.grain_px).round().astype(int)
                turn, shade = rng.uniform(0, 180), int(rng.uniform(60, 190))
                cv2.ellipse(dark, (int(x), int(y)), (int(axes[0]), int(axes[1])), turn, 0, 360, shade, -1, cv2.LINE_AA)
    return cv2.GaussianBlur(dark, (0, 0), 0.7).astype(np.float32) / np.float32(255)


def _texture(rng: np.random.Generator, cut: Section, amplitude: float) -> Plane:
    """Return fine parallel steps (Y, X) of one direction and spacing in each crystal, as facets show."""
    if amplitude == 0:
        return np.zeros(cut.grains.shape, np.float32)
    count = int(cut.crystals.max()) + 1
    rows, columns = np.indices(cut.grains.shape, np.float32)
    turn, pitch_px = rng.uniform(0, np.pi, count), rng.uniform(3, 9, count)
    down, right = (2 * np.pi / pitch_px * part for part in (np.cos(turn), np.sin(turn)))
    phase = rows * down.astype(np.float32)[cut.crystals] + columns * right.astype(np.float32)[cut.crystals]
    strength = (amplitude * rng.beta(1, 2, count)).astype(np.float32)[cut.crystals]
    return np.asarray(strength * np.sin(phase) * (1 + waves(rng, cut.grains.shape, 12)), np.float32)
