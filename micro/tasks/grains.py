"""Grains that touch: which pixels lie inside one, and how deep.

The network answers with two maps. `inside` falls to 0 on a boundary about four pixels wide; `depth` rises with the
distance from the boundary up to DEPTH_PX. One tells where a boundary is, the other still tells two grains apart where
the etchant left a gap in it: their depths are two hills with a saddle between them. A third map, `twin`, rises on the
sides of twins within a grain, which part it only where a user keeps them.
"""

from collections.abc import Callable, Iterator
from typing import Annotated, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from micro import measure as measures
from micro.errors import BadSetting
from micro.illumination import Scaling
from micro.micrograph import Micrograph
from micro.regions import Columns, Regions
from micro.tasks import TWIN, Finder, Habits, Targets, Task, TaskSettings, Zoom
from micro.tiles import Tiling, blocks, resize

DEPTH_PX = 10.0
USUAL_PX = 57.0
"""Mean diameter of the real grains that the bundles of this project were trained on."""

NEAR = 1.25
LARGEST_ZOOM, SMALLEST_ZOOM = 4.0, 1 / 64
ESTIMATES = 4
WINDOW_PX = 1024
FEWEST_GRAINS = 8
LEFT_OF_GRAINS = 0.5
SPECK_PX = 20
BOUNDARY_WEIGHT = 2.0
MOST_NOISE = 2.5
LEAST_CONTRAST = 0.3
LIGHT_PX = 128
LIGHT_NODES = 8
SPREAD = 1.4
FADE_REACH_PX = 5
FADE_LENGTH_PX = 48
BLOCK_PX = 1024
BAND_ROWS = 256


class GrainSettings(TaskSettings):
    """What a user may change in how grains are told apart."""

    min_area_px: int = Field(
        default=SPECK_PX,
        ge=1,
        le=1_000_000,
        description="grains smaller than this, at the scale at which the image is read, go to their neighbours",
    )
    seed_above: float = Field(default=0.4, ge=0.05, le=0.95, description="height, 0 to 1, above which a grain begins")
    split_rise: float = Field(
        default=0.2, ge=0.02, le=0.9, description="two parts of a grain that rise this far above their neck are two"
    )
    reach_px: int = Field(
        default=24,
        ge=2,
        le=256,
        description="what is farther than this from any grain, at the scale at which it is read, belongs to none",
    )
    grain_diameter_px: Annotated[float, Field(ge=2, le=5000)] | Literal["any", "auto"] = Field(
        default="any",
        description=f"mean diameter of the grains: the image is read at the scale at which they are {USUAL_PX:.0f} px. "
        "auto: estimated from the image; any: read as it is",
    )
    twins: Literal["merge", "keep"] = Field(
        default="merge", description="whether the twins in a grain are part of it, or grains of their own"
    )


