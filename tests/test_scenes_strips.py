"""A drawn frame must show what its answer says, and nothing else."""

import cv2
import numpy as np
import pytest
from skimage.measure import regionprops

from micro.scenes import __main__ as command
from micro.scenes import strips
from micro.scenes.scene import Scene

SEEDS = range(12)
DEFECTS = tuple(kind for kind in strips.KINDS if kind != "clean")


def grey(scene: Scene) -> np.ndarray:
    return scene.image.pixels[..., 0].astype(float)


def near(labels: np.ndarray, reach_px: int) -> np.ndarray:
    return cv2.dilate((labels > 0).astype(np.uint8), np.ones((2 * reach_px + 1, 2 * reach_px + 1), np.uint8)) > 0


def test_a_seed_draws_the_same_frame_again_and_another_seed_another_one() -> None:
    first, again, other = strips.draw(4), strips.draw(4), strips.draw(5)
    assert np.array_equal(first.image.pixels, again.image.pixels)
    assert np.array_equal(first.labels, again.labels)
    assert not np.array_equal(first.image.pixels, other.image.pixels)


def test_the_seed_alone_comes_upon_every_kind() -> None:
    assert {strips.draw(seed).class_name for seed in range(40)} == set(strips.KINDS)


def test_frames_of_edges_are_cracked_by_halves_and_the_others_show_every_other_kind() -> None:
    scenes = [strips.edge(seed) for seed in range(28)]
    assert [scene.class_name for scene in scenes] == ["edge_crack", "no_crack"] * 14
    shown = [set(scene.class_names) for scene in scenes]
    assert all(kinds == {"edge_crack"} for kinds in shown[::2])
    assert shown[1::4] == [set()] * 7, "half of the others are clean"
    assert set.union(*shown[3::4]) == set(strips.KINDS) - {"clean", "edge_crack"}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_clean_frame_has_no_region(seed: int) -> None:
    scene = strips.draw(seed, kind="clean")
    assert scene.class_name == "clean"
    assert scene.class_names == ()
    assert not scene.labels.any()


@pytest.mark.parametrize("kind", DEFECTS)
def test_each_region_of_a_defect_has_pixels_and_the_name_of_its_kind(kind: str) -> None:
    for seed in SEEDS:
        scene = strips.draw(seed, kind=kind)
        assert scene.class_name == kind
        assert scene.class_names == (kind,) * scene.labels.max()
        assert (np.bincount(scene.labels.ravel())[1:] >= 4).all(), seed
        assert len(scene.class_names) >= 1


@pytest.mark.parametrize("kind", DEFECTS)
def test_a_defect_changes_the_clean_frame_where_it_is_labelled_and_nowhere_else(kind: str) -> None:
    for seed in SEEDS:
        scene, clean = strips.draw(seed, kind=kind), strips.draw(seed, kind="clean")
        change = np.abs(grey(scene) - grey(clean))
        assert change[~near(scene.labels, 4)].max() == 0, seed
        assert change[scene.labels > 0].mean() > 5, seed


@pytest.mark.parametrize("kind", DEFECTS)
def test_a_defect_lies_on_the_sheet_and_not_beside_it(kind: str) -> None:
    for seed in SEEDS:
        clean = grey(strips.draw(seed, kind="clean"))
        marked = strips.draw(seed, kind=kind).labels > 0
        assert np.median(clean[marked]) > 0.6 * np.median(clean), seed


def test_an_edge_crack_reaches_the_edge_and_runs_into_the_sheet() -> None:
    for seed in SEEDS:
        scene = strips.draw(seed, kind="edge_crack")
        clean = grey(strips.draw(seed, kind="clean"))
        beside = clean < 0.5 * np.median(clean)
        for crack in regionprops(scene.labels):
            alone = (scene.labels == crack.label).astype(np.int32)
            assert (near(alone, 2) & beside).any(), seed
            assert crack.bbox[3] - crack.bbox[1] >= 6, seed


def test_a_scratch_runs_along_the_rolling_direction() -> None:
    for seed in SEEDS:
        (scratch,) = regionprops(strips.draw(seed, kind="scratch").labels)
        assert abs(scratch.orientation) < 0.3, seed
        assert scratch.bbox[2] - scratch.bbox[0] >= 0.2 * 128, seed


def test_roll_marks_return_once_a_turn_of_the_roll() -> None:
    for seed in SEEDS:
        marks = regionprops(strips.draw(seed, height_px=256, kind="roll_mark").labels)
        whole = [mark for mark in marks if mark.bbox[0] > 0 and mark.bbox[2] < 256]
        steps = np.diff([mark.centroid[0] for mark in whole])
        assert len(steps) >= 1
        assert np.ptp(steps) <= 1, seed
        assert np.ptp([mark.centroid[1] for mark in whole]) <= 1, seed


