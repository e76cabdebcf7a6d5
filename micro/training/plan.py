"""What will be trained, on what, for how long: derived from the folder, printed, and kept beside the weights."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch.utils.flop_counter import FlopCounterMode

from micro import bundle as bundles
from micro import networks, tasks
from micro.bundle import Bundle
from micro.card import NetworkSpec
from micro.document import read_yaml, reasons
from micro.engine import pick_device
from micro.errors import BadFolder, BadSetting
from micro.folder import Annotated, AnnotatedFolder
from micro.score.folds import set_apart
from micro.tasks import Annotation

Precision = Literal["fp32", "bf16"]
# What two desktop cores do in training: products, and values that the layers hand on, which is most of the work where
# convolutions see one channel each; and how long one core takes to change an image for the next step, which is longer
# than a small network learns from it. Constants and not measurements, so that the same command gives the same plan (how
# far they are from a machine: python -m tests.benchmarks.minutes).
FLOPS_PER_SECOND = 1.7e11
VALUES_PER_SECOND = 5e8
SECONDS_AN_IMAGE = 1e-3
FASTER: dict[Precision, float] = {"fp32": 1, "bf16": 2}
# A step of training costs about three forward passes: forward, and backward to inputs and to weights.
PASSES_PER_STEP = 3
# A bundle that goes on with its own question could lose what it knows at the rate that learns from nothing. A new
# question has little to lose: there a quarter of the rate cost most of the score (python -m tests.benchmarks.little).
GENTLER = 0.25
# Share of the steps in which only a classifier's new last layer learns: what flows back from it is noise at first.
FROZEN_SHARE = 0.2
UNMEASURED_HALO_STRIDES = 6
# One group of images in so many is held out.
HELD_OUT_OF = 5
# Pixels left out between the part of an image that trains and the part that is held out.
PLACE_GAP_PX = 32
WANTED: dict[Annotation, str] = {
    "instances": "masks beside images/ that number regions, without a classes.yaml",
    "classes": "masks beside images/ whose values a classes.yaml names",
    "frames": "one folder a class",
}
# What a plan says it starts from where that is no bundle.
IMAGENET: Literal["imagenet"] = "imagenet"
# Where at most so many images are annotated a training begins from its task's start unless told otherwise.
FEW_IMAGES = 10
STARTS = {"grains": "start-segment", "phases": "start-segment"}
# Name of the plan's file in a bundle.
PLAN = "plan.json"


class TrainingPlan(BaseModel):
    """Everything that decides what comes out of training; the same plan on the same folder gives the same weights.

    held_out: names of the images that are never trained on; empty where the split is by place or by folds.
    held_out_share: share of each image's width, at its right, that is never trained on (split by place).
    start: bundle that training begins from, as name, version and the first digits of its weights' hash; or "imagenet".
    frozen_steps: steps at the beginning in which the layers that were taken from the start stand still, and only the
        others and the last one learn.
    folds: how often the images are divided to measure what training gives; the shipped weights then saw all of them.
    beside: names of further folders that train and measure nothing; each gives as many crops as the folder itself.
    precision: of the products in forward and backward passes; weights, sums and the loss are float32 always.
    class_weights: how much a frame or pixel of each class counts in the loss, in the order of the network's outputs;
        crops then lie as often on one class as on another. Empty: every frame and pixel alike.
    dice: share of the soft Dice loss of maps, in which a small class counts as much as a large one; the rest is
        cross-entropy.
    scale: at which images are shown to the network, for a task with such a setting; the bundle's card then says so.
    unlabelled: name of a folder of images that nobody annotated: in the second half every other step learns what the
        averaged weights are sure of there.
    patience: epochs of 50 steps without a better score, by the engine, on images set aside from those that train; then
        training stops, and the best weights are taken. 0: all train, and all steps are done.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str
    folder: str
    network: NetworkSpec
    crop_px: int = Field(ge=32, le=2048)
    batch: int = Field(ge=1, le=256)
    steps: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    label_smoothing: float = Field(ge=0, lt=1)
    ema_decay: float = Field(ge=0, lt=1)
    seed: int = Field(ge=0)
    start: str | None = None
    frozen_steps: int = Field(default=0, ge=0)
    split: Literal["image", "place", "folds"]
    held_out: tuple[str, ...] = ()
    held_out_share: float = Field(default=0, ge=0, lt=1)
    folds: int = Field(default=0, ge=0, le=20)
    beside: tuple[str, ...] = ()
    precision: Precision = "fp32"
    class_weights: tuple[float, ...] = ()
    dice: float = Field(default=0, ge=0, le=1)
    scale: float = Field(default=1, gt=0, le=4)
    unlabelled: str | None = None
    patience: int = Field(default=0, ge=0)

    @property
    def task_learned(self) -> tasks.Task:
        """The task, for the classes of pixels that the network tells apart where it does."""
        return tasks.find(self.task).named(self.network.outputs if self.network.kind == "unet" else ())

    @property
    def finds_instances(self) -> bool:
        """Whether the network finds regions, and tells no classes of pixels or frames apart."""
        return "instances" in self.task_learned.annotations

    def describe(self) -> str:
        """Return the plan as it is printed before training starts."""
        runs = self.folds + 1
        spec = self.network
        shape = f"{spec.encoder_name} {spec.decoder_channels}" if spec.kind == "unet" else f"{spec.encoder_name}"
        return "\n".join(
            (
                f"task       {self.task}, outputs {', '.join(spec.outputs)}",
                f"network    {spec.kind} {shape}, sees {'colour' if spec.channels == 'rgb' else 'brightness'}",
                f"begins     from {self.start or 'random weights'}, seed {self.seed}"
                + (f"; what it took stands still for {self.frozen_steps} steps" if self.frozen_steps else ""),
                f"training   {self.steps} steps of {self.batch} crops of {self.crop_px} px"
                + (f" at {self.scale:g} of the images' scale" if self.scale != 1 else "")
                + (f", {runs} times" if runs > 1 else "")
                + (f", in equal shares from {', '.join((self.folder, *self.beside))}" if self.beside else "")
                + (f", then also from {self.unlabelled}, which nobody annotated" if self.unlabelled else "")
                + (f", or until {self.patience} epochs are no better" if self.patience else ""),
                f"optimiser  AdamW {self.learning_rate:g}{self._describe_rate()}, decay {self.weight_decay:g}, cosine, "
                f"EMA {self.ema_decay:g}",
                f"products   in {self.precision}",
                f"loss       {self._describe_loss()}",
                f"held out   {self.describe_held_out()}",
            )
        )

    def _describe_rate(self) -> str:
        usual = self.task_learned.habits.learning_rate
        is_gentle = self.start and math.isclose(self.learning_rate, usual * GENTLER)
        return f" ({GENTLER:g} of the usual, for a bundle that goes on with its own question)" if is_gentle else ""

    def _describe_loss(self) -> str:
        mixed = f"{1 - self.dice:g} cross-entropy and {self.dice:g} soft Dice" if self.dice else "cross-entropy"
        weighed = zip(self.network.outputs, self.class_weights, strict=False)
        weights = ", ".join(f"{name} {weight:g}" for name, weight in weighed)
        return mixed + (f"; weights {weights}" if weights else "")

    def describe_held_out(self) -> str:
        """Return what measures the training, in words."""
        return {
            "image": f"{len(self.held_out)} whole images that never trained, chosen with seed {self.seed}",
            "place": f"the right {self.held_out_share:.0%} of every image, {PLACE_GAP_PX} px from what trained, "
            "each image predicted whole",
            "folds": f"each image once, in {self.folds} folds, groups and copies kept together, seed {self.seed}",
        }[self.split]


