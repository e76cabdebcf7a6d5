"""The task's settings and verdicts; how well a bundle does is on its card."""

import csv

import cv2
import numpy as np
import pytest
from pydantic import ValidationError
from small_bundles import SMALL_CLASSIFIER, SMALL_UNET, make_bundle

from micro import bundle, cli, decide, folder, tasks, training, trial
from micro.engine import Engine
from micro.errors import BadSetting
from micro.micrograph import Micrograph
from micro.recipe import Decision, Recipe
from micro.regions import Regions
from micro.scenes import strips
from micro.tasks.defects import TASK, DefectSettings, measure, sheet_edges

PLAIN = Recipe(model="any")
CLASSES = ("sound", "pit", "crack")
PIXELS = TASK.named(CLASSES)


def test_the_task_is_found_by_its_name() -> None:
    assert tasks.find("defects") is TASK


def test_without_classes_of_pixels_the_task_names_whole_frames_and_asks_for_no_segmenter() -> None:
    assert TASK.outputs == ()
    assert TASK.encode is TASK.decode is TASK.measure is None
    assert tasks.find("defects").named(()).outputs == ()


def test_several_classes_may_ship_and_spaces_around_commas_do_not_matter() -> None:
    settings = DefectSettings(ok_classes="clean , roll mark,")
    assert TASK.judge is not None
    assert [TASK.judge({name: 0.9, "": 0.1}, settings, PLAIN) for name in ("clean", "roll mark", "scratch")] == [
        "OK",
        "OK",
        "NG",
    ]


def test_by_default_every_class_is_a_defect() -> None:
    assert TASK.judge is not None
    assert TASK.judge({"clean": 0.9, "scratch": 0.1}, DefectSettings(), PLAIN) == "NG"
    unsure = PLAIN.model_copy(update={"review_below": 0.95})
    assert TASK.judge({"clean": 0.9, "scratch": 0.1}, DefectSettings(), unsure) == "REVIEW"


def test_a_decision_judges_by_all_defects_together() -> None:
    decided = Decision(temperature=1, ok_classes=("clean", "stain"), ok_below=0.1, ng_from=0.3)
    recipe = PLAIN.model_copy(update={"decision": decided})
    assert TASK.judge is not None
    for crack, scratch, said in ((0.04, 0.05, "OK"), (0.06, 0.06, "REVIEW"), (0.15, 0.16, "NG")):
        scores = {"clean": 0.6 - crack - scratch, "stain": 0.4, "crack": crack, "scratch": scratch}
        assert TASK.judge(scores, DefectSettings(), recipe) == said


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(ValidationError):
        DefectSettings.model_validate({"shippable": "clean"})


def scaled(pixels: np.ndarray) -> np.ndarray:
    scaling = TASK.scaling(pixels)
    return (pixels[..., 0].astype(np.float32) - scaling.center[0]) / scaling.spread[0]


def test_exposure_and_bit_depth_do_not_change_what_the_network_sees() -> None:
    frame = np.random.default_rng(0).integers(40, 60, (64, 64, 1))
    bright, deep = (4 * frame).astype(np.uint8), (1000 * frame).astype(np.uint16)
    assert scaled(bright) == pytest.approx(scaled(frame.astype(np.uint8)), abs=1e-5)
    assert scaled(deep) == pytest.approx(scaled(bright), abs=1e-5)


def test_a_mark_keeps_its_strength_whatever_else_the_frame_shows() -> None:
    faint, strong = np.full((2, 64, 64, 1), 100, np.uint8)
    faint[:8], strong[:8] = 90, 50
    assert scaled(faint)[0, 0] == pytest.approx(-0.4)
    assert scaled(strong)[0, 0] == pytest.approx(-2)


def test_blank_and_black_frames_can_be_scaled() -> None:
    assert (scaled(np.full((128, 128, 1), 130, np.uint8)) == 0).all()
    assert (scaled(np.zeros((128, 128, 1), np.uint8)) == 0).all()
    mostly_black = np.zeros((128, 128, 1), np.uint8)
    mostly_black[:20] = 200
    assert scaled(mostly_black).max() == 32


def test_the_rolling_direction_is_evidence_so_frames_are_never_turned() -> None:
    assert TASK.orientation_is_evidence


# --- where defects lie ------------------------------------------------------------------------------------------------


def bytes_of(labels: np.ndarray) -> np.ndarray:
    assert PIXELS.encode is not None
    return np.round(PIXELS.encode(labels).maps * 255).astype(np.uint8)


def test_each_connected_defect_is_a_region_of_its_class_and_small_ones_are_dropped() -> None:
    labels = np.zeros((60, 60), np.int32)
    labels[5:15, 5:15], labels[20:50, 30:33], labels[40:42, 5:8] = 1, 2, 1
    assert PIXELS.decode is not None
    found = PIXELS.decode(bytes_of(labels), DefectSettings(min_area_px=10))
    assert found.class_names == ("pit", "crack")
    labels[40:42, 5:8] = 0
    np.testing.assert_array_equal(found.labels, labels)


