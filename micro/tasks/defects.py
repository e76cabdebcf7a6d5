"""Which surface defect a frame of a sheet shows, named for the whole frame; no segmenter yet."""

from pydantic import Field

from micro import decide
from micro.illumination import uniform
from micro.tasks import Habits, Task, TaskSettings


class DefectSettings(TaskSettings):
    """What may ship."""

    ok_classes: str = Field(
        default="", description="classes that may ship, separated by commas; none: each is a defect"
    )


def judge(class_name: str, score: float, settings: DefectSettings, review_below: float | None) -> str:
    """Return OK, REVIEW or NG for a frame of that class; `decide.verdict` says when."""
    names = tuple(name.strip() for name in settings.ok_classes.split(",") if name.strip())
    return decide.verdict(class_name, score, ok_classes=names, review_below=review_below)


TASK = Task(
    name="defects",
    channels="grey",
    outputs=(),
    settings=DefectSettings,
    scaling=uniform,
    judge=judge,
    habits=Habits(network="shufflenet_v2_x1_0", batch=32, learning_rate=2e-3, weight_decay=0.05, label_smoothing=0.05),
    # a scratch runs along the rolling direction and a print of the roll across it; turned, they would look alike
    orientation_is_evidence=True,
)
