"""Fields of one specimen taken together: mean, confidence interval, relative accuracy, and the grain size of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from scipy import stats

from micro.grain_size.count import FieldCount, Method

CONFIDENCE = 0.95


@dataclass(frozen=True)
class SpecimenSize:
    """One method on all fields of a specimen (ASTM E112-13, 15).

    mean, standard_deviation, ci95: of the fields' values, in the unit of the method's quantity; ci95 is half the width
        of the 95 % confidence interval. None where one field does not tell.
    relative_accuracy_percent: %RA, 100 ci95 / mean.
    g: grain size number of the mean. It is not the mean of the fields' grain size numbers.
    g_low, g_high: grain size numbers of the two ends of the interval; None where there is none, and where an end is 0.
    """

    method: Method
    fields: int
    count: float
    mean: float
    standard_deviation: float | None
    ci95: float | None
    g: float
    g_low: float | None
    g_high: float | None

    @property
    def relative_accuracy_percent(self) -> float | None:
        """%RA: half the interval as a share of the mean; 10 or less is usually accepted (E112-13, 15)."""
        return None if self.ci95 is None else 100 * self.ci95 / self.mean


def combine(counts: Sequence[FieldCount]) -> SpecimenSize:
    """Average fields in N_A, mean area or mean intercept, never in G (E112-13, 15).

    95 % CI = t(0.975, n - 1) s / sqrt(n), and both ends of it are converted to G.
    """
    method = counts[0].method
    values = np.array([count.value for count in counts])
    mean, spread, half = float(values.mean()), None, None
    ends: list[float | None] = [None, None]
    if len(values) > 1:
        spread = float(values.std(ddof=1))
        half = float(stats.t.ppf(0.5 + CONFIDENCE / 2, len(values) - 1)) * spread / sqrt(len(values))
        ends = [method.quantity.to_g(end) if end > 0 else None for end in (mean - half, mean + half)]
        if method.quantity.to_g(mean) > method.quantity.to_g(2 * mean):  # coarser where the value is larger
            ends.reverse()
    return SpecimenSize(
        method=method,
        fields=len(values),
        count=sum(count.counted.count for count in counts),
        mean=mean,
        standard_deviation=spread,
        ci95=half,
        g=method.quantity.to_g(mean),
        g_low=ends[0],
        g_high=ends[1],
    )
