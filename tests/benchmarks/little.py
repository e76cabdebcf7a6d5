"""What a few annotated images are worth, by where training begins: python -m tests.benchmarks.little WORK.

    iron         pure-iron-serial: crops of 256 x 189 px; the places that grains-iron was measured on measure
    superalloy   nasa-superalloy: crops of 256 px of spots 3 to 7; the four images of spot 1 measure

The source in hand is left out: what training begins from never saw it.

    scratch           random weights
    fine-tuned        the nearest bundle that comes along and never saw the source
    start             a start (micro.training.start) that began from that bundle and learned drawn scenes of three tasks
                      and the other source
    fine-tuned-slow   as fine-tuned, at a quarter of the rate
    start-slow        as start, at a quarter of the rate
    frozen            as fine-tuned; what was taken from the bundle stands still in the first half of the steps
    unlabelled        as start, and in the second half of the steps what the network is sure of in the other images of
                      the source that could be annotated

Every way takes the same number of steps and crops, at the rate of random weights unless told, and images are drawn five
times. The rate of a derived plan, of a start too, and what a training begins from were chosen by this table.
What is done is kept in WORK/little.json, and the same command does what is missing. The real images lie at --data or
$MICRO_DATA.
"""

import argparse
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
from scipy import stats

from micro import bundle, folder, formats, training, trial
from micro.bundle import Bundle
from micro.engine import Engine
from micro.folder import Annotated, AnnotatedFolder, annotated
from micro.scenes import flakes, grains, phases
from micro.training import start
from micro.training.loop import fit
from micro.training.making import card_of
from micro.training.plan import GENTLER
from micro.training.samples import Sampler
from tests.benchmarks.crops import crops

STEPS, CROP_PX, BATCH = 40, 96, 4
ROUNDS, DRAWN, DRAWN_PX, FIRST_SEED = 60, 40, 256, 400_000
COUNTS = (5, 1, 10, 3, 30)
CONTEXT_PX = 128
Rows = dict[str, dict[str, dict[str, float]]]


@dataclass(frozen=True)
class Way:
    """Where a training begins, and what else is told apart.

    is_slow: whether it is at a quarter of the rate.
    """

    begins: str = ""
    is_slow: bool = False
    is_frozen: bool = False
    guesses: bool = False


WAYS = {
    "scratch": Way(),
    "fine-tuned": Way("bundle"),
    "start": Way("start"),
    "fine-tuned-slow": Way("bundle", is_slow=True),
    "start-slow": Way("start", is_slow=True),
    "frozen": Way("bundle", is_frozen=True),
    "unlabelled": Way("start", guesses=True),
}


@dataclass(frozen=True)
class Source:
    """Images that could be annotated, images that measure, and the nearest bundle that saw neither."""

    task: str
    pool: tuple[Annotated, ...]
    test: tuple[Annotated, ...]
    classes: tuple[str, ...]
    figure: str
    nearest: str

    def folder(self, images: Sequence[Annotated]) -> AnnotatedFolder:
        return AnnotatedFolder(Path("few"), tuple(images), self.classes, (), tuple(enumerate(self.classes)))


def iron(data: Path) -> Source:
    whole = folder.read(data / "grains" / "pure-iron-serial", "instances")
    test = []
    for item in training.held_out_images(bundle.load("grains-iron"), whole):
        assert item.labels is not None
        known = np.flatnonzero((item.labels >= 0).any(axis=0))[0]
        part = slice(None), slice(max(0, known - CONTEXT_PX), None)
        test.append(replace(item, image=replace(item.image, pixels=item.image.pixels[part]), labels=item.labels[part]))
    return Source("grains", tuple(crops(whole.images)), tuple(test), (), "AP at IoU 0.5", "phases-superalloy")


def superalloy(data: Path) -> Source:
    root = data / "grains" / "nasa-superalloy"
    pool = []
    for item in labelled(root / "train"):
        assert item.labels is not None
        for top in range(0, item.labels.shape[0], 256):
            for left in range(0, item.labels.shape[1], 256):
                part = slice(top, top + 256), slice(left, left + 256)
                image = replace(item.image, pixels=item.image.pixels[part], name=f"{item.image.name} {top} {left}")
                pool.append(annotated(image, item.labels[part], None))
    return Source("phases", tuple(pool), tuple(labelled(root / "val")), phases.PHASES, "mean IoU", "grains-metal")


def labelled(root: Path) -> list[Annotated]:
    return [
        annotated(formats.read(path), formats.read_labels(root / "labels" / f"{path.stem}_label.png"), None)
        for path in sorted((root / "images").iterdir())
    ]


SOURCES: dict[str, Callable[[Path], Source]] = {"iron": iron, "superalloy": superalloy}


def drawn() -> list[start.Source]:
    """Return drawn scenes of each task that has maps."""
    found = []
    for task, draw in (
        ("grains", lambda seed: grains.draw(seed, DRAWN_PX, DRAWN_PX, etch="any")),
        ("phases", lambda seed: phases.draw(seed, DRAWN_PX, DRAWN_PX)),
        ("flakes", lambda seed: flakes.draw(seed, DRAWN_PX, DRAWN_PX)),
    ):
        scenes = [draw(FIRST_SEED + number) for number in range(DRAWN)]
        items = tuple(
            replace(annotated(s.image, s.class_map().astype(np.int32) if s.classes else s.labels, None), twins=s.twins)
            for s in scenes
        )
        classes = scenes[0].classes
        found.append(
            start.Source(task, AnnotatedFolder(Path(f"drawn-{task}"), items, classes, (), tuple(enumerate(classes))))
        )
    return found


