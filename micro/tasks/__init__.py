"""What a network must output, how its maps become regions, and what is measured: one file a task.

A task is a module of this package with a constant `TASK`. Nothing else names it: `find` and `names` look here.
"""

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from micro.card import START, Card, Channels
from micro.document import no_truth, reasons
from micro.errors import BadSetting
from micro.illumination import Scaling
from micro.micrograph import Micrograph
from micro.recipe import Recipe
from micro.regions import Columns, Regions

Annotation = Literal["instances", "classes", "frames"]
"""What images are annotated with: a number for each region, a class for each pixel, or a class for the whole frame."""

TWIN = 1 << 24
"""What is added to the number of a region in its twins, when a network is trained; no colour is as large a number."""


class TaskSettings(BaseModel):
    """Settings of a task, each with a default, bounds and a description; the same model is flag, form and YAML."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    _no_truth = field_validator("*", mode="before")(no_truth)


@dataclass(frozen=True, eq=False)
class Targets:
    """What a segmenter should answer for one annotated image.

    maps: (K, Y, X) float32 in 0..1, one per task output.
    weight: (Y, X) float32, how much each pixel counts in the loss; 0 where nothing is known.
    """

    maps: NDArray[np.float32]
    weight: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Lesson:
    """An image that trains: its instances (Y, X) from 1, negative where nothing is known, and the class of each."""

    image: Micrograph
    labels: NDArray[np.int32]
    classes: tuple[str, ...]


def class_maps(labels: NDArray[np.int32], classes: Sequence[str]) -> Targets:
    """Turn numbers of classes (Y, X) into one map a class, for a task whose outputs these are. Negative: unknown."""
    maps = np.stack([labels == number for number in range(len(classes))]).astype(np.float32)
    return Targets(maps, (labels >= 0).astype(np.float32))


@dataclass(frozen=True, eq=False)
class Identity:
    """What the regions of one image are, found from all of them together.

    class_names: one a region. columns: what else is known of each. notes: facts that concern the whole image.
    """

    class_names: tuple[str, ...]
    columns: Columns
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Zoom:
    """At which scale an image is shown to the network, and a sentence on why, where it is not the image's own."""

    factor: float = 1.0
    notes: tuple[str, ...] = ()


Finder = Callable[[NDArray[np.generic], Any], Regions]
"""What finds regions in pixels (y, x, C) by settings of the task, before a scale is chosen."""


@dataclass(frozen=True)
class Habits:
    """How networks of a task are usually trained; a plan starts from here.

    network: encoder of the U-Net, or classifier, by name.
    decoder_channels: width of each level of the U-Net's decoder; one level each.
    crop_px: edge of a training crop; frames that are classified are resized instead.
    """

    network: str = "resnet18"
    decoder_channels: tuple[int, ...] = (128, 64, 32, 16)
    crop_px: int = 256
    batch: int = 8
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    label_smoothing: float = 0.0
    ema_decay: float = 0.99


