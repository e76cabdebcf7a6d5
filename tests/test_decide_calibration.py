"""Answers drawn with a known excess of confidence must be brought back to it."""

import numpy as np
import pytest
from numpy.typing import NDArray

from micro.decide.calibration import COLDEST, fit_temperature, temperatures_held_apart, tempered
from micro.score.classes import calibration_error


def drawn(count: int, seed: int = 0) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return classes drawn with just the probabilities beside them."""
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet((0.3, 0.3, 0.3), count)
    return np.array([random.choice(3, p=row) for row in probabilities]), probabilities


@pytest.mark.parametrize("excess", [0.5, 2.0])
def test_the_temperature_undoes_a_known_excess_of_confidence(excess: float) -> None:
    truth, honest = drawn(4000)
    assert fit_temperature(truth, honest) == pytest.approx(1, abs=0.06)
    boastful = tempered(honest, 1 / excess)
    found = fit_temperature(truth, boastful)
    assert found == pytest.approx(excess, rel=0.06)
    calm = tempered(boastful, found)
    right = honest.argmax(axis=1) == truth
    assert calibration_error(calm.max(axis=1), right) < 0.025 < calibration_error(boastful.max(axis=1), right)


def test_a_temperature_changes_no_answer_and_one_of_one_changes_nothing() -> None:
    _, probabilities = drawn(200)
    assert tempered(probabilities, 1) == pytest.approx(probabilities)
    hot = tempered(probabilities, 3)
    assert np.array_equal(hot.argmax(axis=1), probabilities.argmax(axis=1))
    assert hot.sum(axis=1) == pytest.approx(1)
    each = np.where(np.arange(200) % 2, 3.0, 1.0)
    assert tempered(probabilities, each)[1::2] == pytest.approx(hot[1::2])
    assert tempered(probabilities, each)[::2] == pytest.approx(probabilities[::2])


def test_certainty_in_single_precision_stays_a_number() -> None:
    sure = np.array([[1, 0, 0], [0, 1, 0]], np.float32)
    assert tempered(sure, 0.5) == pytest.approx(sure)


def test_few_frames_and_frames_without_a_mistake_make_no_network_sure_of_everything() -> None:
    truth, probabilities = drawn(49)
    assert fit_temperature(truth, probabilities) == 1
    _, probabilities = drawn(400)
    assert fit_temperature(probabilities.argmax(axis=1), probabilities) == pytest.approx(COLDEST, rel=0.01)


def test_a_frames_temperature_does_not_depend_on_its_own_fold() -> None:
    truth, probabilities = drawn(400)
    folds = np.arange(400) % 4
    before = temperatures_held_apart(truth, probabilities, folds)
    changed = np.where(folds == 2, (truth + 1) % 3, truth)
    after = temperatures_held_apart(changed, probabilities, folds)
    assert np.array_equal(before[folds == 2], after[folds == 2])
    assert (before[folds != 2] != after[folds != 2]).all()
