"""From answers to frames whose truth is known, to thresholds and to what they would have done."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from micro.decide.calibration import fit_temperature, temperatures_held_apart, tempered
from micro.decide.thresholds import Tally, Thresholds, Wishes, choose, refuse_too_few, tally
from micro.errors import BadSetting
from micro.recipe import Decision
from micro.score.classes import calibration_error
from micro.score.interval import Interval, bootstrap

HALF = Thresholds(0.5, 0.5)


@dataclass(frozen=True)
class Study:
    """Thresholds, and what they did in folds: each fold judged by thresholds that the other folds gave.

    decision: for the recipe. tallies, costs: of each fold. half_costs: what a plain threshold of 0.5 costs there.
    calibration: expected calibration error of the classes, each fold under the temperature of the others.
    """

    decision: Decision
    wishes: Wishes
    tallies: tuple[Tally, ...]
    costs: tuple[float, ...]
    half_costs: tuple[float, ...]
    calibration: Interval

    @property
    def whole(self) -> Tally:
        """All folds together."""
        names = ("defects", "escapes", "reviewed_defects", "good", "overkills", "reviewed_good")
        return Tally(**{name: sum(getattr(each, name) for each in self.tallies) for name in names})

    @property
    def folds_won(self) -> int:
        """Folds in which the thresholds cost less than 0.5 does."""
        return sum(cost < half for cost, half in zip(self.costs, self.half_costs, strict=True))

    @property
    def folds_lost(self) -> int:
        """Folds in which they cost more."""
        return sum(cost > half for cost, half in zip(self.costs, self.half_costs, strict=True))

    def describe(self) -> str:
        """Return the page to print."""
        whole = self.whole
        costs = f"escape {self.wishes.escape:g}, overkill {self.wishes.overkill:g}"
        if self.wishes.review is not None:
            costs += f", review {self.wishes.review:g}"
        share = "as in these frames" if self.wishes.ng_share is None else f"{self.wishes.ng_share:.2%}"
        wished = []
        if self.wishes.review_rate is not None:
            wished.append(f"people look at {self.wishes.review_rate:.2%} of the frames at most")
        if self.wishes.max_escape is not None:
            wished.append(f"{self.wishes.max_escape:.2%} of the defects may ship at most")
        folds = len(self.tallies)
        return "\n".join(
            (
                f"costs        {costs}; defects on the line: {share}",
                *([f"limits       {', '.join(wished)}"] if wished else []),
                f"temperature  {self.decision.temperature:g}",
                f"OK           where the probability of a defect is below {self.decision.ok_below:.4g}",
                f"NG           from {self.decision.ng_from:.4g} on; REVIEW between",
                f"In {folds} folds, each judged by what the others gave:",
                f"escapes      {whole.escapes} of {whole.defects} defects, {whole.escape}",
                f"overkills    {whole.overkills} of {whole.good} good frames, {whole.overkill}",
                f"reviews      {whole.review_rate(self.wishes.ng_share):.3f} of the frames of the line",
                f"calibration  error {self.calibration}",
                f"cost         {sum(self.costs):.1f}, and {sum(self.half_costs):.1f} with a threshold of 0.5; lower in "
                f"{self.folds_won} folds, the same in {folds - self.folds_won - self.folds_lost}, higher in "
                f"{self.folds_lost}",
            )
        )


def study(
    truth: NDArray[np.integer],
    probabilities: NDArray[np.floating],
    class_names: Sequence[str],
    ok_classes: Sequence[str],
    wishes: Wishes,
    folds: Sequence[int],
) -> Study:
    """Return thresholds for a line on which ok_classes may ship.

    truth: (N,) true class of each frame. probabilities: (N, K), of a network that never saw the frame, uncalibrated.
    folds: of each frame. Raises BadSetting where the classes or the number of frames allow no thresholds.
    """
    strange = [name for name in ok_classes if name not in class_names]
    if strange:
        raise BadSetting(f"No class {', '.join(strange)}. There are: {', '.join(class_names)}.")
    may_ship = np.isin(class_names, ok_classes)
    if may_ship.all() or not may_ship.any():
        raise BadSetting(
            f"Name the classes that may ship (--ok-classes), some of: {', '.join(class_names)}. Where "
            f"{'every' if may_ship.all() else 'no'} class may ship there is nothing to decide."
        )
    is_defect = ~may_ship[truth]
    refuse_too_few(is_defect, wishes)
    parts = np.asarray(folds)
    held_apart = tempered(probabilities, temperatures_held_apart(truth, probabilities, parts))
    tallies, costs, half_costs = [], [], []
    for fold in np.unique(parts):
        inside = parts == fold
        others = tempered(probabilities[~inside], fit_temperature(truth[~inside], probabilities[~inside]))
        chosen = choose(is_defect[~inside], others[:, ~may_ship].sum(axis=1), wishes)
        judged = held_apart[inside][:, ~may_ship].sum(axis=1)
        tallies.append(tally(is_defect[inside], judged, chosen))
        costs.append(tallies[-1].cost(wishes, chosen.review_cost))
        half_costs.append(tally(is_defect[inside], judged, HALF).cost(wishes, None))
    temperature = fit_temperature(truth, probabilities)
    chosen = choose(is_defect, tempered(probabilities, temperature)[:, ~may_ship].sum(axis=1), wishes)
    decision = Decision(
        temperature=temperature,
        ok_classes=tuple(ok_classes),
        ok_below=chosen.ok_below,
        ng_from=chosen.ng_from,
    )
    sure, right = held_apart.max(axis=1), held_apart.argmax(axis=1) == truth
    error = bootstrap(lambda drawn: calibration_error(sure[drawn], right[drawn]), len(truth))
    made = Study(decision, wishes, tuple(tallies), tuple(costs), tuple(half_costs), error)
    return replace(made, decision=decision.model_copy(update={"origin": made.describe()}))
