"""Colour: a network that is to see it finds what brightness does not show, and everything else sees brightness."""

import cv2
import numpy as np
import pytest
from small_bundles import trained

from micro import bundle, cli, folder, training, trial
from micro.engine import Engine
from micro.errors import BadSetting
from micro.micrograph import Micrograph

# as bright as each other: 0.299 red + 0.587 green + 0.114 blue
SHEET, TINT = (120, 120, 120), (180, 105, 40)


def field(seed, edge_px=96):
    """Return a field (Y, X, 3) with tinted spots, which are as bright as what they lie in, and where those are."""
    random = np.random.default_rng(seed)
    spots = np.zeros((edge_px, edge_px), np.uint8)
    for _ in range(6):
        x, y = (int(place) for place in random.integers(10, edge_px - 10, 2))
        cv2.circle(spots, (x, y), int(random.integers(5, 10)), 1, -1)
    pixels = np.array([SHEET, TINT], float)[spots] + random.normal(0, 3, (edge_px, edge_px, 1))
    return pixels.round().clip(0, 255).astype(np.uint8), spots


@pytest.fixture(scope="module")
def tinted(tmp_path_factory):
    root = tmp_path_factory.mktemp("tinted")
    for place in ("images", "masks"):
        (root / place).mkdir()
    for seed in range(12):
        pixels, spots = field(seed)
        assert cv2.imwrite(str(root / "images" / f"{seed:02}.png"), pixels[..., ::-1])
        assert cv2.imwrite(str(root / "masks" / f"{seed:02}.png"), spots)
    (root / "classes.yaml").write_text("0: ferrite\n1: bainite\n")
    return folder.read(root)


def short(plan, steps):
    network = plan.network.model_copy(update={"decoder_channels": (16, 8, 8)})
    return plan.model_copy(
        update={"steps": steps, "batch": 4, "crop_px": 64, "learning_rate": 3e-3, "network": network}
    )


@pytest.fixture(scope="module")
def seen(tinted, tmp_path_factory):
    """A bundle that learned from colour."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("micro.training.loop.choose_halo", lambda *_: 16)
        plan = short(training.plan(tinted, "phases", 1, colour=True), 40)
        return trained(plan, tinted, tmp_path_factory.mktemp("seen") / "made")


def test_what_only_colour_shows_is_found_by_a_network_that_sees_it(seen):
    pixels, spots = field(100)
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    assert abs(float(grey[spots > 0].mean()) - float(grey[spots == 0].mean())) < 1
    found = Engine(seen, device="cpu").predict(Micrograph(pixels)).regions.labels > 0
    assert (found & (spots > 0)).sum() > 0.8 * (found | (spots > 0)).sum()


def test_a_bundle_that_sees_colour_proves_itself_and_says_what_a_grey_image_lacks(seen):
    assert seen.card.channels == "rgb"
    assert trial.prove(seen, "cpu")
    grey = Micrograph(np.full((64, 64), 99, np.uint8))
    notes = Engine(seen, device="cpu").predict(grey).notes
    assert any("three equal channels" in note for note in notes)


def test_what_begins_from_a_bundle_of_its_task_sees_what_that_one_sees(tinted, seen):
    for task, start, asked, sees in (
        ("phases", seen, False, "colour"),
        ("defects", seen, False, "brightness"),
        ("phases", None, False, "brightness"),
        ("phases", None, True, "colour"),
        ("phases", bundle.load("phases-superalloy"), False, "brightness"),
        ("phases", bundle.load("phases-superalloy"), True, "colour"),
    ):
        plan = training.plan(tinted, task, 1, start=start, colour=asked)
        assert f"sees {sees}\n" in plan.describe()
        assert plan.network.in_channels == {"brightness": 1, "colour": 3}[sees]


@pytest.mark.parametrize("channels", [1, 3])
def test_colour_is_refused_where_no_image_has_any(tmp_path, channels):
    for place in ("images", "masks"):
        (tmp_path / place).mkdir()
    for number in range(12):
        _, spots = field(number)
        pixels = np.repeat(100 + 50 * spots[..., np.newaxis], channels, axis=2)
        assert cv2.imwrite(str(tmp_path / "images" / f"{number}.png"), pixels)
        assert cv2.imwrite(str(tmp_path / "masks" / f"{number}.png"), spots)
    (tmp_path / "classes.yaml").write_text("0: ferrite\n1: bainite\n")
    with pytest.raises(BadSetting, match="its images are grey, and there is no colour"):
        training.plan(folder.read(tmp_path), "phases", 1, colour=True)


def test_a_plan_and_its_command_agree_on_colour(tinted, tmp_path, capsys):
    command = ["train", str(tinted.root), "--task", "phases", "--out", str(tmp_path / "out"), "--from", "none"]
    path = tmp_path / "plan.yaml"
    assert cli.run([*command, "--write-plan", str(path)]) == 0
    assert cli.run([*command, "--plan", str(path), "--colour"]) == 2
    assert "its colour is False, and the command says True" in capsys.readouterr().err
    path.write_text(path.read_text().replace("in_channels: 1", "in_channels: 3"))
    derived = training.plan(tinted, "phases", 1)
    assert training.read_plan(path, derived, tinted.images).network.channels == "rgb"
