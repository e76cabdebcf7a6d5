"""A line without a network: drawn images, an engine that counts bars, and ways to run it."""

import csv
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from micro.drift import Reference
from micro.errors import MicroError
from micro.line.arrivals import Arrivals, Listed
from micro.line.run import Place, run_steps
from micro.line.sources import find
from micro.line.station import Manners
from micro.line.watcher import RunSummary
from micro.micrograph import Item, Micrograph
from micro.recipe import Recipe
from micro.regions import Maker, Prediction, Progress, Quarantined, Regions
from micro.tasks import TaskSettings

RECIPE = Recipe(model="toy")
HASTY = Manners(settle_s=0.0, give_up_after_s=0.0)


@dataclass
class Toy:
    """Finds bright bars; a stand-in for an engine with the manners that a run relies on."""

    maker: Maker = field(default_factory=lambda: Maker("toy", "1.0.0", "0" * 64))
    device: str = "cpu"
    settings: TaskSettings = field(default_factory=TaskSettings)
    reference: Reference | None = None
    classes: tuple[str, ...] = ()
    read: list[str] = field(default_factory=list)
    closed: bool = False

    def stream(self, items: Iterable[Item]) -> Iterator[Prediction | Quarantined]:
        try:
            for item in items:
                self.read.append(item.name)
                try:
                    yield self.judge(item.read())
                except MicroError as fault:
                    yield Quarantined(item.name, str(fault))
        finally:
            self.closed = True

    def judge(self, image: Micrograph) -> Prediction:
        base = Prediction(image.name, image.height_px, image.width_px, self.maker, image.pixel_size_um, seconds=0.25)
        if self.classes:
            share = float((image.pixels > 0).mean())
            scores = dict(zip(self.classes, (1 - share, share), strict=True))
            best = max(scores, key=scores.__getitem__)
            return replace(base, class_name=best, class_scores=scores, verdict="NG" if share > 0.5 else "OK")
        count, labels = cv2.connectedComponents((image.pixels[..., 0] > 0).astype(np.uint8))
        area_px = np.bincount(labels.ravel(), minlength=count)[1:]
        table: dict[str, Any] = {"brightness_mean": np.full(count - 1, 0.5), "area_px": area_px}
        if image.pixel_size_um is not None:
            table["area_um2"] = area_px * image.pixel_size_um**2
        regions = Regions(labels.astype(np.int32), ("bar",) * (count - 1), np.ones(count - 1, np.float32))
        return replace(base, regions=regions, table=table)


def draw(path: Path, bars: int) -> None:
    """Write an 8 x 32 image with some bars, each of 8 pixels."""
    pixels = np.zeros((8, 32), np.uint8)
    pixels[:, 1 : 1 + 2 * bars : 2] = 200
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)


def folder_of(path: Path, count: int) -> Path:
    for number in range(count):
        draw(path / f"{number:03}.png", number % 5)
    return path


def steps(
    folder: Path,
    out: Path,
    engine: Toy | None = None,
    *,
    recipe: Recipe = RECIPE,
    manners: Manners = HASTY,
    **more: Any,
) -> Generator[Progress, None, RunSummary]:
    """Run a toy engine over a folder; keyword arguments are those of a Place, or stop and watchers."""
    place = Place(out, more.pop("store", None), more.pop("overwrite", False))
    return run_steps(listed(folder), engine or Toy(), recipe, place, manners, **more)


def listed(*sources: Path | str) -> Arrivals:
    return Listed(find([str(source) for source in sources]), settle_s=0.0)


def run(folder: Path, out: Path, engine: Toy | None = None, **more: Any) -> RunSummary:
    return drained(steps(folder, out, engine, **more))


def drained(steps: Generator[Progress, None, RunSummary]) -> RunSummary:
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            summary: RunSummary = stop.value
            return summary


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def same_bytes(one: Path, other: Path) -> bool:
    return one.read_bytes() == other.read_bytes()
