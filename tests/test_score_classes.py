"""Truth by construction: frames counted by hand, probabilities whose error is known."""

import math

import numpy as np
import pytest

from micro.score import classes, interval


def certain(answers: list[int], count: int) -> np.ndarray:
    return np.eye(count)[answers]


def test_a_confusion_counts_true_classes_in_rows_and_answers_in_columns() -> None:
    table = classes.confusion(np.array([0, 0, 0, 1, 2]), np.array([0, 0, 1, 1, 0]), 3)
    assert table.tolist() == [[2, 1, 0], [0, 1, 0], [1, 0, 0]]


def test_precision_recall_and_f1_agree_with_a_count_by_hand() -> None:
    truth = np.array([0] * 8 + [1] * 4)
    answers = [0] * 6 + [1] * 2 + [1] * 3 + [0]
    score = classes.compare(truth, certain(answers, 2), ("scratch", "clean"))
    assert score.accuracy.value == pytest.approx(9 / 12)
    assert score.precision == pytest.approx([6 / 7, 3 / 5])
    assert score.recall == pytest.approx([6 / 8, 3 / 4])
    assert score.f1 == pytest.approx([12 / 15, 6 / 9])
    assert score.macro_f1.value == pytest.approx((12 / 15 + 6 / 9) / 2)
    assert score.calibration_error.value == pytest.approx(3 / 12)
    for found in (score.macro_f1, score.calibration_error):
        assert found.low < found.value < found.high
    lines = [line.split() for line in str(score).splitlines()]
    assert lines[0] == ["class", "precision", "recall", "F1", "frames"]
    assert lines[1:3] == [["scratch", "0.857", "0.750", "0.800", "8"], ["clean", "0.600", "0.750", "0.667", "4"]]


def test_a_rare_class_counts_as_much_as_a_common_one_in_macro_f1() -> None:
    truth = np.array([0] * 98 + [1] * 2)
    score = classes.compare(truth, certain([0] * 100, 2), ("common", "rare"))
    assert score.accuracy.value == 0.98
    assert score.macro_f1.value == pytest.approx((2 * 98 / 198) / 2)


def test_a_class_that_never_occurs_is_no_part_of_macro_f1() -> None:
    score = classes.compare(np.array([0, 1]), certain([0, 1], 3), ("a", "b", "never"))
    assert score.macro_f1.low == score.macro_f1.value == 1
    assert score.f1.tolist() == [1, 1, 0]


def test_confidence_that_keeps_its_word_has_no_calibration_error() -> None:
    assert classes.calibration_error(np.full(10, 0.7), np.arange(10) < 7) == pytest.approx(0)
    assert classes.calibration_error(np.full(10, 1.0), np.arange(10) < 7) == pytest.approx(0.3)


def test_calibration_errors_of_two_bins_are_weighted_by_their_frames() -> None:
    confidences = np.array([0.9] * 30 + [0.5] * 10)
    correct = np.array([True] * 24 + [False] * 6 + [True] * 5 + [False] * 5)
    assert classes.calibration_error(confidences, correct) == pytest.approx(0.75 * 0.1)


def test_a_score_can_be_read_and_not_changed() -> None:
    score = classes.compare(np.array([0, 1]), certain([0, 1], 2), ("scratch", "clean"))
    assert "scratch" in str(score)
    assert "accuracy 1.000" in str(score)
    with pytest.raises(ValueError, match="read-only"):
        score.confusion[0, 0] = 5


def test_iou_is_the_overlap_of_two_squares() -> None:
    # of 400 pixels 100 each are in a square, 50 of them in both: 50 of 150, and for the rest 250 of 350
    truth, found = np.zeros((20, 20), int), np.zeros((20, 20), int)
    truth[0:10, 0:10], found[0:10, 5:15] = 1, 1
    table = classes.confusion(truth.ravel(), found.ravel(), 3)
    np.testing.assert_allclose(classes.iou(table), [250 / 350, 50 / 150, 0])
    assert classes.mean_iou(table) == pytest.approx((250 / 350 + 50 / 150) / 2)  # the third class never occurs


def test_a_class_that_is_only_answered_counts_against_the_mean_iou() -> None:
    table = np.array([[90, 10], [0, 0]])
    assert classes.mean_iou(table) == pytest.approx(0.45)


def test_frames_answers_and_names_must_agree_in_number() -> None:
    with pytest.raises(ValueError, match="3"):
        classes.compare(np.array([0, 1, 1]), certain([0, 1], 2), ("a", "b"))
    with pytest.raises(ValueError, match="no frame"):
        classes.compare(np.array([], int), np.zeros((0, 2)), ("a", "b"))


def test_the_ends_of_a_wilson_interval_solve_its_equation() -> None:
    # Wilson's ends are the shares p for which (hits / trials - p)^2 = z^2 p (1 - p) / trials
    z = 1.959963984540054
    found = interval.proportion(45, 50)
    for end in (found.low, found.high):
        assert (0.9 - end) ** 2 == pytest.approx(z**2 * end * (1 - end) / 50)
    assert found.low < found.value == 0.9 < found.high


@pytest.mark.parametrize("trials", [1, 7, 1000])
def test_no_and_all_hits_still_have_an_interval_of_some_width(trials: int) -> None:
    none, every = interval.proportion(0, trials), interval.proportion(trials, trials)
    assert none.value == none.low == 0
    assert every.value == every.high == 1
    z2 = 1.959963984540054**2
    assert none.high == pytest.approx(z2 / (trials + z2))
    assert every.low == pytest.approx(trials / (trials + z2))


def test_without_trials_every_share_is_possible() -> None:
    nothing = interval.proportion(0, 0)
    assert (nothing.low, nothing.high) == (0, 1)


def test_more_hits_than_trials_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="3 hits in 2"):
        interval.proportion(3, 2)


def test_the_bootstrap_of_a_mean_has_the_width_that_theory_gives() -> None:
    values = np.random.default_rng(1).normal(5, 2, 400)
    found = interval.mean(values)
    assert found.value == pytest.approx(values.mean())
    assert found.high - found.low == pytest.approx(2 * 1.96 * values.std() / math.sqrt(400), rel=0.15)


def test_the_bootstrap_depends_on_its_seed_alone() -> None:
    values = np.arange(20.0)
    assert interval.mean(values, seed=3) == interval.mean(values, seed=3)
    assert interval.mean(values, seed=3) != interval.mean(values, seed=4)


def test_equal_values_leave_no_doubt_about_their_mean() -> None:
    found = interval.mean(np.full(5, 0.25))
    assert found.low == found.value == found.high == 0.25


def test_what_was_stated_stands_beside_what_was_right_in_bins_that_hold_an_answer() -> None:
    stated = np.array([0.55, 0.6, 0.95, 0.95, 1.0, 1.0])
    low, high = classes.reliability(stated, np.array([True, False, True, True, True, False]))
    assert (low.count, high.count) == (2, 4)
    assert (low.stated, high.stated) == (pytest.approx(0.575), pytest.approx(0.975))
    assert (low.right.value, high.right.value) == (0.5, 0.75)
    assert high.right.low < 0.75 < high.right.high
    assert classes.reliability(np.zeros(0), np.zeros(0, bool)) == ()
