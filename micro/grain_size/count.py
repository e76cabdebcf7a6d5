"""What was counted on one field by one method, with the test pattern that was laid over it."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from micro.grain_size import conversions


@dataclass(frozen=True)
class Quantity:
    """What a method yields for a field, and how a grain size follows from it.

    to_g: value in `unit` -> ASTM G; it rises with a density and falls with an area or a length.
    """

    name: str
    unit: str
    to_g: Callable[[float], float]


DENSITY = Quantity("grains_per_mm2", "/mm2", conversions.g_of_grains_per_mm2)
AREA = Quantity("mean_area_um2", "um2", conversions.g_of_mean_area_um2)
INTERCEPT = Quantity("mean_intercept_um", "um", conversions.g_of_mean_intercept_um)


@dataclass(frozen=True)
class Method:
    """One way to count.

    key: short name for records.
    title: what to print.
    clause: standard and clause.
    counts: what is counted, in the plural.
    caution: what a reader must know of every figure of this method; empty where there is nothing.
    """

    key: str
    title: str
    quantity: Quantity
    clause: str
    counts: str
    caution: str = ""


def _no_lines() -> NDArray[np.float64]:
    return np.zeros((0, 4))


def _no_circles() -> NDArray[np.float64]:
    return np.zeros((0, 3))


@dataclass(frozen=True, eq=False)
class Pattern:
    """A test pattern as it was laid over the field, in pixels; pixel centres are whole numbers.

    lines_px: (L, 4) y and x of one end, y and x of the other.
    circles_px: (C, 3) y and x of the centre, radius.
    marks_px: (M, 2) y and x of what was counted: hits of a line, middles of grains, triple points.
    weights: (M,) how much each of these counted.
    """

    marks_px: NDArray[np.float64]
    weights: NDArray[np.float64]
    lines_px: NDArray[np.float64] = field(default_factory=_no_lines)
    circles_px: NDArray[np.float64] = field(default_factory=_no_circles)


@dataclass(frozen=True, eq=False)
class Count:
    """One method on one field, in pixels.

    count: grains, or hits, with their weights.
    extent_px: area in square pixels, or length of test line in pixels, over which that was counted.
    parts: how many things of which kind the count is made of ("inside", "edge", "corner", "crossing", ...).
    """

    method: Method
    count: float
    extent_px: float
    parts: dict[str, int]
    pattern: Pattern


@dataclass(frozen=True, eq=False)
class FieldCount:
    """One method on one field, in physical units.

    value: grains a mm2, mean area in um2 or mean intercept in um, as `counted.method.quantity` says.
    """

    field: str
    counted: Count
    pixel_size_um: float

    @property
    def method(self) -> Method:
        """How it was counted."""
        return self.counted.method

    @property
    def is_counted(self) -> bool:
        """Whether there is a value: something was counted, on some area or length."""
        return self.counted.count > 0 and self.counted.extent_px > 0

    @property
    def extent(self) -> float:
        """Area in mm2, or length of test line in mm."""
        mm = self.pixel_size_um / 1e3
        return self.counted.extent_px * (mm if self.method.quantity is INTERCEPT else mm**2)

    @property
    def value(self) -> float:
        """Return the field's value in the unit of the quantity."""
        quantity = self.method.quantity
        if quantity is DENSITY:
            return self.counted.count / self.extent
        return self.extent / self.counted.count * (1e3 if quantity is INTERCEPT else 1e6)

    @property
    def g(self) -> float:
        """ASTM grain size number of this field alone."""
        return self.method.quantity.to_g(self.value)
