"""How well thin flakes are found and their layers named: `python -m tests.benchmarks.flakes WHAT [WHAT...]`.

    found       MaskTerial's photographs: F1, false regions an image, fragments of a true flake, of every region and of
                those that are named with a number of layers where the material is given
    staircase   MaskTerial's instances: layers named against the staircase of their contrasts; nobody says the oxide
    polygons    graphene_100x: layers of the polygons; bmw_msu_hbn (UA): thin or thicker
    drawn       drawn chips of six materials on three oxides under cameras that nothing trained on: found, then named
    together    drawn chips, four under one microscope each: alone and with a profile of what a run of the four found,
                with the true material given and with a wrong one
    hbn         hBN, by the network alone and with what colour tells: outlines of bmw_msu_hbn (UA) that are met at an
                IoU of 0.3, since they are coarse, and regions of drawn chips that are named with a number of layers
    heights     henriksen_hbn_afm: hBN heights against the atomic force microscope, each picture read by itself
    wrong       drawn chips with a wrong material or oxide given, flakes as large as are reported: is it said?
    taught      24 chips under one drawn microscope, with masks of layers, and `micro train --minutes 25`: what comes
                out beside the model on 24 others
    speed       one photograph of 1920 x 1200 px after loading, by the clock and in seconds of processors

The real images lie at --data or $MICRO_DATA. Nothing here was used to train; MaskTerial's images and UA's of hBN
were looked at while the rules were developed.
"""

import argparse
import csv
import json
import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from micro import bundle, cli, folder, formats, trial
from micro.engine import Engine
from micro.micrograph import Micrograph
from micro.recipe import Recipe
from micro.regions import Regions
from micro.scenes import chips
from micro.scenes.scene import Scene
from micro.score import classes, interval
from micro.score import regions as score
from micro.tasks import flakes
from micro.thin_film import MATERIALS, THICK, Asked, Point, Profile, Seen, name

MASKTERIAL = {"GrapheneH": "graphene", "WSe2": "wse2"}
# One layer in the red channel, by the README of the images: -0.13 on the purple ones, -0.10 on the grey ones.
STEPS = {True: -0.13, False: -0.10}
LAST_STEP = 3.5  # contrast is no longer proportional to layers above it
# Published contrasts of 1, 2 and 3 layers of WSe2 on such a chip (2DMatGMM), red, green and blue.
WSE2 = np.array([(-0.410, -0.488, -0.619), (-0.677, -0.778, -0.835), (-0.843, -0.907, -0.838)])
POLYGONS = ("1_layer", "2_layer", "3+_layer")
HBN = ("Thin_BN", "Less_Thick_BN", "Thick_BN")
THIN_HBN_NM = 50 * 0.333
COARSE_IOU = 0.3
HBN_CHIPS = 4  # drawn of each oxide
PIXEL_NOISE = 0.03  # of a contrast of two single pixels of 8 bit
CHIPS_TOGETHER = 4
TAUGHT, TAUGHT_SEED = 24, 500
SEEDS = 9000  # drawn chips from here on are for this file alone

Photograph = tuple[Path, str, np.ndarray, list[dict[str, str]]]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.flakes", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("what", nargs="+", choices=sorted(WHAT))
    parser.add_argument("--model", default="flakes-thin")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("MICRO_DATA", "../shared/data")))
    parser.add_argument("--scenes", type=int, default=2, help="drawn chips of each material and oxide")
    parser.add_argument("--work", type=Path, help="folder of `taught`, which goes on where it stopped")
    parser.add_argument("--minutes", type=float, default=25, help="of `taught`")
    asked = parser.parse_args(arguments)
    for what in asked.what:
        print(f"\n== {what}")
        WHAT[what](asked)


