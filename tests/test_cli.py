import csv
import errno
import json
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
from small_bundles import SMALL_CLASSIFIER, make_bundle
from zoo import make_zoo

from micro import cli, trial
from micro.engine import Engine
from micro.formats import read, read_labels


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    """A folder with one segmenter and one classifier of random weights, each with its sample and answer."""
    place = tmp_path_factory.mktemp("bundles")
    sample = np.random.default_rng(0).integers(0, 256, (96, 96), np.uint8)
    for made in (
        make_bundle(place / "grains-random"),
        make_bundle(place / "defects-random", SMALL_CLASSIFIER, task="defects"),
    ):
        cv2.imwrite(str(made.folder / trial.SAMPLE), sample)
        image = read(made.folder / trial.SAMPLE)
        trial.keep_proof(made.folder, image, Engine(made, device="cpu").predict(image))
    return place


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    (folder / "deep").mkdir(parents=True)
    for number, name in enumerate(("a.png", "deep/b.png")):
        pixels = np.random.default_rng(number).integers(0, 256, (64, 80), np.uint8)
        assert cv2.imwrite(str(folder / name), pixels)
    return folder


def micro(*arguments):
    return cli.run([str(argument) for argument in arguments])


def test_predict_leaves_labels_tables_and_a_record(bundles, images, tmp_path, capsys):
    out = tmp_path / "out"
    assert micro("predict", images, "--model", bundles / "grains-random", "--out", out, "--device", "cpu") == 0
    assert read_labels(out / "labels" / "deep" / "b.tif").shape == (64, 80)
    for name in ("images.csv", "images.parquet", "regions.csv", "regions.parquet", "ledger.sqlite", "run.json"):
        assert (out / name).is_file()
    record = json.loads((out / "run.json").read_text())
    assert record["counts"]["done"] == 2
    said = capsys.readouterr()
    assert "2 images done" in said.out
    assert "2 of 2 images" in said.err, "where there is no terminal, progress is a plain line"


def test_what_is_remarked_on_images_is_on_the_screen_in_the_table_and_on_the_page(bundles, images, tmp_path, capsys):
    for number in range(2):
        pixels = np.full((64, 80, 4), 60 + number, np.uint8)
        assert cv2.imwrite(str(images / f"with alpha {number}.png"), pixels)
    out = tmp_path / "out"
    assert micro("predict", images, "--model", bundles / "grains-random", "--out", out, "--device", "cpu") == 0
    assert "remark on 2 images: alpha channel dropped" in " ".join(capsys.readouterr().err.split())
    with (out / "images.csv").open() as file:
        notes = {row["image"]: row["notes"] for row in csv.DictReader(file)}
    assert notes["a.png"] == ""
    assert notes["with alpha 0.png"].startswith("alpha channel dropped; ")
    assert "alpha channel dropped" in (out / "report.html").read_text()


def test_predict_goes_on_where_it_stopped(bundles, images, tmp_path, capsys):
    arguments = ("predict", images, "--model", bundles / "grains-random", "--out", tmp_path / "out", "--device", "cpu")
    assert micro(*arguments) == 0
    assert micro(*arguments) == 0
    assert "2 of them from an earlier run" in capsys.readouterr().out


def test_bad_images_are_quarantined_and_the_others_done(bundles, tmp_path, capsys):
    zoo = tmp_path / "zoo"
    zoo.mkdir()
    expected = make_zoo(zoo)
    out = tmp_path / "out"
    code = micro("predict", zoo, "--model", bundles / "defects-random", "--out", out, "--device", "cpu")
    assert code == 1
    counts = json.loads((out / "run.json").read_text())["counts"]
    bad = sum(verdict == "bad" for verdict in expected.values())
    assert counts["quarantined"] == bad > 20
    assert counts["done"] == len(expected) - bad
    assert "quarantined: " in capsys.readouterr().err


def test_names_that_the_locale_cannot_write_are_escaped_and_end_nothing(bundles, images, tmp_path):
    command = ["predict", images, "--model", bundles / "grains-random", "--out", tmp_path / "Öl", "--device", "cpu"]
    ended = subprocess.run(
        [sys.executable, "-m", "micro", *map(str, command)],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
    )
    assert ended.returncode == 0, ended.stderr
    assert rb"2 images done" in ended.stdout
    assert rb"\xd6l" in ended.stdout


