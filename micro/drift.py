"""Whether images and answers still look like those that a bundle was made with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator
from scipy.special import kolmogorov

from micro.micrograph import Micrograph
from micro.regions import Prediction

# A reference keeps this many values of a statistic, spread evenly over its order: shares are off by half a percent.
KEPT = 201
CELLS = 10
# A reference of fewer images, or a window of fewer, says nothing that chance could not say.
LEAST_IMAGES = 30
# Common reading of the index: E. M. Lewis, An Introduction to Credit Scoring (1994); N. Siddiqi, Credit Risk Scorecards
# (2006): below 0.1 no change, above 0.25 a shift that needs action.
MAJOR_PSI = 0.25
# A line looks thousands of times a week; by chance alone one look in a thousand may find a shift.
CHANCE = 1e-3
# Statistics of a larger image are those of its middle, so that looking costs milliseconds at any size.
LOOKED_AT_PX = 2048
_FULL_SCALE = {np.dtype(kind): float(np.iinfo(kind).max) for kind in (np.uint8, np.uint16)}

Statistics = dict[str, float]
"""What is watched of one image: statistic (noun, statistic, unit) -> value."""


class Distribution(BaseModel):
    """How one statistic was distributed: `count` images, of which `values` are evenly spaced order statistics."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: int = Field(ge=1)
    values: tuple[float, ...] = Field(min_length=1, max_length=KEPT)

    @model_validator(mode="after")
    def _is_ordered(self) -> Self:
        if not np.isfinite(self.values).all() or any(np.diff(self.values) < 0):
            raise ValueError("values are finite numbers in ascending order")
        return self


class Reference(BaseModel):
    """What a bundle's images and answers looked like when it was made; it lies in the bundle as reference.json.

    made_from: which images these were, in words.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = Field(default=1, ge=1, le=1)
    made_from: str
    statistics: dict[str, Distribution]


@dataclass(frozen=True)
class Shift:
    """How far the recent images lie from the reference in one statistic.

    psi: population stability index, 0 for the same shares.
    ks: largest distance of the two cumulative shares, 0..1.
    p_value: how often chance alone brings such a distance.
    median_then, median_now: to say in which direction it went.
    """

    statistic: str
    images: int
    psi: float
    ks: float
    p_value: float
    median_then: float
    median_now: float
    is_drift: bool

    def __str__(self) -> str:
        return (
            f"{self.statistic} {self.median_then:.4g} then, {self.median_now:.4g} now "
            f"(median; PSI {self.psi:.2f}, KS {self.ks:.2f})"
        )


def statistics(image: Micrograph) -> Statistics:
    """Return what is watched of an image's pixels, on a scale where the largest value of its pixel type is 1.

    brightness_mean; contrast_std; sharpness_laplacian_std, the standard deviation of the Laplacian, which falls when
    the focus is lost (J. L. Pech-Pacheco et al., ICPR 2000, use its square); height_px; width_px.
    """
    top, left = (max(0, (edge - LOOKED_AT_PX) // 2) for edge in (image.height_px, image.width_px))
    pixels = np.ascontiguousarray(image.pixels[top : top + LOOKED_AT_PX, left : left + LOOKED_AT_PX])
    grey = pixels if image.channels == 1 else np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY))
    full_scale = _FULL_SCALE.get(grey.dtype, 1.0)
    mean, spread = (part.item() / full_scale for part in cv2.meanStdDev(grey))
    # 16 bits hold every Laplacian of 8-bit pixels, at half the cost of float, and sums of them are taken sooner apart
    laplacian = cv2.Laplacian(grey, cv2.CV_16S if grey.dtype == np.uint8 else cv2.CV_32F)
    square = cv2.norm(laplacian, cv2.NORM_L2) ** 2 / laplacian.size
    sharpness = max(square - cv2.mean(laplacian)[0] ** 2, 0.0) ** 0.5 / full_scale
    return {
        "brightness_mean": mean,
        "contrast_std": spread,
        "sharpness_laplacian_std": sharpness,
        "height_px": float(image.height_px),
        "width_px": float(image.width_px),
    }


def answer_statistics(found: Prediction) -> Statistics:
    """Return what is watched of an answer: the score of the frame's class, or the mean score of its regions."""
    if found.class_name is not None:
        return {"score": found.class_scores[found.class_name]}
    if found.regions is not None and len(found.regions):
        return {"score": float(found.regions.scores.mean())}
    return {}


