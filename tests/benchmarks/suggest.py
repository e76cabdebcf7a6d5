"""Whether `micro suggest` saves annotation: python -m tests.benchmarks.suggest --json FILE [--seeds 3] [--steps N].

    frames     xsdd: which defect a frame shows; a fifth of the groups measures
    phases     nasa-superalloy: crops of 128 px of spots 3 to 7; the four images of spot 1 measure

Of each source POOL images are drawn as those that could be annotated. FIRST of them train a network; then twice as many
as before are taken, those that `micro suggest` names or any, and trained on from the start again. Trainings are short
and begin from random weights, since the bundles that come along learned from these images. What is done is kept in the
JSON file, and the same command does what is missing. The real images lie at --data or $MICRO_DATA.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from micro import folder, formats, training
from micro.engine import Engine
from micro.folder import Annotated, AnnotatedFolder, annotated
from micro.score.folds import fold_numbers
from micro.suggestion import look, ranked
from micro.training import Outcome

FIRST, MORE, MOST = 5, (10, 20), 30
POOL = 120
CROP_PX = 128


@dataclass(frozen=True)
class Source:
    """Images that could be annotated, images that measure, and how long a training is.

    network: decoder widths of a U-Net; none for a classifier.
    """

    task: str
    pool: tuple[Annotated, ...]
    test: tuple[Annotated, ...]
    classes: tuple[str, ...]
    figure: str
    steps: int
    crop_px: int
    batch: int
    decoder_channels: tuple[int, ...] = ()


def frames(data: Path) -> Source:
    read = folder.read(data / "defects" / "xsdd")
    folds = fold_numbers([item.group for item in read.images], [item.class_name for item in read.images], 5, 0)
    sides: tuple[list[Annotated], ...] = ([], [])
    for item, fold in zip(read.images, folds, strict=True):
        sides[fold == 0].append(item)
    return Source("defects", tuple(sides[0]), tuple(sides[1]), read.classes, "macro-F1", 100, 64, 32)


def phases(data: Path) -> Source:
    root = data / "grains" / "nasa-superalloy"
    pool = []
    for item in labelled(root / "train"):
        assert item.labels is not None
        for top in range(0, item.labels.shape[0], CROP_PX):
            for left in range(0, item.labels.shape[1], CROP_PX):
                part = slice(top, top + CROP_PX), slice(left, left + CROP_PX)
                name = f"{item.image.name} {top} {left}"
                pool.append(
                    annotated(replace(item.image, pixels=item.image.pixels[part], name=name), item.labels[part], None)
                )
    classes = ("matrix", "secondary", "tertiary")
    test = tuple(labelled(root / "val"))
    return Source("phases", tuple(pool), test, classes, "mean IoU", 50, CROP_PX, 4, (64, 48, 32, 24))


def labelled(root: Path) -> list[Annotated]:
    return [
        annotated(formats.read(path), formats.read_labels(root / "labels" / f"{path.stem}_label.png"), None)
        for path in sorted((root / "images").iterdir())
    ]


SOURCES: dict[str, Callable[[Path], Source]] = {"frames": frames, "phases": phases}


def trained(source: Source, chosen: Sequence[Annotated], seed: int, place: Path) -> Outcome:
    """Train on chosen images and measure on those of the source that measure."""
    items = (*chosen, *source.test)
    values = tuple(enumerate(source.classes)) if source.decoder_channels else ()
    whole = AnnotatedFolder(Path(source.task), items, source.classes, (), values)
    plan = training.plan(whole, source.task, 1, seed=seed)
    network = plan.network.model_copy(update={"decoder_channels": source.decoder_channels})
    if not source.decoder_channels:
        network = plan.network.model_copy(update={"input_px": source.crop_px})
    plan = plan.model_copy(
        update={
            "network": network,
            "crop_px": source.crop_px,
            "batch": source.batch,
            "steps": source.steps,
            "split": "image",
            "held_out": tuple(item.image.name for item in source.test),
            "held_out_share": 0.0,
        }
    )
    steps = training.train_steps(plan, whole, place, training.Making("simulated", training.About(), "a simulation"))
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            outcome: Outcome = stop.value
            return outcome


def score(source: Source, outcome: Outcome) -> float:
    (value,) = (row.value for row in outcome.scores[0].trial.measured("") if row.what == source.figure)
    return float(value)


def suggested(outcome: Outcome, source: Source, chosen: Sequence[int], count: int) -> list[int]:
    """Return which images `micro suggest` would have annotated next."""
    engine = Engine(outcome.bundle, device="cpu")
    there = {*chosen}
    left = [number for number in range(len(source.pool)) if number not in there]
    looks = [replace(look(engine, source.pool[number].image), image=str(number)) for number in left]
    known = [look(engine, source.pool[number].image).features for number in chosen]
    return [int(each.image) for each in ranked(looks, known)[:count]]


def row(source: Source, seed: int) -> dict[str, float]:
    """Return the score of each way and number of images, for one draw of the first ones."""
    drawn = np.random.default_rng(seed).permutation(len(source.pool))[:POOL]
    source = replace(source, pool=tuple(source.pool[number] for number in drawn))
    order = list(range(len(source.pool)))
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:

        def after(way: str, chosen: Sequence[int]) -> Outcome:
            images = [source.pool[number] for number in chosen]
            outcome = trained(source, images, seed, Path(name) / f"{way}-{len(chosen)}")
            found[f"{way} {len(chosen)}"] = score(source, outcome)
            print(f"  seed {seed}: {way} {len(chosen)}: {found[f'{way} {len(chosen)}']:.3f}", flush=True)
            return outcome

        chosen = order[:FIRST]
        outcome = after("suggest", chosen)
        found[f"random {FIRST}"] = found[f"suggest {FIRST}"]
        for count in MORE:
            chosen = [*chosen, *suggested(outcome, source, chosen, count - len(chosen))]
            outcome = after("suggest", chosen)
        for count in (*MORE, MOST):
            after("random", order[:count])
    return found


def table(rows: dict[str, dict[str, dict[str, float]]]) -> str:
    """Return one line a number of images: the mean over the seeds, and from where to where they lie."""
    lines = []
    for name, seeds in rows.items():
        lines += [f"{name}, {len(seeds)} seeds", "images  suggest                random"]
        for count in (FIRST, *MORE, MOST):
            cells = []
            for way in ("suggest", "random"):
                values = [found[f"{way} {count}"] for found in seeds.values() if f"{way} {count}" in found]
                said = f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})" if values else ""
                cells.append(f"{said:21}")
            lines.append(f"{count:6d}  {'  '.join(cells)}")
        most = [np.mean([found[key] for found in seeds.values()]) for key in (f"suggest {MORE[-1]}", f"random {MOST}")]
        lines.append(
            f"{MORE[-1]} suggested images {'reach' if most[0] >= most[1] else 'do not reach'} {MOST} random ones\n"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.suggest", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--json", type=Path, required=True, help="where the figures are kept")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("MICRO_DATA", "../shared/data")))
    parser.add_argument("--sources", default=",".join(SOURCES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, help="of each training, instead of the source's own")
    asked = parser.parse_args(arguments)
    rows: dict[str, dict[str, dict[str, float]]] = {}
    if asked.json.is_file():
        rows = json.loads(asked.json.read_text(encoding="utf-8"))
    for seed in map(str, range(asked.seeds)):
        for name in asked.sources.split(","):
            if seed in rows.setdefault(name, {}):
                continue
            print(name, flush=True)
            source = SOURCES[name](asked.data)
            source = source if asked.steps is None else replace(source, steps=asked.steps)
            rows[name][seed] = row(source, int(seed))
            asked.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    print(table({name: seeds for name, seeds in rows.items() if seeds}))


if __name__ == "__main__":
    main()