def test_an_inclusion_is_drawn_out_along_the_rolling_direction() -> None:
    for seed in SEEDS:
        for sliver in regionprops(strips.draw(seed, kind="inclusion").labels):
            length, width = sliver.bbox[2] - sliver.bbox[0], sliver.bbox[3] - sliver.bbox[1]
            assert length > 2 * width, seed


def test_a_dent_has_a_bright_side_and_a_dark_one_and_a_stain_only_darkens() -> None:
    for seed in SEEDS:
        clean = grey(strips.draw(seed, kind="clean"))
        for kind, brightens in (("dent", True), ("stain", False)):
            scene = strips.draw(seed, kind=kind)
            change = (grey(scene) - clean)[scene.labels > 0]
            assert change.min() < -5, (seed, kind)
            assert (change.max() > 5) == brightens, (seed, kind)


def test_the_prints_on_a_coil_are_a_turn_of_the_roll_apart() -> None:
    scenes = list(strips.coil(3, 120, period_mm=500, others=0.2))
    places = []
    for number, scene in enumerate(scenes):
        if scene.class_name == "roll_mark":
            (mark,) = regionprops(scene.labels)
            if mark.bbox[0] > 0 and mark.bbox[2] < strips.FRAME_PX:
                places.append((number + (mark.centroid[0] + 0.5) / strips.FRAME_PX) * strips.FRAME_MM)
    steps = np.diff(places) / 500
    assert len(places) > 10
    assert np.abs(steps - steps.round()).max() < 0.01
    assert {scene.class_name for scene in scenes} > {"clean", "roll_mark"}


def test_a_print_on_the_border_of_two_frames_is_on_both() -> None:
    numbers = {n for n, scene in enumerate(strips.coil(5, 400, period_mm=333, others=0)) if scene.labels.any()}
    assert any(number + 1 in numbers for number in numbers)
    assert len(numbers) >= 400 * strips.FRAME_MM / 333 - 1


def test_a_frame_has_the_size_that_was_asked_for() -> None:
    scene = strips.draw(0, height_px=64, width_px=200, kind="scratch")
    assert scene.image.pixels.shape == (64, 200, 1)
    assert scene.labels.shape == (64, 200)
    assert scene.image.pixel_size_um == strips.PIXEL_SIZE_UM


@pytest.mark.parametrize("kind", strips.KINDS)
def test_every_kind_is_drawn_on_the_smallest_frame(kind: str) -> None:
    for seed in range(20):
        scene = strips.draw(seed, height_px=48, width_px=48, kind=kind)
        assert (scene.labels.max() > 0) == (kind != "clean")


def test_an_unknown_kind_and_a_tiny_frame_are_refused() -> None:
    with pytest.raises(ValueError, match="rust"):
        strips.draw(0, kind="rust")
    with pytest.raises(ValueError, match="47 x 128"):
        strips.draw(0, height_px=47)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("flakes OUT --etch tint", "--etch says how grains are drawn, not flakes"),
        ("strips OUT --period-mm 500", "--period-mm says how coil"),
        ("coil OUT --size-px 64", "128 px"),
        ("coil OUT --period-mm 30", "a roll mark every 30 mm is on a frame twice"),
        ("strips OUT --count 0", "--count is 1 or more"),
        ("strips OUT --seed -1", "--seed 0 or more"),
        ("strips OUT --size-px 8", "at least 48 px"),
        ("spindles OUT --size-px 8", "64 px or more"),
        ("grains OUT --grain-px -3", "grains of -3 px"),
        ("grains OUT --etch iron --lobed 0.5", "0 in iron"),
    ],
)
def test_the_command_refuses_what_it_would_not_draw(tmp_path, capsys, asked, said) -> None:
    with pytest.raises(SystemExit) as stopped:
        command.main([str(tmp_path / "out") if word == "OUT" else word for word in asked.split()])
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_coil_is_not_drawn_among_the_frames_of_a_longer_one(tmp_path, capsys) -> None:
    command.main(["coil", str(tmp_path), "--count", "3"])
    command.main(["coil", str(tmp_path), "--count", "3", "--seed", "1"])
    with pytest.raises(SystemExit):
        command.main(["coil", str(tmp_path), "--count", "2"])
    assert "holds other frames, such as 000002.png" in capsys.readouterr().err
    assert len((tmp_path / "truth.csv").read_text().splitlines()) == 4
