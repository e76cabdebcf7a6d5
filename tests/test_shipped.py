"""The bundles that come along: small enough, honest about themselves, and the same answer however an image is cut."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from skimage.measure import label

from micro import bundle, cli, formats, trial
from micro.card import START
from micro.engine import Engine
from micro.micrograph import Micrograph
from micro.recipe import Recipe
from micro.scenes import flakes, grains, phases, spindles, strips
from micro.score import regions

WEIGHTS = Path(__file__).resolve().parents[1] / "weights"
ALL = sorted(path.parent.name for path in WEIGHTS.glob("*/card.json"))
STARTS = [name for name in ALL if bundle.load(WEIGHTS / name).card.task == START]
SHIPPED = [name for name in ALL if name not in STARTS]
DRAWN = {"defects": spindles.draw, "grains": grains.draw, "flakes": flakes.draw, "phases": phases.draw}
MEGABYTE = 2**20


def test_the_first_bundles_are_here():
    sheets = {"sheet-edge-crack", "sheet-steel", "sheet-steel-accurate", "spindle-pitting"}
    first = {"flakes-thin", "grains-iron", "grains-metal", "phases-superalloy"} | sheets
    assert first <= set(SHIPPED)


def test_a_bundle_that_learned_from_drawn_defects_says_so_first_and_knows_cracks_drawn_since():
    made = bundle.load(WEIGHTS / "sheet-edge-crack")
    assert made.card.summary.startswith("Learned from drawn defects alone")
    engine = Engine(made, device="cpu")
    answers = [(strips.edge(seed), engine.predict(strips.edge(seed).image)) for seed in range(5_000, 5_012)]
    assert all(scene.class_name == answer.class_name for scene, answer in answers)


def test_twins_that_are_kept_are_more_of_the_crystals_that_were_drawn():
    made = bundle.load(WEIGHTS / "grains-metal")
    drawn = (grains.draw(seed, 256, 256, etch="channeling", grain_px=60) for seed in range(600_000, 600_050))
    scene = next(each for each in drawn if each.twins.mean() > 0.06)
    crystals = label(2 * scene.labels + scene.twins, connectivity=1).astype(np.int32)
    right = {}
    for how in ("merge", "keep"):
        found = Engine(made, Recipe(model="x", settings={"twins": how}), "cpu").predict(scene.image).regions
        right[how] = regions.match(regions.overlap(crystals, found.labels)).f1
    assert right["keep"] > right["merge"] + 0.05


@pytest.mark.parametrize("name", SHIPPED)
def test_a_bundle_proves_itself(name):
    assert trial.prove(bundle.load(WEIGHTS / name), "cpu")


@pytest.mark.parametrize("name", SHIPPED)
def test_a_bundle_says_what_it_learned_from_how_well_it_does_and_what_it_cannot(name):
    card = bundle.load(WEIGHTS / name).card
    assert card.name == name
    assert card.scores
    assert card.limits
    assert all(row.low <= row.value <= row.high for row in card.scores)
    assert all(source.licence not in ("", "not stated") for source in card.data)
    assert card.command.startswith("micro train ")


@pytest.mark.parametrize("name", STARTS)
def test_a_start_says_what_it_learned_from_and_that_it_answers_no_image(name):
    card = bundle.load(WEIGHTS / name).card
    assert card.name == name
    assert "answers no image" in card.summary
    assert all(source.licence not in ("", "not stated") for source in card.data)
    assert card.command.startswith("python -m micro.training.start ")
    assert trial.prove(bundle.load(WEIGHTS / name), "cpu")


def test_bundles_stay_small():
    sizes = [sum(file.stat().st_size for file in (WEIGHTS / name).iterdir() if file.is_file()) for name in ALL]
    assert max(sizes) < 30 * MEGABYTE
    assert sum(sizes) < 200 * MEGABYTE


def _tiled_beside_whole():
    for name in SHIPPED:
        if bundle.load(WEIGHTS / name).card.segmenter is not None:
            for edges in ((300, 420), (1100, 1700), (3000, 2100)):
                marks = [pytest.mark.slow] if edges[0] > 2000 else []
                yield pytest.param(name, edges, id=f"{name}-{edges[0]}x{edges[1]}", marks=marks)


@pytest.mark.parametrize(("name", "edges"), list(_tiled_beside_whole()))
def test_tiles_find_the_regions_of_the_whole_image(name, edges):
    made = bundle.load(WEIGHTS / name)
    pixels = DRAWN[made.card.task](7, *edges).image.pixels
    # small images are cut into tiles far smaller than usual, or there would be no seam to see
    tile_px = 512 if edges[0] < 600 else 1024
    whole = Engine(made, device="cpu", tile_px=4096).predict(Micrograph(pixels)).regions
    tiled = Engine(made, device="cpu", tile_px=tile_px).predict(Micrograph(pixels)).regions
    cells = regions.overlap(whole.labels, tiled.labels)
    matches = regions.match(cells)
    assert (matches.only_found, matches.only_truth) == (0, 0)
    partner = np.zeros(len(tiled) + 1, int)
    order = np.argsort(cells.area_px)
    partner[cells.found[order]] = cells.truth[order]  # the largest overlap is written last
    assert (partner[tiled.labels] != whole.labels).mean() <= 1 / 5000


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "folder", "images"),
    [
        ("grains-iron", "grains/pure-iron-serial/images", 5),
        ("phases-superalloy", "grains/nasa-superalloy/val/images", 4),
        ("sheet-steel", "defects/xsdd", 907),
        ("flakes-thin", "flakes/maskterial/GrapheneH/images", 6),
    ],
)
def test_real_images_are_predicted_whole_with_tables_and_record(name, folder, images, data, tmp_path):
    out = tmp_path / "R"
    assert cli.run(["predict", str(data / folder), "--model", name, "--out", str(out), "--device", "cpu"]) == 0
    with (out / "images.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == images
    card = bundle.load(WEIGHTS / name).card
    assert {(row["state"], row["model"], row["weights_sha256"]) for row in rows} == {
        ("done", name, card.weights_sha256)
    }
    assert json.loads((out / "run.json").read_text(encoding="utf-8"))["counts"]["done"] == images
    if card.segmenter is not None:
        labels = sorted((out / "labels").rglob("*.tif"))
        assert len(labels) == images
        first = rows[0]
        assert formats.read_labels(labels[0]).shape == (int(first["height_px"]), int(first["width_px"]))


@pytest.mark.data
def test_grains_of_held_out_places_score_as_the_card_says(data, tmp_path):
    figures = tmp_path / "figures.json"
    folder = data / "grains" / "pure-iron-serial"
    assert cli.run(["score", str(folder), "--model", "grains-iron", "--held-out", "--json", str(figures)]) == 0
    measured = {row["what"]: row["value"] for row in json.loads(figures.read_text())}
    stated = {row.what: row.value for row in bundle.load(WEIGHTS / "grains-iron").card.scores}
    assert measured == pytest.approx(stated, abs=0.01)