def plan(
    folder: AnnotatedFolder,
    task_name: str,
    minutes: float,
    *,
    seed: int = 0,
    network: str | None = None,
    folds: int = 0,
    start: Bundle | Literal["imagenet"] | None = None,
    beside: Sequence[AnnotatedFolder] = (),
    device: str = "cpu",
    colour: bool = False,
    balance: bool = False,
    unlabelled: str | None = None,
) -> TrainingPlan:
    """Derive a plan that takes about `minutes` on two cores, and less on a GPU.

    network: encoder or classifier by name; that of `start`, or the task's usual one, if None.
    folds: 2 or more divide the groups of images into that many folds; 0 holds out a fifth of the images, or a quarter
        of each image where there are fewer than ten.
    start: bundle to begin from, or "imagenet" where the machine can download that; layers of the same name and shape
        take its weights. A classifier of other classes than its start's is frozen but for its last layer at first.
        Where a bundle answers this very question, the same task and classes, it learns on at a quarter of the task's
        learning rate; everything else begins at the whole.
    beside: folders whose images train as well, such as drawn scenes; none of them measures.
    unlabelled: name of a folder of images that nobody annotated, to learn from as well.
    colour: see the colours of the images, where the task sees their brightness otherwise. A bundle of this task that
        training begins from hands on what it sees.
    balance: count rare classes more, by one over the root of their share, so that all together weigh what they did.
    device: on which it is to be trained; CUDA multiplies in bfloat16, and so does a CPU that is fast at it.

    Raises BadFolder when the folder's annotations are not what the task learns from, BadSetting for an unknown network,
    for minutes that are none and for colour where no image has any.
    """
    if not 0 < minutes < math.inf:
        raise BadSetting(f"{minutes:g} minutes: a training takes some, such as 25.")
    task = tasks.find(task_name)
    for each in (folder, *beside):
        if each.annotation not in task.annotations:
            wanted = ", or from ".join(WANTED[annotation] for annotation in task.annotations)
            raise BadFolder(
                f"{each.root}: {task_name} learns from {wanted}, and this folder has {WANTED[each.annotation]}."
            )
        if each.classes != folder.classes:
            raise BadFolder(f"{each.root}: its classes are not those of {folder.root}.")
    groups = len({item.group for item in folder.images})
    if folds and not 2 <= folds <= groups:
        raise BadSetting(f"{folds} folds: at least 2, and no more than the {groups} groups of images in the folder.")
    task = task.named(folder.classes if folder.annotation == "classes" else ())
    begun = None
    if isinstance(start, Bundle):
        begun = start.card.segmenter if task.outputs else start.card.classifier
        if begun is None:
            raise BadSetting(f"{start.card.name} has no {'segmenter' if task.outputs else 'classifier'} to begin from.")
    if colour and not any(item.image.is_coloured for each in (folder, *beside) for item in each.images):
        raise BadSetting(f"{folder.root}: its images are grey, and there is no colour to learn from.")
    is_same_task = isinstance(start, Bundle) and start.card.task == task_name
    channels = task.channels[0]
    if colour or (is_same_task and begun is not None and begun.channels == "rgb"):
        channels = "rgb"
    habits = task.habits
    crop_px = habits.crop_px if task.outputs else _frame_px(folder.images)
    spec = NetworkSpec(
        kind="unet" if task.outputs else "classifier",
        encoder_name=network or (begun.encoder_name if begun else habits.network),
        in_channels=3 if channels == "rgb" else 1,
        outputs=task.outputs or folder.classes,
        decoder_channels=(begun.decoder_channels if begun else habits.decoder_channels) if task.outputs else (),
        input_px=None if task.outputs else crop_px,
    )
    enough = len(folder.images) >= 10 and groups >= HELD_OUT_OF
    split: Literal["image", "place", "folds"] = "folds" if folds else "image" if enough else "place"
    if unlabelled is not None and not task.outputs:
        raise BadSetting(f"{task_name} names whole frames, and only maps are learned from images without annotation.")
    if split == "place" and not task.outputs:
        raise BadFolder(
            f"{folder.root}: {len(folder.images)} images in {groups} groups are too few to hold some out; ten in "
            f"{HELD_OUT_OF} groups are needed."
        )
    if task.outputs:
        # wide enough for every network offered while training measures itself; what it really needs is measured then
        spec = spec.model_copy(update={"halo_px": UNMEASURED_HALO_STRIDES * spec.stride_px})
    held_out = _held_out(folder, seed) if split == "image" else ()
    if split == "image" and not held_out:
        raise BadFolder(f"{folder.root}: each image that could be held out is all of its class. Annotate more.")
    fast = {"cuda": True, "cpu": networks.learns_sooner_in_bfloat16(spec)}
    precision: Precision = "bf16" if fast.get(pick_device(device).type, False) else "fp32"
    # minutes are those of the two cores whatever the device, so that the same command gives the same number of steps
    cores: Precision = "bf16" if fast["cpu"] else "fp32"
    steps = max(1, round(minutes * 60 / (folds + 1) / seconds_a_step(spec, crop_px, habits.batch, cores)))
    goes_on = is_same_task and begun is not None and begun.outputs == spec.outputs
    return TrainingPlan(
        task=task_name,
        folder=folder.root.resolve().name,
        network=spec,
        crop_px=crop_px,
        batch=habits.batch,
        steps=steps,
        learning_rate=habits.learning_rate * (GENTLER if goes_on else 1),
        weight_decay=habits.weight_decay,
        label_smoothing=habits.label_smoothing,
        ema_decay=habits.ema_decay,
        seed=seed,
        start=_described(start),
        frozen_steps=round(steps * FROZEN_SHARE) if start is not None and not task.outputs and not goes_on else 0,
        split=split,
        held_out=held_out,
        held_out_share=0.25 if split == "place" else 0,
        folds=folds,
        beside=tuple(each.root.resolve().name for each in beside),
        precision=precision,
        class_weights=_class_weights(folder) if balance else (),
        unlabelled=unlabelled,
    )