def found(asked: argparse.Namespace) -> None:
    every, numbered = [], []
    for path, material, truth, _ in maskterial(asked.data):
        engine = engine_with(asked.model, {"material": material})
        truth = score.without_specks(truth, engine.settings.min_area_px)
        answer = engine.predict(formats.read(path)).regions
        counted = np.array([False, *(number(name) is not None for name in answer.class_names)])
        every.append(met(truth, answer.labels))
        numbered.append(met(truth, np.where(counted[answer.labels], answer.labels, 0)))
        print(f"{describe(every[-1][0])}; named with a number of layers: {describe(numbered[-1][0])}  {path.name}")
    for what, photographs in (("every region", every), ("regions named with a number of layers", numbered)):
        matches = [match for match, _, _ in photographs]
        f1 = interval.bootstrap(lambda index, of=matches: score.pooled([of[i] for i in index]).f1, len(matches))
        false = interval.mean(np.array([match.only_found for match in matches], float))
        pieces, flakes_met = (sum(each[place] for each in photographs) for place in (1, 2))
        print(f"-- {what}\nF1 at IoU 0.5 {f1}; {describe(score.pooled(matches))}\nfalse regions an image {false}")
        print(f"fragments a true flake {pieces / max(flakes_met, 1):.3f} ({pieces} in {flakes_met} flakes met)")


def met(truth: np.ndarray, labels: np.ndarray) -> tuple[score.Matches, int, int]:
    """Return how labels (Y, X) match the truth, how many regions lie in true flakes by half, and in how many flakes."""
    cells = score.overlap(truth, score.mostly_known(labels, truth))
    inside = cells.area_px > 0.5 * np.bincount(labels.ravel())[cells.found]
    inside &= (cells.truth > 0) & (cells.found > 0)
    return score.match(cells), int(np.count_nonzero(inside)), len(np.unique(cells.truth[inside]))


def describe(match: score.Matches) -> str:
    return f"{match.matched} right, {match.only_found} false, {match.only_truth} missed"


def staircase(asked: argparse.Namespace) -> None:
    photographs = list(maskterial(asked.data))
    with tempfile.TemporaryDirectory() as folder:
        for what, profile_of in STAIRCASES.items():
            low, thick, published = [], [], []
            for path, material, truth, rows in photographs:
                settings: dict[str, object] = {"material": material}
                if profile_of is not None:
                    profile = profile_of(path, photographs, asked.model, Path(folder))
                    if profile is None:
                        continue
                    settings["profile"] = profile
                table, names = named(formats.read(path), truth, **settings)
                for row in rows:
                    index, contrast = int(row["instance_id"]) - 1, seen(row)
                    layers, flagged = number(names[index]), bool(table["review"][index])
                    if material == "wse2":
                        away = np.abs(WSE2 - contrast).max(1)
                        wanted = int(away.argmin()) + 1 if away.min() < 0.1 else None
                        published.append((layers, wanted, flagged))
                        print(f"{path.name[:8]} {row['instance_id']:>3} {layers} named, {wanted} published  {contrast}")
                        continue
                    (low if steps(row) < LAST_STEP else thick).append((layers, round(steps(row)), flagged))
                    print(f"{path.name[:8]} {row['instance_id']:>3} {layers} named, {steps(row):.2f} steps  {contrast}")
            print(f"-- {what}")
            for kind, pairs in (
                ("graphene, up to 3 steps", low),
                ("graphene, more steps, where the contrast of a layer shrinks", thick),
                ("WSe2 near the published contrasts of 1 to 3 layers", [pair for pair in published if pair[1]]),
            ):
                agree = sum(one == other for one, other, _ in pairs)
                near = sum(one is not None and abs(one - other) <= 1 for one, other, _ in pairs)
                sure = [one == other for one, other, flagged in pairs if not flagged]
                share = interval.proportion(agree, len(pairs)) if pairs else ""
                print(
                    f"{kind}: {agree} of {len(pairs)} agree {share}, {near} within one; "
                    f"{sum(sure)} of the {len(sure)} that are not flagged for review"
                )


def of_known_flakes(path: Path, photographs: Sequence[Photograph], model: str, work: Path) -> Profile | None:
    """Return a profile of known flakes on the other photographs of a setting; None where there are none."""
    _, material, _, theirs = next(each for each in photographs if each[0] == path)
    others = [row for other, *_, rows in photographs if other != path for row in rows]
    points = known_flakes([row for row in others if setting(row) == setting(theirs[0])])
    return Profile(material=material, points=points) if points else None


