"""How much it helps, with few images, to have learned before: python -m tests.benchmarks.transfer FOLDER --out OUT.

Without --from BUNDLE a network first learns every other class of the folder, in the order of their names, and the
others are the task; with it, all classes are. Then a few images a class are drawn, and one network learns them from
random weights, the other from what was learned, its last layer first and then all. Both take the same steps and are
measured on all images of the task that were not drawn. The bar: 5 points more, mean of five draws. What is done is kept
in OUT.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from micro import bundle, folder, training, trial
from micro.bundle import Bundle
from micro.folder import Annotated, AnnotatedFolder
from micro.training.plan import FROZEN_SHARE, PLAN
from tests.benchmarks.defects import finished

LEAST_POINTS = 5.0


def of_classes(annotated: AnnotatedFolder, names: tuple[str, ...]) -> AnnotatedFolder:
    """Return the frames of some classes."""
    return replace(annotated, images=tuple(i for i in annotated.images if i.class_name in names), classes=names)


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
    task: AnnotatedFolder, held_out: tuple[str, ...], place: Path, asked: argparse.Namespace, start: Bundle | None
) -> Bundle:
    """Return a network that learned the frames that are not held out."""
    if (place / PLAN).is_file():
        return bundle.load(place)
    plan = training.plan(task, "defects", 1, network=asked.network, start=start)
    network = plan.network.model_copy(update={"input_px": asked.edge_px})
    changes = {"steps": asked.steps, "crop_px": asked.edge_px, "network": network, "held_out": held_out}
    if start is not None:
        changes["frozen_steps"] = round(asked.steps * FROZEN_SHARE)
    return finished(task, plan.model_copy(update=changes), place, start)


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
    parser.add_argument("--edge-px", type=int, default=64, help="to which frames are resized")
    asked = parser.parse_args(arguments)
    task = folder.read(asked.folder)
    if asked.start:
        start = bundle.load(asked.start)
    else:
        before, task = of_classes(task, task.classes[::2]), of_classes(task, task.classes[1::2])
        long = argparse.Namespace(**{**vars(asked), "steps": asked.steps_before})
        held_out = training.plan(before, "defects", 1).held_out
        start = learned(before, held_out, asked.out / "before", long, None)
    print(f"before: {', '.join(start.card.classes)}; {accuracy(start):.3f} right\ntask: {', '.join(task.classes)}")
    print("| draw | from random weights | transferred | points |\n| --- | --- | --- | --- |")
    gains = []
    for draw in range(asked.draws):
        held_out = not_drawn(task, asked.images, draw)
        scratch = accuracy(learned(task, held_out, asked.out / f"scratch-{draw}", asked, None))
        moved = accuracy(learned(task, held_out, asked.out / f"transferred-{draw}", asked, start))
        gains.append(100 * (moved - scratch))
        print(f"| {draw + 1} | {scratch:.3f} | {moved:.3f} | {gains[-1]:+.1f} |", flush=True)
    spread = f"{min(gains):+.1f} to {max(gains):+.1f}"
    holds = "holds" if np.mean(gains) >= LEAST_POINTS else "missed"
    print(f"mean {np.mean(gains):+.1f} points ({spread}); at least {LEAST_POINTS:g}: {holds}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
