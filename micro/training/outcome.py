"""What came of a training: the bundle, the way there, and where it fails."""

from dataclasses import dataclass

from micro.bundle import Bundle
from micro.training.plan import TrainingPlan
from micro.trial import Case, Trial


@dataclass(frozen=True)
class Curve:
    """How the loss of one training ("fold 2 of 5", "final") fell.

    points: steps done, and the mean loss over the steps since the point before.
    """

    part: str
    points: tuple[tuple[int, float], ...]


@dataclass(frozen=True, eq=False)
class Scored:
    """Answers to images that never trained.

    on: what the images are, in words.
    worst: those that were answered worst, the worst first.
    start: what the bundle that training began from says of the same images, or why that is not known.
    """

    on: str
    trial: Trial
    worst: tuple[Case, ...] = ()
    start: Trial | str = ""


@dataclass(frozen=True, eq=False)
class Outcome:
    """A training that is done.

    plan: as it lies in the bundle. scores: on each set of images that measured it, as on the card.
    """

    bundle: Bundle
    plan: TrainingPlan
    curves: tuple[Curve, ...]
    scores: tuple[Scored, ...]
