"""Steps of training as a generator that can be interrupted, and the bundle that comes out."""

import math
import shutil
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from micro import bundle as bundles
from micro import decide, drift, networks, trial
from micro.card import START
from micro.engine import Engine, pick_device
from micro.errors import BadFolder, BadSetting, MicroError
from micro.folder import Annotated, AnnotatedFolder, reencoded
from micro.networks.fast import accelerate
from micro.networks.reach import choose_halo
from micro.score.folds import fold_numbers
from micro.training.guesses import guessed
from micro.training.making import README, Making, card_of, keep_readme
from micro.training.outcome import Curve, Outcome, Scored
from micro.training.plan import IMAGENET, PLAN, TrainingPlan
from micro.training.samples import Batch, Sampler
from micro.training.sides import fold_sides, set_aside, sides

CHECKPOINT = "checkpoint.pt"
STEPS_AN_EPOCH = 50
WARM_UP_SHARE = 0.05
# Share of the newest batch in what normalisation layers remember of batches; the weights' average smooths it further.
NEWEST_SHARE = 0.1
# A classifier is also tried on frames compressed like this: one that reads file types instead of defects fails there.
ROUGH_QUALITY = 75
ROUGH = f"the same frames re-encoded as JPEG of quality {ROUGH_QUALITY}"
HALO_IMAGES = 2
# So many images that were answered worst are shown to whoever trained.
WORST = 6
LEAST_HALO_STRIDES = 4
HEAD = "segmentation_head"
State = dict[str, Tensor]
Check = Callable[[State], float]


@dataclass(frozen=True)
class Epoch:
    """What some steps of training came to.

    part: which training this is ("fold 2 of 5", "final").
    done, total: steps of this part.
    loss: mean over the steps since the last epoch, which took so many seconds.
    score: of the engine's answers to images set aside, 0 to 1; None where nothing is set aside.
    """

    part: str
    done: int
    total: int
    loss: float
    seconds: float
    score: float | None = None

    @property
    def note(self) -> str:
        """The epoch in words, and how long its part still takes at this pace."""
        said = "" if self.score is None else f", score {self.score:.3f}"
        took = self.done % STEPS_AN_EPOCH or STEPS_AN_EPOCH
        left_s = (self.total - self.done) * self.seconds / took
        left = f", {_told(left_s)} left" if left_s else ""
        return f"{self.part}: loss {self.loss:.4f}{said}, {took} steps in {self.seconds:.0f} s{left}"


@dataclass
class _Way:
    """How far a training is.

    losses: steps done, and the mean loss over those since the entry before.
    best: after how many steps the weights did best on the images set aside, how well, and these weights.
    """

    losses: list[tuple[int, float]]
    best: tuple[int, float, State] | None

    @property
    def done(self) -> int:
        return self.losses[-1][0] if self.losses else 0

    def is_over(self, patience: int) -> bool:
        return self.best is not None and self.done - self.best[0] >= patience * STEPS_AN_EPOCH


class Fitted(NamedTuple):
    """The averaged weights of one training, and the way there."""

    weights: State
    curve: Curve


class _Tried(NamedTuple):
    """What networks said of images that they never saw, and what a line watches.

    answers: to frames, as the networks gave them; None where regions or pixels are the answer.
    """

    curves: list[Curve]
    scored: list[Scored]
    looks: list[drift.Statistics]
    answers: trial.Trial | None


