"""Polycrystals as a polished section shows them, drawn with their true grains.

`draw` draws etched iron, or a section of any metal: boundary-etched, in grain contrast, tint-etched in colour or grey,
or by electron channeling; with twins, which are no grains of their own, and with the faults of preparation and camera.
"""

import numpy as np
from numpy.typing import NDArray

from micro.micrograph import Micrograph
from micro.scenes.grains import etching, faults
from micro.scenes.grains.geometry import Geometry, geometry
from micro.scenes.grains.polycrystal import SMALLEST_PX, Labels, Shape, joined, tessellate, twinned
from micro.scenes.scene import Scene
from micro.scenes.waves import Plane, waves

__all__ = ["ETCHES", "SMALLEST_PX", "Geometry", "draw", "geometry"]

PIXEL_SIZE_UM = 0.5
IRON_GRAIN_PX = (32.0, 70.0)
GRAIN_PX = (16.0, 160.0)
ETCHES = {
    "boundaries": etching.boundaries,
    "contrast": etching.contrast,
    "tint": etching.tint,
    "channeling": etching.channeling,
}
SHARES = (0.45, 0.2, 0.15, 0.2)
USUAL_NOISE, DIM_NOISE = 0.03, 0.12  # of white, at most; a third of the cameras have little light


def draw(
    seed: int,
    height_px: int = 512,
    width_px: int = 512,
    *,
    grain_px: float | None = None,
    etch: str = "iron",
    lobed: float = 0.0,
) -> Scene:
    """Draw one section; the same seed gives the same scene.

    grain_px: mean grain diameter; None draws one, from IRON_GRAIN_PX for iron and from GRAIN_PX otherwise.
    etch: "iron", whose boundaries are etched to different depths and have gaps; one of ETCHES; or "any" of these.
    lobed: at most such a share of the grains is joined with a neighbour to one that is not convex; not in iron.
    """
    if min(height_px, width_px) < 32:
        raise ValueError(f"a section of {height_px} x {width_px} px has no room for grains; take 32 px or more a side")
    if etch not in ("iron", "any", *ETCHES):
        raise ValueError(f"no etch {etch!r}; there are iron, any, {', '.join(ETCHES)}")
    if grain_px is not None and not 0 < grain_px < np.inf:
        raise ValueError(f"grains of {grain_px:g} px cannot be drawn; take more than 0")
    if not 0 <= lobed <= 1 or (lobed and etch == "iron"):
        raise ValueError(f"a share of {lobed:g} lobed grains cannot be drawn; it is 0 to 1, and 0 in iron")
    rng = np.random.default_rng(seed)
    if etch == "iron":
        return _iron(rng, f"grains-{seed}", (height_px, width_px), grain_px)
    kind = str(rng.choice(list(ETCHES), p=SHARES)) if etch == "any" else etch
    name = f"grains-{seed}" if etch == "any" else f"grains-{kind}-{seed}"
    return _metal(rng, name, (height_px, width_px), grain_px, kind, lobed)


def _iron(rng: np.random.Generator, name: str, shape_px: tuple[int, int], grain_px: float | None) -> Scene:
    drawn_px = rng.uniform(*IRON_GRAIN_PX)
    labels = tessellate(rng, shape_px, Shape(drawn_px if grain_px is None else grain_px))
    light = etching.plain(rng, labels)
    light = faults.pits(rng, faults.scratches(rng, light))
    light = light * (1 - rng.uniform(0, 0.05) * waves(rng, light.shape, max(light.shape)))
    return _scene(name, faults.camera(rng, light), labels)


def _metal(
    rng: np.random.Generator, name: str, shape_px: tuple[int, int], grain_px: float | None, kind: str, lobed: float
) -> Scene:
    drawn_px = float(np.exp(rng.uniform(*np.log(GRAIN_PX))))
    size_px = drawn_px if grain_px is None else grain_px
    stretch = rng.uniform(1.2, 2.5) if rng.random() < 0.2 else 1.0
    grains = tessellate(rng, shape_px, Shape(size_px, (0.1, 0.6), 0.07, stretch, rng.uniform(0, np.pi)))
    if lobed:
        grains = joined(rng, grains, rng.uniform(0, lobed))
    share = rng.uniform(0.1, 0.8) if rng.random() < 0.5 else 0.0
    crystals = twinned(rng, grains, share)
    cut = etching.section(grains, crystals, size_px)
    light = ETCHES[kind](rng, cut)
    light = light + _per_channel(_marks(rng, shape_px), light)
    if rng.random() < 0.25:
        light = light * _per_channel(faults.stains(rng, shape_px), light)
    if rng.random() < 0.7:
        light = light * _per_channel(faults.lamp(rng, shape_px), light)
    brightest = float(np.percentile(light[::4, ::4], 98))
    if brightest > 1:  # overexposed sections are taken again, most of them
        light = light * np.float32(rng.uniform(0.85, 1.05) / brightest)
    if rng.random() < 0.3:
        light = faults.out_of_focus(rng, light, size_px)
    if kind == "channeling":
        seen = faults.scanning_detector(rng, light)
    else:
        seen = faults.camera(rng, light, DIM_NOISE if rng.random() < 0.3 else USUAL_NOISE)
    return _scene(name, seen, grains, crystals % 2 == 1)


def _marks(rng: np.random.Generator, shape_px: tuple[int, int]) -> Plane:
    """Return what scratches and pits change (Y, X): dark for most sections, bright for a few, none for some."""
    marks = np.zeros(shape_px, np.float32)
    if rng.random() < 0.7:
        marks = faults.scratches(rng, marks)
    if rng.random() < 0.7:
        marks = faults.pits(rng, marks)
    return -marks if rng.random() < 0.1 else marks


def _per_channel(plane: Plane, light: Plane) -> Plane:
    return plane[..., np.newaxis] if light.ndim == 3 else plane


def _scene(name: str, pixels: NDArray[np.uint8], grains: Labels, twins: NDArray[np.bool_] | None = None) -> Scene:
    image = Micrograph(pixels, name, PIXEL_SIZE_UM, "drawn at this size")
    return Scene(image, grains, ("grain",) * int(grains.max()), twins=twins)
