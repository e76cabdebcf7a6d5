"""Marks that return along a strip: a damaged roll prints its mark once a turn.

Positions are in mm along the strip. A series of marks is sought by its spectrum, which needs no neighbours to be found
and does not mind missed ones: where N positions have the period P, the sum of exp(2 pi i s / P) over them is long.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

# A series shorter than this is no evidence of a roll.
LEAST_MARKS = 5
# How often positions without any period may seem to have one, in one of all the series that are looked at.
CHANCE = 0.01
# Cells of the histogram within the shortest period, and how much finer than its own resolution the spectrum is read.
_CELLS, _FINE = 8, 4
# A period and its fractions stand out alike; the longest that does so by this share of the strongest is meant.
_AS_STRONG = 0.6
# Marks lie this share of a period around their place.
_AROUND = 0.15


@dataclass(frozen=True)
class Period:
    """A period that marks return with.

    period_mm: with standard_error_mm, from a straight line through the marks' places by their numbers.
    first_mm: place of mark 0. marks: how many of the positions belong to it. missed: turns without a mark in between.
    """

    period_mm: float
    standard_error_mm: float
    first_mm: float
    marks: int
    missed: int

    @property
    def roll_diameter_mm(self) -> float:
        """Diameter of a roll that turns once a period; rolling after the mark was made lengthens both alike."""
        return self.period_mm / math.pi


def find_period(
    positions_mm: NDArray[np.floating],
    shortest_mm: float,
    longest_mm: float,
    step_mm: float | None = None,
    *,
    among: int = 1,
) -> Period | None:
    """Return the period of positions, or None where chance alone would do as well.

    shortest_mm, longest_mm: between which a period is sought.
    step_mm: where positions are those of whole frames, how far apart frames are: marks on each of them have no period.
    among: how many such series are looked at, which are as many chances.
    """
    if not 0 < shortest_mm < longest_mm:
        raise ValueError(f"a period between {shortest_mm} and {longest_mm} mm")
    places = np.sort(np.asarray(positions_mm, np.float64))
    if len(places) < LEAST_MARKS or np.ptp(places) < (LEAST_MARKS - 1) * shortest_mm:
        return None
    begins = places[0]
    longest_mm = min(longest_mm, float(np.ptp(places)) / (LEAST_MARKS - 1) * 1.01)
    cell_mm = shortest_mm / _CELLS if step_mm is None else step_mm
    guess_mm = _strongest(places - begins, shortest_mm, longest_mm, cell_mm, CHANCE / among)
    if guess_mm is None:
        return None
    phase = float(np.angle(np.exp(2j * np.pi * places / guess_mm).sum()) / (2 * np.pi))
    found = _fitted(places, guess_mm, phase * guess_mm)
    return None if found is None else _whole_turn(places, found, longest_mm)


def _strongest(
    places: NDArray[np.float64], shortest_mm: float, longest_mm: float, cell_mm: float, chance: float
) -> float | None:
    """Return the longest period whose power in the spectrum of counts a cell is nearly the highest.

    chance: how often the highest power may be that of positions without a period. So many independent frequencies are
    tried as R. V. Baluev, MNRAS 385 (2008) 1279, gives for the maximum of a periodogram: W sqrt(z).
    """
    counts = np.bincount(np.rint(places / cell_mm).astype(np.int64)).astype(np.float64)
    length = 2 ** math.ceil(math.log2(len(counts) * _FINE))
    sums = np.fft.rfft(counts - counts.mean(), length)
    frequency = np.arange(len(sums)) / (length * cell_mm)
    power = np.abs(sums) ** 2
    sought = (frequency >= 1 / longest_mm) & (frequency <= 1 / shortest_mm)
    if not sought.any():
        return None
    highest = float(power[sought].max())
    tried = (1 / shortest_mm - 1 / longest_mm) * math.sqrt(4 * math.pi * places.var() * highest / len(places))
    if max(1.0, tried) * _chance(math.sqrt(highest), len(places)) > chance:
        return None
    strong = np.flatnonzero(sought & (power >= _AS_STRONG * power[sought].max()))
    first = strong[0]
    while power[first + 1] > power[first]:
        first += 1
    return float(1 / frequency[first])


def _chance(resultant: float, count: int) -> float:
    """Return how often so many phases at random add up to such a length.

    D. Wilkie, Rayleigh test for randomness of circular data, Appl. Statist. 32 (1983) 311.
    """
    rest = count**2 - min(resultant, count) ** 2
    return math.exp(math.sqrt(1 + 4 * count + 4 * rest) - (1 + 2 * count))


def _whole_turn(places: NDArray[np.float64], found: Period, longest_mm: float) -> Period:
    """Return the whole turn of which a period is a part: several marks of one roll, or many others, hide it.

    By a period that is a whole turn, marks are missed now and then; by a part of one, always at the same parts.
    """
    turns = (places - found.first_mm) / found.period_mm
    numbers = np.unique(np.round(turns[np.abs(turns - np.round(turns)) <= _AROUND]).astype(np.int64))
    numbers -= numbers[0]
    most, share = int(longest_mm / found.period_mm), len(numbers) / (numbers[-1] + 1)
    if most < 2 or share == 1:
        return found
    chances = np.ones(most + 1)
    for parts in range(2, most + 1):
        there = np.bincount(np.arange(numbers[-1] + 1) % parts, minlength=parts)
        seen = np.bincount(numbers % parts, minlength=parts)
        squares = float(((seen - share * there) ** 2 / (there * share * (1 - share))).sum())
        chances[parts] = stats.chi2.sf(squares, parts - 1)
    parts = int(chances.argmin())
    if most * chances[parts] > CHANCE:
        return found
    brightest = int(np.bincount(numbers % parts, minlength=parts).argmax())
    return _fitted(places, found.period_mm * parts, found.first_mm + found.period_mm * brightest) or found


def _fitted(places: NDArray[np.float64], period_mm: float, first_mm: float) -> Period | None:
    """Lay a line through the places of the marks by their numbers, twice: the first one corrects the guess."""
    error_mm = 0.0
    numbers, mine = places, np.ones(len(places), bool)
    for _ in range(3):
        turns = (places - first_mm) / period_mm
        numbers = np.round(turns)
        mine = np.abs(turns - numbers) <= _AROUND
        if len(np.unique(numbers[mine])) < LEAST_MARKS:
            return None
        x, y = numbers[mine], places[mine]
        spread = float(((x - x.mean()) ** 2).sum())
        period_mm = float(((x - x.mean()) * (y - y.mean())).sum() / spread)
        first_mm = float(y.mean() - period_mm * x.mean())
        rest = y - first_mm - period_mm * x
        error_mm = math.sqrt(float((rest**2).sum()) / max(1, len(x) - 2) / spread)
    seen = np.unique(numbers[mine])
    missed = int(seen[-1] - seen[0]) + 1 - len(seen)
    return Period(period_mm, error_mm, first_mm + period_mm * float(seen[0]), int(mine.sum()), missed)
