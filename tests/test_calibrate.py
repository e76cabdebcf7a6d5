"""The command line from answers, or a folder, to verdicts of a run."""

import csv

import cv2
import numpy as np
import pytest
from small_bundles import SMALL_CLASSIFIER, make_bundle

from micro import cli, trial
from micro.recipe import Recipe

CLASSES = SMALL_CLASSIFIER.outputs


def micro(*arguments):
    return cli.run([str(argument) for argument in arguments])


@pytest.fixture
def bundle(tmp_path):
    """A bundle of random weights, with answers to frames that are twice too sure."""
    made = make_bundle(tmp_path / "sheet", SMALL_CLASSIFIER, task="defects")
    random = np.random.default_rng(0)
    honest = random.dirichlet((0.3,) * 3, 900)
    truth = np.array([random.choice(3, p=row) for row in honest])
    names = tuple(f"{number}.png" for number in range(900))
    sharp = honest**2 / (honest**2).sum(axis=1, keepdims=True)
    trial.keep_answers(
        made.folder, trial.Trial(class_names=CLASSES, truth=truth, probabilities=sharp, images=names, groups=names)
    )
    return made


def test_costs_become_a_recipe_and_the_recipe_verdicts(bundle, tmp_path, capsys):
    recipe = tmp_path / "line.yaml"
    assert (
        micro("calibrate", "--model", bundle.folder, "--ok-classes", "clean", "--cost-review", 0.5, "-o", recipe) == 0
    )
    said = capsys.readouterr().out
    assert "900 frames that the bundle never saw" in said
    assert "with a threshold of 0.5; lower in 10 folds" in said
    decision = Recipe.load(recipe).decision
    assert (decision.ok_below, decision.ng_from) == pytest.approx((0.5 / 20, 0.5))
    assert decision.temperature == pytest.approx(2, rel=0.1)
    assert decision.origin in said

    images = tmp_path / "images"
    images.mkdir()
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (64, 64), np.uint8)
        assert cv2.imwrite(str(images / f"{number}.png"), pixels)
    out = tmp_path / "out"
    assert micro("predict", images, "--recipe", recipe, "--out", out, "--device", "cpu") == 0
    with (out / "images.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        defect = float(row["p_crack"]) + float(row["p_scratch"])
        assert row["verdict"] == ("OK" if defect < 0.025 else "NG" if defect >= 0.5 else "REVIEW")
    assert micro("predict", images, "--recipe", recipe, "--review-below", 0.9, "--out", out, "--device", "cpu") == 2
    assert "calibrate anew" in capsys.readouterr().err


def test_limits_judge_no_frames_but_those_of_the_bundle_that_they_were_found_for(bundle, tmp_path, capsys):
    recipe, image = tmp_path / "line.yaml", tmp_path / "a.png"
    assert cv2.imwrite(str(image), np.zeros((64, 64), np.uint8))
    assert micro("calibrate", "--model", bundle.folder, "--ok-classes", "clean", "-o", recipe) == 0
    assert Recipe.load(recipe).decision.weights_sha256 == bundle.card.weights_sha256
    other = tmp_path / "other.yaml"
    other.write_text(recipe.read_text().replace(bundle.card.weights_sha256, "a" * 64))
    wrong = (
        (other, bundle.folder, "comes from the answers of other weights"),
        (recipe, "spindle-pitting", "spindle-pitting names no frames"),
        (recipe, "sheet-steel", "sheet-steel knows no class clean"),
    )
    for limits, model, words in wrong:
        asked = ("predict", image, "--recipe", limits, "--model", model, "--out", tmp_path / "out")
        assert micro(*asked, "--device", "cpu") == 2
        assert words in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    "asked",
    [
        ("calibrate", "--model", "sheet-steel", "--ok-classes", "red_iron"),
        ("anomaly", "learn", "sample_images/strip.png", "--model", "sheet-steel"),
        ("explain", "sample_images/strip.png", "--model", "sheet-steel", "--device", "cpu"),
    ],
)
def test_where_nothing_can_be_written_one_sentence_says_so(asked, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert micro(*asked, "--out", tmp_path / "file" / "of" / "it") == 2
    said = capsys.readouterr()
    assert str(tmp_path / "file") in said.err.replace("\n", "")
    assert "Not a directory" in " ".join(said.err.split())
    assert not said.out, "no work is done of which the results would be lost"


def test_a_recipe_makes_the_folder_that_it_is_to_lie_in_and_takes_no_folders_place(bundle, tmp_path, capsys):
    recipe = tmp_path / "new" / "folder" / "line.yaml"
    asked = ("calibrate", "--model", bundle.folder, "--ok-classes", "clean", "--out")
    assert micro(*asked, recipe) == 0
    assert Recipe.load(recipe).decision is not None
    assert micro(*asked, recipe.parent) == 2
    assert "is a folder" in " ".join(capsys.readouterr().err.split())


def test_too_few_frames_or_no_answers_are_refused_with_what_to_do(bundle, tmp_path, capsys):
    asked = ("calibrate", "--model", bundle.folder, "--ok-classes", "clean", "--out", tmp_path / "r.yaml")
    assert micro(*asked, "--max-escape", 0.001) == 2
    assert "that takes 3838" in capsys.readouterr().err
    (bundle.folder / trial.ANSWERS).unlink()
    assert micro(*asked) == 2
    assert "micro train --folds" in capsys.readouterr().err
    assert not (tmp_path / "r.yaml").exists()


def test_a_folder_of_new_frames_takes_the_place_of_the_answers(bundle, tmp_path, capsys):
    for number in range(120):
        pixels = np.random.default_rng(number).integers(0, 256, (64, 64), np.uint8)
        path = tmp_path / "new" / CLASSES[number % 3] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), pixels)
    recipe = tmp_path / "r.yaml"
    asked = ("calibrate", tmp_path / "new", "--model", bundle.folder, "--ok-classes", "clean", "--out", recipe)
    assert micro(*asked, "--device", "cpu") == 0
    assert "120 frames that the bundle never saw" in capsys.readouterr().out
    assert Recipe.load(recipe).decision.ok_classes == ("clean",)
