"""Networks that name frames, measured in folds: python -m tests.benchmarks.defects FOLDER --out OUT [--networks a,b].

Prints three tables, each from the same networks, none of which saw the frames that measure it:

    networks      accuracy, macro-F1, size and speed of each
    disturbances  what the network of the shipped recipe loses under each, its bar 2 points
    verdicts      how sure it is beside how often it is right, and what thresholds from costs are worth

A fold of a network and seed is a bundle in OUT; the same command trains what is missing and goes on with a training
that was stopped. --first 2 trains and measures only the first two of the folds. Speed is that of the network as the
engine runs it, on one core, in seconds of the processor; --speed prints it and trains nothing.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from micro import bundle, decide, folder, networks, training, trial
from micro.bundle import Bundle
from micro.card import NetworkSpec
from micro.engine import Engine
from micro.folder import Annotated, AnnotatedFolder
from micro.networks.fast import accelerate
from micro.score.folds import fold_numbers
from micro.score.paired import difference
from micro.training.plan import PLAN
from tests.benchmarks.disturbances import DISTURBANCES, disturbed

SHIPPED = "mobilenet_v3_small"
NETWORKS = (
    SHIPPED,
    *("lenet5", "alexnet", "lenet-alexnet", "resnet18", "shufflenet_v2_x1_0", "efficientnet_b0", "convnext_tiny"),
)
BATCHES = (1, 64)
SECONDS = 3.0
MOST_LOST = 0.02
# of X-SDD, which has no sound sheet: what a customer would still take
OK_CLASSES = ("iron_sheet_ash", "red_iron")
MOST_OFF, JUDGED_IN, LEAST_WON = 0.03, 10, 9


def fold_bundle(annotated: AnnotatedFolder, network: str, seed: int, fold: int, asked: argparse.Namespace) -> Bundle:
    """Return the network of one fold, trained on all the others; it keeps its answers to the frames of its fold."""
    place = asked.out / f"{network}-{seed}" / f"fold-{fold + 1}"
    if (place / PLAN).is_file():
        return bundle.load(place)
    groups, classes = [item.group for item in annotated.images], [item.class_name for item in annotated.images]
    numbers = fold_numbers(groups, classes, asked.folds, seed)
    held_out = tuple(item.image.name for item, number in zip(annotated.images, numbers, strict=True) if number == fold)
    plan = training.plan(annotated, "defects", 1, seed=seed, network=network)
    plan = plan.model_copy(update={"steps": asked.steps, "split": "image", "held_out": held_out})
    return finished(annotated, plan, place)


def finished(
    annotated: AnnotatedFolder, plan: training.TrainingPlan, place: Path, start: Bundle | None = None
) -> Bundle:
    """Train, or go on with a training that was stopped."""
    making = training.Making("row", training.About(), "python -m tests.benchmarks", start=start)
    steps = training.train_steps(plan, annotated, place, making, resume=True)
    while True:
        try:
            print(f"{place.parent.name}, {place.name}: {next(steps).note}", flush=True)
        except StopIteration as stop:
            made: Bundle = stop.value.bundle
            return made


def row(of_seeds: Sequence[Sequence[Bundle]], asked: argparse.Namespace) -> str:
    """Return the line of a network: means over the seeds, and of the ends of their intervals."""
    scores = [trial.joined([trial.kept_answers(made) for made in folds]).class_score() for folds in of_seeds]
    card = of_seeds[0][0].card
    assert card.classifier is not None
    run = f"{len(of_seeds[0])} of {asked.folds} folds, {len(of_seeds)} seed{'s' * (len(of_seeds) > 1)}"
    cells = [card.classifier.encoder_name, f"{run}, {asked.steps} steps"]
    for what in ("accuracy", "macro_f1"):
        found = [getattr(score, what) for score in scores]
        value, low, high = (np.mean([getattr(each, end) for each in found]) for end in ("value", "low", "high"))
        cells.append(f"{value:.3f} ({low:.3f} to {high:.3f})")
    return f"| {' | '.join([*cells, *size_and_speed(card.classifier)])} |"


def size_and_speed(spec: NetworkSpec) -> list[str]:
    """Return the last cells of a network's line."""
    found = facts(spec)
    return [f"{found['parameters'] / 1e6:.2f} M", *(f"{found[f'images_a_second_{batch}']:.0f}" for batch in BATCHES)]