def scaling(pixels: NDArray[np.generic]) -> Scaling:
    """Scale by local medians, which even the light out, and by the mean deviation from them.

    Percentiles would be the depth of the boundaries in a fine-grained image and noise in a coarse-grained one; the
    extremes are one scratch, or one boundary etched black, beside which the faint ones vanish.

    pixels: (Y, X, C).
    """
    step_y, step_x = (max(1, length_px // 1024) for length_px in pixels.shape[:2])
    sample = pixels[::step_y, ::step_x].astype(np.float32)
    height, width, channels = sample.shape
    nodes_y, nodes_x = (min(LIGHT_NODES, 1 + round(length_px / LIGHT_PX)) for length_px in pixels.shape[:2])
    center = np.empty((channels, nodes_y, nodes_x), np.float32)
    for row, y in enumerate(np.linspace(0, height - 1, nodes_y) if nodes_y > 1 else [height / 2]):
        for column, x in enumerate(np.linspace(0, width - 1, nodes_x) if nodes_x > 1 else [width / 2]):
            part = sample[_around(y, height, nodes_y), _around(x, width, nodes_x)]
            center[:, row, column] = np.median(part, axis=(0, 1))
    light = Scaling(center, np.ones_like(center)).window((height, width), slice(0, height), slice(0, width))[0]
    deviation = np.abs(sample - np.moveaxis(light, 0, -1)).mean(axis=(0, 1))
    floor = np.abs(sample).max() / 500 or 1.0  # less than half a grey value is nothing to be stretched
    spread = np.maximum(SPREAD * deviation, floor).astype(np.float32)
    return Scaling(center, np.broadcast_to(spread[:, np.newaxis, np.newaxis], center.shape).copy())


def _around(place: float, length_px: int, nodes: int) -> slice:
    """Return the part of an axis that is nearer to this node than to others."""
    reach = max(1.0, length_px / max(nodes - 1, 1) / 2)
    return slice(max(0, int(place - reach)), int(place + reach) + 1)


def zoom(pixels: NDArray[np.generic], settings: GrainSettings, find: Finder) -> Zoom:
    """Return the scale at which grains are USUAL_PX across, or the image's own where they are nearly.

    Twins are part of their grains here, whether or not they will be kept: they would be taken for smaller grains.

    pixels: (Y, X, C). find: answers with the grains of other pixels (y, x, C).
    """
    if settings.grain_diameter_px == "any":
        return Zoom()
    if settings.grain_diameter_px == "auto":
        whole = settings.model_copy(update={"twins": "merge"})
        diameter_px = _estimated_px(pixels, lambda part: find(part, whole))
        if diameter_px is None:
            return Zoom(notes=("too few grains found to estimate their diameter: read at the image's own scale",))
        known = f"grains are about {diameter_px:.0f} px across, estimated from the image"
    else:
        diameter_px = settings.grain_diameter_px
        known = f"grains are {diameter_px:g} px across, as given"
    factor = float(np.clip(USUAL_PX / diameter_px, SMALLEST_ZOOM, LARGEST_ZOOM))
    if 1 / NEAR < factor < NEAR:
        return Zoom(notes=(f"{known}: read at the image's own scale",))
    return Zoom(factor, (f"{known}: read at {factor:.2f} of the image's scale",))


def _estimated_px(pixels: NDArray[np.generic], find: Callable[[NDArray[np.generic]], Regions]) -> float | None:
    """Return the mean diameter of the grains of an image (Y, X, C), or None where too few are found.

    The middle of the image is shown to the network, again and again at the scale at which the grains that it found
    would be USUAL_PX across, until they are. Of half of that size most grains are still found, and what is texture or
    noise is not: where most are gone, what is left is taken for the grains.
    """
    factor, diameter_px, finest = 1.0, None, LARGEST_ZOOM
    for _ in range(ESTIMATES):
        rows, columns = (_middle(length_px, WINDOW_PX / factor) for length_px in pixels.shape[:2])
        window = pixels[rows, columns]
        grains = len(find(_at_scale(window, factor)))
        if grains < FEWEST_GRAINS:
            if min(window.shape[:2]) == min(pixels.shape[:2]):
                return diameter_px
            factor /= 4  # the window showed a few grains, or the inside of one
            continue
        diameter_px = _diameter_px(window, grains)
        if 1 / NEAR < USUAL_PX / (factor * diameter_px) < NEAR:
            left = len(find(_at_scale(window, factor / 2)))
            if not FEWEST_GRAINS <= left < grains * LEFT_OF_GRAINS:
                break
            finest, diameter_px = factor / 2, _diameter_px(window, left)
        factor = float(np.clip(USUAL_PX / diameter_px, SMALLEST_ZOOM, finest))
    return diameter_px


def _at_scale(window: NDArray[np.generic], factor: float) -> NDArray[np.generic]:
    height_px, width_px = (max(1, round(length_px * factor)) for length_px in window.shape[:2])
    return resize(window, (height_px, width_px))


def _diameter_px(window: NDArray[np.generic], grains: int) -> float:
    """Return the mean diameter of so many grains that fill a window (Y, X, C)."""
    return float(np.sqrt(4 / np.pi * window.shape[0] * window.shape[1] / grains))


def _middle(length_px: int, part_px: float) -> slice:
    """Return the middle part of an axis, all of it where it is shorter."""
    part = min(length_px, max(1, round(part_px)))
    return slice((length_px - part) // 2, (length_px - part) // 2 + part)


def encode(labels: NDArray[np.int32]) -> Targets:
    """Turn grains (Y, X) into inside, depth and twin; `decode` turns these back.

    labels: grains may touch, or be parted by lines of 0. Where they are negative nothing is known, and the weight is 0;
        so it is on specks below SPECK_PX pixels, which are slips of annotation tools. Twins have TWIN added.
    """
    grains = np.where(labels >= TWIN, labels - TWIN, labels)
    distance_px, to_any_px = _distance_px(grains), _distance_px(labels)
    # soft, since annotators place a boundary to within about two pixels
    inside = ((distance_px - 0.5) / 2).clip(0, 1)
    twin = np.where(to_any_px < distance_px, 1 - ((to_any_px - 0.5) / 2).clip(0, 1), 0)
    maps = np.stack([inside, (distance_px / DEPTH_PX).clip(0, 1), twin]).astype(np.float32)
    _, part, area_px = np.unique(grains, return_inverse=True, return_counts=True)
    speck = (area_px < SPECK_PX)[part.reshape(grains.shape)] & (grains > 0)
    # boundaries are a tenth of the pixels and all of the answer; faint ones are lost without the emphasis
    weight = 1 + BOUNDARY_WEIGHT * np.maximum(1 - maps[0], maps[2])
    return Targets(maps, np.where(speck | (labels < 0), 0, weight).astype(np.float32))


def spoil(pixels: NDArray[np.float32], labels: NDArray[np.int32], random: np.random.Generator) -> NDArray[np.float32]:
    """Return scaled pixels (y, x, C) with scratches that are no boundaries, and with boundaries etched faintly or open.

    Some are also as a small, noisy or dim image is when it is read at another scale.

    For training: the answer stays as it was, so that a network learns that neither counts.
    """
    spoiled = pixels.copy()
    if random.random() < 0.5:
        _fade_boundaries(spoiled, labels, random)
    if random.random() < 0.5:
        for _ in range(random.integers(1, 4)):
            spoiled -= random.uniform(0.3, 4.0) * _scratch(labels.shape, random)[..., np.newaxis]
    if random.random() < 0.5:
        _open_gaps(spoiled, _distance_px(labels), random)
    if random.random() < 0.25:
        spoiled = np.asarray(resize(_at_scale(spoiled, 0.5), spoiled.shape[:2]), np.float32)
    if random.random() < 0.35:
        spoiled = _noisy(spoiled, random)
    if random.random() < 0.3:
        # beside a dark constituent, which sets the scale, the boundaries of the other one are faint
        spoiled *= np.float32(random.uniform(LEAST_CONTRAST, 1))
    return spoiled


def _noisy(pixels: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.float32]:
    """Return pixels (y, x, C) under up to MOST_NOISE times as much noise as contrast, together as strong as before."""
    strength = np.exp(random.uniform(np.log(0.1), np.log(MOST_NOISE)))
    noise = random.normal(0, strength, pixels.shape).astype(np.float32)
    if random.random() < 0.3:  # enlarged with the image
        noise = np.asarray(2 * cv2.GaussianBlur(noise, (0, 0), 0.9).reshape(pixels.shape), np.float32)
    return np.asarray((pixels + noise) / np.float32(np.hypot(1, strength)), np.float32)


def _scratch(shape_px: tuple[int, ...], random: np.random.Generator) -> NDArray[np.float32]:
    """Return how dark one straight line is: (y, x), 0 to 1."""
    angle, reach_px = random.uniform(0, np.pi), random.uniform(30, 300)
    middle = random.uniform(0, shape_px[::-1])
    along = reach_px * np.array([np.cos(angle), np.sin(angle)])
    (x0, y0), (x1, y1) = np.round([middle - along, middle + along]).astype(int).tolist()
    drawn = np.zeros(shape_px, np.uint8)
    cv2.line(drawn, (x0, y0), (x1, y1), 255, int(random.integers(1, 3)), cv2.LINE_AA)
    return cv2.GaussianBlur(drawn, (0, 0), random.uniform(0.3, 0.9)).astype(np.float32) / np.float32(255)


def _fade_boundaries(pixels: NDArray[np.float32], labels: NDArray[np.int32], random: np.random.Generator) -> None:
    """Take much of their contrast from the boundaries of whole neighbourhoods, in pixels (y, x, C) themselves.

    The noise that goes with the contrast is put back, or its absence would tell where a boundary was.
    """
    shape_px = labels.shape
    distance_px = _distance_px(labels)
    inside = distance_px > FADE_REACH_PX
    nodes = random.uniform(-1, 1, (2 + shape_px[0] // FADE_LENGTH_PX, 2 + shape_px[1] // FADE_LENGTH_PX))
    field = cv2.resize(nodes.astype(np.float32), shape_px[::-1], interpolation=cv2.INTER_CUBIC)
    near = np.clip(FADE_REACH_PX + 1 - distance_px, 0, 1)
    share = random.uniform(0.4, 0.9) * near * np.clip(2 * field, 0, 1)
    if not inside.any() or not share.any():
        return
    weight = cv2.GaussianBlur(inside.astype(np.float32), (0, 0), FADE_REACH_PX) + np.float32(1e-6)
    for channel in range(pixels.shape[2]):
        plane = pixels[..., channel]
        level = cv2.GaussianBlur(np.where(inside, plane, 0), (0, 0), FADE_REACH_PX) / weight
        noise = random.normal(0, 1, shape_px).astype(np.float32)
        noise *= float(np.median(np.abs(plane - level)[inside]))
        plane += share * (level - plane) + np.sqrt(1 - (1 - share) ** 2) * noise


def _open_gaps(pixels: NDArray[np.float32], distance_px: NDArray[np.float32], random: np.random.Generator) -> None:
    """Lay round pieces of the inside of grains over some places of boundaries, in pixels (y, x, C) themselves."""
    source = pixels.copy()
    walls = np.argwhere(distance_px == 0)
    for radius_px in random.integers(5, 14, size=random.integers(1, 5)).tolist():
        last = np.array(distance_px.shape) - radius_px - 1
        deep = np.argwhere(distance_px[radius_px:-radius_px, radius_px:-radius_px] > 0.8 * radius_px + 2) + radius_px
        if not len(walls) or not len(deep):
            return
        (y, x), (from_y, from_x) = (
            np.clip(places[random.integers(len(places))], radius_px, last) for places in (walls, deep)
        )
        reach = np.arange(-radius_px, radius_px + 1)
        # feathered, so that the piece itself has no boundary
        share = np.clip((radius_px - np.hypot(reach[:, np.newaxis], reach)) / 2, 0, 1)[..., np.newaxis]
        piece = source[from_y - radius_px : from_y + radius_px + 1, from_x - radius_px : from_x + radius_px + 1]
        there = pixels[y - radius_px : y + radius_px + 1, x - radius_px : x + radius_px + 1]
        there += share * (piece - there)


def _distance_px(labels: NDArray[np.int32]) -> NDArray[np.float32]:
    """Return the distance (Y, X) of each pixel from the nearest that touches another grain, or is in none."""
    border = labels <= 0
    for first, second in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        differs = labels[first] != labels[second]
        border[first] |= differs
        border[second] |= differs
    distance_px = cv2.distanceTransform((~border).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
    return np.asarray(distance_px, np.float32)


def refuse(settings: GrainSettings, outputs: tuple[str, ...]) -> None:
    """Raise BadSetting where twins are to be kept and the network was never shown any."""
    if settings.twins == "keep" and "twin" not in outputs:
        raise BadSetting("This bundle was never shown twins, so it cannot keep them: leave twins=merge.")


def decode(maps: NDArray[np.uint8], settings: GrainSettings) -> Regions:
    """Turn inside, depth and twin (3, Y, X) uint8 into grains that fill the image; `encode` is the way there.

    The mean of the two maps is a height. Grains begin as the connected parts above `seed_above`; one that comes apart
    higher up, into parts that rise by `split_rise`, is as many grains as parts. From there they grow downhill until
    they meet. Where twins are kept, the height is lowered to 0 on their sides. Raises BadSetting where they should be
    and the network, with two maps only, was never shown any.
    """
    refuse(settings, TASK.outputs[: len(maps)])
    height = cv2.addWeighted(maps[0], 0.5, maps[1], 0.5, 0).astype(np.uint8, copy=False)
    if settings.twins == "keep":
        height = cv2.subtract(height, maps[2]).astype(np.uint8, copy=False)
    labels = _grown(_seeds(height, settings), height, settings.reach_px)
    small = _areas_px(labels) < settings.min_area_px
    small[0] = False
    if small.any():
        for band in _bands(labels):
            band[small[band]] = 0
        labels = _grown(labels, height, settings.reach_px)
    count = _number(labels)
    scores = (measures.means(labels, maps[0]) / 255).astype(np.float32)
    return Regions(labels, ("grain",) * count, scores)


def measure(regions: Regions, image: Micrograph) -> Columns:
    """Measure area, place, size and shape of each grain, and count the grains that it adjoins."""
    return measures.adjoining_columns(regions.labels, image.pixel_size_um)


def _seeds(height: NDArray[np.uint8], settings: GrainSettings) -> NDArray[np.int32]:
    """Return one label a hill: (Y, X) int32, 0 between them.

    Level by level from the top, a connected part with one hill in it becomes that hill; one with several leaves them
    apart; one with none is a new hill if it rises far enough, half as far at the level where grains begin.
    """
    rise = 255 * settings.split_rise
    base = 255 * settings.seed_above
    levels = np.arange(base, max(255 - rise, base) + 1e-6, rise / 2)
    hills = np.zeros(height.shape, np.int32)
    summits = np.zeros(0, np.intp)  # one pixel of each hill; hill i + 1 has summits[i]
    for level in reversed(levels):
        count, parts = cv2.connectedComponents((height > level).view(np.uint8), connectivity=4)
        held = parts.ravel()[summits]
        hills_held = np.bincount(held, minlength=count)
        becomes = np.zeros(count, np.int32)
        becomes[held] = np.arange(1, len(summits) + 1)
        becomes[hills_held > 1] = 0
        high = height >= round(level + (rise / 2 if level == base else rise))
        high[:, 1:] &= ~high[:, :-1]  # the first pixel of each run is enough
        firsts = np.flatnonzero(high)
        found = np.zeros(count, np.intp)
        found[parts.ravel()[firsts]] = firsts + 1
        new = np.flatnonzero((found > 0) & (hills_held == 0))
        becomes[new] = np.arange(len(summits) + 1, len(summits) + 1 + len(new))
        summits = np.concatenate([summits, found[new] - 1])
        for band, part in zip(_bands(hills), _bands(parts), strict=True):
            name = becomes[part]
            np.copyto(band, name, where=name > 0)
        del parts  # before the next level's are made: it is the size of the image
    return hills


def _grown(seeds: NDArray[np.int32], height: NDArray[np.uint8], reach_px: int) -> NDArray[np.int32]:
    """Return seeds (Y, X) grown downhill by up to reach_px pixels, block by block.

    The water level of each step is fixed beforehand, so that a pixel's answer depends on nothing beyond reach_px and
    a block with that halo gives exactly what the whole image would.
    """
    halo_px = -(-reach_px // 32) * 32
    grown = np.empty_like(seeds)
    for tile in blocks(seeds.shape, Tiling(size_px=BLOCK_PX + 2 * halo_px, halo_px=halo_px)):
        grown[tile.write] = _grown_block(seeds[tile.read], height[tile.read], reach_px)[tile.keep]
    return grown


def _grown_block(seeds: NDArray[np.int32], height: NDArray[np.uint8], reach_px: int) -> NDArray[np.int32]:
    padded = np.pad(seeds, 1)
    labels = padded.reshape(-1)
    row_px = padded.shape[1]
    free = np.flatnonzero(seeds == 0)
    depths = height.reshape(-1)[free] if height.flags.c_contiguous else height.ravel()[free]
    order = np.argsort(255 - depths, kind="stable")
    free, depths = free[order], depths[order]
    free = (free // seeds.shape[1] + 1) * row_px + free % seeds.shape[1] + 1
    # downhill in the first half of the steps, and over what is flat and low in the second
    waterline = np.linspace(0, 255, max(reach_px // 2, 1), endpoint=False)[::-1]
    reached = np.searchsorted(255 - depths.astype(np.int16), 255 - waterline, side="right")
    wet, next_wet = free[:0], 0
    for step in range(reach_px):
        stop = reached[step] if step < len(reached) else len(free)
        wet, next_wet = np.concatenate([wet, free[next_wet:stop]]), stop
        beside = np.maximum(labels[wet - 1], labels[wet + 1])
        np.maximum(beside, labels[wet - row_px], out=beside)
        np.maximum(beside, labels[wet + row_px], out=beside)
        taken = beside > 0
        labels[wet[taken]] = beside[taken]
        wet = wet[~taken]
        if not len(wet) and next_wet == len(free):
            break
    return padded[1:-1, 1:-1]


def _number(labels: NDArray[np.int32]) -> int:
    """Number labels (Y, X) in place by the raster order of their first pixels, 1 to the number returned."""
    first = np.full(int(labels.max(initial=0)) + 1, -1, np.int64)
    for index, band in reversed(list(enumerate(_bands(labels)))):
        flat = band.reshape(-1)
        runs = np.flatnonzero(np.diff(flat, prepend=-1))[::-1]
        first[flat[runs]] = runs + index * BAND_ROWS * labels.shape[1]  # of several pixels the last one written stays
    first[0] = -1
    present = np.flatnonzero(first >= 0)
    number = np.zeros(len(first), np.int32)
    number[present[np.argsort(first[present])]] = np.arange(1, len(present) + 1)
    for band in _bands(labels):
        band[...] = number[band]
    return len(present)


def _areas_px(labels: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return the area of each label of (Y, X), background first."""
    count = int(labels.max(initial=0)) + 1
    areas_px = np.zeros(count, np.int64)
    for band in _bands(labels):
        areas_px += np.bincount(band.ravel(), minlength=count)
    return areas_px


def _bands(labels: NDArray[np.int32]) -> Iterator[NDArray[np.int32]]:
    """Yield views of some rows each, so that what is computed from them stays small."""
    for start in range(0, labels.shape[0], BAND_ROWS):
        yield labels[start : start + BAND_ROWS]


TASK = Task(
    "grains",
    channels=("grey", "rgb"),
    outputs=("inside", "depth", "twin"),
    settings=GrainSettings,
    scaling=scaling,
    zoom=zoom,
    encode=encode,
    decode=decode,
    measure=measure,
    spoil=spoil,
    refuse=refuse,
    habits=Habits(decoder_channels=(64, 48, 32, 16), crop_px=256, batch=4, learning_rate=2e-3, ema_decay=0.995),
)