def usual_start(folder: AnnotatedFolder, task_name: str) -> Bundle | None:
    """Return what a training begins from where nobody says it: a start if few images are annotated; None for nothing.

    Short trainings on one to ten images of something new get further from there than from random weights; longer ones
    did in one source of two (python -m tests.benchmarks.little).
    """
    name = STARTS.get(task_name)
    is_few = len(folder.images) <= FEW_IMAGES
    return bundles.load(name) if is_few and name in bundles.installed() else None


def write_plan(path: Path, made: TrainingPlan) -> None:
    """Write a plan as YAML, to be read and edited; `read_plan` reads it back."""
    path.write_text(yaml.safe_dump(made.model_dump(mode="json"), sort_keys=False, allow_unicode=True), encoding="utf-8")


def read_plan(path: Path, derived: TrainingPlan, images: Sequence[Annotated]) -> TrainingPlan:
    """Read an edited plan for the same folders, task and start as a derived one.

    Raises BadSetting when it is no plan, is one for other folders, classes or weights to begin from, or leaves nothing
    to train on or to measure.
    """
    try:
        edited = TrainingPlan.model_validate(read_yaml(path))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValidationError) as fault:
        raise BadSetting(f"{path}: not a plan. {reasons(fault)}") from fault
    for name in ("task", "folder", "start", "beside", "unlabelled"):
        if getattr(edited, name) != getattr(derived, name):
            raise BadSetting(
                f"{path}: its {name} is {getattr(edited, name)!r}, and the command says {getattr(derived, name)!r}."
            )
    if (edited.network.kind, edited.network.outputs) != (derived.network.kind, derived.network.outputs):
        raise BadSetting(f"{path}: its network must answer with {', '.join(derived.network.outputs)}.")
    networks.refuse_unknown(edited.network)
    if edited.network.channels not in edited.task_learned.channels:
        raise BadSetting(f"{path}: network: in_channels: {edited.task} sees {edited.task_learned.channels[0]} images.")
    if edited.network.kind == "classifier" and edited.crop_px != edited.network.input_px:
        raise BadSetting(
            f"{path}: crop_px is {edited.crop_px} and the network's input_px {edited.network.input_px}: frames are "
            f"learned and named at one size. Edit both."
        )
    if edited.network.kind == "classifier" and edited.split == "place":
        raise BadSetting(f"{path}: split: a part of a frame has no class. Take image or folds.")
    if edited.frozen_steps and edited.start is None:
        raise BadSetting(f"{path}: frozen_steps: it begins from random weights, and nothing stands still.")
    if edited.class_weights and (problem := _wrong_weights(edited)):
        raise BadSetting(f"{path}: class_weights: {problem}")
    if edited.scale != 1 and "scale" not in edited.task_learned.settings.model_fields:
        raise BadSetting(f"{path}: scale: {edited.task} shows images to the network at their own scale.")
    if edited.dice and edited.network.kind != "unet":
        raise BadSetting(f"{path}: dice is a loss of maps, and a classifier has none.")
    held_out = set(edited.held_out)
    if strange := sorted(held_out - {item.image.name for item in images}):
        raise BadSetting(f"{path}: held out, but not in the folder: {', '.join(strange)}.")
    kept_back = sum(item.image.name in held_out for item in images)
    if edited.split == "image" and not 0 < kept_back < len(images):
        raise BadSetting(
            f"{path}: {kept_back} of {len(images)} images held out leave nothing to train on or to measure."
        )
    taught = {item.class_name for item in images if item.image.name not in held_out}
    if edited.split == "image" and (lost := {item.class_name for item in images} - taught):
        raise BadSetting(f"{path}: held out is all that there is of {', '.join(sorted(map(str, lost)))}.")
    both = {item.group for item in images if item.image.name in held_out} & {
        item.group for item in images if item.image.name not in held_out
    }
    if edited.split == "image" and both:
        torn = sorted(item.image.name for item in images if item.group in both)
        raise BadSetting(f"{path}: of one group and on both sides of the split: {', '.join(torn)}.")
    groups = len({item.group for item in images})
    if edited.split == "folds" and not 2 <= edited.folds <= groups:
        raise BadSetting(f"{path}: {edited.folds} folds: at least 2, and no more than the {groups} groups of images.")
    return edited


