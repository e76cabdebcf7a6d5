"""How much of a specimen is one phase: area fractions (ASTM E1245) and point counts (ASTM E562) of its fields.

On a plane section the area fraction and the fraction of points both estimate the volume fraction without bias (A.
Delesse, Ann. Mines 13 (1848) 379; A. A. Glagolev, Trans. Inst. Econ. Min. 59 (1933)), as long as fields are chosen
without looking at what they show.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from micro.regions import Regions

CONFIDENCE = 0.95


@dataclass(frozen=True)
class VolumeFraction:
    """The volume fraction of a phase, from the fractions found on several fields.

    mean, standard_deviation, ci95: of the fields' fractions, 0 to 1; ci95 is half the width of the 95 % confidence
        interval. None where one field does not tell.
    """

    fields: int
    mean: float
    standard_deviation: float | None
    ci95: float | None

    @property
    def relative_accuracy_percent(self) -> float | None:
        """%RA = 100 ci95 / mean (E562, 11); 10 or less is usually aimed at. None without an interval or a phase."""
        return None if self.ci95 is None or self.mean == 0 else 100 * self.ci95 / self.mean

    def __str__(self) -> str:
        if self.ci95 is None:
            return f"{self.mean:.2%} on one field, no interval"
        accuracy = self.relative_accuracy_percent
        told = "" if accuracy is None else f", %RA {accuracy:.1f}"
        return f"{self.mean:.2%} +/- {self.ci95:.2%} (95 % interval, {self.fields} fields{told})"


def combine(fractions: Sequence[float]) -> VolumeFraction:
    """Average the fractions, 0 to 1, of independent fields, each counting alike.

    Mean, standard deviation s with n - 1, and 95 % CI = t(0.975, n - 1) s / sqrt(n), for fractions of points (E562, 11)
    and of areas (E1245, which forms them alike). Raises ValueError without a field or for a fraction outside 0 to 1.
    """
    values = np.asarray(fractions, np.float64)
    if not len(values):
        raise ValueError("no field to average")
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"fractions lie between 0 and 1, and these are {values.min():g} to {values.max():g}")
    if len(values) == 1:
        return VolumeFraction(1, float(values[0]), None, None)
    spread = float(values.std(ddof=1))
    factor = float(stats.t.ppf(0.5 + CONFIDENCE / 2, len(values) - 1))
    return VolumeFraction(len(values), float(values.mean()), spread, factor * spread / sqrt(len(values)))


def area_fractions(regions: Regions, phases: Sequence[str]) -> dict[str, float]:
    """Return the area fraction A_A of each phase on one field (E1245): its pixels divided by all pixels.

    phases: names to report, 0 for one that the field does not show.
    """
    area_px = np.bincount(regions.labels.ravel(), minlength=len(regions) + 1)[1:]
    names = np.array(regions.class_names, str)
    return {phase: float(area_px[names == phase].sum() / regions.labels.size) for phase in phases}


@dataclass(frozen=True)
class PointCount:
    """Points of a grid laid over one field: all of them, those inside the phase, and those on its boundary."""

    points: int
    inside: int
    on_boundary: int

    @property
    def fraction(self) -> float:
        """P_P: points inside count 1 and points on the boundary 1/2, divided by all points (E562, 10 and 11)."""
        return (self.inside + self.on_boundary / 2) / self.points


def count_points(phase: NDArray[np.bool_], rows: int = 10, columns: int = 10) -> PointCount:
    """Lay a square grid of points over one field and count (E562, 10).

    phase: (Y, X), true where the phase is. A point lies on a corner that four pixels share: inside where all four are
        the phase, on the boundary where some are.
    rows, columns: points down and across, spread evenly over the field, half a spacing from its sides.

    Raises ValueError when the field has too few pixels for so many points.
    """
    height, width = phase.shape
    if not (1 <= rows <= height - 1 and 1 <= columns <= width - 1):
        raise ValueError(f"{rows} x {columns} points do not fit on the {height} x {width} px of the field")
    y, x = (_evenly(count, length) for count, length in ((rows, height), (columns, width)))
    covered = sum(
        phase[np.ix_(y - down, x - right)].astype(np.int64) for down, right in ((0, 0), (0, 1), (1, 0), (1, 1))
    )
    inside = int(np.count_nonzero(covered == 4))
    return PointCount(rows * columns, inside, int(np.count_nonzero(covered)) - inside)


def _evenly(count: int, length_px: int) -> NDArray[np.intp]:
    """Return the pixels right behind `count` corners, spread evenly over a side of length_px, which is longer."""
    return np.round((np.arange(count) + 0.5) * length_px / count).astype(np.intp)
