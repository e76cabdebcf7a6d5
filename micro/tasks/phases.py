"""Phases of a micrograph: a class for each pixel, and a region for each connected piece of a phase.

The network answers with one map a class, of which the largest decides. The first class is what the others lie in, such
as the matrix of an alloy; it is background and no region.
"""

from functools import partial

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from micro import measure as measures
from micro import pieces
from micro.illumination import Scaling, percentiles
from micro.micrograph import Micrograph
from micro.pieces import bands
from micro.regions import Columns, Regions
from micro.tasks import Habits, Task, TaskSettings, class_maps

MOST_SHADE = 0.5


class PhaseSettings(TaskSettings):
    """What a user may change in how maps of phases become regions."""

    min_area_px: int = Field(
        default=4, ge=1, le=1_000_000, description="smaller pieces of a phase are given to the background"
    )


def scaling(pixels: NDArray[np.generic]) -> Scaling:
    """Scale by the middle between the darkest and the brightest, and by how far apart they are.

    The median would be the grey of whichever phase covers half of the image.

    pixels: (Y, X, C). A blank image is scaled by 1.
    """
    low, high = percentiles(pixels, (1, 99))
    spread = np.where(high > low, (high - low) / 2, 1)
    return Scaling(*(part.astype(np.float32)[:, np.newaxis, np.newaxis] for part in ((low + high) / 2, spread)))


def decode(maps: NDArray[np.uint8], settings: PhaseSettings, classes: tuple[str, ...]) -> Regions:
    """Turn maps (K, Y, X) uint8 into connected pieces of the phases, one after the other; `class_maps` goes there.

    A pixel belongs to the class of the largest map, the first among equals. Pieces hang together by sides of pixels.
    """
    answer = np.empty_like(maps[0])
    for rows in bands(answer.shape[0]):
        answer[rows] = maps[:, rows].argmax(axis=0)
    return pieces.of_classes(answer, maps, classes, settings.min_area_px)


def spoil(pixels: NDArray[np.float32], labels: NDArray[np.int32], random: np.random.Generator) -> NDArray[np.float32]:
    """Return scaled pixels (y, x, C) under light that falls off to one side, as charge and detectors make it."""
    rows, columns = (np.linspace(-1, 1, edge, dtype=np.float32) for edge in labels.shape)
    down, right = random.uniform(-MOST_SHADE, MOST_SHADE, 2).astype(np.float32)
    shade: NDArray[np.float32] = down * rows[:, np.newaxis] + right * columns
    return pixels + shade[..., np.newaxis]


def measure(regions: Regions, image: Micrograph) -> Columns:
    """Measure area, place, size and shape of each piece, and which fraction of the image it and its phase cover."""
    table = measures.columns(regions.labels, image.pixel_size_um)
    fraction = table["area_px"].astype(np.float64) / regions.labels.size
    _, phase = np.unique(np.array(regions.class_names, str), return_inverse=True)
    table["area_fraction"] = fraction
    table["phase_area_fraction"] = np.bincount(phase, fraction, len(regions) or 1)[phase]
    return table


def of_classes(classes: tuple[str, ...]) -> Task:
    """Return the task for these classes, background first."""
    return Task(
        "phases",
        channels=("grey", "rgb"),
        outputs=classes,
        settings=PhaseSettings,
        scaling=scaling,
        encode=partial(class_maps, classes=classes),
        decode=partial(decode, classes=classes),
        measure=measure,
        spoil=spoil,
        habits=Habits(decoder_channels=(64, 48, 32, 24), crop_px=256, batch=4, learning_rate=2e-3, ema_decay=0.995),
        of_classes=of_classes,
    )


TASK = of_classes(())
