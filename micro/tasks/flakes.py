"""Thin flakes on oxidised silicon: one region for each connected terrace of one thickness.

The network reads contrast against the local substrate. `inside` says where a thin terrace is, `depth` how far from its
outline; where two terraces touch, the depth falls to zero between them, so cores are apart and grow back to the seam.
"""

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.ndimage import find_objects

from micro import terraces
from micro.illumination import Scaling, substrate
from micro.measure import columns
from micro.micrograph import Micrograph
from micro.regions import Columns, Regions
from micro.tasks import Habits, Targets, Task, TaskSettings
from micro.tiles import Tiling, blocks

DEPTH_PX = 6  # depth is 1 from here inwards
CLASS_NAME = "flake"
MOST_HUE = 0.5
BLOCK_PX = 1024


class FlakeSettings(TaskSettings):
    """How maps of flakes become regions."""

    inside_above: float = Field(
        default=0.4, gt=0, lt=1, description="probability from which a pixel belongs to a flake"
    )
    core_above: float = Field(default=0.4, gt=0, lt=1, description="depth from which touching terraces are told apart")
    min_score: float = Field(default=0.5, ge=0, le=1, description="regions less sure than this are dropped")
    terrace_step: float = Field(
        default=0.05, gt=0, lt=1, description="least difference of contrast between two terraces of one crystal"
    )
    max_unevenness: float = Field(
        default=0.035, gt=0, description="regions whose contrast strays more are no terraces; half a layer of graphene"
    )
    min_area_px: int = Field(default=300, ge=1, description="smaller regions are dropped; 300 px are 46 um2 at 0.39 um")


def scaling(pixels: NDArray[np.generic]) -> Scaling:
    """Scale to contrast against the local substrate, plus the substrate's own hue: (I - S) / S + hue.

    Contrast of one and the same layer changes with the oxide, and the oxide with the substrate's colour: dark blue is
    thick graphene on a violet substrate and six layers on a grey one. hue is S / (mean of its channels) - 1, one number
    a channel and image, and 0 for a grey substrate.

    pixels: (Y, X, 3).
    """
    light = substrate(pixels)
    level = light.center.mean((1, 2), keepdims=True)
    hue = (level / level.mean() - 1).clip(-MOST_HUE, MOST_HUE)
    return Scaling((light.center - hue * light.spread).astype(np.float32), light.spread)


def encode(labels: NDArray[np.int32]) -> Targets:
    """Return where terraces are and how deep inside them each pixel lies; negative labels carry no weight."""
    inside = labels > 0
    seam = np.zeros(labels.shape, np.uint8)
    for axis in (0, 1):
        here, there = np.swapaxes(labels, 0, axis)[1:], np.swapaxes(labels, 0, axis)[:-1]
        step = np.swapaxes(seam, 0, axis)
        step[1:] |= here != there
        step[:-1] |= here != there
    distance = cv2.distanceTransform(np.where(inside & (seam == 0), np.uint8(1), np.uint8(0)), cv2.DIST_L2, 5)
    depth = np.where(inside, (distance / DEPTH_PX).clip(0, 1), 0)
    return Targets(np.stack([inside, depth]).astype(np.float32), (labels >= 0).astype(np.float32))


def decode(maps: NDArray[np.uint8], settings: FlakeSettings) -> Regions:
    """Return one region for each core of depth, grown to the outline; small and doubtful ones are left out.

    Growth is by single steps of one pixel inside blocks with a halo as wide as the growth, so blocks leave no trace.
    """
    inside, depth = maps
    inside_level, core_level = round(255 * settings.inside_above), round(255 * settings.core_above)
    core = ((depth > core_level) & (inside > inside_level)).view(np.uint8)
    _, labels = cv2.connectedComponents(core, connectivity=4, ltype=cv2.CV_32S)
    _grow(labels, inside, inside_level)
    np.abs(labels, out=labels)
    area_px, inside_sum = _sums(labels, inside)
    score = inside_sum / (255 * np.maximum(area_px, 1))
    keep = (area_px >= settings.min_area_px) & (score >= settings.min_score)
    keep[0] = False
    number = np.where(keep, np.cumsum(keep), 0).astype(np.int32)
    for rows in _strips(labels.shape[0]):
        labels[rows] = number[labels[rows]]
    return Regions(labels, (CLASS_NAME,) * int(keep.sum()), score[keep].astype(np.float32))