def test_a_pixel_is_of_a_defect_above_the_level_that_is_set() -> None:
    maps = np.zeros((3, 40, 40), np.uint8)
    maps[0], maps[1, 10:20, 10:20] = 255, 120
    assert PIXELS.decode is not None
    assert [len(PIXELS.decode(maps, DefectSettings(defect_above=level))) for level in (0.4, 0.5)] == [1, 0]


def drawn_defect(
    labels: np.ndarray, um: float | None = None, pixels: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    image = Micrograph(np.full((*labels.shape, 1), 120, np.uint8) if pixels is None else pixels, "x", um)
    count = int(labels.max())
    return measure(Regions(labels, ("crack",) * count, np.ones(count, np.float32)), image)


def test_a_turned_bar_has_its_length_width_and_direction_in_px_and_in_mm() -> None:
    y, x = np.mgrid[:200, :200] - 100
    along, across = (x - y) / np.sqrt(2), (x + y) / np.sqrt(2)
    bar = ((abs(along) <= 40) & (abs(across) <= 4)).astype(np.int32)
    table = drawn_defect(bar, 500.0)
    assert table["length_px"][0] == pytest.approx(80, abs=2)
    assert table["width_px"][0] == pytest.approx(8, abs=1.5)
    assert table["orientation_deg"][0] == pytest.approx(45, abs=1)
    assert table["length_mm"][0] == pytest.approx(40, abs=1)
    assert table["area_mm2"][0] == pytest.approx(80 * 8 * 0.25, rel=0.05)
    assert not [name for name in drawn_defect(bar) if name.endswith(("mm", "mm2", "um", "um2"))]


@pytest.mark.parametrize("mirrored", [False, True])
def test_the_distance_to_the_edge_is_that_to_the_line_beside_which_it_is_dark(mirrored: bool) -> None:
    pixels, labels = np.full((128, 160, 1), 130, np.uint8), np.zeros((128, 160), np.int32)
    pixels[:, :20] = 25
    pixels[60:64, :45] = 25  # a crack that is open at the edge moves it by nothing
    labels[30:40, 50:60], labels[60:64, 20:45] = 1, 2
    if mirrored:
        pixels, labels = pixels[:, ::-1].copy(), labels[:, ::-1].copy()
    table = drawn_defect(labels, 500.0, pixels)
    assert table["edge_distance_px"] == pytest.approx([30, 0], abs=1)
    assert table["edge_distance_mm"] == pytest.approx([15, 0], abs=0.5)


def test_the_distance_is_at_a_right_angle_to_the_nearer_of_two_slanting_edges() -> None:
    y, x = np.mgrid[:200, :400]
    pixels = np.where((x < 10 + y / 2) | (x >= 390 - y / 4), 25, 130).astype(np.uint8)[..., np.newaxis]
    labels = np.zeros((200, 400), np.int32)
    labels[100:110, 150:160], labels[50:60, 330:340], labels[20:25, 5:30] = 1, 2, 3
    # the nearest corners: lower left, lower right, and one that lies outside
    expected = [(150 - 10 - 109 / 2) / np.hypot(1, 1 / 2), (390 - 59 / 4 - 340) / np.hypot(1, 1 / 4), 0]
    assert drawn_defect(labels, None, pixels)["edge_distance_px"] == pytest.approx(expected, abs=1)
    assert drawn_defect(labels, None, pixels)["edge_distance_px"][2] == 0


def test_drawn_sheets_show_their_edge_and_a_frame_within_the_sheet_shows_none() -> None:
    seen = [sheet_edges(np.asarray(strips.draw(seed, kind="clean").image.pixels)) for seed in range(40)]
    assert sum(len(edges) == 1 for edges in seen) >= 38
    assert sheet_edges(np.random.default_rng(0).integers(90, 140, (64, 64, 1)).astype(np.uint8)) == []
    labels = np.zeros((64, 64), np.int32)
    labels[10:20, 10:20] = 1
    assert np.isnan(drawn_defect(labels)["edge_distance_px"]).all()


def test_a_frame_is_as_surely_defective_as_its_surest_piece_of_reportable_size() -> None:
    maps = np.zeros((3, 40, 40), np.uint8)
    maps[0] = 255
    maps[1, 5:15, 5:15] = 153
    maps[1, 8:10, 8:10] = 255  # too small to count by itself
    settings = DefectSettings(min_area_px=50)
    assert PIXELS.sum_up is not None
    scores = PIXELS.sum_up(maps, settings)
    assert scores == pytest.approx({"sound": 0.4, "pit": 0.6, "crack": 0})
    # two defects share what the surest of them leaves to no sound frame, and do not add up
    maps[2, 25:35, 5:15] = 51
    assert PIXELS.sum_up(maps, settings) == pytest.approx({"sound": 0.4, "pit": 0.45, "crack": 0.15})
    assert PIXELS.sum_up(np.zeros_like(maps), settings)["sound"] == 1


def test_what_was_found_decides_unless_it_may_ship_or_is_doubtful() -> None:
    found = Regions(np.array([[0, 1, 2]], np.int32), ("pit", "crack"), np.array([0.7, 0.6], np.float32))
    none = Regions(np.zeros((1, 3), np.int32), (), np.zeros(0, np.float32))
    assert PIXELS.judge_regions is not None
    assert PIXELS.judge_regions(none, DefectSettings(), PLAIN) == "OK"
    assert PIXELS.judge_regions(found, DefectSettings(), PLAIN) == "NG"
    assert PIXELS.judge_regions(found, DefectSettings(ok_classes="pit, crack"), PLAIN) == "OK"
    unsure = PLAIN.model_copy(update={"review_below": 0.8})
    assert PIXELS.judge_regions(found, DefectSettings(), unsure) == "REVIEW"


# --- a gate before the segmenter --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("named", "found", "said"),
    [("OK", None, "OK"), ("NG", "NG", "NG"), ("REVIEW", "NG", "NG"), ("NG", "OK", "REVIEW"), (None, "OK", "OK")],
)
def test_class_and_findings_make_one_verdict_and_a_contradiction_is_looked_at(named, found, said) -> None:
    assert decide.together(named, found) == said


