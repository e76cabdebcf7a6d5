"""How far a measured figure may lie from the one that more images would give."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
DRAWS = 1000


@dataclass(frozen=True)
class Interval:
    """A figure and the two ends between which the true one lies with CONFIDENCE."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({CONFIDENCE:.0%} interval {self.low:.3f} to {self.high:.3f})"


def proportion(hits: int, trials: int) -> Interval:
    """Return hits / trials with its Wilson score interval.

    E. B. Wilson, J. Am. Stat. Assoc. 22 (1927) 209. It stays inside 0..1 and is honest for few trials and for 0 or all
    hits, where the usual normal interval has no width. No trials at all leave everything possible: 0..1 around 0.5.
    """
    if not 0 <= hits <= trials:
        raise ValueError(f"{hits} hits in {trials} trials")
    if trials == 0:
        return Interval(0.5, 0.0, 1.0)
    z = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)
    share, weight = hits / trials, z * z / trials
    middle = (share + weight / 2) / (1 + weight)
    reach = z / (1 + weight) * (share * (1 - share) / trials + weight / (4 * trials)) ** 0.5
    # at 0 and at all hits one end is exactly the share, and rounding must not move it past
    low, high = min(share, max(0.0, middle - reach)), max(share, min(1.0, middle + reach))
    return Interval(share, 0.0 if hits == 0 else low, 1.0 if hits == trials else high)


def bootstrap(statistic: Callable[[NDArray[np.intp]], float], count: int, *, seed: int = 0) -> Interval:
    """Return a statistic of count cases with its percentile bootstrap interval; the same seed gives the same interval.

    statistic: indices of cases (some twice, some not at all) -> the figure for those cases.

    B. Efron, Ann. Stat. 7 (1979) 1. Cases must be independent: give groups (specimens, places), not their crops.
    """
    if count < 1:
        raise ValueError("a bootstrap needs at least one case")
    rng = np.random.default_rng(seed)
    drawn = [statistic(rng.integers(0, count, count)) for _ in range(DRAWS)]
    low, high = np.quantile(drawn, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))
    return Interval(float(statistic(np.arange(count))), float(low), float(high))


def mean(values: NDArray[np.floating], *, seed: int = 0) -> Interval:
    """Return the mean of independent values with its percentile bootstrap interval."""
    known = np.asarray(values, dtype=np.float64)
    return bootstrap(lambda drawn: float(known[drawn].mean()), len(known), seed=seed)