def test_a_run_whose_progress_nobody_reads_any_more_is_interrupted_in_order(bundles, images, tmp_path):
    out = tmp_path / "out"
    command = ["predict", images, "--model", bundles / "grains-random", "--out", out, "--progress", "json"]
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run([sys.executable, "-m", "micro", *map(str, command)], stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert ended.returncode == 130
    assert ended.stderr == b"Interrupted. The same command goes on from here.\n"
    assert json.loads((out / "run.json").read_text())["state"] == "interrupted"


@pytest.mark.parametrize(
    ("verb", "words"),
    [("models", "Interrupted."), ("train", "Interrupted. The same command goes on from here with --resume.")],
)
def test_only_a_verb_that_keeps_what_is_done_says_that_it_goes_on(verb, words, monkeypatch, capsys):
    def interrupt(_arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("micro.cli.app.app", interrupt)
    assert micro(verb) == 130
    assert capsys.readouterr().err == f"{words}\n"


def test_a_full_disk_that_names_no_file_is_a_sentence_and_2(monkeypatch, capsys):
    def fail(_arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("micro.cli.app.app", fail)
    assert micro("models") == 2
    assert capsys.readouterr().err.startswith("No space left on device. Check")


def test_an_ng_image_sets_the_exit_code_only_when_asked(bundles, images, tmp_path):
    arguments = ("predict", images, "--model", bundles / "defects-random", "--device", "cpu")
    assert micro(*arguments, "--out", tmp_path / "a") == 0
    assert micro(*arguments, "--out", tmp_path / "b", "--fail-on-ng") == 3
    assert micro(*arguments, "--out", tmp_path / "c", "--fail-on-ng", "--set", "ok_classes=clean,crack,scratch") == 0


def test_a_verdict_less_sure_than_asked_becomes_review(bundles, images, tmp_path):
    out = tmp_path / "out"
    micro(
        "predict", images, "--model", bundles / "defects-random", "--out", out, "--device", "cpu", "--review-below", 1
    )
    assert "REVIEW" in (out / "images.csv").read_text()


def test_a_recipe_file_does_what_the_flags_did(bundles, images, tmp_path):
    model = bundles / "grains-random"
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"model: {model}\npixel_size_um: 0.5\nsettings: {{min_area_px: 60}}\n")
    flags = ("--model", model, "--pixel-size-um", 0.5, "--set", "min_area_px=60")
    assert micro("predict", images, *flags, "--out", tmp_path / "a", "--device", "cpu") == 0
    assert micro("predict", images, "--recipe", recipe, "--out", tmp_path / "b", "--device", "cpu") == 0
    assert (tmp_path / "a" / "regions.csv").read_bytes() == (tmp_path / "b" / "regions.csv").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("predict", "nowhere", "--model", "grains-random", "--out", "o"), "nowhere"),
        (("predict", ".", "--out", "o"), "Which model?"),
        (("predict", "IMAGES", "--model", "no-such", "--out", "o"), "No bundle 'no-such'"),
        (("predict", "IMAGES", "--model", "grains-random", "--out", "o", "--set", "colour"), "key=value"),
        (("predict", "IMAGES", "--model", "grains-random", "--out", "o", "--set", "colour=3"), "min_area_px"),
        (("predict", "IMAGES", "--model", "grains-random", "--out", "o", "--device", "abacus"), "No device"),
        (("predict", "IMAGES", "--model", "grains-random", "--out", "o", "--pixel-size-um", "-1"), "larger than 0"),
        (("predict", "IMAGES", "--model", "grains-random"), "--out"),
        (("train", "nowhere", "--task", "grains", "--out", "o"), "no such folder"),
        (("train", "IMAGES", "--task", "colours", "--out", "o"), "No task 'colours'"),
        (("score", "IMAGES", "--model", "grains-random"), "only one class"),
        (("models", "show", "no-such"), "No bundle"),
        (("fly",), "fly"),
    ],
)
def test_wrong_usage_is_answered_with_a_sentence_and_2(
    arguments, words, bundles, images, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("MICRO_BUNDLES", str(bundles))
    monkeypatch.chdir(tmp_path)
    assert micro(*(images if part == "IMAGES" else part for part in arguments)) == 2
    said = capsys.readouterr().err
    assert words in said
    assert "Traceback" not in said


def test_check_proves_good_bundles_and_names_broken_ones(bundles, tmp_path, capsys):
    assert micro("check", bundles / "grains-random", bundles / "defects-random", "--device", "cpu") == 0
    broken = make_bundle(tmp_path / "broken")
    (broken.folder / "weights.safetensors").write_bytes(b"pickled")
    assert micro("check", bundles / "grains-random", broken.folder, "--device", "cpu") == 1
    assert "changed or damaged" in capsys.readouterr().err


def test_models_are_listed_and_shown_with_their_settings(bundles, monkeypatch, capsys):
    monkeypatch.setenv("MICRO_BUNDLES", str(bundles))
    assert micro("models") == 0
    assert "grains-random 0.1.0  (grains, grey, any scale" in capsys.readouterr().out
    assert micro("models", "show", "grains-random") == 0
    assert "--set min_area_px=" in capsys.readouterr().out


def test_a_bundle_is_listed_by_the_name_that_finds_it(tmp_path, monkeypatch, capsys):
    make_bundle(tmp_path / "grains-mine").folder.rename(tmp_path / "line-3")
    monkeypatch.setenv("MICRO_BUNDLES", str(tmp_path))
    assert micro("models") == 0
    assert "line-3, on its card grains-mine, 0.1.0  (grains" in capsys.readouterr().out
    assert micro("models", "show", "line-3") == 0


def test_doctor_reports_what_is_here(bundles, monkeypatch, capsys):
    monkeypatch.setenv("MICRO_BUNDLES", str(bundles))
    monkeypatch.setattr("micro.bundle.places", lambda: (bundles,))
    assert micro("doctor") == 0
    said = capsys.readouterr().out
    for word in ("Python", "torch", "device", "self-test", "napari"):
        assert word in said


def test_help_is_quick_because_it_loads_no_torch():
    for arguments in ("--help", "predict --help", "models"):
        code = f"import sys; from micro.cli import run; run({arguments.split()!r}); assert 'torch' not in sys.modules"
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_the_expression_that_help_gives_for_group_by_can_be_copied(capsys):
    assert micro("train", "--help") == 0
    assert "'^([^_]+)_'" in capsys.readouterr().out


def test_sources_that_do_not_exist_are_refused_before_torch_is_loaded(tmp_path):
    arguments = ["predict", str(tmp_path / "none"), "--model", "x", "--out", str(tmp_path / "o")]
    code = f"import sys; from micro.cli import run; assert run({arguments!r}) == 2; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
