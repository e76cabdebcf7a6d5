"""Frames whose probabilities are drawn honest: what costs ask for can be worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from micro.decide import NG, OK, REVIEW, Thresholds, Wishes, study
from micro.decide.thresholds import LEAST_OF_A_KIND, Tally, choose, refuse_too_few, tally
from micro.errors import BadSetting
from micro.score.interval import proportion


def honest(count: int = 4000, seed: int = 0) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Return truth drawn with just the probability of a defect beside it."""
    random = np.random.default_rng(seed)
    probability = random.beta(0.3, 0.5, count)
    return random.random(count) < probability, probability


def test_limits_divide_the_probabilities_into_ok_review_and_ng() -> None:
    limits = Thresholds(0.1, 0.4)
    assert [limits.verdict(p) for p in (0, 0.099, 0.1, 0.399, 0.4, 1)] == [OK, OK, REVIEW, REVIEW, NG, NG]


def test_without_a_review_the_threshold_is_where_both_errors_cost_the_same() -> None:
    assert choose(*honest(), Wishes(escape=20, overkill=1)) == Thresholds(1 / 21, 1 / 21)


def test_the_threshold_from_costs_is_the_cheapest_of_all() -> None:
    is_defect, probability = honest(20000)
    wishes = Wishes(escape=20, overkill=1)

    def cost(limit: float) -> float:
        return tally(is_defect, probability, Thresholds(limit, limit)).cost(wishes, None)

    best = min(map(cost, np.linspace(0.005, 0.5, 100)))
    assert cost(choose(is_defect, probability, wishes).ok_below) <= 1.02 * best < cost(0.5)


def test_what_is_cheaper_to_look_at_than_to_risk_is_reviewed() -> None:
    limits = choose(*honest(), Wishes(escape=20, overkill=2, review=0.5))
    assert (limits.ok_below, limits.ng_from) == pytest.approx((0.5 / 20, 1 - 0.5 / 2))


def test_a_review_dearer_than_any_risk_never_happens() -> None:
    limits = choose(*honest(), Wishes(escape=20, overkill=1, review=5))
    assert limits.ok_below == limits.ng_from == pytest.approx(1 / 21)


@pytest.mark.parametrize("rate", [0.02, 0.1, 0.3])
def test_as_many_frames_are_reviewed_as_people_can_look_at(rate: float) -> None:
    is_defect, probability = honest()
    limits = choose(is_defect, probability, Wishes(review_rate=rate))
    assert tally(is_defect, probability, limits).review_rate() == pytest.approx(rate, abs=1 / 4000)
    assert limits.ok_below < 1 / 21 < limits.ng_from
    assert choose(is_defect, probability, Wishes(review_rate=rate, max_escape=0.9)) == limits, "nobody escapes so often"


@pytest.mark.parametrize("max_escape", [None, 0.01])
def test_costs_in_another_currency_give_the_same_thresholds(max_escape: float | None) -> None:
    in_euro, in_cent = (
        choose(*honest(), Wishes(20 * unit, unit, review_rate=0.1, max_escape=max_escape)) for unit in (1, 100)
    )
    assert (in_cent.ok_below, in_cent.ng_from) == pytest.approx((in_euro.ok_below, in_euro.ng_from))
    assert in_cent.review_cost == pytest.approx(100 * (in_euro.review_cost or 0))


def test_a_review_rate_of_zero_reviews_nothing() -> None:
    limits = choose(*honest(), Wishes(review_rate=0))
    assert limits.ok_below == limits.ng_from


def test_on_a_line_with_fewer_defects_more_frames_ship() -> None:
    is_defect, probability = honest()
    here = choose(is_defect, probability, Wishes())
    rare = choose(is_defect, probability, Wishes(ng_share=0.001))
    same = choose(is_defect, probability, Wishes(ng_share=float(is_defect.mean())))
    assert rare.ok_below > 0.9 > here.ok_below
    assert same.ok_below == pytest.approx(here.ok_below)
    odds = 0.001 / 0.999 * (~is_defect).sum() / is_defect.sum()
    assert rare.ok_below / (1 - rare.ok_below) * odds == pytest.approx(1 / 20)


def test_rare_defects_count_as_rarely_as_the_line_has_them() -> None:
    counted = tally(np.array([True, True, False, False]), np.array([0.2, 0.9, 0.1, 0.8]), Thresholds(0.5, 0.5))
    wishes = Wishes(escape=20, overkill=1, ng_share=0.01)
    assert counted.cost(wishes, None) == pytest.approx(4 * (0.01 * 0.5 * 20 + 0.99 * 0.5 * 1))
    reviewed = Tally(defects=5, escapes=1, reviewed_defects=2, good=20, overkills=3, reviewed_good=4)
    wishes = Wishes(escape=20, overkill=2, review=0.5, ng_share=0.1)  # half as many defects, 9/8 as many good frames
    assert reviewed.cost(wishes, 0.5) == pytest.approx((20 + 2 * 0.5) / 2 + (3 * 2 + 4 * 0.5) * 9 / 8)
    assert reviewed.review_rate(0.1) == pytest.approx(0.1 * 2 / 5 + 0.9 * 4 / 20)
    assert reviewed.review_rate() == pytest.approx(6 / 25)


def test_no_more_defects_ship_than_was_allowed_even_at_the_end_of_the_interval() -> None:
    is_defect, probability = honest(8000)
    free = tally(is_defect, probability, choose(is_defect, probability, Wishes(escape=1, overkill=1)))
    assert free.escape.value > 0.05
    strict = choose(is_defect, probability, Wishes(escape=1, overkill=1, max_escape=0.01))
    counted = tally(is_defect, probability, strict)
    assert counted.escape.high <= 0.01
    assert proportion(counted.escapes + 1, counted.defects).high > 0.01, "and no more good frames go than must"
    assert strict.ok_below == strict.ng_from


