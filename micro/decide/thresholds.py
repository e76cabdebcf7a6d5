"""Where OK ends and NG begins, from what an escape and an overkill cost.

An escape is a defect that ships, an overkill a good frame that is thrown away.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from micro.decide.verdict import NG, OK, REVIEW
from micro.errors import BadSetting
from micro.score.interval import Interval, proportion

# With fewer, not even a rate of 10 % could be ruled out where none was seen (Wilson, 95 %).
LEAST_OF_A_KIND = 35


@dataclass(frozen=True)
class Wishes:
    """What errors cost, in one currency, and what may not happen.

    review: cost of a person's look at one frame. review_rate: in place of that cost, the share of frames that people
    can look at, 0..1. None of both: no frame is REVIEW.
    max_escape: share of the defects, 0..1, that may ship at most, with 95 % confidence.
    ng_share: share of defects among the frames of the line, 0..1; that of the frames at hand if None.
    """

    escape: float = 20.0
    overkill: float = 1.0
    review: float | None = None
    review_rate: float | None = None
    max_escape: float | None = None
    ng_share: float | None = None

    def __post_init__(self) -> None:
        costs = (self.escape, self.overkill, 1.0 if self.review is None else self.review)
        if not all(math.isfinite(cost) and cost > 0 for cost in costs):
            raise BadSetting("Costs are numbers above 0.")
        if self.review is not None and self.review_rate is not None:
            raise BadSetting("Either a cost of review or a rate of review; one follows from the other.")
        if self.review_rate is not None and not 0 <= self.review_rate < 1:
            raise BadSetting(f"A review rate is a share from 0 to 1, not {self.review_rate:g}.")
        for share, name in ((self.max_escape, "largest escape rate"), (self.ng_share, "share of defects")):
            if share is not None and not 0 < share < 1:
                raise BadSetting(f"A {name} is a share between 0 and 1, not {share:g}.")


@dataclass(frozen=True)
class Thresholds:
    """A frame is OK where its probability of a defect is less than ok_below, NG from ng_from on, REVIEW between.

    review_cost: of one REVIEW, given or implied by the rate; None where there is none.
    """

    ok_below: float
    ng_from: float
    review_cost: float | None = None

    def verdict(self, defect_probability: float) -> str:
        """Return OK, REVIEW or NG."""
        if defect_probability < self.ok_below:
            return OK
        return NG if defect_probability >= self.ng_from else REVIEW


@dataclass(frozen=True)
class Tally:
    """Verdicts beside the truth: how many defects escaped or were reviewed, and the same of good frames."""

    defects: int
    escapes: int
    reviewed_defects: int
    good: int
    overkills: int
    reviewed_good: int

    @property
    def escape(self) -> Interval:
        """Share of the defects that ship."""
        return proportion(self.escapes, self.defects)

    @property
    def overkill(self) -> Interval:
        """Share of the good frames that are thrown away."""
        return proportion(self.overkills, self.good)

    def review_rate(self, ng_share: float | None = None) -> float:
        """Return the share of frames that a person looks at, where so many frames are defects."""
        share = self.defects / (self.defects + self.good) if ng_share is None else ng_share
        good = self.reviewed_good / max(self.good, 1)
        return share * self.reviewed_defects / max(self.defects, 1) + (1 - share) * good

    def cost(self, wishes: Wishes, review_cost: float | None) -> float:
        """Return what these frames cost together, each defect and good frame weighted as often as the line has it."""
        weight = _weights(np.array([True] * self.defects + [False] * self.good), wishes.ng_share)
        defect, good = (weight[0] if self.defects else 0.0), (weight[-1] if self.good else 0.0)
        review = review_cost or 0.0
        return float(
            defect * (self.escapes * wishes.escape + self.reviewed_defects * review)
            + good * (self.overkills * wishes.overkill + self.reviewed_good * review)
        )


def refuse_too_few(is_defect: NDArray[np.bool_], wishes: Wishes) -> None:
    """Raise BadSetting where the frames are too few to say what was asked."""
    defects, good = int(is_defect.sum()), int((~is_defect).sum())
    for count, name in ((defects, "frames with a defect"), (good, "frames that may ship")):
        if count < LEAST_OF_A_KIND:
            raise BadSetting(
                f"{count} {name} are too few: with fewer than {LEAST_OF_A_KIND} nobody knows whether one in ten is "
                f"judged wrong. Annotate more."
            )
    if wishes.max_escape is not None and _escapes_allowed(defects, wishes.max_escape) is None:
        needed = math.ceil(_Z2 * (1 - wishes.max_escape) / wishes.max_escape)
        raise BadSetting(
            f"An escape rate of at most {wishes.max_escape:.2%} cannot be shown with {defects} frames with a defect, "
            f"even if none escapes: that takes {needed}. Annotate more, or ask for "
            f"{math.ceil(1e4 * _Z2 / (defects + _Z2)) / 1e4:.2%} or above."
        )


_Z2 = 1.959964**2


def choose(is_defect: NDArray[np.bool_], defect_probability: NDArray[np.floating], wishes: Wishes) -> Thresholds:
    """Return the thresholds of least expected cost, of those that let no more defects ship than max_escape allows.

    A frame of probability p costs p * escape if it ships and (1 - p) * overkill if not; the cheaper verdict wins, or
    REVIEW where that is cheaper than both (C. Elkan, IJCAI 2001; C. K. Chow, IEEE Trans. Inf. Theory 16 (1970) 41).
    The probabilities must be calibrated on the frames at hand; where the line has another share of defects, their odds
    change with it.

    is_defect, defect_probability: (N,) truth and calibrated probability of each frame.
    """
    defects, good = int(is_defect.sum()), int((~is_defect).sum())
    tilt = 1.0 if wishes.ng_share is None else wishes.ng_share / (1 - wishes.ng_share) * good / max(defects, 1)
    on_line = _tilted(np.asarray(defect_probability, np.float64), tilt)
    escape, overkill = on_line * wishes.escape, (1 - on_line) * wishes.overkill
    weight = _weights(is_defect, wishes.ng_share)
    review = wishes.review
    if wishes.review_rate is not None:
        review = _worst(np.minimum(escape, overkill), weight, wishes.review_rate)
    low = high = wishes.overkill / (wishes.overkill + wishes.escape)
    if review is not None and review < low * wishes.escape:
        low, high = review / wishes.escape, 1 - review / wishes.overkill
    ok_below, ng_from = (float(_tilted(np.array(limit), 1 / tilt)) for limit in (low, high))
    if wishes.max_escape is not None:
        allowed = _escapes_allowed(defects, wishes.max_escape) or 0
        found = np.sort(np.asarray(defect_probability, np.float64)[is_defect])
        strictest = min([ok_below, *map(float, found[allowed : allowed + 1])])
        if strictest < ok_below:
            ok_below = strictest
            if wishes.review_rate is not None:  # what may no longer ship takes the place of other frames
                risk = np.where(defect_probability < ok_below, escape, overkill)
                review = _worst(risk, weight, wishes.review_rate)
            high = 0.0 if review is None else max(0.0, 1 - review / wishes.overkill)
            ng_from = max(ok_below, float(_tilted(np.array(high), 1 / tilt)))
    return Thresholds(ok_below, ng_from, review)


def tally(is_defect: NDArray[np.bool_], defect_probability: NDArray[np.floating], thresholds: Thresholds) -> Tally:
    """Count the verdicts that thresholds give to frames whose truth is known."""
    ships, stays = defect_probability < thresholds.ok_below, defect_probability >= thresholds.ng_from
    looked = ~ships & ~stays
    return Tally(
        defects=int(is_defect.sum()),
        escapes=int((ships & is_defect).sum()),
        reviewed_defects=int((looked & is_defect).sum()),
        good=int((~is_defect).sum()),
        overkills=int((stays & ~is_defect).sum()),
        reviewed_good=int((looked & ~is_defect).sum()),
    )


def _escapes_allowed(defects: int, max_escape: float) -> int | None:
    """Return how many of so many defects may escape for the Wilson interval to end below max_escape; None: not one."""
    allowed = None
    for escapes in range(defects):
        if proportion(escapes, defects).high > max_escape:
            break
        allowed = escapes
    return allowed


def _tilted(probability: NDArray[np.float64], tilt: float) -> NDArray[np.float64]:
    """Return probabilities whose odds are `tilt` times as high."""
    return np.asarray(probability * tilt / (probability * tilt + 1 - probability))


def _weights(is_defect: NDArray[np.bool_], ng_share: float | None) -> NDArray[np.float64]:
    """Return how often each frame counts, 1 on average, so that ng_share of all are defects."""
    share = is_defect.mean()
    if ng_share is None or share in (0, 1):
        return np.ones(len(is_defect))
    weights: NDArray[np.float64] = np.where(is_defect, ng_share / share, (1 - ng_share) / (1 - share))
    return weights


def _worst(risk: NDArray[np.float64], weight: NDArray[np.float64], rate: float) -> float | None:
    """Return the risk that at most a share `rate` of the frames exceed; None where that is not one frame."""
    order = np.argsort(-risk, kind="stable")
    count = int(np.searchsorted(np.cumsum(weight[order]) / weight.sum(), rate + 1e-9, side="right"))
    if count == 0:
        return None
    beyond = risk[order[count]] if count < len(risk) else 0.0
    return max(float(risk[order[count - 1]] + beyond) / 2, 1e-12)