def reference(rows: Sequence[Statistics], made_from: str) -> Reference:
    """Return the distribution of each statistic over images; one that some images lack is taken over the others."""
    names = dict.fromkeys(name for row in rows for name in row)
    return Reference(
        made_from=made_from,
        statistics={name: distribution([row[name] for row in rows if name in row]) for name in names},
    )


def distribution(values: Sequence[float]) -> Distribution:
    """Return at most 201 of the values, evenly spaced in their order, the smallest and the largest among them."""
    ordered = np.sort(np.asarray(values, np.float64))
    places = np.linspace(0, len(ordered) - 1, min(KEPT, len(ordered))).round().astype(np.intp)
    return Distribution(count=len(ordered), values=tuple(_rounded(ordered[places])))


def _rounded(values: Sequence[float] | NDArray[np.float64]) -> list[float]:
    """Return values with the digits that a reference keeps; equal ones would seem to lie apart if only it had these."""
    return [float(f"{value:.5g}") for value in values]


def shifts(then: Reference, now: Mapping[str, Sequence[float]]) -> tuple[Shift, ...]:
    """Compare recent values with the reference, statistic by statistic; those of too few images are left out.

    A statistic has drifted when its index says that the shift is major, and chance does not explain it: the common
    reading of the index takes no account of the number of images (B. Yurdakul, J. Naranjo, J. Risk Model Validation 14
    (2020) 89), and a test alone would find any shift, however small, once there are many.
    """
    pairs = [
        (name, known, np.asarray(_rounded(now[name]), np.float64))
        for name, known in then.statistics.items()
        if name in now and min(len(now[name]), known.count) >= LEAST_IMAGES
    ]
    return tuple(_shift(name, known, values, CHANCE / len(pairs)) for name, known, values in pairs)


def _shift(name: str, known: Distribution, values: NDArray[np.float64], chance: float) -> Shift:
    then = np.asarray(known.values)
    index = psi(*_shares(known, values))
    distance = ks(then, values)
    p_value = ks_p_value(distance, known.count, len(values))
    return Shift(
        statistic=name,
        images=len(values),
        psi=index,
        ks=distance,
        p_value=p_value,
        median_then=float(np.median(then)),
        median_now=float(np.median(values)),
        is_drift=index > MAJOR_PSI and p_value < chance,
    )


def psi(expected: NDArray[np.float64], actual: NDArray[np.float64]) -> float:
    """Return the population stability index, the sum of (actual - expected) ln(actual / expected) over cells.

    E. M. Lewis, An Introduction to Credit Scoring (1994); it is the divergence of H. Jeffreys, Proc. R. Soc. A 186
    (1946) 453.

    expected, actual: (N,) shares of the cells, positive, each summing to 1.
    """
    return float(((actual - expected) * np.log(actual / expected)).sum())


def ks(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Return the largest distance between the cumulative shares of two samples.

    N. Smirnov, Ann. Math. Stat. 19 (1948) 279.
    """
    places = np.concatenate([one, other])
    shares = (np.searchsorted(np.sort(sample), places, side="right") / len(sample) for sample in (one, other))
    return float(np.abs(np.subtract(*shares)).max())


def ks_p_value(distance: float, count: int, other_count: int) -> float:
    """Return how often two samples of one population lie at least so far apart (Smirnov's limit for large samples)."""
    return float(kolmogorov(distance * (count * other_count / (count + other_count)) ** 0.5))


def _shares(known: Distribution, values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the shares of reference and window in cells that held about a tenth of the reference each.

    Half an image is added to every cell, or an empty one would make the index infinite.
    """
    then = np.asarray(known.values)
    edges = np.quantile(then, np.arange(1, CELLS) / CELLS, method="inverted_cdf")
    places, times = np.unique(edges, return_counts=True)
    # A value that fills a tenth or more (a frame size, a score of 1) gets a cell of its own.
    edges = np.unique(np.concatenate([places, np.nextafter(places[times > 1], -np.inf)]))
    counts = [np.bincount(np.searchsorted(edges, sample), minlength=len(edges) + 1) for sample in (then, values)]
    expected, actual = counts[0] * (known.count / len(then)) + 0.5, counts[1] + 0.5
    return expected / expected.sum(), actual / actual.sum()