def of_a_run(path: Path, photographs: Sequence[Photograph], model: str, work: Path) -> Profile:
    """Return the profile of what a run of all photographs of a setting found; nobody says what any of it is."""
    _, material, _, theirs = next(each for each in photographs if each[0] == path)
    which = setting(theirs[0])
    made = work / f"{which[0]}-{which[1]}.yaml"
    if not made.is_file():
        out = made.with_suffix("")
        run_of(
            (other for other, *_, rows in photographs if setting(rows[0]) == which), model, out, {"material": material}
        )
        assert cli.run(["profile", str(out), "--material", material, "--out", str(made)]) == 0
    return Profile.load(made)


STAIRCASES = {
    "material given": None,
    "profile of five flakes of the other photographs": of_known_flakes,
    "profile of what a run of the setting's photographs found, none of it known": of_a_run,
}


def setting(row: dict[str, str]) -> tuple[str, bool]:
    """Return material and whether the substrate is purple: one microscope setting each."""
    return row["folder"], int(row["bg_B"]) - int(row["bg_R"]) > 10


def seen(row: dict[str, str]) -> np.ndarray:
    return np.array([float(row[f"contrast_{channel}"]) for channel in "RGB"])


def steps(row: dict[str, str]) -> float:
    return float(seen(row)[0] / STEPS[setting(row)[1]])


def known_flakes(rows: Sequence[dict[str, str]]) -> tuple[Point, ...]:
    """Return up to five flakes of one to three layers, evenly out of those that there are."""
    thin = [row for row in rows if row["folder"] == "GrapheneH" and steps(row) < LAST_STEP]
    few = [thin[index] for index in np.unique(np.linspace(0, len(thin) - 1, 5).round().astype(int))] if thin else []
    return tuple(
        Point(image=row["image"], layers=round(steps(row)), contrast_r=red, contrast_g=green, contrast_b=blue)
        for row in few
        for red, green, blue in [seen(row).tolist()]
    )


def polygons(asked: argparse.Namespace) -> None:
    right, near = [], []
    root = asked.data / "flakes/graphene_100x"
    for path, labels, wanted in coco(root / "annotations_coco.json", root / "images", POLYGONS):
        _, names = named(formats.read(path), labels, material="graphene")
        for label, asked_class in zip(names, wanted, strict=True):
            layers = number(label)
            answer = None if layers is None else f"{layers}_layer" if layers < 3 else "3+_layer"
            answer = "3+_layer" if label == THICK else answer
            right.append(answer == asked_class)
            near.append(answer is not None and abs(POLYGONS.index(answer) - POLYGONS.index(asked_class)) <= 1)
            print(f"{path.name}: {asked_class} named {label}")
    share = interval.proportion(sum(right), len(right))
    print(f"graphene_100x: {sum(right)} of {len(right)} polygons {share}, {sum(near)} within one class")

    root = asked.data / "flakes/bmw_msu_hbn/UA_BN_Dataset/valid"
    thin, thicker = [], []
    for path, labels, wanted in coco(root / "_annotations.coco.json", root, HBN):
        table, _ = named(formats.read(path), labels, material="hbn")
        for height_nm, asked_class in zip(table["thickness_nm"], wanted, strict=True):
            (thin if asked_class == "Thin_BN" else thicker).append(
                bool((height_nm < THIN_HBN_NM) == (asked_class == "Thin_BN")) and np.isfinite(height_nm)
            )
    for what, hits in (("thin", thin), ("thicker", thicker), ("all", thin + thicker)):
        print(f"hBN, {what}: {sum(hits)} of {len(hits)} {interval.proportion(sum(hits), len(hits))}")


class Row(NamedTuple):
    """A drawn flake of one to four layers that was found: whether its number is right, how sure that is, a look?"""

    material: str
    oxide_nm: float
    right: bool
    sure: float
    flagged: bool