@dataclass(frozen=True)
class Task:
    """One kind of question put to an image.

    channels: what its networks may see of an image, the usual one first.
    outputs: names of the segmenter's maps; empty for a task that only classifies whole frames, and for one whose maps
        are the classes of a folder until it is `named`.
    settings: the pydantic model of what a user may change.
    scaling: pixels (Y, X, C) -> Scaling, once an image, on the grid that the network sees.
    zoom: pixels (Y, X, C) on the card's grid, settings, and what finds regions in other pixels (y, x, C) at their own
        scale by other settings -> Zoom, where the network is to see the image larger or smaller.
    encode: instance labels (Y, X) int32, TWIN added in twins -> Targets, for training.
    decode: maps (K, Y, X) uint8, 255 for a probability of 1, and settings -> Regions. It must be able to work through
        20,000 x 20,000 pixels: no float map of the whole image.
    refine: regions, pixels (Y, X, C) on the network's grid, their scaling, settings -> regions, where the pixels tell
        more than the maps did.
    measure: regions on the image's own grid and that image -> columns, one value a region.
    identify: those regions, that image, their columns and settings -> what each region is, where the network does not
        say.
    spoil: scaled pixels (y, x, C), labels (y, x), random generator -> those pixels with faults of preparation drawn on
        them, which do not change the answer; for training.
    sum_up: those maps and settings -> probability of each class of the frame, where no classifier names it.
    refuse: settings and the names of what a bundle's networks put out -> nothing, or BadSetting where it cannot do what
        they ask for.
    judge: probability of each class of the frame, settings and recipe -> OK, REVIEW or NG.
    judge_regions: regions on the image's own grid, settings and recipe -> OK, REVIEW or NG.
    habits: how networks of this task are usually trained.
    colour_is_evidence: training must not shift hues or exchange channels.
    orientation_is_evidence: training must not turn or mirror images.
    regions_of: numbers of classes of pixels (Y, X) int32, negative where nothing is known, and the names of the classes
        -> instances (Y, X) int32 as `encode` takes them, and the class of each, where a folder may name its pixels
        although the network does not. Raises BadSetting for a name that means nothing to the task.
    settings_of: images that train, whose regions people named -> settings that this tells, for the card.
    of_classes: names of the classes of pixels, background first -> this task for them, its labels their numbers; none
        -> this task without a segmenter. None for a task with outputs of its own.
    """

    name: str
    channels: tuple[Channels, ...]
    outputs: tuple[str, ...]
    settings: type[TaskSettings]
    scaling: Callable[[NDArray[np.generic]], Scaling]
    zoom: Callable[[NDArray[np.generic], Any, Finder], Zoom] | None = None
    encode: Callable[[NDArray[np.int32]], Targets] | None = None
    decode: Callable[[NDArray[np.uint8], Any], Regions] | None = None
    refine: Callable[[Regions, NDArray[np.generic], Scaling, Any], Regions] | None = None
    measure: Callable[[Regions, Micrograph], Columns] | None = None
    identify: Callable[[Regions, Micrograph, Columns, Any], Identity] | None = None
    spoil: Callable[[NDArray[np.float32], NDArray[np.int32], np.random.Generator], NDArray[np.float32]] | None = None
    sum_up: Callable[[NDArray[np.uint8], Any], dict[str, float]] | None = None
    refuse: Callable[[Any, tuple[str, ...]], None] | None = None
    judge: Callable[[Mapping[str, float], Any, Recipe], str] | None = None
    judge_regions: Callable[[Regions, Any, Recipe], str] | None = None
    habits: Habits = Habits()
    colour_is_evidence: bool = False
    orientation_is_evidence: bool = False
    regions_of: Callable[[NDArray[np.int32], tuple[str, ...]], tuple[NDArray[np.int32], tuple[str, ...]]] | None = None
    settings_of: Callable[[Sequence[Lesson]], dict[str, Any]] | None = None
    of_classes: Callable[[tuple[str, ...]], "Task"] | None = None

    @property
    def annotations(self) -> tuple[Annotation, ...]:
        """What a folder may be annotated with for this task."""
        pixels: tuple[Annotation, ...] = ("classes",) if self.of_classes or self.regions_of else ()
        regions: tuple[Annotation, ...] = ("instances",) if self.outputs and not self.of_classes else ()
        frames: tuple[Annotation, ...] = () if self.judge is None else ("frames",)
        return pixels + regions + frames

    def named(self, classes: tuple[str, ...]) -> "Task":
        """Return this task for the classes of a folder or a bundle; a task with outputs of its own stays as it is."""
        return self if self.of_classes is None else self.of_classes(classes)


def settings_of(task: Task, card: Card, recipe: Recipe) -> TaskSettings:
    """Return the settings by which a bundle answers: those of the recipe, else of its card, else of the task.

    Raises BadSetting where the task does not take them.
    """
    try:
        found = task.settings.model_validate({**card.settings, **recipe.settings})
    except ValidationError as fault:
        offered = ", ".join(f"{name}={info.default!r}" for name, info in task.settings.model_fields.items())
        raise BadSetting(f"{task.name}: {reasons(fault)}. Settings and their defaults: {offered or 'none'}.") from fault
    if task.refuse is not None:
        there = (card.classifier, card.segmenter)
        task.refuse(found, tuple(name for network in there if network for name in network.outputs))
    return found


def of(card: Card) -> Task:
    """Return the task of a bundle, for the classes of pixels that its segmenter tells apart; see `find`."""
    return find(card.task).named(card.segmenter.outputs if card.segmenter else ())


def names() -> tuple[str, ...]:
    """Return the names of all tasks, sorted."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def find(name: str) -> Task:
    """Return the task of that name, or raise BadSetting."""
    if name == START:
        raise BadSetting(
            "This bundle is a start for training and answers no image. Train from it, and predict with what comes out: "
            "micro train FOLDER --task TASK --from BUNDLE --out DIR."
        )
    if name not in names():
        raise BadSetting(f"No task {name!r}. There are: {', '.join(names())}.")
    task = importlib.import_module(f"{__name__}.{name}").TASK
    assert isinstance(task, Task)
    return task
