"""The ASTM grain size number G from what is counted, and back; the definitions, not their rounded forms.

ASTM E112-13, 3.2.3: there are N_AE = 2^(G - 1) grains in a square inch at a magnification of 100.
"""

from math import log2

MM2_PER_SQUARE_INCH_AT_100 = 0.254**2
INTERCEPT_OF_G_0_UM = 320.0
"""E112-13, Table 4: G is 0 where the mean lineal intercept is 0.32 mm."""


def g_of_grains_per_mm2(grains_per_mm2: float) -> float:
    """Return G from N_A, grains a square millimetre: 3.321928 log10(N_A) - 2.954 (E112-13, 11.4)."""
    return 1 + log2(_positive(grains_per_mm2) * MM2_PER_SQUARE_INCH_AT_100)


def grains_per_mm2(g: float) -> float:
    """Return N_A, grains a square millimetre, of the grain size number G (E112-13, Table 4)."""
    return float(2 ** (g - 1) / MM2_PER_SQUARE_INCH_AT_100)


def g_of_mean_area_um2(mean_area_um2: float) -> float:
    """Return G from the mean area of grains in square micrometres.

    E1382-97, 14.2 and 14.3, and E2627: -3.3223 log10(A) - 2.955 with A in mm2; N_A is 1 / A.
    """
    return g_of_grains_per_mm2(1e6 / _positive(mean_area_um2))


def mean_area_um2(g: float) -> float:
    """Return the mean area of grains in square micrometres of the grain size number G (E112-13, Table 4)."""
    return 1e6 / grains_per_mm2(g)


def g_of_mean_intercept_um(mean_intercept_um: float) -> float:
    """Return G from the mean intercept in micrometres: -6.643856 log10(l) - 3.288 with l in mm (E112-13, Table 4)."""
    return 2 * log2(INTERCEPT_OF_G_0_UM / _positive(mean_intercept_um))


def mean_intercept_um(g: float) -> float:
    """Return the mean lineal intercept in micrometres of the grain size number G (E112-13, Table 4)."""
    return float(INTERCEPT_OF_G_0_UM * 2 ** (-g / 2))


def g_of_intersections_per_mm(intersections_per_mm: float) -> float:
    """Return G from P_L, boundaries crossed a millimetre of test line; P_L is 1 / l (E112-13, Table 4)."""
    return g_of_mean_intercept_um(1e3 / _positive(intersections_per_mm))


def intersections_per_mm(g: float) -> float:
    """Return P_L, boundaries crossed a millimetre of test line, of the grain size number G (E112-13, Table 4)."""
    return 1e3 / mean_intercept_um(g)


def iso643_g_of_grains_per_mm2(grains_per_mm2: float) -> float:
    """Return G of ISO 643 from m, grains a square millimetre: m = 8 x 2^G.

    0.046 less than the ASTM number of the same count; whoever prints it says which one it is.
    """
    return log2(_positive(grains_per_mm2)) - 3


def _positive(value: float) -> float:
    if not value > 0:
        raise ValueError(f"a grain size needs a count, area or length above 0, not {value}")
    return value
