"""Two answers to the same cases: how far one is better, and whether chance alone would do it."""

from collections.abc import Callable
from math import comb

import numpy as np
from numpy.typing import NDArray

from micro.score.interval import Interval, bootstrap

Statistic = Callable[[NDArray[np.intp]], float]
"""Indices of cases (some twice, some not at all) -> the figure for those cases."""


def difference(one: Statistic, other: Statistic, count: int) -> Interval:
    """Return one - other over count cases with its paired percentile bootstrap interval.

    Both are drawn with the same cases, so that what makes a case hard for both cancels. B. Efron, R. J. Tibshirani, An
    Introduction to the Bootstrap (1993), chapter 8.
    """
    return bootstrap(lambda drawn: one(drawn) - other(drawn), count)


def mcnemar_p_value(only_one_right: int, only_other_right: int) -> float:
    """Return how often two equally good answers differ at least so unevenly: McNemar's test, exact and two-sided.

    Cases that both or neither had right say nothing. Q. McNemar, Psychometrika 12 (1947) 153, with the binomial
    distribution instead of its limit, since classes are small.
    """
    cases = only_one_right + only_other_right
    fewer = min(only_one_right, only_other_right)
    tail: float = sum(comb(cases, k) for k in range(fewer + 1)) / 2**cases
    return min(1.0, 2 * tail)