def _wrong_weights(plan: TrainingPlan) -> str | None:
    """Say what is wrong with the weights of classes, if anything is."""
    if plan.finds_instances:
        return f"{plan.task} finds regions and no classes. Leave them empty."
    if len(plan.class_weights) != len(plan.network.outputs):
        return f"one for each of {', '.join(plan.network.outputs)}, and there are {len(plan.class_weights)}."
    if not all(0 < weight < float("inf") for weight in plan.class_weights):
        return "each is above 0."
    return None


def _class_weights(folder: AnnotatedFolder) -> tuple[float, ...]:
    """Return one over the root of each class's share of frames or pixels, scaled so that their mean over those is 1."""
    if folder.annotation == "instances":
        raise BadSetting(f"{folder.root}: its masks number regions and name no classes that could be balanced.")
    counts = np.zeros(len(folder.classes))
    for item in folder.images:
        if item.labels is None:
            counts[folder.classes.index(item.class_name or "")] += 1
        else:
            counts += np.bincount(item.labels[item.labels >= 0], minlength=len(counts))
    if missing := [name for name, count in zip(folder.classes, counts, strict=True) if not count]:
        raise BadSetting(f"{folder.root}: nothing is annotated as {', '.join(missing)}, so nothing can be balanced.")
    weights = 1 / np.sqrt(counts)
    return tuple(float(f"{weight:.4g}") for weight in weights * counts.sum() / (weights * counts).sum())


