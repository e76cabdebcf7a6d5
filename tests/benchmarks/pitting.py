"""Pits on ball screws, by positions on the spindle that never trained: python -m tests.benchmarks.pitting.

`arrange BSDATA OUT` writes BSData as a folder that `micro train --task defects` reads: masks drawn from its polygons,
and a groups.csv by spindle position. Frames of a position that pitted and carry no annotation after that are left out,
since nobody knows what they show; of the others without a polygon, which are nearly the same picture again and again,
every third is taken.

`fold PLAN FOLDER NUMBER` makes a plan of `micro train --write-plan` hold out the positions of one fold of three.

`measure BSDATA FOLDER BUNDLE... --out OUT` looks with each bundle at the positions that its plan held out, and prints
the pixel F1, the image AUROC against clean frames, and when each position gave its first alarm. An alarm is two
frames in a row above a threshold, which lies halfway between what clean frames and what pitted frames of the positions
that trained came to: in the probability of pits, or in the pixels by which the pits that were found outgrew the largest
of the position's own first frames. OUT keeps what was seen of each frame, and the same command goes on from there.
"""

import argparse
import csv
import json
import shutil
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu

from micro import formats, training
from micro.engine import Engine
from micro.score import interval
from micro.training.plan import PLAN

CLASSES = ("sound", "pitting")
CLEAN_TAKEN = 3
FOLDS = 3
LATEST = 2
FIRST_FRAMES = 5


@dataclass(frozen=True)
class Frame:
    """One photograph of BSData.

    position: place on a spindle, or the spindle where there is one photograph of each.
    is_series: one of a series of frames of the position in the order of their time.
    annotation: labelme file with its polygons; None where nothing is annotated.
    """

    image: Path
    position: str
    is_series: bool
    time: str
    annotation: Path | None

    def pits(self, shape_px: tuple[int, int]) -> NDArray[np.uint8]:
        """Return 1 inside its polygons (Y, X)."""
        mask = np.zeros(shape_px, np.uint8)
        if self.annotation is not None:
            shapes = json.loads(self.annotation.read_text(encoding="utf-8"))["shapes"]
            cv2.fillPoly(mask, [np.array(shape["points"]).round().astype(np.int32) for shape in shapes], 1)
        return mask


def frames(bsdata: Path) -> list[Frame]:
    """Return the photographs, by position and time."""
    with (bsdata / "index.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    found = [
        Frame(
            bsdata / row["image"],
            row["group"],
            row["type"] == "type2",
            row["time_yymmddhhmmss"],
            bsdata / row["label"] if row["label"] else None,
        )
        for row in rows
    ]
    return sorted(found, key=lambda frame: (frame.position, frame.time, frame.image.name))


def known(series: list[Frame]) -> list[Frame]:
    """Return the frames of a position of which it is known whether they show pits."""
    first = next((index for index, frame in enumerate(series) if frame.annotation), len(series))
    return [*series[:first], *(frame for frame in series[first:] if frame.annotation)]


def positions(found: list[Frame]) -> dict[str, list[Frame]]:
    """Return position -> its photographs in the order of their time."""
    series: dict[str, list[Frame]] = defaultdict(list)
    for frame in found:
        series[frame.position].append(frame)
    return dict(series)