def drawn(asked: argparse.Namespace) -> None:
    rows: list[Row] = []
    missed = 0
    for index, (material, oxide_nm, _) in enumerate(product(MATERIALS, chips.OXIDES_NM, range(asked.scenes))):
        scene = chips.draw(SEEDS + index, material=material, oxide_nm=oxide_nm)
        theirs, missing, _ = judged(scene, asked.model, {"material": material, "oxide_nm": oxide_nm})
        rows += [Row(material, oxide_nm, *each) for each in theirs]
        missed += missing
    tell(rows, missed)
    for column in ("material", "oxide_nm"):
        for value in sorted({getattr(row, column) for row in rows}, key=str):
            part = [row for row in rows if getattr(row, column) == value]
            kept = [row.right for row in part if not row.flagged]
            share, sure_share = np.mean([row.right for row in part]), np.mean(kept or 0)
            print(f"  {value!s:9} {len(part):4d} right {share:.2f}, not flagged {len(kept):4d} right {sure_share:.2f}")


def together(asked: argparse.Namespace) -> None:
    rows: dict[str, list[Row]] = {}
    missed: dict[str, int] = {}
    said: dict[str, list[bool]] = {}
    for index, (material, oxide_nm) in enumerate(product(MATERIALS, chips.OXIDES_NM)):
        first = SEEDS + 1000 + CHIPS_TOGETHER * index
        scenes = [
            chips.draw(seed, material=material, oxide_nm=oxide_nm, microscope=first)
            for seed in range(first, first + CHIPS_TOGETHER)
        ]
        others = [each for each in MATERIALS if each != material]
        for word, claimed in (("right", material), ("wrong", others[index % len(others)])):
            known = {"material": claimed, "oxide_nm": oxide_nm}
            with tempfile.TemporaryDirectory() as work:
                profile = profile_of_run(scenes, asked.model, known, Path(work))
                for what, settings in (("alone", {}), ("together", {"profile": profile})):
                    key = f"{what}, {word} material given"
                    for scene in scenes:
                        theirs, missing, notes = judged(scene, asked.model, {**known, **settings})
                        rows.setdefault(key, []).extend(Row(material, oxide_nm, *each) for each in theirs)
                        missed[key] = missed.get(key, 0) + missing
                        said.setdefault(key, []).append(any("times better" in note for note in notes))
    for key, found in rows.items():
        print(f"-- {key}: doubted on {sum(said[key])} of {len(said[key])} chips")
        tell(found, missed[key])


def judged(
    scene: Scene, model: str, settings: dict[str, object]
) -> tuple[list[tuple[bool, float, bool]], int, tuple[str, ...]]:
    """Return (right, how sure, flagged) of each flake of up to four layers that is met, how many are not, and notes."""
    engine = engine_with(model, settings)
    answer = engine.predict(scene.image)
    truth = score.without_specks(scene.labels, engine.settings.min_area_px)
    cells = score.overlap(truth, answer.regions.labels)
    true_px, found_px = np.bincount(truth[truth > 0].ravel()), np.bincount(answer.regions.labels.ravel())
    rows, met_ones = [], set()
    for true, label, area_px in zip(cells.truth, cells.found, cells.area_px, strict=True):
        if true < 1 or label < 1 or 2 * area_px <= true_px[true] + found_px[label] - area_px:
            continue
        met_ones.add(true)
        layers = number(scene.class_names[true - 1])
        if layers <= 4:
            is_right = answer.regions.class_names[label - 1] == f"{layers}L"
            sure = float(answer.table["layers_probability"][label - 1])
            rows.append((is_right, sure, bool(answer.table["review"][label - 1])))
    wanted = {true for true in np.unique(truth[truth > 0]) if number(scene.class_names[true - 1]) <= 4}
    return rows, len(wanted - met_ones), answer.notes


def tell(rows: Sequence[Row], missed: int) -> None:
    right = np.array([row.right for row in rows])
    unflagged = ~np.array([row.flagged for row in rows])
    print(f"flakes of 1 to 4 layers: {len(rows)} found at IoU 0.5, {missed} missed")
    print(f"layers right {interval.proportion(right.sum(), len(right))}")
    print(f"calibration error {classes.calibration_error(np.array([row.sure for row in rows]), right):.3f}")
    print(f"not flagged {unflagged.mean():.2f}, right {interval.proportion(right[unflagged].sum(), unflagged.sum())}")


