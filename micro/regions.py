"""What was found in an image, as values."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Columns = dict[str, NDArray[np.generic]]
"""A table: column name (noun, statistic, unit) -> one value a region."""


@dataclass(frozen=True, eq=False)
class Regions:
    """Regions of one image, read-only.

    labels: (Y, X) int32; 0 is background and region i has the value i, from 1 to the number of regions.
    class_names: one name a region, in the order of the labels.
    scores: (N,) float32 in 0..1, how sure the network is of each region.
    """

    labels: NDArray[np.int32]
    class_names: tuple[str, ...]
    scores: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.labels.ndim != 2 or self.labels.dtype != np.int32:
            raise ValueError(f"labels are (Y, X) int32, not {self.labels.shape} {self.labels.dtype}")
        if len(self.class_names) != len(self.scores):
            raise ValueError(f"{len(self.class_names)} class names for {len(self.scores)} scores")
        for name in ("labels", "scores"):
            view = getattr(self, name).view()
            view.flags.writeable = False
            object.__setattr__(self, name, view)

    def __len__(self) -> int:
        return len(self.class_names)


@dataclass(frozen=True)
class Maker:
    """Who made a prediction: enough to find the very weights again."""

    model: str
    model_version: str
    weights_sha256: str


@dataclass(frozen=True, eq=False)
class Prediction:
    """Everything that one bundle says about one image.

    regions: what the segmenter found; None where the bundle only classifies.
    table: one column a measure, one value a region, in the order of the labels.
    class_name, class_scores: what the classifier says of the whole frame; None and empty where there is none.
    verdict: OK, REVIEW or NG; None where the task passes no judgement.
    notes: facts the user should know about this answer ("grey image read as three equal channels").
    """

    image: str
    height_px: int
    width_px: int
    maker: Maker
    pixel_size_um: float | None = None
    pixel_size_source: str | None = None
    regions: Regions | None = None
    table: Columns = field(default_factory=dict)
    class_name: str | None = None
    class_scores: dict[str, float] = field(default_factory=dict)
    verdict: str | None = None
    notes: tuple[str, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True, eq=False)
class Glimpse:
    """What one tile showed as soon as the network had answered, for an eye that waits for the rest.

    chance: (y, x) uint8, the segmenter's first map, 255 for a probability of 1; a view that later tiles do not change.
    top_px, left_px: where its first pixel lies on the network's grid, which has shape_px (Y, X).
    """

    chance: NDArray[np.uint8]
    top_px: int
    left_px: int
    shape_px: tuple[int, int]


@dataclass(frozen=True)
class Quarantined:
    """An image that could not be judged, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Progress:
    """How far long work has come: `done` of `total` steps, what the last one was, and what it showed."""

    done: int
    total: int
    note: str = ""
    glimpses: tuple[Glimpse, ...] = ()