def facts(spec: NetworkSpec) -> dict[str, float]:
    """Return how large a network is, and how many frames a second of one core it names at each batch."""
    assert spec.input_px is not None
    network = networks.build(spec).eval()
    fast = accelerate(network)
    found = {"parameters": float(sum(value.numel() for value in network.parameters()))}
    for batch in BATCHES:
        frames = torch.randn(batch, spec.in_channels, spec.input_px, spec.input_px).to(
            memory_format=torch.channels_last
        )
        done, began = -1, 0.0
        with torch.inference_mode():
            while done < 1 or time.process_time() - began < SECONDS:
                began = time.process_time() if done < 0 else began  # the first batch warms up
                fast(frames)
                done += 1
        found[f"images_a_second_{batch}"] = done * batch / (time.process_time() - began)
    return found


def right_under(made: Bundle, test: Sequence[Annotated]) -> dict[str, list[bool]]:
    """Return which frames a network names right as they are ("") and under each disturbance, and keep that."""
    kept = made.folder / "disturbed.json"
    found: dict[str, list[bool]] = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    engine = Engine(made, device="cpu")
    for name in ("", *DISTURBANCES):
        if name not in found:
            frames = disturbed(test, DISTURBANCES[name]) if name else test
            score = trial.run(engine, frames)
            truth, probabilities = score.frames()
            found[name] = (probabilities.argmax(axis=1) == truth).tolist()
            kept.write_text(json.dumps(found) + "\n", encoding="utf-8")
    return found


def disturbances(folds: Sequence[Bundle], annotated: AnnotatedFolder) -> str:
    """Return what each disturbance costs, in points of accuracy."""
    by_name = {item.image.name: item for item in annotated.images}
    found = [right_under(made, [by_name[name] for name in trial.kept_answers(made).images]) for made in folds]
    right = {name: np.concatenate([each[name] for each in found]) for name in ("", *DISTURBANCES)}
    plain = right.pop("")
    lines = ["| disturbance | accuracy | points lost | at most 2 |", "| --- | --- | --- | --- |"]
    lines.append(f"| none | {plain.mean():.3f} | | |")
    for name, each in right.items():
        lost = difference(lambda drawn: plain[drawn].mean(), lambda drawn, each=each: each[drawn].mean(), len(plain))  # type: ignore[misc]
        points = f"{100 * lost.value:.1f} ({100 * lost.low:.1f} to {100 * lost.high:.1f})"
        lines.append(f"| {name} | {each.mean():.3f} | {points} | {'holds' if lost.value <= MOST_LOST else 'missed'} |")
    return "\n".join(lines)


def verdicts(folds: Sequence[Bundle], ok_classes: Sequence[str]) -> str:
    """Return how well the answers are calibrated, and what thresholds from costs of 20 to 1 are worth."""
    answers = trial.joined([trial.kept_answers(made) for made in folds])
    truth, probabilities = answers.frames()
    classes = [answers.class_names[number] for number in truth]
    parts = fold_numbers(answers.groups, classes, JUDGED_IN, 0)
    wishes = decide.Wishes(escape=20, overkill=1)
    found = decide.study(truth, probabilities, answers.class_names, ok_classes, wishes, parts)
    return "\n".join(
        (
            f"{len(classes)} frames; may ship: {', '.join(ok_classes)}",
            found.describe(),
            f"calibration error at most {MOST_OFF}: {'holds' if found.calibration.value <= MOST_OFF else 'missed'}",
            f"cheaper than 0.5 in at least {LEAST_WON} of {JUDGED_IN} folds: "
            f"{'holds' if found.folds_won >= LEAST_WON else 'missed'}",
        )
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.defects", description=__doc__)
    parser.add_argument("folder", type=Path, help="one folder a class")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--networks", default=",".join(NETWORKS), help="the disturbances and verdicts are of the first")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--first", type=int, help="so many of the folds; all if not given")
    parser.add_argument("--steps", type=int, default=1062, help="of each training; those of sheet-steel")
    parser.add_argument("--ok-classes", default=",".join(OK_CLASSES), help="that may ship")
    parser.add_argument("--speed", action="store_true", help="only sizes and speeds, of networks that learned nothing")
    asked = parser.parse_args(arguments)
    annotated = folder.read(asked.folder)
    if asked.speed:
        print("| network | parameters | images/s, batch 1 | batch 64 |\n| --- | --- | --- | --- |")
        for network in asked.networks.split(","):
            spec = training.plan(annotated, "defects", 1, network=network).network
            print(f"| {' | '.join([network, *size_and_speed(spec)])} |", flush=True)
        return
    folds = range(asked.first or asked.folds)
    made = [
        [[fold_bundle(annotated, network, seed, fold, asked) for fold in folds] for seed in range(asked.seeds)]
        for network in asked.networks.split(",")
    ]
    print("| network | run | accuracy | macro-F1 | parameters | images/s, batch 1 | batch 64 |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for of_seeds in made:
        print(row(of_seeds, asked), flush=True)
    print(f"\n{disturbances(made[0][0], annotated)}\n", flush=True)
    print(verdicts(made[0][0], asked.ok_classes.split(",")))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