@pytest.fixture
def gated(tmp_path):
    gate = make_bundle(tmp_path / "gate", SMALL_CLASSIFIER, task="defects")
    spec = SMALL_UNET.model_copy(update={"outputs": ("clean", "crack", "scratch")})
    search = make_bundle(tmp_path / "search", spec, task="defects", classes=spec.outputs)
    return bundle.gated(tmp_path / "both", gate, search, command="micro models gate")


def test_only_frames_that_the_gate_does_not_release_are_searched(gated, monkeypatch) -> None:
    searched = []
    picture = strips.draw(3, kind="scratch").image
    for best in ("clean", "scratch"):
        engine = Engine(gated, device="cpu")
        monkeypatch.setattr(engine, "_class_scores", lambda jobs, best=best: [{best: 0.9, "crack": 0.1} for _ in jobs])
        segment = engine._segment
        monkeypatch.setattr(engine, "_segment", lambda *tiles, do=segment: searched.append(1) or do(*tiles))
        found = engine.predict(picture)
        assert found.regions is not None
        assert found.class_name == best
        if best == "clean":
            assert (searched, found.verdict, len(found.regions)) == ([], "OK", 0)
            assert any("nothing was searched" in note for note in found.notes)
            assert "edge_distance_px" in found.table
        else:
            assert searched
            assert found.verdict == ("NG" if len(found.regions) else "REVIEW")


@pytest.mark.parametrize("scale", [1, 0.3])
def test_a_gated_bundle_answers_as_its_two_parts_at_any_scale_of_the_search(gated, tmp_path, scale: float) -> None:
    picture = strips.draw(3, kind="scratch").image
    settings = {"scale": scale}
    names = Engine(bundle.load(tmp_path / "gate"), device="cpu")
    scores = names.predict(picture).class_scores
    best = max(scores, key=scores.__getitem__)
    another = next(name for name in scores if name != best)  # so that the frame is searched
    both = Engine(gated, Recipe(model="x", settings={"ok_classes": another, **settings}), device="cpu")
    search = Engine(bundle.load(tmp_path / "search"), Recipe(model="x", settings=settings), device="cpu")
    # a network of random weights names every frame alike, so that what it is shown tells more than what it says
    np.testing.assert_array_equal(both.frame(picture), names.frame(picture))
    answer, found = both.predict(picture), search.predict(picture)
    assert answer.class_scores == pytest.approx(scores, abs=1e-6)
    assert answer.regions is not None
    assert found.regions is not None
    np.testing.assert_array_equal(answer.regions.labels, found.regions.labels)


def test_a_gated_bundle_takes_no_others_place_and_no_name_that_none_can_have(gated, tmp_path) -> None:
    parts = [bundle.load(tmp_path / name) for name in ("gate", "search")]
    for name, words in (("search", "a bundle lies here"), ("Line 3", "name: ")):
        with pytest.raises(BadSetting, match=words):
            bundle.gated(tmp_path / name, *parts, command="micro models gate")
    assert bundle.load(tmp_path / "search").card == parts[1].card
    assert not (tmp_path / "Line 3").exists()