@pytest.mark.parametrize("ng_share", [None, 0.02])
def test_no_more_is_reviewed_than_people_can_look_at_where_fewer_defects_may_ship(ng_share: float | None) -> None:
    is_defect, probability = honest(8000)
    wishes = Wishes(review_rate=0.02, max_escape=0.01, ng_share=ng_share)
    limits = choose(is_defect, probability, wishes)
    counted = tally(is_defect, probability, limits)
    assert counted.escape.high <= 0.01
    assert counted.review_rate(ng_share) == pytest.approx(0.02, abs=1e-3)
    dear = choose(is_defect, probability, Wishes(review=5, max_escape=0.01))
    assert dear.ok_below == dear.ng_from, "a look costs more than any frame that is thrown away"


def test_too_few_defects_to_show_what_was_asked_are_refused_with_the_number_needed() -> None:
    is_defect = np.arange(1000) < 300
    with pytest.raises(BadSetting, match=r"that takes 3838"):
        refuse_too_few(is_defect, Wishes(max_escape=0.001))
    with pytest.raises(BadSetting, match=r"ask for 1\.27% or above"):  # 1.264 %
        refuse_too_few(is_defect, Wishes(max_escape=0.0126))
    refuse_too_few(is_defect, Wishes(max_escape=0.0127))
    needed = np.arange(9000) < 3838
    refuse_too_few(needed, Wishes(max_escape=0.001))
    assert proportion(0, 3838).high <= 0.001 < proportion(0, 3837).high


@pytest.mark.parametrize("defects", [LEAST_OF_A_KIND - 1, 1000 - LEAST_OF_A_KIND + 1])
def test_thresholds_from_a_handful_of_frames_are_refused(defects: int) -> None:
    with pytest.raises(BadSetting, match="34 frames"):
        refuse_too_few(np.arange(1000) < defects, Wishes())
    refuse_too_few(np.arange(2 * LEAST_OF_A_KIND) < LEAST_OF_A_KIND, Wishes())


@pytest.mark.parametrize(
    "wrong",
    [
        {"escape": 0},
        {"overkill": float("nan")},
        {"review": 1, "review_rate": 0.1},
        {"review_rate": 1},
        {"max_escape": 0},
        {"ng_share": 1},
    ],
)
def test_wishes_that_mean_nothing_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(BadSetting):
        Wishes(**wrong)


CLASSES = ("clean", "stain", "crack", "scratch")


def answered(count: int = 1200, seed: int = 0) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """Return classes, twice too sure probabilities, and folds."""
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet((0.25,) * 4, count)
    truth = np.array([random.choice(4, p=row) for row in probabilities])
    sharp = probabilities**2
    return truth, sharp / sharp.sum(axis=1, keepdims=True), np.arange(count) % 10


def test_a_study_of_boastful_answers_calms_them_and_saves_what_escapes_cost() -> None:
    truth, probabilities, folds = answered()
    found = study(truth, probabilities, CLASSES, ("clean", "stain"), Wishes(), folds)
    assert found.decision.temperature == pytest.approx(2, rel=0.1)
    assert found.decision.ok_below == pytest.approx(1 / 21)
    assert found.calibration.value < 0.06
    assert found.whole.defects == np.isin(truth, (2, 3)).sum()
    assert found.whole.defects + found.whole.good == len(truth)
    assert found.folds_won == 10
    for words in ("temperature  2", "of 0.5; lower in 10 folds", f"{found.whole.escapes} of {found.whole.defects}"):
        assert words in found.describe()
    assert found.decision.origin == found.describe()
    asked = study(truth, probabilities, CLASSES, ("clean",), Wishes(review_rate=0.1, max_escape=0.05), folds)
    told = "limits       people look at 10.00% of the frames at most, 5.00% of the defects may ship at most"
    assert told in asked.decision.origin


def test_a_study_says_what_a_threshold_of_one_half_costs_and_in_which_folds_that_was_less() -> None:
    is_defect, probability = honest(400)
    both = np.stack([1 - probability, probability], axis=1)
    wishes = Wishes(escape=20, overkill=3, review=0.5)
    found = study(is_defect.astype(int), both, ("clean", "crack"), ("clean",), wishes, np.arange(400) % 4)
    missed, thrown = (is_defect & (probability < 0.5)).sum(), (~is_defect & (probability >= 0.5)).sum()
    assert sum(found.half_costs) == pytest.approx(20 * missed + 3 * thrown), "no temperature moves a half of two"
    assert "escape 20, overkill 3, review 0.5; defects on the line: as in these frames\ntemperature" in found.describe()
    mixed = replace(found, costs=(1, 2, 3, 4), half_costs=(2, 2, 2, 2))
    assert "lower in 1 folds, the same in 1, higher in 2" in mixed.describe()


def test_classes_that_leave_nothing_to_decide_are_refused() -> None:
    truth, probabilities, folds = answered()
    with pytest.raises(BadSetting, match="too few"):
        study(truth[:60], probabilities[:60], CLASSES, CLASSES[:2], Wishes(), folds[:60])
    for names, words in (((), "no class may ship"), (CLASSES, "every class may ship"), (("rust",), "No class rust")):
        with pytest.raises(BadSetting, match=words):
            study(truth, probabilities, CLASSES, names, Wishes(), folds)
