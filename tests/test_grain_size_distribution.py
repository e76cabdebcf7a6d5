import csv

import numpy as np
import pytest
from scipy import stats

from micro.grain_size import describe_diameters


def lognormal(seed: int, count: int, geometric_mean: float, multiplicative: float) -> np.ndarray:
    return np.random.default_rng(seed).lognormal(np.log(geometric_mean), np.log(multiplicative), count)


def test_a_lognormal_sample_shows_the_parameters_that_it_was_drawn_with():
    found = describe_diameters(lognormal(1, 5000, 20.0, 1.6))
    assert found.geometric_mean_um == pytest.approx(20, rel=0.02)
    assert found.multiplicative_standard_deviation == pytest.approx(1.6, rel=0.02)
    assert found.median_um == pytest.approx(20, rel=0.03)
    assert found.mean_um == pytest.approx(20 * np.exp(np.log(1.6) ** 2 / 2), rel=0.02)
    # weighted by area, the logarithms are shifted by twice their variance
    assert found.area_weighted_median_um == pytest.approx(20 * np.exp(2 * np.log(1.6) ** 2), rel=0.05)
    assert found.is_lognormal
    assert found.mixture is None
    assert found.percentiles_um[90] == pytest.approx(20 * 1.6**1.2816, rel=0.04)
    where = np.linspace(0.1, 400, 20000)
    assert np.trapezoid(found.lognormal_density(where), where) == pytest.approx(1, abs=1e-3)


def test_a_uniform_sample_is_not_taken_for_lognormal():
    assert not describe_diameters(np.random.default_rng(2).uniform(1, 40, 2000)).is_lognormal


def test_the_mode_and_the_distance_from_the_fit_are_those_of_scipy():
    sample = 1 + np.random.default_rng(3).exponential(10, 200)
    for diameters in (sample, 1 / sample):  # the fit is farthest below the one, and above the other
        found = describe_diameters(diameters)
        fit = np.log(found.geometric_mean_um), np.log(found.multiplicative_standard_deviation)
        assert found.ks_statistic == pytest.approx(stats.kstest(np.log(diameters), "norm", fit).statistic)
        where = np.linspace(diameters.min(), diameters.max(), 2000)
        peak = where[stats.gaussian_kde(diameters, "silverman")(where).argmax()]
        assert found.mode_um == pytest.approx(peak, abs=np.ptp(diameters) / 500)


def test_the_lognormal_test_rejects_about_one_in_twenty_lognormal_samples():
    rejected = [not describe_diameters(lognormal(seed, 150, 10, 1.7)).is_lognormal for seed in range(200)]
    assert 0.02 < np.mean(rejected) < 0.09


def test_two_populations_are_told_apart_and_one_is_not_split():
    two = describe_diameters(np.concatenate([lognormal(3, 600, 10, 1.25), lognormal(4, 60, 50, 1.25)]))
    assert two.mixture.geometric_means_um == pytest.approx((10, 50), rel=0.1)
    assert two.mixture.coarse_area_share == pytest.approx(60 * 2500 / (60 * 2500 + 600 * 100), abs=0.1)
    alarms = [describe_diameters(lognormal(seed, 300, 10, 1.8)).mixture is not None for seed in range(50)]
    assert sum(alarms) <= 1


def test_grains_of_just_two_sizes_are_two_populations():
    found = describe_diameters(np.repeat([1.0, 4.0], 16))
    assert found is not None
    assert found.mixture is not None
    assert found.mixture.geometric_means_um == pytest.approx((1, 4))


def test_a_handful_of_grains_has_no_distribution():
    assert describe_diameters(np.array([3.0, 4.0, 5.0])) is None
    assert describe_diameters(np.full(50, 3.0)) is None
    # of ten the outward ranks of the median are 5 +- 1.96 sqrt(10) / 2, and there is none above the tenth
    found = describe_diameters(np.arange(1.0, 11.0))
    assert found is not None
    assert (found.grains, found.median_low_um, found.median_high_um) == (10, 2, 10)


@pytest.mark.data
def test_the_published_statistics_of_a_table_of_2661_grains_are_reproduced(data):
    with (data / "grains" / "grainsizetools" / "data_set.txt").open() as file:
        area_um2 = np.array([float(row["Area"]) for row in csv.DictReader(file, delimiter="\t")])
    found = describe_diameters(2 * np.sqrt(area_um2 / np.pi))
    assert found.grains == 2661
    assert found.mean_um == pytest.approx(34.79, abs=0.005)
    assert found.mean_um - found.mean_ci95_um == pytest.approx(34.09, abs=0.01)
    assert found.mean_um + found.mean_ci95_um == pytest.approx(35.48, abs=0.01)
    assert found.geometric_mean_um == pytest.approx(30.10, abs=0.005)
    assert found.geometric_low_um == pytest.approx(29.47, abs=0.01)
    assert found.geometric_high_um == pytest.approx(30.75, abs=0.01)
    assert found.median_um == pytest.approx(31.53, abs=0.005)
    assert (found.median_low_um, found.median_high_um) == pytest.approx((30.84, 32.81), abs=0.005)
    assert found.standard_deviation_um == pytest.approx(18.32, abs=0.005)
    assert found.percentiles_um[75] - found.percentiles_um[25] == pytest.approx(23.98, abs=0.005)
    assert found.multiplicative_standard_deviation == pytest.approx(1.75, abs=0.005)
    assert found.mode_um == pytest.approx(24.31, rel=0.005)  # theirs is the nearest of a coarser grid
    assert not found.is_lognormal
