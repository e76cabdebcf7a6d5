"""The task's settings and verdicts; how well a bundle does is on its card."""

import numpy as np
import pytest
from pydantic import ValidationError

from micro import tasks
from micro.tasks.defects import TASK, DefectSettings


def test_the_task_is_found_by_its_name() -> None:
    assert tasks.find("defects") is TASK


def test_the_task_names_whole_frames_and_asks_for_no_segmenter() -> None:
    assert TASK.outputs == ()
    assert TASK.encode is TASK.decode is TASK.measure is None


def test_several_classes_may_ship_and_spaces_around_commas_do_not_matter() -> None:
    settings = DefectSettings(ok_classes="clean , roll mark,")
    assert TASK.judge is not None
    assert [TASK.judge(name, 0.9, settings, None) for name in ("clean", "roll mark", "scratch")] == ["OK", "OK", "NG"]


def test_by_default_every_class_is_a_defect() -> None:
    assert TASK.judge is not None
    assert TASK.judge("clean", 0.9, DefectSettings(), None) == "NG"
    assert TASK.judge("clean", 0.9, DefectSettings(), 0.95) == "REVIEW"


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(ValidationError):
        DefectSettings.model_validate({"shippable": "clean"})


def test_a_blank_frame_can_be_scaled() -> None:
    scaling = TASK.scaling(np.full((128, 128, 1), 130, np.uint8))
    assert scaling.center.item() == 130
    assert scaling.spread.item() > 0


def test_the_rolling_direction_is_evidence_so_frames_are_never_turned() -> None:
    assert TASK.orientation_is_evidence