def profile_of_run(scenes: Sequence[Scene], model: str, known: dict[str, object], work: Path) -> str:
    """Return the file of the profile of what a run of drawn chips found, under what the user says of them."""
    for scene in scenes:
        formats.write_image(work / f"{scene.image.name}.tif", scene.image)
    run_of(work.glob("*.tif"), model, work / "out", known)
    made = work / "microscope.yaml"
    assert cli.run(["profile", str(work / "out"), "--material", str(known["material"]), "--out", str(made)]) == 0
    return str(made)


def run_of(images: Iterable[Path], model: str, out: Path, settings: dict[str, object]) -> None:
    said = [part for name_, value in settings.items() for part in ("--set", f"{name_}={value}")]
    assert cli.run(["predict", *map(str, images), "--model", model, "--out", str(out), *said]) == 0


def hbn(asked: argparse.Namespace) -> None:
    root = asked.data / "flakes/bmw_msu_hbn/UA_BN_Dataset/valid"
    outlines = list(coco(root / "_annotations.coco.json", root, HBN))
    for find in ("network", "auto"):
        engine = engine_with(asked.model, {"material": "hbn", "find": find})
        met_of: dict[str, list[bool]] = {kind: [] for kind in HBN}
        regions = 0
        for path, truth, wanted in outlines:
            labels = engine.predict(formats.read(path)).regions.labels
            cells = score.overlap(truth, labels)
            areas_px = np.bincount(truth.ravel())[cells.truth] + np.bincount(labels.ravel())[cells.found]
            close = cells.area_px > COARSE_IOU * (areas_px - cells.area_px)
            seen_ones = set(cells.truth[close & (cells.truth > 0) & (cells.found > 0)].tolist())
            for number_, kind in enumerate(wanted, 1):
                met_of[kind].append(number_ in seen_ones)
            regions += int(labels.max())
        print(f"find={find}: {regions} regions in {len(outlines)} photographs")
        for kind, hits in met_of.items():
            print(f"  {kind}: {sum(hits)} of {len(hits)} outlines met {interval.proportion(sum(hits), len(hits))}")
        matches = []
        for index, oxide_nm in enumerate(np.repeat(chips.OXIDES_NM, HBN_CHIPS).tolist()):
            scene = chips.draw(SEEDS + 800 + index, material="hbn", oxide_nm=oxide_nm)
            engine = engine_with(asked.model, {"material": "hbn", "find": find, "oxide_nm": oxide_nm})
            answer = engine.predict(scene.image).regions
            counted = np.array([False, *(number(each) is not None for each in answer.class_names)])
            truth = score.without_specks(scene.labels, engine.settings.min_area_px)
            matches.append(met(truth, np.where(counted[answer.labels], answer.labels, 0))[0])
        f1 = interval.bootstrap(lambda index, of=matches: score.pooled([of[i] for i in index]).f1, len(matches))
        print(f"  drawn chips, named with a number of layers: F1 {f1}; {describe(score.pooled(matches))}")


