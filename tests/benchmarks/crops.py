"""What 24 annotated crops and 25 minutes are worth: python -m tests.benchmarks.crops WORK [--from BUNDLE].

The part of `pure-iron-serial` that may train is cut into crops of 256 x 189 px, and those of the first four sections,
24 of them, are an annotated folder like any other: the plan is what `micro train` derives from it, with drawn sections
beside it. What comes out is measured on the places that grains-iron was measured on, beside grains-iron itself.
The same command goes on where it stopped. The real images lie at --data or $MICRO_DATA.
"""

import argparse
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from skimage.segmentation import relabel_sequential

from micro import bundle, folder, training, trial
from micro.engine import Engine
from micro.folder import Annotated, AnnotatedFolder, annotated
from micro.scenes.grains import draw
from micro.training.plan import PLACE_GAP_PX

SECTIONS, HEIGHT_PX, WIDTH_PX = 4, 256, 189
DRAWN, FIRST_SEED = 100, 600_000
FIGURES = ("adjusted Rand index", "AP at IoU 0.5")
BAR = 0.02


def crops(sections: Sequence[Annotated]) -> list[Annotated]:
    """Cut what the places that measure leave of each section into crops."""
    found = []
    for item in sections:
        assert item.labels is not None
        last = round(item.image.width_px * 0.75) - PLACE_GAP_PX
        for top in range(0, item.image.height_px, HEIGHT_PX):
            for left in range(0, last - WIDTH_PX + 1, WIDTH_PX):
                part = slice(top, top + HEIGHT_PX), slice(left, left + WIDTH_PX)
                image = replace(item.image, pixels=item.image.pixels[part], name=f"{item.image.name} {top} {left}")
                labels = relabel_sequential(item.labels[part])[0].astype(np.int32)
                found.append(annotated(image, labels, None))
    return found


def drawn() -> AnnotatedFolder:
    scenes = [draw(FIRST_SEED + number, etch="iron") for number in range(DRAWN)]
    items = tuple(annotated(scene.image, scene.labels, None) for scene in scenes)
    return AnnotatedFolder(Path("drawn-iron"), items, (), ())


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.crops", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("work", type=Path, help="folder for the bundle, and for the training on its way there")
    parser.add_argument("--from", dest="start", help="bundle to begin from that saw no iron; random weights if none")
    parser.add_argument("--minutes", type=float, default=25)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("MICRO_DATA", "../shared/data")))
    asked = parser.parse_args(arguments)
    iron = folder.read(asked.data / "grains" / "pure-iron-serial", "instances")
    shipped = bundle.load("grains-iron")
    few = AnnotatedFolder(Path("iron-crops"), tuple(crops(iron.images[:SECTIONS])), (), ())
    print(few.describe(), flush=True)
    if not (asked.work / "plan.json").exists():
        start, beside = bundle.load(asked.start) if asked.start else None, (drawn(),)
        plan = training.plan(few, "grains", asked.minutes, start=start, beside=beside)
        print(plan.describe(), flush=True)
        making = training.Making("iron-crops", training.About(), "a measurement", start=start, beside=beside)
        for epoch in training.train_steps(plan, few, asked.work, making, resume=(asked.work / "training").exists()):
            print(f"{epoch.done} of {epoch.total}, {epoch.note}", flush=True)
    held_out = training.held_out_images(shipped, iron)
    rows = {}
    for made in (shipped, bundle.load(asked.work)):
        tried = trial.run(Engine(made, device="cpu"), held_out)
        rows[made.card.name] = {row.what: row for row in tried.measured("")}
    for what in FIGURES:
        known, new = (found[what] for found in rows.values())
        said = ", ".join(
            f"{name} {row[what].value:.3f} ({row[what].low:.3f} to {row[what].high:.3f})" for name, row in rows.items()
        )
        verdict = "within" if new.value >= known.value - BAR else "not within"
        print(f"{what}: {said}; {verdict} {BAR} of the shipped bundle")


if __name__ == "__main__":
    main()