def test_the_graph_of_a_gated_bundle_is_that_of_its_gate(gated, tmp_path) -> None:
    gated.keep_graph(b"of an earlier gate")
    gate, search = bundle.load(tmp_path / "gate"), bundle.load(gated.folder)
    assert bundle.gated(tmp_path / "plain", gate, search, command="").graph() is None
    gate.keep_graph(b"of the gate")
    both = bundle.gated(tmp_path / "compiled", bundle.load(gate.folder), search, command="")
    assert both.graph() == b"of the gate"


def test_a_gate_of_another_kind_is_refused(tmp_path) -> None:
    gate = make_bundle(tmp_path / "gate", SMALL_CLASSIFIER, task="defects")
    grains = make_bundle(tmp_path / "grains")
    with pytest.raises(BadSetting, match="grains"):
        bundle.gated(tmp_path / "both", gate, grains, command="")
    with pytest.raises(BadSetting, match="no segmenter"):
        bundle.gated(tmp_path / "both", gate, gate, command="")


# --- trained from masks -----------------------------------------------------------------------------------------------


@pytest.fixture
def masked(tmp_path):
    """Twelve frames of 128 x 96 px with class masks; every other one shows a dark square of 20 px."""
    root = tmp_path / "frames"
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for number in range(12):
        random = np.random.default_rng(number)
        pixels, mask = random.normal(130, 10, (96, 128)), np.zeros((96, 128), np.uint8)
        if number % 2:
            y, x = random.integers(10, 60, size=2)
            pixels[y : y + 20, x : x + 20] -= 80
            mask[y : y + 20, x : x + 20] = 1
        cv2.imwrite(str(root / "images" / f"{number:02}.png"), pixels.clip(0, 255).astype(np.uint8))
        cv2.imwrite(str(root / "masks" / f"{number:02}.png"), mask)
    (root / "classes.yaml").write_text("0: sound\n1: pit\n")
    return root


def test_a_folder_with_masks_trains_a_segmenter_at_the_scale_of_its_plan(masked, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("micro.training.loop.choose_halo", lambda *_: 16)
    annotated = folder.read(masked, TASK.annotations)
    plan = training.plan(annotated, "defects", 1)
    assert (plan.network.kind, plan.network.outputs) == ("unet", ("sound", "pit"))
    changes = {"scale": 0.5, "steps": 60, "crop_px": 32, "dice": 0.5, "ema_decay": 0.9}
    plan = plan.model_copy(update=changes)
    steps = training.train_steps(plan, annotated, tmp_path / "made", training.Making("made", training.About(), "x"))
    try:
        while True:
            next(steps)
    except StopIteration as stop:
        made = stop.value.bundle
    assert made.card.settings == {"scale": 0.5}
    engine = Engine(made, device="cpu")
    verdicts = []
    for item in annotated.images[:4]:
        found = engine.predict(item.image)
        assert found.regions is not None
        assert found.regions.labels.shape == (96, 128)
        verdicts.append(found.verdict)
        if found.verdict == "NG":
            assert found.table["area_px"].sum() == pytest.approx(400, rel=0.3)
    assert verdicts == ["OK", "NG", "OK", "NG"]


def test_a_plan_for_a_task_without_a_scale_refuses_one(masked, tmp_path) -> None:
    annotated = folder.read(masked)
    plan = training.plan(annotated, "phases", 1)
    training.write_plan(tmp_path / "plan.yaml", plan.model_copy(update={"scale": 0.5}))
    with pytest.raises(BadSetting, match="scale"):
        training.read_plan(tmp_path / "plan.yaml", plan, annotated.images)


def test_the_verb_makes_one_bundle_of_a_gate_and_a_segmenter(tmp_path, capsys) -> None:
    make_bundle(tmp_path / "gate", SMALL_CLASSIFIER, task="defects")
    spec = SMALL_UNET.model_copy(update={"outputs": ("clean", "crack")})
    search = make_bundle(tmp_path / "search", spec, task="defects", classes=spec.outputs)
    sample = strips.draw(3, kind="scratch").image
    trial.keep_proof(search.folder, sample, Engine(search, device="cpu").predict(sample))
    paths = [str(tmp_path / name) for name in ("gate", "search", "both", "frames", "run")]
    assert cli.run(["models", "gate", *paths[:2], "--out", paths[2]]) == 0
    (tmp_path / "frames").mkdir()
    cv2.imwrite(str(tmp_path / "frames" / "a.png"), np.asarray(sample.pixels))
    assert cli.run(["predict", paths[3], "--model", paths[2], "--out", paths[4], "--pixel-size-um", "500"]) == 0
    with (tmp_path / "run" / "images.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["verdict"] in ("OK", "REVIEW", "NG")
    assert {"p_clean", "p_crack", "p_scratch"} <= row.keys()
    assert (tmp_path / "run" / "labels" / "a.tif").exists()
