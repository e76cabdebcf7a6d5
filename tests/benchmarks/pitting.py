"""Pits on ball screws, by positions on the spindle that never trained: python -m tests.benchmarks.pitting.

`arrange BSDATA OUT` writes BSData as a folder that `micro train --task defects` reads: masks drawn from its polygons,
and a groups.csv by spindle position. Frames of a position that pitted and carry no annotation after that are left out,
since nobody knows what they show; of the others without a polygon, which are nearly the same picture again and again,
every third is taken.

`fold PLAN FOLDER NUMBER` makes a plan of `micro train --write-plan` hold out the positions of one fold of three.
"""

import argparse
import csv
import json
import shutil
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

CLASSES = ("sound", "pitting")
CLEAN_TAKEN = 3
FOLDS = 3


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
    asked = parser.parse_args()
    if asked.command == "arrange":
        arrange(asked.bsdata, asked.out)
    else:
        hold_out(asked.plan, asked.folder, asked.number)


if __name__ == "__main__":
    main()