def heights(asked: argparse.Namespace) -> None:
    table = asked.data / "flakes/henriksen_hbn_afm/hbn_rgb_vs_afm_thickness.csv"
    rows = list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))
    light = {row["flake"]: colour(row) for row in rows if float(row["afm_thickness_nm"]) == 0}
    points = [row for row in rows if float(row["afm_thickness_nm"]) > 0]
    contrast = np.array([colour(row) / light[row["flake"]] - 1 for row in points])
    true_nm = np.array([float(row["afm_thickness_nm"]) for row in points])
    pictures = np.array([row["flake"] for row in points])
    read_nm, low_nm, high_nm = np.full((3, len(points)), np.nan)
    for picture in dict.fromkeys(pictures):  # each has its own white balance, and its chip its own oxide
        there = pictures == picture
        few = Seen(contrast[there], np.ones((there.sum(), 3), bool), np.zeros((0, 3)), np.full(3, PIXEL_NOISE))
        names = name(few, Asked("hbn", 300.0))
        read_nm[there], low_nm[there], high_nm[there] = names.thickness_nm, names.low_nm, names.high_nm
    for row, true, nm, low, high in zip(points, true_nm, read_nm, low_nm, high_nm, strict=True):
        print(f"{row['flake']:12} {row['point']} AFM {true:6.2f} nm, read {nm:6.2f} ({low:.1f} to {high:.1f})")
    read = np.isfinite(read_nm)
    for what, kept in (("all that are read", read), ("intervals up to 10 nm", read & (high_nm - low_nm <= 10))):
        error = np.abs(read_nm - true_nm)[kept]
        covered = ((low_nm <= true_nm) & (true_nm <= high_nm))[kept]
        print(
            f"{what}: {kept.sum()} of {len(points)}; mean absolute error {error.mean():.2f} nm, median "
            f"{np.median(error):.2f}; interval covers {interval.proportion(covered.sum(), kept.sum())}"
        )