def train_steps(
    plan: TrainingPlan, folder: AnnotatedFolder, out: Path, making: Making, resume: bool = False
) -> Generator[Epoch, None, Outcome]:
    """Train as planned, yielding after every few steps, and return what came of it; the bundle lies in out.

    A checkpoint lies in out/training after each yield; with `resume` training goes on from there, on a CPU bit for bit
    as if it had never stopped. Raises BadSetting when out holds a bundle, a README.md or the training of another plan.
    """
    work = out / "training"
    if (out / PLAN).exists():
        raise BadSetting(f"{out}: a trained bundle lies here. Take another --out.")
    _refuse_unmeasurable(plan, folder, making)
    _keep_plan(work / PLAN, plan, resume)
    curves, scored, looks, answers = yield from _folds(plan, folder, work, making)
    train, test = sides(plan, folder.images)
    samples, check = _lesson(plan, folder, train, work / "final", making)
    state, curve = yield from fit(plan, samples, work / "final", "final", making, check)
    if plan.network.kind == "unet":
        plan = _with_halo(plan, state, samples.whole_images(HALO_IMAGES))
    card = card_of(plan, folder, making, trained=train)
    if test:
        saved = bundles.save(work / "final", card, _named(plan, state))
        engine = Engine(saved, device=making.device)
        score = trial.run(engine, test)
        cases = trial.worst(engine, test, score, WORST)
        looks = [trial.statistics(engine, item.image) for item in test]
        if score.truth is not None:
            answers = score
            classes = [score.class_names[number] for number in score.truth]
            halves = fold_numbers(score.groups, classes, 2, plan.seed)
            score = _calibrated(score, _temperatures(score, halves))
        scored = [Scored(plan.describe_held_out(), score, cases, _of_the_start(making, engine, test))]
        if making.measure is not None:
            images = trial.measurable(making.measure.images)
            on = f"{making.measure.root.resolve().name}, {len(images)} images that nothing trained on"
            score = trial.run(engine, images)
            cases = trial.worst(engine, images, score, WORST)
            scored.insert(0, Scored(on, score, cases, _of_the_start(making, engine, images)))
    card = card.model_copy(update={"scores": tuple(row for each in scored for row in each.trial.measured(each.on))})
    if answers is not None:
        card = card.model_copy(update={"temperature": decide.fit_temperature(*answers.frames())})
    made = bundles.save(out, card, _named(plan, state))
    if answers is not None:
        trial.keep_answers(out, answers)
    # what a network says of images that it learned from is surer than what it will say on a line
    made.keep_reference(drift.reference(looks, f"{plan.folder}: {plan.describe_held_out()}"))
    sample = making.sample or (test or train)[0].image
    trial.keep_proof(out, sample, Engine(made, device=making.device).predict(sample))
    keep_readme(out, made.card, "\n\n".join(f"{each.on}\n{each.trial.describe()}" for each in scored))
    (out / PLAN).write_text(plan.model_dump_json(indent=2) + "\n", encoding="utf-8")
    shutil.rmtree(work)
    return Outcome(made, plan, (*curves, curve), tuple(scored))


def _folds(plan: TrainingPlan, folder: AnnotatedFolder, work: Path, making: Making) -> Generator[Epoch, None, _Tried]:
    """Train one network a fold, try each on the images it never saw, and return what all of them came to.

    Frames are tried as they are, and again after strong compression.
    """
    plain: list[trial.Trial] = []
    rough: list[trial.Trial] = []
    begun: list[trial.Trial | str] = []
    cases: list[trial.Case] = []
    tried = _Tried([], [], [], None)
    for number in range(plan.folds):
        train, test = fold_sides(plan, folder.images, number)
        place = work / f"fold-{number + 1}"
        samples, check = _lesson(plan, folder, train, place, making)
        state, curve = yield from fit(plan, samples, place, f"fold {number + 1} of {plan.folds}", making, check)
        tried.curves.append(curve)
        saved = bundles.save(place, card_of(plan, folder, making, trained=train), _named(plan, state))
        engine = Engine(saved, device=making.device)
        plain.append(trial.run(engine, test))
        begun.append(_of_the_start(making, engine, test))
        cases += trial.worst(engine, test, plain[-1], WORST)
        tried.looks.extend(trial.statistics(engine, item.image) for item in test)
        if folder.annotation == "frames":
            again = [replace(item, image=reencoded(item.image, ROUGH_QUALITY)) for item in test]
            rough.append(trial.run(engine, again))
    if not plain:
        return tried
    answers = score = trial.joined(plain)
    why_not = next((each for each in begun if isinstance(each, str)), None)
    start = why_not or trial.joined([each for each in begun if isinstance(each, trial.Trial)])
    cases = sorted(cases, key=lambda case: -case.badness)[:WORST]
    if not rough:
        return tried._replace(scored=[Scored(plan.describe_held_out(), score, tuple(cases), start)])
    apart = _temperatures(answers, [number for number, part in enumerate(plain) for _ in part.images])
    scored = [
        Scored(plan.describe_held_out(), _calibrated(answers, apart), tuple(cases), start),
        Scored(ROUGH, _calibrated(trial.joined(rough), apart)),
    ]
    return tried._replace(scored=scored, answers=answers)


