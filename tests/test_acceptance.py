"""Strips drawn defect by defect, and rules whose answer can be counted."""

import pytest

from micro.decide.acceptance import Defect, Rule, Rules, Unclear, judge_strip
from micro.errors import BadSetting

SEEN = Unclear()


def defect(along_mm: float, name: str = "scratch", **facts: object) -> Defect:
    given = {"side": "top", "area_mm2": 10.0, "frames": (("c1", int(along_mm // 64)),)} | facts
    return Defect(name, along_mm=along_mm, **given)  # type: ignore[arg-type]


def rules(**rule: object) -> Rules:
    return Rules(product="316L", version=3, rules=(Rule.model_validate(rule),))


def test_without_rules_one_defect_condemns_a_strip_and_none_frees_it() -> None:
    assert judge_strip([], SEEN, None).verdict == "OK"
    assert judge_strip([defect(5)], SEEN, None).verdict == "NG"


def test_a_count_on_the_strip_is_of_the_classes_the_side_and_the_areas_of_the_rule() -> None:
    limited = rules(classes=["scratch"], side="top", area_from_mm2=20, area_below_mm2=100, at_most=1)
    others = [
        *(defect(1, "stain", area_mm2=50), defect(2, side="bottom", area_mm2=50)),
        *(defect(3, area_mm2=19.9), defect(4, area_mm2=100.0), defect(5, area_mm2=20.0)),
    ]
    assert judge_strip(others, SEEN, limited).verdict == "OK"
    found = judge_strip([*others, defect(6, area_mm2=99.9)], SEEN, limited)
    assert found.verdict == "NG"
    assert found.rules == "316L, version 3"
    assert found.reasons == ("NG: scratch on the top from 20 mm2 below 100 mm2: 2 on the strip, at most 1",)


def test_a_metre_is_any_metre_and_not_only_those_between_marks_on_a_ruler() -> None:
    limited = rules(at_most_a_metre=2)
    assert judge_strip([defect(x) for x in (0, 900, 1000, 1950, 2900)], SEEN, limited).verdict == "OK"
    found = judge_strip([defect(x) for x in (100, 2600, 1700, 2650)], SEEN, limited)
    assert found.verdict == "NG"
    assert "3 within a metre from 1.70 m on" in found.reasons[0]


def test_consecutive_frames_are_those_of_one_camera() -> None:
    limited = rules(in_a_row=2)
    apart = [defect(0, frames=(each,)) for each in (("c1", 1), ("c1", 2), ("c2", 3), ("c1", 4))]
    assert judge_strip(apart, SEEN, limited).verdict == "OK"
    twice_on_one = [*apart, defect(0, frames=(("c1", 2),))]
    assert judge_strip(twice_on_one, SEEN, limited).verdict == "OK"
    assert judge_strip([], SEEN, rules(in_a_row=0)).verdict == "OK"
    found = judge_strip([*apart, defect(0, frames=(("c2", 7), ("c1", 3)))], SEEN, limited)
    assert "on 4 frames in a row of c1, from frame 1 on" in found.reasons[0]


def test_a_rule_may_ask_for_a_review_only_and_ng_outweighs_it() -> None:
    soft = Rule(at_most=0, verdict="REVIEW")
    hard = Rule(at_most=5)
    both = Rules(product="p", version=1, rules=(soft, hard))
    assert judge_strip([defect(1)], SEEN, both).verdict == "REVIEW"
    assert judge_strip([defect(x) for x in range(6)], SEEN, both).verdict == "NG"


@pytest.mark.parametrize("unclear", [Unclear(review=1), Unclear(unseen=1)])
def test_what_nobody_saw_or_was_sure_of_keeps_a_strip_from_shipping(unclear: Unclear) -> None:
    assert judge_strip([], unclear, rules(at_most=5)).verdict == "REVIEW"


def test_frames_that_wait_and_frames_that_nobody_saw_are_counted_apart() -> None:
    waits, unseen = judge_strip([], Unclear(review=3, unseen=2), None).reasons
    assert waits == "REVIEW: 3 frames wait for a person's eye"
    assert unseen.startswith("REVIEW: 2 frames were not seen")


def test_an_area_is_not_guessed_where_whole_frames_were_named() -> None:
    with pytest.raises(BadSetting, match="finds regions"):
        judge_strip([defect(1, area_mm2=None)], SEEN, rules(area_from_mm2=5, at_most=1))
    assert judge_strip([defect(1, area_mm2=None)], SEEN, rules(at_most=1)).verdict == "OK"


@pytest.mark.parametrize(
    "text",
    [
        "product: p\nversion: 1\nrules: [{at_most: true}]\n",
        "product: p\nversion: 1\nrules: []\n",
        "product: p\nversion: 1\nrules: [{classes: [a]}]\n",
        "product: p\nrules: [{at_most: 1}]\n",
        "product: p\nversion: 0\nrules: [{at_most: 1}]\n",
        "product: ''\nversion: 1\nrules: [{at_most: 1}]\n",
        "product: p\nversion: 1\nrules: [{at_most: -1}]\n",
        "product: p\nversion: 1\nrules: [{at_most_a_metre: -1}]\n",
        "product: p\nversion: 1\nrules: [{in_a_row: -1}]\n",
        "product: p\nversion: 1\nrules: [{at_most: 1, area_below_mm2: 0}]\n",
        "product: p\nversion: 1\nrules: [{at_most: 1, area_from_mm2: 5, area_below_mm2: 5}]\n",
        "product: p\nversion: 1\nrules: [{at_most: 1, area_from_mm2: .inf}]\n",
        "product: p\nversion: 1\nrules: [{at_most: 1, colour: red}]\n",
        "rules: [",
    ],
)
def test_a_file_without_a_version_or_whose_rules_limit_nothing_is_refused_by_its_name(text: str, tmp_path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(BadSetting, match=r"mine\.yaml"):
        Rules.load(path)
