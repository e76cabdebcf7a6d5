import numpy as np
import pytest

from micro.grain_size import conversions

# The published table of the standard, from its definitions: G, grains in a square inch at 100x, N_A per mm2, mean area
# um2, mean diameter um, mean intercept um, P_L per mm.
TABLE = [
    (-1.0, 0.25, 3.87501, 2.5806e05, 508, 452.5, 2.21),
    (0.0, 0.5, 7.75002, 1.2903e05, 359.2, 320, 3.125),
    (0.5, 0.7071, 10.9602, 91239, 302.1, 269.1, 3.716),
    (1.0, 1, 15.5, 64516, 254, 226.3, 4.419),
    (1.5, 1.414, 21.9204, 45620, 213.6, 190.3, 5.256),
    (2.0, 2, 31.0001, 32258, 179.6, 160, 6.25),
    (2.5, 2.828, 43.8407, 22810, 151, 134.5, 7.433),
    (3.0, 4, 62.0001, 16129, 127, 113.1, 8.839),
    (3.5, 5.657, 87.6814, 11405, 106.8, 95.14, 10.51),
    (4.0, 8, 124, 8064.5, 89.8, 80, 12.5),
    (4.5, 11.31, 175.363, 5702.5, 75.51, 67.27, 14.87),
    (5.0, 16, 248, 4032.2, 63.5, 56.57, 17.68),
    (5.5, 22.63, 350.726, 2851.2, 53.4, 47.57, 21.02),
    (6.0, 32, 496.001, 2016.1, 44.9, 40, 25),
    (6.5, 45.25, 701.451, 1425.6, 37.76, 33.64, 29.73),
    (7.0, 64, 992.002, 1008.1, 31.75, 28.28, 35.36),
    (7.5, 90.51, 1402.9, 712.81, 26.7, 23.78, 42.04),
    (8.0, 128, 1984, 504.03, 22.45, 20, 50),
    (8.5, 181, 2805.81, 356.4, 18.88, 16.82, 59.46),
    (9.0, 256, 3968.01, 252.02, 15.88, 14.14, 70.71),
    (9.5, 362, 5611.61, 178.2, 13.35, 11.89, 84.09),
    (10.0, 512, 7936.02, 126.01, 11.23, 10, 100),
    (10.5, 724.1, 11223.2, 89.101, 9.439, 8.409, 118.9),
    (11.0, 1024, 15872, 63.004, 7.938, 7.071, 141.4),
    (11.5, 1448, 22446.4, 44.55, 6.675, 5.946, 168.2),
    (12.0, 2048, 31744.1, 31.502, 5.613, 5, 200),
    (12.5, 2896, 44892.9, 22.275, 4.72, 4.204, 237.8),
    (13.0, 4096, 63488.1, 15.751, 3.969, 3.536, 282.8),
    (13.5, 5793, 89785.8, 11.138, 3.337, 2.973, 336.4),
    (14.0, 8192, 126976, 7.8755, 2.806, 2.5, 400),
]


@pytest.mark.parametrize(
    ("g", "per_square_inch", "per_mm2", "area_um2", "diameter_um", "intercept_um", "per_mm"), TABLE
)
def test_every_value_of_the_table_follows_from_g_and_leads_back_to_it(
    g, per_square_inch, per_mm2, area_um2, diameter_um, intercept_um, per_mm
):
    assert conversions.grains_per_mm2(g) == pytest.approx(per_mm2, rel=0.005)
    assert conversions.grains_per_mm2(g) * 0.254**2 == pytest.approx(per_square_inch, rel=0.005)
    assert conversions.mean_area_um2(g) == pytest.approx(area_um2, rel=0.005)
    assert np.sqrt(conversions.mean_area_um2(g)) == pytest.approx(diameter_um, rel=0.005)
    assert conversions.mean_intercept_um(g) == pytest.approx(intercept_um, rel=0.005)
    assert conversions.intersections_per_mm(g) == pytest.approx(per_mm, rel=0.005)
    assert conversions.g_of_grains_per_mm2(per_mm2) == pytest.approx(g, abs=0.01)
    assert conversions.g_of_mean_area_um2(area_um2) == pytest.approx(g, abs=0.01)
    assert conversions.g_of_mean_area_um2(diameter_um**2) == pytest.approx(g, abs=0.02)
    assert conversions.g_of_mean_intercept_um(intercept_um) == pytest.approx(g, abs=0.01)
    assert conversions.g_of_intersections_per_mm(per_mm) == pytest.approx(g, abs=0.01)


@pytest.mark.parametrize("value", [0.013, 1.0, 37.0, 9e4])
def test_the_formulae_as_the_standards_print_them_give_the_same_g(value):
    log10 = np.log10
    assert conversions.g_of_grains_per_mm2(value) == pytest.approx(3.321928 * log10(value) - 2.954, abs=1e-3)
    assert conversions.g_of_mean_area_um2(value) == pytest.approx(-3.3223 * log10(value / 1e6) - 2.955, abs=5e-3)
    assert conversions.g_of_mean_intercept_um(value) == pytest.approx(-6.643856 * log10(value / 1e3) - 3.288, abs=1e-3)


def test_the_astm_number_is_0_046_above_that_of_iso_643():
    g = conversions.g_of_grains_per_mm2(1984)
    assert g - conversions.iso643_g_of_grains_per_mm2(1984) == pytest.approx(0.046, abs=5e-4)


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
def test_nothing_has_no_grain_size(value):
    for convert in (
        conversions.g_of_grains_per_mm2,
        conversions.g_of_mean_area_um2,
        conversions.g_of_mean_intercept_um,
    ):
        with pytest.raises(ValueError, match="above 0"):
            convert(value)