def start_without(name: str, sources: dict[str, Source], work: Path) -> Bundle:
    """Return the start that never saw a source; it is learned if it does not lie in the folder yet."""
    place = work / f"start-without-{name}"
    if not (place / bundle.CARD).exists():
        others = [start.Source(each.task, each.folder(each.pool)) for key, each in sources.items() if key != name]
        learned = [*drawn(), *others]
        card = start.card_of(place.name, training.About(), learned, "a measurement")
        for epoch in start.start_steps(learned, ROUNDS, place, card, bundle.load(sources[name].nearest)):
            print(f"{place.name}: {epoch.done} of {epoch.total} rounds, {epoch.note}", flush=True)
    return bundle.load(place)


def score(
    source: Source, chosen: Sequence[Annotated], begun: Bundle | None, seed: int, way: Way, asked: argparse.Namespace
) -> float:
    """Train on chosen images and return the figure of the source's images that measure."""
    others = [item.image for item in source.pool if all(item is not each for each in chosen)]
    unlabelled = tuple(others) if way.guesses else ()
    few = source.folder(chosen)
    plan = training.plan(few, source.task, 1, start=begun, seed=seed)
    plan = plan.model_copy(
        update={
            "crop_px": CROP_PX,
            "batch": BATCH,
            "steps": asked.steps,
            "learning_rate": plan.learning_rate * (GENTLER if way.is_slow else 1),
            "frozen_steps": asked.steps // 2 if way.is_frozen else 0,
        }
    )
    making = training.Making("few", training.About(), "a measurement", start=begun, unlabelled=unlabelled)
    place = asked.work / "few"
    shutil.rmtree(place, ignore_errors=True)
    samples = Sampler(plan, plan.task_learned, (chosen,), unlabelled)
    steps = fit(plan, samples, place, "", making)
    try:
        while True:
            next(steps)
    except StopIteration as stop:
        weights = {f"segmenter.{name}": value.numpy() for name, value in stop.value.weights.items()}
    made = bundle.save(place, card_of(plan, few, making), weights)
    tried = trial.run(Engine(made, device="cpu"), source.test)
    return float(next(row.value for row in tried.measured("") if row.what == source.figure))


def mean_and_half(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and half its 95 % interval (Student's t)."""
    if len(values) < 2:
        return float(np.mean(values)), float("inf")
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return float(np.mean(values)), float(half)


def table(rows: Rows, sources: dict[str, Source]) -> str:
    """Return one line a source, count of images and way: the mean of the draws, and how far above two of the ways."""
    compared = "scratch", "fine-tuned"
    heads = "".join(f"above {other:16}" for other in compared)
    lines = [f"source      images  way              draws  figure                        {heads}"]
    for name, cells in rows.items():
        for count in sorted({int(key.split()[1]) for key in cells}):
            for way in WAYS:
                found = cells.get(f"{way} {count}", {})
                if not found:
                    continue
                said = "{} {:.3f} +- {:.3f}".format(sources[name].figure, *mean_and_half(list(found.values())))
                apart = "".join(f"{above(found, cells.get(f'{other} {count}', {})):22}" for other in compared)
                lines.append(f"{name:11} {count:6d}  {way:15}  {len(found):5d}  {said:30}{apart}".rstrip())
    return "\n".join(lines)


def above(found: dict[str, float], other: dict[str, float]) -> str:
    """Return by how much one way is above another, draw by draw; nothing where they are the same or share no draw."""
    both = [value - other[seed] for seed, value in found.items() if seed in other]
    return "{:+.3f} +- {:.3f}".format(*mean_and_half(both)) if both and found is not other else ""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.little", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("work", type=Path, help="folder for the figures, and for the starts")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("MICRO_DATA", "../shared/data")))
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--steps", type=int, default=STEPS, help="of each training; a folder is for one number of them")
    parser.add_argument("--counts", default=",".join(map(str, COUNTS)))
    parser.add_argument("--ways", default=",".join(WAYS))
    asked = parser.parse_args(arguments)
    asked.work.mkdir(parents=True, exist_ok=True)
    kept = asked.work / "little.json"
    rows: Rows = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    sources = {name: read(asked.data) for name, read in SOURCES.items()}
    for count, seed, (name, source), way in product(
        map(int, asked.counts.split(",")), range(asked.draws), sources.items(), asked.ways.split(",")
    ):
        found = rows.setdefault(name, {}).setdefault(f"{way} {count}", {})
        if str(seed) in found or count > len(source.pool):
            continue
        order = np.random.default_rng(seed).permutation(len(source.pool))
        chosen = [source.pool[number] for number in order[:count]]
        begun = None
        if WAYS[way].begins:
            is_plain = WAYS[way].begins == "bundle"
            begun = bundle.load(source.nearest) if is_plain else start_without(name, sources, asked.work)
        found[str(seed)] = score(source, chosen, begun, seed, WAYS[way], asked)
        print(f"{name}, {count} images, {way}, draw {seed}: {found[str(seed)]:.3f}", flush=True)
        kept.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    print(f"{asked.steps} steps of {BATCH} crops of {CROP_PX} px each; {asked.draws} draws, mean and 95 % interval (t)")
    print(table(rows, sources))


if __name__ == "__main__":
    main()