def _lesson(
    plan: TrainingPlan, folder: AnnotatedFolder, train: Sequence[Annotated], place: Path, making: Making
) -> tuple[Sampler, Check | None]:
    """Return what one training learns from, and what says how good it is, if the plan wants to stop by that."""
    train, aside = set_aside(plan, train)
    samples = Sampler(plan, plan.task_learned, (train, *(each.images for each in making.beside)), making.unlabelled)
    if not aside:
        return samples, None

    def check(state: State) -> float:
        saved = bundles.save(place / "check", card_of(plan, folder, making), _named(plan, state))
        return float(1 - trial.run(Engine(saved, device=making.device), aside).badness().mean())

    return samples, check


def _refuse_unmeasurable(plan: TrainingPlan, folder: AnnotatedFolder, making: Making) -> None:
    """Raise BadFolder before a minute is spent where what came of it could not be measured."""
    parts = [fold_sides(plan, folder.images, number)[1] for number in range(plan.folds)]
    if not all(trial.measurable(test) for test in parts or [sides(plan, folder.images)[1]]):
        raise BadFolder(
            f"{folder.root}: nothing is annotated in what measures the training: {plan.describe_held_out()}."
        )
    other = making.measure
    if other is None:
        return
    if (other.annotation, other.classes) != (folder.annotation, folder.classes) and (
        other.annotation != "frames" or not set(other.classes) <= set(folder.classes)
    ):
        raise BadFolder(f"{other.root}: annotated with {_said(other)}, and {folder.root} with {_said(folder)}.")
    if not trial.measurable(other.images):
        raise BadFolder(f"{other.root}: nothing is annotated there.")


def _said(folder: AnnotatedFolder) -> str:
    return f"{folder.annotation} ({', '.join(folder.classes)})" if folder.classes else folder.annotation


def _of_the_start(making: Making, engine: Engine, images: Sequence[Annotated]) -> trial.Trial | str:
    """Return what the bundle that training began from says of the same images, or why it cannot be asked."""
    if making.start is None:
        return "It began from no bundle."
    begun = making.start.card
    if begun.task == START:
        return f"{begun.name} is a start, which answers no image."
    if (begun.task, begun.classes) != (engine.card.task, engine.card.classes):
        return f"{begun.name} answers another question: {begun.task}, {', '.join(begun.classes)}."
    try:
        return trial.run(Engine(making.start, device=making.device), images)
    except MicroError as fault:  # nothing that is only compared may cost the training
        return str(fault)


def _temperatures(answers: trial.Trial, folds: Sequence[int]) -> NDArray[np.float64]:
    """Return for each frame the temperature that the other folds give: nothing is measured on what it was fitted to."""
    return decide.temperatures_held_apart(*answers.frames(), np.array(folds))


def _calibrated(answers: trial.Trial, temperatures: NDArray[np.float64]) -> trial.Trial:
    return replace(answers, probabilities=decide.tempered(answers.frames()[1], temperatures))


