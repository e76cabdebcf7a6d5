"""Whether a new bundle may take the place of the one in use: only if nothing gets worse on the same images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from micro.errors import BadFolder
from micro.score import classes, regions
from micro.score.interval import Interval
from micro.score.paired import Statistic, difference, mcnemar_p_value
from micro.trial import Trial


@dataclass(frozen=True)
class Change:
    """One figure of the champion and of the challenger on the same images.

    difference: challenger - champion, with its paired 95 % interval.
    p_value: how often chance alone brings such a difference (McNemar); None where frames are not simply right or wrong.
    """

    what: str
    champion: float
    challenger: float
    difference: Interval
    p_value: float | None
    is_worse: bool


@dataclass(frozen=True)
class Challenge:
    """A challenger beside the champion.

    images: how many both answered.
    """

    images: int
    changes: tuple[Change, ...]

    @property
    def may_replace(self) -> bool:
        """Whether no figure got worse."""
        return not any(change.is_worse for change in self.changes)

    def describe(self) -> str:
        """Return the comparison as a table to print, and what follows from it."""
        width = max(len(change.what) for change in self.changes)
        lines = [f"{'':{width}}  champion  challenger  difference (95% interval)        p"]
        for change in self.changes:
            gap = change.difference
            p_value = "     " if change.p_value is None else f"{change.p_value:5.3f}"
            lines.append(
                f"{change.what:<{width}}  {change.champion:8.3f}  {change.challenger:10.3f}  "
                f"{gap.value:+.3f} ({gap.low:+.3f} to {gap.high:+.3f})  {p_value}{'  WORSE' if change.is_worse else ''}"
            )
        worse = [change.what for change in self.changes if change.is_worse]
        lines.append(
            f"Stay with the champion: worse in {', '.join(worse)}."
            if worse
            else f"The challenger may replace the champion: nothing got worse on these {self.images} images."
        )
        return "\n".join(lines)


def compare(challenger: Trial, champion: Trial, tolerance: float = 0.0) -> Challenge:
    """Compare two trials of the same images.

    Frames: recall and precision of each class that occurs. Pixels: IoU of each class. Regions: F1 and AP at IoU 0.5.
    A figure got worse when it fell by more than the tolerance, whether or not chance could have done that: the interval
    says how sure it is, and a set with too few images is no reason to let a worse bundle pass.

    tolerance: most that a figure may fall, in its own scale of 0..1.

    Raises BadFolder when the two know different classes or answered different images.
    """
    if challenger.class_names != champion.class_names:
        raise BadFolder(
            f"The challenger knows the classes {', '.join(challenger.class_names) or 'none'}, the champion "
            f"{', '.join(champion.class_names) or 'none'}. Only bundles of the same classes can be compared."
        )
    new, old = _figures(challenger), _figures(champion)
    if new.keys() != old.keys() or _cases(challenger) != _cases(champion):
        raise BadFolder("The challenger and the champion answered different images. Score both on one folder.")
    count = len(_cases(champion))
    p_values = _p_values(challenger, champion)
    everything = np.arange(count)
    changes = []
    for what, statistic in new.items():
        before, after = old[what](everything), statistic(everything)
        gap = difference(statistic, old[what], count)
        changes.append(Change(what, before, after, gap, p_values.get(what), before - after > tolerance + 1e-12))
    return Challenge(count, tuple(changes))


def _cases(trial: Trial) -> Sequence[object]:
    """Return what tells the images apart: their names, or the true classes in their order."""
    if trial.truth is not None:
        return list(trial.truth)
    return [row.image for row in trial.regions] + [row.image for row in trial.pixels]


def _figures(trial: Trial) -> Mapping[str, Statistic]:
    """Return by name the figures that must not get worse, each as a function of the cases drawn."""
    if trial.regions:
        matches = [row.matches for row in trial.regions]
        return {
            "F1 at IoU 0.5": lambda drawn: regions.pooled(matches[index] for index in drawn).f1,
            "AP at IoU 0.5": lambda drawn: regions.pooled(matches[index] for index in drawn).average_precision,
        }
    if trial.pixels:
        tables = np.stack([row.confusion for row in trial.pixels])
        there = [number for number in range(len(trial.class_names)) if tables[:, number].any()]
        return {f"{trial.class_names[number]}, IoU": partial(_iou, tables, number) for number in there}
    truth, answers = _frames(trial)
    found: dict[str, Statistic] = {}
    for number, name in enumerate(trial.class_names):
        if (truth == number).any():
            found[f"{name}, recall"] = partial(_share, answers == truth, truth == number)
            found[f"{name}, precision"] = partial(_share, answers == truth, answers == number)
    return found


def _p_values(challenger: Trial, champion: Trial) -> dict[str, float]:
    """Return McNemar's p for the recall of each class of frames."""
    if challenger.truth is None:
        return {}
    truth, new = _frames(challenger)
    _, old = _frames(champion)
    won, lost = (new == truth) & (old != truth), (new != truth) & (old == truth)
    return {
        f"{name}, recall": mcnemar_p_value(int(won[truth == number].sum()), int(lost[truth == number].sum()))
        for number, name in enumerate(challenger.class_names)
    }


def _frames(trial: Trial) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the true class and the answered class of each frame."""
    truth, probabilities = trial.frames()
    return truth, probabilities.argmax(axis=1).astype(np.int64)


def _share(right: NDArray[np.bool_], among: NDArray[np.bool_], drawn: NDArray[np.intp]) -> float:
    """Return the share of right ones among the drawn cases that count; 0 where none counts."""
    counted = right[drawn][among[drawn]]
    return float(counted.mean()) if len(counted) else 0.0


def _iou(tables: NDArray[np.int64], number: int, drawn: NDArray[np.intp]) -> float:
    return float(classes.iou(tables[drawn].sum(axis=0))[number])
