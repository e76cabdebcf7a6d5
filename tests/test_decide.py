"""Truth by construction: one probability, two limits."""

import math

import pytest

from micro.decide import NG, OK, REVIEW, together, verdict


def test_a_network_that_gave_no_number_ships_nothing():
    assert verdict("clean", math.nan, ok_classes=("clean",)) == REVIEW


def test_a_class_that_may_ship_is_ok_and_any_other_is_ng() -> None:
    assert verdict("clean", 0.9, ok_classes=("clean", "roll_mark")) == OK
    assert verdict("roll_mark", 0.9, ok_classes=("clean", "roll_mark")) == OK
    assert verdict("scratch", 0.9, ok_classes=("clean", "roll_mark")) == NG


def test_without_classes_that_may_ship_every_class_is_a_defect() -> None:
    assert verdict("clean", 1.0) == NG


@pytest.mark.parametrize("class_name", ["clean", "scratch"])
def test_doubt_is_reviewed_whether_it_favours_the_sheet_or_not(class_name: str) -> None:
    assert verdict(class_name, 0.69, ok_classes=("clean",), review_below=0.7) == REVIEW


def test_a_score_at_the_limit_is_sure_enough() -> None:
    assert verdict("clean", 0.7, ok_classes=("clean",), review_below=0.7) == OK


def test_without_a_limit_nothing_is_reviewed() -> None:
    assert verdict("scratch", 0.01) == NG


@pytest.mark.parametrize(
    ("named", "found", "both"),
    [
        (None, None, None),
        (OK, None, OK),
        (NG, None, NG),
        (None, OK, OK),
        (None, NG, NG),
        (NG, OK, REVIEW),
        (NG, NG, NG),
        (REVIEW, REVIEW, REVIEW),
    ],
)
def test_a_frame_that_is_not_ok_and_in_which_nothing_is_found_is_looked_at(
    named: str | None, found: str | None, both: str | None
) -> None:
    assert together(named, found) == both
