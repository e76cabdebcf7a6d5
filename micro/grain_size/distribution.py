"""How grain diameters are distributed, and whether that is one lognormal population."""

from dataclasses import dataclass
from math import ceil, exp, floor, log, pi, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, stats

PERCENTILES = (5, 10, 25, 50, 75, 90, 95)
FEWEST = 10
"""Fewer grains than this have no distribution."""

ASHMAN_D = 2.0
"""Two normal populations that lie apart by this many of their common standard deviations show two peaks (Ashman, Bird
and Zepf, Astron. J. 108, 1994, 2348)."""

BAYES_GAIN = 10.0
"""Difference of the Bayesian information criterion that counts as very strong evidence (Kass and Raftery 1995)."""

SMALLEST_SHARE = 0.05


@dataclass(frozen=True)
class Mixture:
    """Two lognormal populations in place of one.

    geometric_means_um: fine, coarse.
    coarse_area_share: which part of the area the coarse ones hold.
    """

    geometric_means_um: tuple[float, float]
    coarse_area_share: float


@dataclass(frozen=True)
class Distribution:
    """Equivalent circular diameters of whole grains, in micrometres.

    mean_um, mean_ci95_um, standard_deviation_um: arithmetic mean, half its 95 % interval, spread.
    geometric_mean_um, geometric_low_um, geometric_high_um: mean of the logarithms, and its 95 % interval.
    multiplicative_standard_deviation: exp of the standard deviation of the logarithms; no unit.
    median_um, median_low_um, median_high_um: with the 95 % interval of ranks (Hollander and Wolfe).
    percentiles_um: percent -> diameter below which so many of the grains are.
    mode_um: peak of a Gaussian kernel density with Silverman's bandwidth.
    area_weighted_mean_um, area_weighted_median_um: each grain counts by its area, as a point thrown on the section.
    ks_statistic: largest distance of the distribution from the fitted lognormal one (Kolmogorov and Smirnov).
    ks_critical: what that exceeds in 5 % of lognormal samples of this number whose parameters are fitted (Lilliefors;
        Stephens, J. Am. Stat. Assoc. 69, 1974, 730).
    mixture: two populations, where they fit much better and show two peaks; a hint of a duplex structure.
    """

    grains: int
    mean_um: float
    mean_ci95_um: float
    standard_deviation_um: float
    geometric_mean_um: float
    geometric_low_um: float
    geometric_high_um: float
    multiplicative_standard_deviation: float
    median_um: float
    median_low_um: float
    median_high_um: float
    percentiles_um: dict[int, float]
    mode_um: float
    area_weighted_mean_um: float
    area_weighted_median_um: float
    ks_statistic: float
    ks_critical: float
    mixture: Mixture | None

    @property
    def is_lognormal(self) -> bool:
        """Whether the test finds nothing against one lognormal population."""
        return self.ks_statistic <= self.ks_critical

    def lognormal_density(self, diameter_um: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the fitted density per micrometre at each diameter, to draw over a histogram."""
        spread = log(self.multiplicative_standard_deviation)
        where = (np.log(diameter_um) - log(self.geometric_mean_um)) / spread
        density: NDArray[np.float64] = np.exp(-(where**2) / 2) / (diameter_um * spread * sqrt(2 * pi))
        return density


def describe_diameters(diameter_um: NDArray[np.float64]) -> Distribution | None:
    """Return the distribution of equivalent circular diameters, 2 sqrt(area / pi); None for fewer than FEWEST grains.

    diameter_um: (N,) of whole grains; those that the frame cuts have no diameter.
    """
    count = len(diameter_um)
    if count < FEWEST or np.ptp(diameter_um) == 0:
        return None
    ordered = np.sort(diameter_um)
    logs = np.log(ordered)
    half = float(stats.t.ppf(0.975, count - 1)) / sqrt(count)
    middle, spread = float(logs.mean()), float(logs.std(ddof=1))
    reach = 1.96 * sqrt(count) / 2
    low, high = max(0, floor(count / 2 - reach)), min(count - 1, ceil(1 + count / 2 + reach))  # ranks from 0, outward
    area = ordered**2
    rank = np.arange(1, count + 1) / count
    fitted = stats.norm.cdf((logs - middle) / spread)
    return Distribution(
        grains=count,
        mean_um=float(ordered.mean()),
        mean_ci95_um=half * float(ordered.std(ddof=1)),
        standard_deviation_um=float(ordered.std(ddof=1)),
        geometric_mean_um=exp(middle),
        geometric_low_um=exp(middle - half * spread),
        geometric_high_um=exp(middle + half * spread),
        multiplicative_standard_deviation=exp(spread),
        median_um=float(np.median(ordered)),
        median_low_um=float(ordered[low]),
        median_high_um=float(ordered[high]),
        percentiles_um={percent: float(np.percentile(ordered, percent)) for percent in PERCENTILES},
        mode_um=_mode(ordered),
        area_weighted_mean_um=float((ordered * area).sum() / area.sum()),
        area_weighted_median_um=float(ordered[np.searchsorted(np.cumsum(area), area.sum() / 2)]),
        ks_statistic=float(max((rank - fitted).max(), (fitted - rank + 1 / count).max())),
        ks_critical=0.895 / (sqrt(count) - 0.01 + 0.85 / sqrt(count)),
        mixture=_mixture(logs),
    )


def _mode(ordered: NDArray[np.float64]) -> float:
    """Return the diameter at which a kernel density is highest."""
    width = float(ordered.std(ddof=1)) * (3 * len(ordered) / 4) ** -0.2
    counts, edges = np.histogram(ordered, bins=4096)
    # beyond the smallest and the largest there are none
    density = ndimage.gaussian_filter1d(counts.astype(np.float64), width / (edges[1] - edges[0]), mode="constant")
    peak = int(density.argmax())
    return float(edges[peak] + edges[peak + 1]) / 2


def _mixture(logs: NDArray[np.float64]) -> Mixture | None:
    """Fit two normal populations to logarithms by expectation and maximisation; None unless they are clearly two."""
    parts = np.array_split(logs, 2)
    means, spreads = np.array([part.mean() for part in parts]), np.array([part.std() for part in parts])
    floor = logs.std() / 20
    shares = np.full(2, 0.5)
    held = np.zeros((2, len(logs)))
    for _ in range(200):
        spreads = spreads.clip(floor)
        where = (logs - means[:, np.newaxis]) / spreads[:, np.newaxis]
        held = (shares / spreads)[:, np.newaxis] * np.exp(-(where**2) / 2)
        owned = held / held.sum(axis=0)
        weight = owned.sum(axis=1).clip(1e-9)
        moved = owned @ logs / weight
        settled = np.abs(moved - means).max() < 1e-4 * logs.std()
        means, shares = moved, weight / len(logs)
        spreads = np.sqrt((owned * (logs - means[:, np.newaxis]) ** 2).sum(axis=1) / weight)
        if settled:
            break
    # logarithms of the likelihoods, both without the factor sqrt(2 pi) a grain
    two = float(np.log(held.sum(axis=0)).sum())
    one = -len(logs) * (log(logs.std()) + 0.5)
    gain = 2 * (two - one) - 3 * log(len(logs))  # three parameters more
    apart = sqrt(2) * abs(means[1] - means[0]) / sqrt(float((spreads.clip(floor) ** 2).sum()))
    areas = owned @ np.exp(2 * logs)
    fine, coarse = np.argsort(means)
    share = float(areas[coarse] / areas.sum())
    if gain < BAYES_GAIN or apart < ASHMAN_D or not SMALLEST_SHARE < share < 1 - SMALLEST_SHARE:
        return None
    return Mixture((exp(means[fine]), exp(means[coarse])), share)