def _described(start: Bundle | Literal["imagenet"] | None) -> str | None:
    if isinstance(start, Bundle):
        return f"{start.card.name} {start.card.version} ({start.card.weights_sha256[:12]})"
    return start


def _held_out(folder: AnnotatedFolder, seed: int) -> tuple[str, ...]:
    """Name a fifth of the images, of every class that has more than one group; never all that show a class."""
    images = folder.images
    chosen = set_apart([item.group for item in images], [item.class_name for item in images], HELD_OUT_OF, seed)
    held_out = [item for item, is_chosen in zip(images, chosen, strict=True) if is_chosen]
    if folder.annotation == "classes":
        taught = set[int]().union(
            *(_shown(item) for item, is_chosen in zip(images, chosen, strict=True) if not is_chosen)
        )
        needed = {item.group for item in held_out if not _shown(item) <= taught}
        held_out = [item for item in held_out if item.group not in needed]
    return tuple(item.image.name for item in held_out)


def _shown(item: Annotated) -> set[int]:
    """Return the numbers of the classes of an image's pixels."""
    assert item.labels is not None
    return set(np.unique(item.labels[item.labels >= 0]).tolist())


def _frame_px(images: Sequence[Annotated]) -> int:
    """Return the edge to which frames are resized: the median of their shorter edges, in steps of 32."""
    edges = [min(item.image.height_px, item.image.width_px) for item in images]
    return int(np.clip(round(float(np.median(edges)) / 32) * 32, 64, 224))


def seconds_a_step(spec: NetworkSpec, crop_px: int, batch: int, precision: Precision) -> float:
    """Return the seconds that two desktop cores take for a step of training on crops of an edge in px."""
    network = networks.build(spec).eval()
    values: list[int] = []
    for part in network.modules():
        if not list(part.children()):
            part.register_forward_hook(lambda _part, _given, answer: values.append(answer.numel()))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, spec.in_channels, crop_px, crop_px))
    products_s = counter.get_total_flops() * PASSES_PER_STEP / FLOPS_PER_SECOND
    learned_s = (products_s + sum(values) / VALUES_PER_SECOND) / FASTER[precision]
    return float(batch * max(learned_s, SECONDS_AN_IMAGE))
