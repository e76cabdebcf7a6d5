"""Marks of a roll whose diameter is known, among others and with some missed."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import linregress

from micro.strip.periods import LEAST_MARKS, find_period

LENGTH_MM = 128_000.0


def marks(period_mm: float, seed: int = 0, *, missed: float = 0.0, jitter_mm: float = 0.0) -> NDArray[np.float64]:
    random = np.random.default_rng(seed)
    places = np.arange(random.uniform(0, period_mm), LENGTH_MM, period_mm)
    places = places[random.random(len(places)) >= missed]
    return places + random.normal(0, jitter_mm, len(places))


@pytest.mark.parametrize("period_mm", [310.0, 1570.0, 1884.96, 9000.0])
def test_the_period_of_a_roll_and_its_diameter_are_found(period_mm: float) -> None:
    places = marks(period_mm, jitter_mm=5)
    found = find_period(places, 130, 20_000)
    assert found is not None
    assert found.period_mm == pytest.approx(period_mm, rel=1e-3)
    assert found.roll_diameter_mm == pytest.approx(period_mm / math.pi, rel=1e-3)
    assert abs(found.period_mm - period_mm) < 5 * found.standard_error_mm
    line = linregress(np.arange(len(places)), places)
    assert (found.period_mm, found.standard_error_mm) == pytest.approx((line.slope, line.stderr), rel=1e-6)
    assert found.missed == 0


def test_places_without_an_error_give_the_exact_period_the_first_mark_and_the_missed_ones() -> None:
    turns = np.delete(np.arange(3, 43), [7, 20, 21])
    found = find_period(100 + 1570.0 * turns, 130, 20_000)
    assert found is not None
    assert (found.period_mm, found.first_mm) == pytest.approx((1570, 100 + 1570 * 3), rel=1e-9)
    assert (found.marks, found.missed) == (37, 3)
    assert found.standard_error_mm == pytest.approx(0, abs=1e-6)


def test_neither_missed_marks_nor_other_defects_hide_a_period() -> None:
    random = np.random.default_rng(7)
    places = marks(1570, missed=0.3, jitter_mm=10)
    everything = random.permutation(np.concatenate([places, random.uniform(0, LENGTH_MM, len(places))]))
    found = find_period(everything, 130, 20_000)
    assert found is not None
    assert found.period_mm == pytest.approx(1570, rel=2e-3)
    assert len(places) <= found.marks < 1.6 * len(places)
    assert found.missed > 5


def test_places_known_only_by_their_frame_still_tell_the_period() -> None:
    frame_mm = 64.0
    found = find_period(np.floor(marks(1570) / frame_mm) * frame_mm + frame_mm / 2, 2 * frame_mm, 20_000, frame_mm)
    assert found is not None
    assert found.period_mm == pytest.approx(1570, rel=1e-3)


@pytest.mark.parametrize("apart_mm", [300, 1570 / 4, 400, 1570 / 3])
def test_two_marks_on_one_roll_are_one_turn_and_not_two(apart_mm: float) -> None:
    one = marks(1570)
    found = find_period(np.concatenate([one, one + apart_mm]), 130, 20_000)
    assert found is not None
    assert found.period_mm == pytest.approx(1570, rel=2e-3)


@pytest.mark.parametrize("missed", [0.0, 0.3])
def test_many_other_defects_make_no_part_of_a_turn_a_turn(missed: float) -> None:
    for seed in range(6):
        others = np.random.default_rng(seed).uniform(0, LENGTH_MM, 300)
        found = find_period(np.concatenate([marks(1570, seed, missed=missed), others]), 130, 20_000)
        assert found is not None
        assert found.period_mm == pytest.approx(1570, rel=2e-3)


@pytest.mark.parametrize("seed", range(20))
def test_defects_at_random_have_no_period(seed: int) -> None:
    random = np.random.default_rng(seed)
    assert find_period(random.uniform(0, LENGTH_MM, 200), 130, 20_000) is None


def test_chance_makes_one_series_of_a_hundred_a_roll_and_fewer_where_many_are_looked_at() -> None:
    random = np.random.default_rng(1)
    series = [random.choice(2000, 40, replace=False) * 64.0 for _ in range(600)]
    alone, among_twenty = (
        sum(find_period(places, 160, 6500, 64.0, among=among) is not None for places in series) for among in (1, 20)
    )
    assert 1 <= alone <= 10
    assert among_twenty <= 1
    assert find_period(marks(1570, missed=0.5), 160, 6500, among=100) is not None


@pytest.mark.parametrize("share", [1.0, 0.97, 0.5])
def test_frames_that_all_or_at_random_show_a_mark_have_no_period(share: float) -> None:
    frames = np.flatnonzero(np.random.default_rng(2).random(2000) < share)
    assert find_period(frames * 64.0 + 32, 150, 20_000, 64.0) is None


def test_a_handful_of_marks_is_no_roll() -> None:
    assert find_period(np.arange(LEAST_MARKS - 1) * 1570.0, 130, 20_000) is None
    assert find_period(np.array([]), 130, 20_000) is None
    assert find_period(np.full(50, 700.0), 130, 20_000) is None


def test_the_place_of_the_coil_on_the_counter_does_not_matter() -> None:
    here, there = (find_period(marks(1570) + offset, 130, 20_000) for offset in (0.0, 3.2e6))
    assert here is not None
    assert there is not None
    assert there.period_mm == pytest.approx(here.period_mm, rel=1e-9)
    assert there.first_mm - here.first_mm == pytest.approx(3.2e6)
