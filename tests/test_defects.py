"""The task's settings and verdicts; how well a bundle does is on its card."""

import numpy as np
import pytest
from pydantic import ValidationError

from micro import tasks
from micro.recipe import Decision, Recipe
from micro.tasks.defects import TASK, DefectSettings

PLAIN = Recipe(model="any")


def test_the_task_is_found_by_its_name() -> None:
    assert tasks.find("defects") is TASK


def test_the_task_names_whole_frames_and_asks_for_no_segmenter() -> None:
    assert TASK.outputs == ()
    assert TASK.encode is TASK.decode is TASK.measure is None


def test_several_classes_may_ship_and_spaces_around_commas_do_not_matter() -> None:
    settings = DefectSettings(ok_classes="clean , roll mark,")
    assert TASK.judge is not None
    assert [TASK.judge({name: 0.9, "": 0.1}, settings, PLAIN) for name in ("clean", "roll mark", "scratch")] == [
        "OK",
        "OK",
        "NG",
    ]


def test_by_default_every_class_is_a_defect() -> None:
    assert TASK.judge is not None
    assert TASK.judge({"clean": 0.9, "scratch": 0.1}, DefectSettings(), PLAIN) == "NG"
    unsure = PLAIN.model_copy(update={"review_below": 0.95})
    assert TASK.judge({"clean": 0.9, "scratch": 0.1}, DefectSettings(), unsure) == "REVIEW"


def test_a_decision_judges_by_all_defects_together() -> None:
    decided = Decision(temperature=1, ok_classes=("clean", "stain"), ok_below=0.1, ng_from=0.3)
    recipe = PLAIN.model_copy(update={"decision": decided})
    assert TASK.judge is not None
    for crack, scratch, said in ((0.04, 0.05, "OK"), (0.06, 0.06, "REVIEW"), (0.15, 0.16, "NG")):
        scores = {"clean": 0.6 - crack - scratch, "stain": 0.4, "crack": crack, "scratch": scratch}
        assert TASK.judge(scores, DefectSettings(), recipe) == said


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(ValidationError):
        DefectSettings.model_validate({"shippable": "clean"})


def scaled(pixels: np.ndarray) -> np.ndarray:
    scaling = TASK.scaling(pixels)
    return (pixels[..., 0].astype(np.float32) - scaling.center[0]) / scaling.spread[0]


def test_exposure_and_bit_depth_do_not_change_what_the_network_sees() -> None:
    frame = np.random.default_rng(0).integers(40, 60, (64, 64, 1))
    bright, deep = (4 * frame).astype(np.uint8), (1000 * frame).astype(np.uint16)
    assert scaled(bright) == pytest.approx(scaled(frame.astype(np.uint8)), abs=1e-5)
    assert scaled(deep) == pytest.approx(scaled(bright), abs=1e-5)


def test_a_mark_keeps_its_strength_whatever_else_the_frame_shows() -> None:
    faint, strong = np.full((2, 64, 64, 1), 100, np.uint8)
    faint[:8], strong[:8] = 90, 50
    assert scaled(faint)[0, 0] == pytest.approx(-0.4)
    assert scaled(strong)[0, 0] == pytest.approx(-2)


def test_blank_and_black_frames_can_be_scaled() -> None:
    assert (scaled(np.full((128, 128, 1), 130, np.uint8)) == 0).all()
    assert (scaled(np.zeros((128, 128, 1), np.uint8)) == 0).all()
    mostly_black = np.zeros((128, 128, 1), np.uint8)
    mostly_black[:20] = 200
    assert 0 < scaled(mostly_black).max() <= 32


def test_the_rolling_direction_is_evidence_so_frames_are_never_turned() -> None:
    assert TASK.orientation_is_evidence