def arrange(bsdata: Path, out: Path) -> None:
    """Write the folder that trains."""
    for name in ("images", "masks"):
        (out / name).mkdir(parents=True)
    table = [("image", "group")]
    for position, series in positions(frames(bsdata)).items():
        clean = 0
        for frame in known(series):
            clean += frame.annotation is None
            if frame.annotation is None and clean % CLEAN_TAKEN != 1:
                continue
            shutil.copy(frame.image, out / "images" / frame.image.name)
            shape_px = cv2.imread(str(frame.image)).shape[:2]
            cv2.imwrite(str(out / "masks" / f"{frame.image.stem}.png"), frame.pits(shape_px))
            table.append((frame.image.name, position))
    (out / "classes.yaml").write_text("".join(f"{value}: {name}\n" for value, name in enumerate(CLASSES)))
    with (out / "groups.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(table)


def folds(groups: Sequence[str]) -> dict[str, int]:
    """Return position -> fold: series and single spindles are dealt out one after the other."""
    of: dict[str, int] = {}
    for kind in (True, False):
        of |= {name: index % FOLDS for index, name in enumerate(sorted(g for g in groups if g[0].isdigit() == kind))}
    return of


def hold_out(plan: Path, folder: Path, number: int) -> None:
    """Rewrite a plan so that a fold of the positions of an arranged folder never trains."""
    with (folder / "groups.csv").open(encoding="utf-8", newline="") as file:
        group_of = {row["image"]: row["group"] for row in csv.DictReader(file)}
    fold_of = folds(sorted(set(group_of.values())))
    wanted = yaml.safe_load(plan.read_text(encoding="utf-8"))
    wanted["held_out"] = [image for image, group in group_of.items() if fold_of[group] == number]
    plan.write_text(yaml.safe_dump(wanted, sort_keys=False), encoding="utf-8")


# --- what bundles see of positions that never trained -----------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """What a bundle saw of a frame: its probability of pitting, and pixels that were right, false and missed."""

    probability: float
    right: int
    false: int
    missed: int


Series = list[tuple[Frame, Seen]]
"""A position's frames in the order of their time, and what was seen of each."""


@dataclass(frozen=True)
class Looked:
    """A bundle on the positions that it never saw, and the threshold of each signal that the others gave."""

    series: dict[str, Series]
    thresholds: dict[str, float]


def probability(series: Series) -> list[float]:
    return [seen.probability for _, seen in series]


def growth(series: Series) -> list[float]:
    """Return by how many pixels each frame's pits outgrew the largest of the position's first frames."""
    areas = [seen.right + seen.false for _, seen in series]
    return [float(max(0, area - max(areas[:FIRST_FRAMES]))) for area in areas]


SIGNALS = {"probability": probability, "growth": growth}


def look(engine: Engine, frame: Frame, kept: dict[str, list[float]], path: Path) -> Seen:
    """Return what is seen of a frame, or was seen by an earlier call."""
    if frame.image.name not in kept:
        found = engine.predict(formats.read(frame.image))
        assert found.regions is not None
        answer, truth = found.regions.labels > 0, frame.pits(found.regions.labels.shape) > 0
        right = int((answer & truth).sum())
        counts = right, int(answer.sum()) - right, int(truth.sum()) - right
        kept[frame.image.name] = [found.class_scores["pitting"], *counts]
        path.write_text(json.dumps(kept), encoding="utf-8")
    chance, *pixels = kept[frame.image.name]
    return Seen(chance, *map(int, pixels))


def looked(bsdata: Path, folder: Path, made: Path, out: Path) -> Looked:
    """Look at all frames that a bundle never saw, and at those that it learned from."""
    plan = training.TrainingPlan.model_validate_json((made / PLAN).read_text(encoding="utf-8"))
    with (folder / "groups.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    unseen = {row["group"] for row in rows if row["image"] in plan.held_out}
    trained = {row["image"] for row in rows} - set(plan.held_out)
    engine = Engine.load(str(made), "cpu")
    path = out / f"{engine.card.name}-{engine.card.weights_sha256[:12]}.json"
    kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    of = positions(frames(bsdata))
    series = {name: [(frame, look(engine, frame, kept, path)) for frame in of[name]] for name in sorted(unseen)}
    learned = [
        [(frame, look(engine, frame, kept, path)) for frame in each if frame.image.name in trained]
        for each in of.values()
        if each[0].is_series and any(frame.image.name in trained for frame in each)
    ]
    return Looked(
        series, {name: threshold([(part, signal(part)) for part in learned]) for name, signal in SIGNALS.items()}
    )


def threshold(learned: Sequence[tuple[Series, list[float]]]) -> float:
    """Return what lies halfway between the highest clean frames of positions and the lowest pitted ones."""
    clean, pitted = (
        [value for series, values in learned for (frame, _), value in zip(series, values, strict=True)
         if (frame.annotation is not None) == is_pitted]
        for is_pitted in (False, True)
    )  # fmt: skip
    return float(np.percentile(clean, 99) + np.percentile(pitted, 5)) / 2


def first_alarm(chances: Sequence[float], threshold: float) -> int | None:
    """Return the frame at which a second one in a row is above the threshold."""
    above = [chance > threshold for chance in chances]
    return next((index for index in range(1, len(above)) if above[index] and above[index - 1]), None)


def auroc(normal: Sequence[float], other: Sequence[float]) -> float:
    """Return how often one of `other` is above one of `normal`."""
    return float(mannwhitneyu(other, normal).statistic) / (len(normal) * len(other))


def measure(bsdata: Path, folder: Path, bundles: Sequence[Path], out: Path) -> None:
    """Print what bundles came to on the positions that they never saw."""
    out.mkdir(parents=True, exist_ok=True)
    all_looked = [looked(bsdata, folder, made, out) for made in bundles]
    series = {name: each for found in all_looked for name, each in found.series.items()}
    counts = {
        name: np.sum([[seen.right, seen.false, seen.missed] for frame, seen in each if frame in known_of(each)], axis=0)
        for name, each in series.items()
    }

    def f1(names: Sequence[str]) -> float:
        right, false, missed = np.sum([counts[name] for name in names], axis=0)
        return float(2 * right / max(2 * right + false + missed, 1))

    timed = [name for name, each in series.items() if each[0][0].is_series]
    for what, names in (("all", sorted(series)), ("series", timed), ("single", sorted(series.keys() - set(timed)))):
        if names:
            print(f"pixel F1, {what}: {interval.bootstrap(lambda d, n=names: f1([n[i] for i in d]), len(names))}")
    clean, pitted = (
        {
            name: [seen.probability for frame, seen in series[name] if frame in known_of(series[name])
                   and (frame.annotation is not None) == is_pitted]
            for name in timed
        }
        for is_pitted in (False, True)
    )  # fmt: skip

    def area(names: Sequence[str]) -> float:
        parts = [[chance for name in names for chance in of[name]] for of in (clean, pitted)]
        return auroc(*parts) if all(parts) else 1.0

    print(f"image AUROC: {interval.bootstrap(lambda d: area([timed[i] for i in d]), len(timed))}")
    for name, signal in SIGNALS.items():
        print(f"alarms by {name}")
        alarms(all_looked, name, signal)


def alarms(all_looked: Sequence[Looked], name: str, signal: Callable[[Series], list[float]]) -> None:
    """Print when each position gave its first alarm by one signal."""
    in_time, false_alarms = [], []
    for found in all_looked:
        for position, each in sorted(found.series.items()):
            if not each[0][0].is_series:
                continue
            onset = next((index for index, (frame, _) in enumerate(each) if frame.annotation), None)
            alarm = first_alarm(signal(each), found.thresholds[name])
            print(f"  {position}: onset {onset}, first alarm {alarm}, threshold {found.thresholds[name]:.3f}")
            if onset is None:
                false_alarms.append(alarm is not None)
            else:
                in_time.append(alarm is not None and abs(alarm - onset) <= LATEST)
    print(f"  first alarm within {LATEST} frames: {interval.proportion(sum(in_time), len(in_time))}")
    print(f"  positions that never pit, with an alarm: {sum(false_alarms)} of {len(false_alarms)}")


def known_of(each: list[tuple[Frame, Seen]]) -> list[Frame]:
    """Return the frames of a position of which it is known whether they show pits."""
    return known([frame for frame, _ in each])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    arranged = commands.add_parser("arrange")
    arranged.add_argument("bsdata", type=Path)
    arranged.add_argument("out", type=Path)
    held = commands.add_parser("fold")
    held.add_argument("plan", type=Path)
    held.add_argument("folder", type=Path)
    held.add_argument("number", type=int, choices=range(FOLDS))
    measured = commands.add_parser("measure")
    measured.add_argument("bsdata", type=Path)
    measured.add_argument("folder", type=Path)
    measured.add_argument("bundles", type=Path, nargs="+")
    measured.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    if asked.command == "arrange":
        arrange(asked.bsdata, asked.out)
    elif asked.command == "measure":
        measure(asked.bsdata, asked.folder, asked.bundles, asked.out)
    else:
        hold_out(asked.plan, asked.folder, asked.number)


if __name__ == "__main__":
    main()
