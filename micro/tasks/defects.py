"""Which surface defect a frame of a sheet shows, named for the whole frame; no segmenter yet."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from micro import decide
from micro.illumination import Scaling, percentiles
from micro.recipe import Recipe
from micro.tasks import Habits, Task, TaskSettings


class DefectSettings(TaskSettings):
    """What may ship."""

    ok_classes: str = Field(
        default="", description="classes that may ship, separated by commas; none: each is a defect"
    )


def contrast(pixels: NDArray[np.generic]) -> Scaling:
    """Scale to contrast against the sheet, whose brightness is the median: 1 is a quarter of it, brighter or darker.

    How strongly a mark stands out is evidence, so it is kept; exposure and bit depth are not, and go.

    pixels: (Y, X, C). A frame that is mostly black is scaled by its bright part, a blank one by 1.
    """
    middle, high = percentiles(pixels, (50, 99))
    spread = np.maximum(np.abs(middle), np.abs(high) / 8) / 4
    spread = np.where(spread > 0, spread, 1)
    return Scaling(*(part.astype(np.float32)[:, np.newaxis, np.newaxis] for part in (middle, spread)))


def judge(scores: Mapping[str, float], settings: DefectSettings, recipe: Recipe) -> str:
    """Return OK, REVIEW or NG for a frame, by the limits of the recipe's decision, or else by its likeliest class."""
    if recipe.decision is not None:
        limits = decide.Thresholds(recipe.decision.ok_below, recipe.decision.ng_from)
        return limits.verdict(sum(score for name, score in scores.items() if name not in recipe.decision.ok_classes))
    names = tuple(name.strip() for name in settings.ok_classes.split(",") if name.strip())
    best = max(scores, key=scores.__getitem__)
    return decide.verdict(best, scores[best], ok_classes=names, review_below=recipe.review_below)


TASK = Task(
    name="defects",
    channels="grey",
    outputs=(),
    settings=DefectSettings,
    scaling=contrast,
    judge=judge,
    habits=Habits(network="shufflenet_v2_x1_0", batch=32, learning_rate=2e-3, weight_decay=0.05, label_smoothing=0.05),
    # a scratch runs along the rolling direction and a print of the roll across it; turned, they would look alike
    orientation_is_evidence=True,
)
