"""How near the grain size of found grains is to the true one, and how long a large field takes.

python -m tests.benchmarks.grains fields      drawn fields at half and double scale, blurred and noisy
python -m tests.benchmarks.grains visible     what the pictures of these fields show at all, whoever looks for grains
python -m tests.benchmarks.grains real        real micrographs, from the folder that MICRO_DATA names
python -m tests.benchmarks.grains closing     boundaries of the iron closed in two ways, on places that trained too
python -m tests.benchmarks.grains large       a field of 20 Mpx from file to G and table; an idle machine is assumed
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from skimage import graph
from skimage.segmentation import watershed

from micro import bundle, folder, formats
from micro.engine import Engine
from micro.grain_size import FieldCount, intercept, planimetric, section_of
from micro.grain_size.count import INTERCEPT
from micro.micrograph import Micrograph
from micro.recipe import Recipe, Setting
from micro.regions import Progress
from micro.scenes.grains import ETCHES, draw
from micro.score import regions as score
from micro.tiles import resize
from micro.training import held_out_images
from tests.benchmarks.engine import Figure, table
from tests.benchmarks.grain_boundaries import seen

FIRST_SEED = 700_000
DRAWN_PX = 400
GRAIN_PX = 57.0
NEAR_G = 0.15
CHANGES = ("half scale", "double scale", "1.5 px blur", "10 % noise")
NIST_UM = 50 / 222
NIST_MASK = "grains_steel_highlighted_segmented.tif"
NIST_G = {"planimetric": 10.03, "intercept": 10.11}
"""Counted on the source's own mask of its boundaries; see the data's README."""


@dataclass(frozen=True)
class Sizes:
    """G of one field by counting grains, and by lines in four directions."""

    planimetric: float
    intercept: float


def sizes(labels: NDArray[np.int32], pixel_size_um: float) -> Sizes:
    """Return G of grains (Y, X) as `micro measure` counts them."""
    section = section_of(labels)
    counts = (planimetric.saltikov(section), intercept.heyn(section))
    return Sizes(*(each.method.quantity.to_g(FieldCount("", each, pixel_size_um).value) for each in counts))


@dataclass(frozen=True, eq=False)
class Field:
    """A drawn field: its kind of etch, what was changed, the truth, and the image that came of it."""

    etch: str
    change: str
    labels: NDArray[np.int32]
    truth: Sizes
    image: Micrograph


def drawn(count: int, field_px: int) -> Iterator[Field]:
    """Draw fields of every etch, each changed in one of CHANGES."""
    etches = ("iron", *ETCHES)
    for number in track(range(count), "drawn fields", transient=True):
        etch, change = etches[number // len(CHANGES) % len(etches)], CHANGES[number % len(CHANGES)]
        scene = draw(FIRST_SEED + number, field_px, field_px, grain_px=GRAIN_PX, etch=etch)
        truth = sizes(scene.labels, scene.image.known_pixel_size_um())
        yield Field(etch, change, scene.labels, truth, changed(scene.image, change, np.random.default_rng(number)))


def fields(engine: Engine, count: int, field_px: int = DRAWN_PX) -> Iterator[Figure]:
    """Compare G of what is found in drawn fields with that of what was drawn."""
    off: dict[str, list[float]] = defaultdict(list)
    for field in drawn(count, field_px):
        found = engine.predict(field.image).regions
        assert found is not None
        answer = sizes(found.labels, field.image.known_pixel_size_um())
        for name in ("all", field.etch, field.change):
            off[f"{name}, planimetric"].append(answer.planimetric - field.truth.planimetric)
            off[f"{name}, intercept"].append(answer.intercept - field.truth.intercept)
    for name, errors in off.items():
        bar = 0.95 if name.startswith("all") else None
        within = float(np.mean(np.abs(errors) <= NEAR_G))
        yield Figure(f"G within {NEAR_G}, {name} ({len(errors)} fields)", within, "", bar, at_most=False)
        yield Figure(f"  mean error of G, {name}", float(np.mean(errors)), "G")


def visible(count: int, field_px: int = DRAWN_PX) -> Iterator[Figure]:
    """Compare G with that of the same grains, those joined between which the picture shows nothing.

    A finder may beat this where it guesses a boundary from the shape of the grains, or closes one with its neighbours.
    """
    near: dict[str, list[tuple[bool, bool]]] = defaultdict(list)
    for field in drawn(count, field_px):
        left = sizes(seen(field.image, field.labels), field.image.known_pixel_size_um() * _shrunk(field))
        errors = left.planimetric - field.truth.planimetric, left.intercept - field.truth.intercept
        for name in ("all", field.etch, field.change):
            near[name].append((abs(errors[0]) <= NEAR_G, abs(errors[1]) <= NEAR_G))
    for name, within in near.items():
        for method, share in zip(("planimetric", "intercept"), np.mean(within, axis=0), strict=True):
            yield Figure(f"what shows, G within {NEAR_G}, {name}, {method} ({len(within)} fields)", float(share), "")


def _shrunk(field: Field) -> float:
    """Return how many pixels of the image lie along one of the truth."""
    return field.image.height_px / field.labels.shape[0]


def changed(image: Micrograph, change: str, rng: np.random.Generator) -> Micrograph:
    """Return an image taken at another scale, out of focus, or with noise of a tenth of the full scale."""
    if change.endswith("scale"):
        factor = 0.5 if change == "half scale" else 2
        shape = (round(image.height_px * factor), round(image.width_px * factor))
        return replace(image, pixels=resize(image.pixels, shape), pixel_size_um=image.known_pixel_size_um() / factor)
    pixels = image.pixels.astype(np.float32)
    if change == "1.5 px blur":
        pixels = cv2.GaussianBlur(pixels, (0, 0), 1.5).reshape(pixels.shape)
    else:
        pixels += rng.normal(0, 25.5, pixels.shape)
    return replace(image, pixels=pixels.round().clip(0, 255).astype(np.uint8))


def real(engine: Engine, data: Path) -> Iterator[Figure]:
    """Compare with grains that people drew: held-out places of iron sections, and the mask of an etched steel."""
    steel = formats.read(data / "grains" / "nist-gsat-steel" / "grain_structures_steel.tif")
    found = engine.predict(steel).regions
    assert found is not None
    g = sizes(found.labels, NIST_UM)
    for name, true_g in NIST_G.items():
        off = abs(getattr(g, name) - true_g)
        yield Figure(f"steel of NIST, raw: G {name} {getattr(g, name):.2f}, off by", off, "G", NEAR_G)
    mask = cv2.imread(str(data / "grains" / "nist-gsat-steel" / NIST_MASK), cv2.IMREAD_GRAYSCALE)
    assert mask is not None
    there, ours = run_g(mask > 0), run_g(thick_boundaries(found.labels))
    what = f"  G intercept {ours:.2f}, counted as the source's {there:.2f} was, off by"
    yield Figure(what, abs(ours - there), "G", NEAR_G)
    counted = sizes(closed(mask), NIST_UM)
    for name in NIST_G:
        alike = getattr(g, name) - getattr(counted, name)
        what = f"  G {name} of the source's mask, closed and counted alike {getattr(counted, name):.2f}, off by"
        yield Figure(what, abs(alike), "G")
    iron = folder.read(data / "grains" / "pure-iron-serial")
    lengths_px = []
    for item in held_out_images(bundle.load(engine.recipe.model), iron):
        answer = engine.predict(item.image).regions
        assert answer is not None
        assert item.labels is not None
        first = int(np.flatnonzero((item.labels >= 0).any(axis=0))[0])  # known from there on
        whole = next(each for each in iron.images if each.image.name == item.image.name)
        assert whole.labels is not None
        pair = (section_of(each[:, first:].copy()) for each in (answer.labels, whole.labels))
        counts = [intercept.heyn(section) for section in pair]
        lengths_px.append([each.extent_px / each.count for each in counts])
        yield Figure(f"iron {item.image.name}: mean intercept found", lengths_px[-1][0], "px")
        yield Figure(f"iron {item.image.name}: mean intercept drawn", lengths_px[-1][1], "px")
    seen, true = np.mean(lengths_px, axis=0)
    yield Figure("iron, held-out places: mean intercept off by", abs(seen / true - 1) * 100, "%", 2)


def thick_boundaries(labels: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Return boundaries (Y, X) 3 px wide, which cover as much of the field of NIST as those of its mask, 11 %."""
    lines = np.zeros(labels.shape, np.uint8)
    lines[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    lines[1:] |= labels[1:] != labels[:-1]
    return np.asarray(cv2.dilate(lines, cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))) > 0)