def fit(
    plan: TrainingPlan, samples: Sampler, place: Path, part: str, making: Making, check: Check | None = None
) -> Generator[Epoch, None, Fitted]:
    """Train one network from the last checkpoint in place, or from the start, and return its averaged weights.

    check: how good weights are, asked after each epoch; the best ones are returned, and the plan's patience ends it.
    """
    torch.manual_seed(plan.seed)
    network = networks.build(plan.network)
    known = take_over(network, starting_weights(plan, making.start))
    device = pick_device(making.device)
    network = network.to(device).to(memory_format=torch.channels_last)
    average = {name: value.clone() for name, value in network.state_dict().items()}
    optimiser = torch.optim.AdamW(network.parameters(), lr=plan.learning_rate, weight_decay=plan.weight_decay)
    place.mkdir(parents=True, exist_ok=True)
    way = _restore(place / CHECKPOINT, network, average, optimiser)
    fresh: list[Tensor] = []  # a loss that is read at once would let a GPU wait
    began = time.perf_counter()
    network.train()
    norms = [part for part in network.modules() if isinstance(part, nn.BatchNorm2d)]
    last = way.done if way.is_over(plan.patience) else plan.steps
    for step, batch in enumerate(samples.batches(way.done, last, device), start=way.done):
        for group in optimiser.param_groups:
            group["lr"] = plan.learning_rate * _pace(step, plan.steps)
        for norm in norms:
            # the plain mean at first: a layer whose outputs vary by a thousandth would long remember that it began at 1
            norm.momentum = max(NEWEST_SHARE, 1 / (step + 1))
        for parameter in known:
            parameter.requires_grad_(step >= plan.frozen_steps)
        learned = batch if batch.is_known else guessed(network, average, batch)
        with torch.autocast(device.type, torch.bfloat16, enabled=plan.precision == "bf16"):
            answer = network(batch.pixels)
        loss = loss_of(answer.float(), learned, plan)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        follow(average, network, min(plan.ema_decay, (1 + step) / (10 + step)))
        fresh.append(loss.detach())
        done = step + 1
        if done % STEPS_AN_EPOCH == 0 or done == plan.steps:
            way.losses.append((done, sum(map(float, fresh)) / len(fresh)))
            score = None if check is None else check({name: value.cpu() for name, value in average.items()})
            if score is not None and (way.best is None or score > way.best[1]):
                way.best = done, score, {name: value.clone() for name, value in average.items()}
            _store(place / CHECKPOINT, network, average, optimiser, way)
            yield Epoch(part, done, plan.steps, way.losses[-1][1], time.perf_counter() - began, score)
            fresh, began = [], time.perf_counter()
            if way.is_over(plan.patience):
                break
    weights = average if way.best is None else way.best[2]
    return Fitted({name: value.cpu() for name, value in weights.items()}, Curve(part, tuple(way.losses)))


def starting_weights(plan: TrainingPlan, start: bundles.Bundle | None) -> State:
    """Return the weights that a plan begins from, by the names of its network; a start holds one last layer a task."""
    if start is not None:
        learned = {name.partition(".")[2]: torch.from_numpy(value) for name, value in start.weights().items()}
        return {name.replace(f"{plan.task}_head.", f"{HEAD}."): value for name, value in learned.items()}
    return networks.imagenet(plan.network) if plan.start == IMAGENET else {}


def take_over(network: nn.Module, weights: State) -> list[nn.Parameter]:
    """Take the weights of every layer that has the same name and shape; the others stay random.

    Those of a first layer for another number of channels are taken so that a grey image gives what it gave there.
    Return the parameters that were taken, without those of the last layer, which always has something to learn.
    """
    state = network.state_dict()
    fitting = {name: _for_channels(value, state[name].shape) for name, value in weights.items() if name in state}
    taken = {name: value for name, value in fitting.items() if state[name].shape == value.shape}
    network.load_state_dict(state | taken)
    parameters = dict(network.named_parameters())
    last = last_layer(network)
    return [value for name, value in parameters.items() if name in taken and name.rpartition(".")[0] != last]


def last_layer(network: nn.Module) -> str:
    """Return the name of the layer that answers, one output a class or map."""
    return list(dict(network.named_parameters()))[-1].rpartition(".")[0]


def _for_channels(value: Tensor, shape: torch.Size) -> Tensor:
    """Return the weights of a first layer for 1 channel instead of 3, or the reverse, and others as they are."""
    if len(shape) != 4 or {value.shape[1:2], shape[1:2]} != {(1,), (3,)}:
        return value
    return value.mean(dim=1, keepdim=True).expand(-1, shape[1], -1, -1) * (value.shape[1] / shape[1])


