"""How much it helps, with few images, to have learned before: python -m tests.benchmarks.transfer FOLDER --out OUT.

Without --from BUNDLE a network first learns every other class of the folder, in the order of their names, and the
others are the task; with it, all classes are. Then a few images a class are drawn, and one network learns them from
random weights, the other from what was learned, its last layer first and then all. Both take the same steps and are
measured on all images of the task that were not drawn. The bar: 5 points more, mean of five draws. What is done is kept
in OUT.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import torch

from micro import bundle, folder, training, trial
from micro.bundle import Bundle
from micro.folder import Annotated, AnnotatedFolder, annotated
from micro.scenes import strips
from micro.scenes.scene import Scene
from micro.training import start
from micro.training.plan import FROZEN_SHARE, PLAN
from tests.benchmarks.defects import finished

LEAST_POINTS = 5.0
TOGETHER = 3
DRAWN, FIRST_SEED = 200, 500_000


def of_classes(whole: AnnotatedFolder, names: tuple[str, ...]) -> AnnotatedFolder:
    """Return the frames of some classes."""
    return replace(whole, images=tuple(i for i in whole.images if i.class_name in names), classes=names)


def not_drawn(task: AnnotatedFolder, count: int, draw: int) -> tuple[str, ...]:
    """Return the names of all frames but `count` of each class, and but the copies of those."""
    random = np.random.default_rng(draw)
    chosen: set[str] = set()
    for name in task.classes:
        first_of_group: dict[str, Annotated] = {}
        for item in task.images:
            if item.class_name == name:
                first_of_group.setdefault(item.group, item)
        groups = sorted(first_of_group)
        chosen |= {groups[index] for index in random.permutation(len(groups))[:count]}
    return tuple(item.image.name for item in task.images if item.group not in chosen)


def learned(
    task: AnnotatedFolder, held_out: tuple[str, ...], place: Path, asked: argparse.Namespace, begun: Bundle | None
) -> Bundle:
    """Return a network that learned the frames that are not held out."""
    if (place / PLAN).is_file():
        return bundle.load(place)
    plan = training.plan(task, "defects", 1, network=asked.network, start=begun)
    network = plan.network.model_copy(update={"input_px": asked.edge_px})
    changes = {"steps": asked.steps, "crop_px": asked.edge_px, "network": network, "held_out": held_out}
    if begun is not None:
        changes["frozen_steps"] = round(asked.steps * FROZEN_SHARE)
    return finished(task, plan.model_copy(update=changes), place, begun)


def drawn(place: str, draw: Callable[[int], Scene]) -> start.Source:
    """Return drawn frames as a source of a start."""
    scenes = [draw(FIRST_SEED + number) for number in range(DRAWN)]
    items = tuple(annotated(scene.image, None, scene.class_name) for scene in scenes)
    classes = tuple(sorted({item.class_name or "" for item in items}))
    return start.Source("defects", AnnotatedFolder(Path(place), items, classes, ()))


def start_of(before: AnnotatedFolder, begun: Bundle, place: Path, asked: argparse.Namespace) -> Bundle:
    """Return a start that learned no frame of the task."""
    if not (place / bundle.CARD).exists():
        few = [start.Source("defects", of_classes(before, names)) for names in combinations(before.classes, TOGETHER)]
        sources = [*few, drawn("drawn-strips", strips.draw), drawn("drawn-edges", strips.edge)]
        card = start.card_of(place.name, training.About(), sources, "a measurement")
        for epoch in start.start_steps(sources, asked.rounds, place, card, begun):
            print(f"start: {epoch.done} of {epoch.total} rounds, {epoch.note}", flush=True)
    return bundle.load(place)


def accuracy(made: Bundle) -> float:
    return trial.kept_answers(made).class_score().accuracy.value


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.transfer", description=__doc__)
    parser.add_argument("folder", type=Path, help="one folder a class")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--from", dest="start", help="bundle that learned something else, of the same network")
    parser.add_argument("--network", default="shufflenet_v2_x1_0")
    parser.add_argument("--images", type=int, default=10, help="a class")
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--steps", type=int, default=150, help="of each training with few images")
    parser.add_argument("--steps-before", type=int, default=1000, help="in which the other classes are learned")
    parser.add_argument("--rounds", type=int, default=60, help="in which the start is learned")
    parser.add_argument("--edge-px", type=int, default=64, help="to which frames are resized")
    asked = parser.parse_args(arguments)
    task = folder.read(asked.folder)
    begun: dict[str, Bundle | None] = {"scratch": None}
    if asked.start:
        begun["transferred"] = bundle.load(asked.start)
    else:
        before, task = of_classes(task, task.classes[::2]), of_classes(task, task.classes[1::2])
        long = argparse.Namespace(**{**vars(asked), "steps": asked.steps_before})
        held_out = training.plan(before, "defects", 1).held_out
        learned_before = learned(before, held_out, asked.out / "before", long, None)
        print(f"before: {', '.join(before.classes)}; {accuracy(learned_before):.3f} right")
        begun["transferred"] = learned_before
        begun["start"] = start_of(before, learned_before, asked.out / "start", asked)
    print(f"task: {', '.join(task.classes)}\n| draw | {' | '.join(begun)} |\n|{' --- |' * (1 + len(begun))}")
    rows = []
    for draw in range(asked.draws):
        held_out = not_drawn(task, asked.images, draw)
        rows.append(
            [accuracy(learned(task, held_out, asked.out / f"{way}-{draw}", asked, begun[way])) for way in begun]
        )
        print(f"| {draw + 1} | {' | '.join(f'{right:.3f}' for right in rows[-1])} |", flush=True)
    columns = dict(zip(begun, np.array(rows).T, strict=True))
    for way in list(begun)[1:]:
        gains = 100 * (columns[way] - columns["scratch"])
        holds = "holds" if gains.mean() >= LEAST_POINTS else "missed"
        said = f"{columns[way].mean():.3f}, {gains.mean():+.1f} points ({gains.min():+.1f} to {gains.max():+.1f})"
        print(f"{way}: {said}; at least {LEAST_POINTS:g}: {holds}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