def wrong(asked: argparse.Namespace) -> None:
    said, sure, regions = {}, {}, {}
    for index in range(6 * asked.scenes):
        material = MATERIALS[index % len(MATERIALS)]
        oxide_nm = chips.OXIDES_NM[(index // 6 + index) % 3]
        scene = chips.draw(SEEDS + 500 + index, material=material, oxide_nm=oxide_nm)
        known = score.without_specks(scene.labels, flakes.FlakeSettings().min_area_px).clip(0)
        there = np.unique(known[known > 0])
        labels = np.where(known > 0, np.searchsorted(there, known) + 1, 0)
        truth = [scene.class_names[number_ - 1] for number_ in there]
        others = [other for other in MATERIALS if other != material]
        false = {
            "right": (material, oxide_nm),
            "wrong material": (others[index % len(others)], oxide_nm),
            "wrong oxide": (material, 285.0 if oxide_nm == 90 else 90.0),
        }
        for what, (claimed, claimed_nm) in false.items():
            table, names, notes = named_with_notes(scene.image, labels, material=claimed, oxide_nm=claimed_nm)
            flagged = table["review"]
            said.setdefault(what, []).append(any("does not explain" in note for note in notes) or bool(flagged.all()))
            bad = sum(one != other and not flag for one, other, flag in zip(names, truth, flagged, strict=True))
            sure[what] = sure.get(what, 0) + bad
            regions[what] = regions.get(what, 0) + len(truth)
    for what, hits in said.items():
        print(
            f"{what}: said in {sum(hits)} of {len(hits)} {interval.proportion(sum(hits), len(hits))}; "
            f"unflagged wrong numbers {sure[what]} of {regions[what]} regions"
        )


def taught(asked: argparse.Namespace) -> None:
    work = asked.work or Path(tempfile.mkdtemp())
    sides = []
    for place, first in ((work / "annotated", SEEDS + TAUGHT_SEED), (work / "rest", SEEDS + TAUGHT_SEED + TAUGHT)):
        if not place.is_dir():
            write_chips(place, range(first, first + TAUGHT))
        sides.append(folder.read_for(flakes.TASK, place))
    out = work / "taught"
    command = ["train", str(work / "annotated"), "--task", "flakes", "--out", str(out), "--minutes", str(asked.minutes)]
    if not (out / "card.json").is_file():
        assert cli.run([*command, "--resume"] if (out / "training").is_dir() else command) == 0
    for model in (asked.model, str(out)):
        print(f"{model}: {trial.run(Engine.load(model, 'cpu'), sides[1].images).describe().splitlines()[-6:]}")


def write_chips(place: Path, seeds: Sequence[int]) -> None:
    """Write drawn chips under one microscope with masks of their layers."""
    for part in ("images", "masks"):
        (place / part).mkdir(parents=True)
    for seed in seeds:
        scene = chips.draw(seed, material="graphene", oxide_nm=285.0, microscope=TAUGHT_SEED)
        layers = np.array([0, *(int(each.removesuffix("L")) for each in scene.class_names)], np.int32)[scene.labels]
        formats.write_image(place / "images" / f"{seed}.tif", scene.image)
        formats.write_labels(place / "masks" / f"{seed}.tif", layers, None)
    lines = ["0: substrate", *(f"{layers}: {layers}L" for layers in range(1, 9))]
    (place / "classes.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def speed(asked: argparse.Namespace) -> None:
    path = next(path for path, *_ in maskterial(asked.data))
    engine = engine_with(asked.model, {"material": "graphene"})
    image = formats.read(path)
    engine.predict(image)
    rounds = []
    for _ in range(3):
        began, worked = time.perf_counter(), time.process_time()
        engine.predict(image)
        rounds.append((time.perf_counter() - began, time.process_time() - worked))
    wall_s, processor_s = np.median(rounds, axis=0)
    print(
        f"{image.width_px} x {image.height_px} px: {wall_s:.2f} s, {processor_s:.2f} s of processors "
        f"(medians of {len(rounds)})"
    )


def maskterial(data: Path) -> Iterator[Photograph]:
    """Yield each photograph, its material, its labels (Y, X) and the rows of its instances."""
    for source, material in MASKTERIAL.items():
        root = data / "flakes/maskterial" / source
        rows = list(csv.DictReader((root / "instance_contrast.csv").read_text(encoding="utf-8").splitlines()))
        for path in sorted((root / "images").iterdir()):
            labels = formats.read_labels(root / "instance_masks" / f"{path.stem}.png")
            theirs = [row | {"folder": source} for row in rows if row["image"] == path.name]
            yield path, material, labels, theirs


def coco(file: Path, images: Path, wanted: Sequence[str]) -> Iterator[tuple[Path, np.ndarray, list[str]]]:
    """Yield each image of a COCO file, labels (Y, X) of its polygons of at least 300 px, and their classes."""
    content = json.loads(file.read_text(encoding="utf-8"))
    kinds = {kind["id"]: kind["name"] for kind in content["categories"]}
    for image in content["images"]:
        labels = np.zeros((image["height"], image["width"]), np.int32)
        names = []
        # small ones last, since they lie on large ones
        for part in sorted(content["annotations"], key=lambda part: -part["area"]):
            if part["image_id"] == image["id"] and kinds[part["category_id"]] in wanted:
                before = labels.copy()
                outlines = [np.rint(np.reshape(line, (-1, 2))).astype(np.int32) for line in part["segmentation"]]
                cv2.fillPoly(labels, outlines, len(names) + 1)
                names.append(kinds[part["category_id"]])
                areas_px = np.bincount(labels.ravel(), minlength=len(names) + 1)
                if areas_px[1:].min() < 300:
                    labels = before
                    names.pop()
        if names:
            yield images / image["file_name"], labels, names


def named(image: Micrograph, labels: np.ndarray, **settings: object) -> tuple[dict, tuple[str, ...]]:
    table, names, _ = named_with_notes(image, labels, **settings)
    return table, names


def named_with_notes(
    image: Micrograph, labels: np.ndarray, **settings: object
) -> tuple[dict, tuple[str, ...], tuple[str, ...]]:
    """Return the measures and names of regions that are given, and what is said of the image."""
    count = int(labels.max())
    regions = Regions(np.ascontiguousarray(labels, np.int32), ("flake",) * count, np.ones(count, np.float32))
    table = flakes.measure(regions, image)
    identity = flakes.identify(regions, image, table, flakes.FlakeSettings(**settings))
    return {**table, **identity.columns}, identity.class_names, identity.notes


def engine_with(model: str, settings: dict[str, object]) -> Engine:
    return Engine(bundle.load(model), Recipe(model=model, settings=settings), "cpu")


def number(class_name: str) -> int | None:
    return int(class_name[:-1]) if class_name[:-1].isdigit() else None


def colour(row: dict[str, str]) -> np.ndarray:
    return np.array([float(row[channel]) for channel in "RGB"])


EVERYTHING = (found, staircase, polygons, drawn, together, hbn, heights, wrong, taught, speed)
WHAT = {function.__name__: function for function in EVERYTHING}

if __name__ == "__main__":
    main()