def loss_of(answer: Tensor, batch: Batch, plan: TrainingPlan) -> Tensor:
    """Return weighted binary cross-entropy against soft maps, with soft Dice, or cross-entropy against classes."""
    weights = answer.new_tensor(plan.class_weights) if plan.class_weights else None
    if answer.ndim == 2:
        return F.cross_entropy(answer, batch.target, weight=weights, label_smoothing=plan.label_smoothing)
    weight = batch.weight
    if weights is not None:  # that of the class a pixel belongs to, in all its maps
        weight = weight * (batch.target * weights[:, None, None]).sum(dim=1, keepdim=True)
    pixelwise = F.binary_cross_entropy_with_logits(answer, batch.target, reduction="none")
    loss = (pixelwise * weight).sum() / (weight.sum() * answer.shape[1]).clamp(min=1)
    if not plan.dice:
        return loss
    return (1 - plan.dice) * loss + plan.dice * _soft_dice(answer.sigmoid(), batch)


def _soft_dice(chance: Tensor, batch: Batch) -> Tensor:
    """Return 1 - the mean over the maps of 2 |found and true| / (|found| + |true|), over all crops together.

    F. Milletari, N. Navab, S.-A. Ahmadi, V-Net, 3DV 2016. A map that is empty in truth and answer costs nothing.
    """
    known = (batch.weight > 0).float()
    both = (chance * batch.target * known).sum(dim=(0, 2, 3))
    either = ((chance + batch.target) * known).sum(dim=(0, 2, 3))
    return 1 - ((2 * both + 1) / (either + 1)).mean()


def _told(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _pace(step: int, steps: int) -> float:
    """Return the share of the learning rate at a step: a linear warm-up, then half a cosine to zero."""
    warm_up = max(1, round(steps * WARM_UP_SHARE))
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))


@torch.no_grad()
def follow(average: State, network: nn.Module, decay: float) -> None:
    """Move the running average of the weights towards the network's; counters are copied."""
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            average[name].lerp_(value, 1 - decay)
        else:
            average[name].copy_(value)


def _store(path: Path, network: nn.Module, average: State, optimiser: torch.optim.Optimizer, way: _Way) -> None:
    part = path.with_suffix(".part")
    states = {"network": network.state_dict(), "average": average, "optimiser": optimiser.state_dict()}
    torch.save({**states, "losses": way.losses, "best": way.best}, part)
    part.replace(path)


def _restore(path: Path, network: nn.Module, average: State, optimiser: torch.optim.Optimizer) -> _Way:
    """Load a checkpoint if there is one and return the way so far; a checkpoint cannot run code (weights_only)."""
    if not path.exists():
        return _Way([], None)
    states = torch.load(path, weights_only=True, map_location="cpu")
    network.load_state_dict(states["network"])
    optimiser.load_state_dict(states["optimiser"])
    for name, value in states["average"].items():
        average[name].copy_(value)
    return _Way(states["losses"], states["best"])


def _keep_plan(path: Path, plan: TrainingPlan, resume: bool) -> None:
    if path.exists():
        if not resume:
            raise BadSetting(f"{path.parent.parent}: a training lies here. Pass --resume, or take another --out.")
        if TrainingPlan.model_validate_json(path.read_text(encoding="utf-8")) != plan:
            raise BadSetting(f"{path}: the training that lies here follows another plan. Take another --out.")
    elif there := [name for name in (bundles.CARD, bundles.WEIGHTS, README) if (path.parents[1] / name).exists()]:
        raise BadSetting(
            f"{path.parents[1]}: {', '.join(there)} lies here, and the bundle would take its place. Take another --out."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(plan.model_dump_json(indent=2) + "\n", encoding="utf-8")


def _named(plan: TrainingPlan, state: State) -> bundles.Weights:
    kind = "segmenter" if plan.network.kind == "unet" else "classifier"
    return {f"{kind}.{name}": value.numpy() for name, value in state.items()}


def _with_halo(plan: TrainingPlan, state: State, images: Sequence[Tensor]) -> TrainingPlan:
    """Measure on training images how much context a tile needs, and write it into the plan's network."""
    network = networks.build(plan.network)
    network.load_state_dict(state)
    fast = accelerate(network)
    measured_px = max(choose_halo(fast, plan.network, image) for image in images)
    # images that are mostly background agree without any halo, and their few regions do not
    halo_px = max(measured_px, LEAST_HALO_STRIDES * plan.network.stride_px)
    return plan.model_copy(update={"network": plan.network.model_copy(update={"halo_px": halo_px})})
