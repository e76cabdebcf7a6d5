"""Whether a network's own answers, with their faults, tell the roll that damaged a coil.

    python -m tests.benchmarks.coil WORK [--frames 2000] [--network shufflenet_v2_x0_5] [--minutes 1.85]

A network learns from 700 drawn strips and judges each frame of a drawn coil whose print returns every 1570 mm, by the
commands of the README; the strip is laid by frame numbers. What is done in WORK is not done again.
"""

import argparse
import csv
import math
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet

from micro import cli
from micro.line.strip import of_run
from micro.scenes import __main__ as scenes
from micro.strip import Layout

STRIPS, STRIPS_SEED, COIL_SEED = 700, 500, 1
PERIOD_MM = 1570.0
MARK = "roll_mark"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument("--network", default="shufflenet_v2_x0_5")
    parser.add_argument("--minutes", type=float, default=1.85)
    asked = parser.parse_args(arguments)
    strips, made, coil = asked.work / "strips", asked.work / "bundle", asked.work / f"coil-{asked.frames}"
    if not strips.exists():
        scenes.main(["strips", str(strips), "--count", str(STRIPS), "--seed", str(STRIPS_SEED)])
    if not (made / "card.json").exists():
        train = ["train", str(strips), "--task", "defects", "--network", asked.network, "--out", str(made)]
        run([*train, "--minutes", str(asked.minutes), *(["--resume"] if made.exists() else [])])
    if not coil.exists():
        given = ["--count", str(asked.frames), "--seed", str(COIL_SEED), "--period-mm", str(PERIOD_MM)]
        scenes.main(["coil", str(coil), *given])
    run(
        ["predict", str(coil / "frames"), "--model", str(made), "--out", str(coil / "run"), "--set", "ok_classes=clean"]
    )

    truth = {row["image"]: row["class"] for row in csv.DictReader((coil / "truth.csv").read_text().splitlines())}
    table = pyarrow.parquet.read_table(coil / "run" / "images.parquet")
    said = dict(zip(table["image"].to_pylist(), table["class"].to_pylist(), strict=True))
    right = sum(said[image] == name for image, name in truth.items())
    found = sum(said[image] == name == MARK for image, name in truth.items())
    print(f"frames named right: {right} of {len(truth)}")
    print(
        f"{MARK}: {found} of {list(truth.values()).count(MARK)} found, "
        f"{list(said.values()).count(MARK) - found} said where there is none"
    )
    strip = of_run(coil / "run", Layout.load(coil / "layout.yaml"))
    print(strip.describe())
    for each in strip.returning:
        off = each.period.period_mm / PERIOD_MM - 1, each.period.roll_diameter_mm * math.pi / PERIOD_MM - 1
        print(f"{each.class_name}: period off by {off[0]:+.2%}, roll diameter by {off[1]:+.2%}")


def run(command: Sequence[str]) -> None:
    if code := cli.run(command):
        raise SystemExit(code)


if __name__ == "__main__":
    main()