def run_g(boundaries: NDArray[np.bool_]) -> float:
    """Return G by runs of boundary (Y, X) on every row and column, as the README of the steel counts.

    Two boundaries that touch are one run, and so is a triple point, so that G comes out lower than by ASTM E112.
    """
    steps = (np.diff(side.astype(np.int8), axis=1, prepend=0) == 1 for side in (boundaries, boundaries.T))
    return INTERCEPT.to_g(2 * boundaries.size * NIST_UM / sum(int(each.sum()) for each in steps))


def closed(mask: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Return the grains (Y, X) of a mask whose boundaries are bright and some pixels wide; these are shared out."""
    inside = (mask == 0).astype(np.uint8)
    parts = cv2.connectedComponents(inside, connectivity=4)[1]
    return np.asarray(watershed(cv2.distanceTransform(1 - inside, cv2.DIST_L2, 5), parts), np.int32)


def closing(engine: Engine, data: Path) -> Iterator[Figure]:
    """Compare two ways from the network's maps to closed boundaries, on places that trained and on those held out.

    What is missed on places that trained as well is not for want of data: people place a boundary to about a pixel.
    """
    iron = folder.read(data / "grains" / "pure-iron-serial")
    figures: dict[str, list[tuple[float, ...]]] = defaultdict(list)
    for item, held in zip(iron.images, held_out_images(bundle.load(engine.recipe.model), iron), strict=True):
        assert item.labels is not None
        assert held.labels is not None
        pixels = item.image.pixels
        maps = drained(engine.maps([pixels], [engine.task.scaling(pixels)]))[0]
        height = maps[:2].mean(0)
        assert engine.task.decode is not None
        flooded = engine.task.decode(maps, engine.settings).labels
        parts = engine.task.decode(maps, engine.settings.model_copy(update={"split_rise": 0.1})).labels
        answers = {"watershed": flooded}
        answers |= {f"partition at {level:.0%}": merged(parts, height, 255 * level) for level in (0.3, 0.4, 0.5)}
        places = {
            "trained": np.where(held.labels >= 0, -1, item.labels),
            "held out": held.labels,
        }
        for (way, found), (place, truth) in product(answers.items(), places.items()):
            known = score.without_specks(truth, 20)
            cells = score.overlap(known, score.mostly_known(found, known))
            figures[f"{place}, {way}"].append(
                (
                    score.adjusted_rand_index(cells),
                    score.match(cells).average_precision,
                    score.variation_of_information(cells).total_bits,
                )
            )
    for name, rows in sorted(figures.items()):
        for what, value in zip(("ARI", "AP at IoU 0.5", "VI"), np.mean(rows, axis=0), strict=True):
            yield Figure(f"{name}: {what}", float(value), "bits" if what == "VI" else "")


def merged(parts: NDArray[np.int32], height: NDArray[np.floating], level: float) -> NDArray[np.int32]:
    """Return parts (Y, X) merged, two that are most alike first, while the mean height between them is above level."""
    between = graph.rag_boundary(parts.astype(np.intp), 255.0 - height, connectivity=1)

    def joined(graph_: graph.RAG, first: int, second: int, other: int) -> dict[str, float]:
        edges = [graph_[each][other] for each in (first, second) if graph_.has_edge(each, other)]
        count = sum(edge["count"] for edge in edges)
        return {"count": count, "weight": sum(edge["count"] * edge["weight"] for edge in edges) / count}

    answer = graph.merge_hierarchical(
        parts.astype(np.intp),
        between,
        thresh=255 - level,
        rag_copy=False,
        in_place_merge=True,
        merge_func=lambda *_: None,
        weight_func=joined,
    )
    return np.asarray(answer + 1, np.int32)


def drained(steps: Generator[Progress, None, list[NDArray[np.uint8] | None]]) -> list[NDArray[np.uint8]]:
    """Return what the steps end with."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return list(end.value)


def large(model: str, megapixels: float) -> Iterator[Figure]:
    """Time the commands that lead from the file of one large field to its table and its G."""
    edge = round((megapixels * 1e6) ** 0.5)
    part = draw(FIRST_SEED, 1024, 1024, grain_px=GRAIN_PX).image
    copies = -(-edge // 1024)
    pixels = np.pad(part.pixels, ((0, (copies - 1) * 1024), (0, (copies - 1) * 1024), (0, 0)), "symmetric")
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        formats.write_image(place / "field.tif", replace(part, pixels=pixels[:edge, :edge]))
        run = [sys.executable, "-m", "micro"]
        seconds = [
            timed([*run, "predict", str(place / "field.tif"), "--model", model, "--out", str(place / "run")]),
            timed([*run, "measure", str(place / "run"), "--out", str(place / "size")]),
        ]
        record = json.loads((place / "size" / "specimen.json").read_text(encoding="utf-8"))
    yield Figure(f"{edge} x {edge} px, {record['fields'][0]['grains']} grains: predict", seconds[0], "s")
    yield Figure("  measure", seconds[1], "s")
    yield Figure("  from file to G and table", sum(seconds), "s", 60)


def timed(command: list[str]) -> float:
    """Return how many seconds a command takes; CalledProcessError when it fails."""
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> None:
    """Print the figures of one part beside their bars."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.grains", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("part", choices=("fields", "visible", "real", "closing", "large"))
    parser.add_argument("--model", default="grains-metal")
    parser.add_argument("--fields", type=int, default=200)
    parser.add_argument("--field-px", type=int, default=DRAWN_PX, help="edge of a drawn field, before it is changed")
    parser.add_argument("--megapixels", type=float, default=20)
    parser.add_argument("--grain-diameter-px", help="as --set grain_diameter_px of micro predict")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    asked = parser.parse_args()
    if asked.part == "large":
        figures = list(large(asked.model, asked.megapixels))
    elif asked.part == "visible":
        figures = list(visible(asked.fields, asked.field_px))
    else:
        settings: dict[str, Setting] = {}
        if asked.grain_diameter_px:
            settings["grain_diameter_px"] = asked.grain_diameter_px
        engine = Engine(bundle.load(asked.model), Recipe(model=asked.model, settings=settings), device="cpu")
        if asked.part == "fields":
            figures = list(fields(engine, asked.fields, asked.field_px))
        else:
            part = real if asked.part == "real" else closing
            figures = list(part(engine, Path(os.environ["MICRO_DATA"])))
    Console(width=110).print(table(figures))
    if asked.json:
        facts = {each.what.strip(): {"value": each.value, "unit": each.unit} for each in figures}
        asked.json.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