def refine(regions: Regions, pixels: NDArray[np.generic], scaling: Scaling, settings: FlakeSettings) -> Regions:
    """Split crystals where their colour steps, and drop what is not of one colour: residue, dirt, shadows.

    Each region is looked at in its own window; no map of the whole image is made.
    """
    labels = np.zeros(regions.labels.shape, np.int32)
    kept: list[int] = []
    for index, window in enumerate(find_objects(regions.labels)):
        rows, columns = window
        center, spread = scaling.window(regions.labels.shape, rows, columns)
        smooth = np.asarray(cv2.medianBlur(np.ascontiguousarray(pixels[rows, columns]), 5))
        contrast = ((smooth.transpose(2, 0, 1) - center) / spread).astype(np.float32)
        parts = terraces.split(
            contrast,
            regions.labels[window] == index + 1,
            step=settings.terrace_step,
            min_area_px=settings.min_area_px // 2,
        )
        for number in range(1, int(parts.max()) + 1):
            part = parts == number
            even = terraces.unevenness(contrast, part) <= settings.max_unevenness
            if even and np.count_nonzero(part) >= settings.min_area_px:
                kept.append(index)
                labels[window][part] = len(kept)
    return Regions(labels, tuple(regions.class_names[index] for index in kept), regions.scores[kept])


def _grow(labels: NDArray[np.int32], inside: NDArray[np.uint8], level: int) -> None:
    """Let cores grow in place to the outline, as far as the depth target says they may have to.

    Grown pixels are written as negative labels, so that the next block still tells them from cores.
    """
    steps = DEPTH_PX + 2
    cross, square = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3)), np.ones((3, 3), np.uint8)
    for tile in blocks(labels.shape, Tiling(size_px=BLOCK_PX, halo_px=16, stride_px=16)):
        cores = labels[tile.read].clip(0).astype(np.float64)  # exact for every label, and cv2 dilates it
        free = (inside[tile.read] > level) & (cores == 0)
        if not free.any():
            continue
        grown = cores
        for step in range(steps):
            grown = np.where(free & (grown == 0), cv2.dilate(grown, square if step % 2 else cross), grown)
        labels[tile.write] = np.where(cores > 0, cores, -grown)[tile.keep]


def _sums(labels: NDArray[np.int32], inside: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return area and sum of inside for each label, background first, without a float copy of the image."""
    count = int(labels.max(initial=0)) + 1
    area_px, inside_sum = np.zeros(count, np.int64), np.zeros(count)
    for rows in _strips(labels.shape[0]):
        flat = labels[rows].ravel()
        area_px += np.bincount(flat, minlength=count)
        inside_sum += np.bincount(flat, weights=inside[rows].ravel(), minlength=count)
    return area_px, inside_sum


def _strips(height_px: int) -> list[slice]:
    return [slice(start, min(start + 256, height_px)) for start in range(0, height_px, 256)]


def measure(regions: Regions, image: Micrograph) -> Columns:
    """Return size and shape of each flake and its mean contrast against the substrate around it.

    contrast_<channel>_mean: (intensity - substrate) / substrate; -0.1 is a tenth darker.
    """
    scaling = substrate(image.pixels)
    count = len(regions) + 1
    contrast_sum = np.zeros((image.channels, count))
    area_px = np.zeros(count)
    shape_px = (image.height_px, image.width_px)
    for rows in _strips(image.height_px):
        center, spread = scaling.window(shape_px, rows, slice(0, image.width_px))
        flat = regions.labels[rows].ravel()
        area_px += np.bincount(flat, minlength=count)
        for channel in range(image.channels):
            contrast = (image.pixels[rows, :, channel] - center[channel]) / spread[channel]
            contrast_sum[channel] += np.bincount(flat, weights=contrast.ravel(), minlength=count)
    names = ("red", "green", "blue") if image.channels == 3 else ("grey",)
    mean = contrast_sum[:, 1:] / np.maximum(area_px[1:], 1)
    contrasts: Columns = {f"contrast_{name}_mean": values for name, values in zip(names, mean, strict=True)}
    return {**columns(regions.labels, image.pixel_size_um), **contrasts}


TASK = Task(
    "flakes",
    channels="rgb",
    outputs=("inside", "depth"),
    settings=FlakeSettings,
    scaling=scaling,
    encode=encode,
    decode=decode,
    refine=refine,
    measure=measure,
    habits=Habits(decoder_channels=(64, 48, 32, 16), crop_px=192, batch=4, learning_rate=2e-3, ema_decay=0.995),
    colour_is_evidence=True,
)
