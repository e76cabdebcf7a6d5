"""Phases: what is drawn is decoded and measured, and a bundle trained on real images finds what annotators marked."""

from dataclasses import replace

import numpy as np
import pytest
from small_bundles import trained

from micro import folder, tasks, training, trial
from micro.engine import Engine
from micro.errors import BadFolder
from micro.micrograph import Micrograph
from micro.scenes import __main__ as command
from micro.scenes import phases as scenes
from micro.tasks import phases
from micro.training.plan import PLACE_GAP_PX
from micro.training.sides import sides

CLASSES = ("matrix", "carbide", "pore")
TASK = tasks.find("phases").named(CLASSES)
SETTINGS = phases.PhaseSettings(min_area_px=4)


def bytes_of(labels):
    return np.round(TASK.encode(labels).maps * 255).astype(np.uint8)


def test_what_encode_writes_decode_reads_back():
    task = tasks.find("phases").named(scenes.PHASES)
    scene = scenes.draw(0, 256, 320)
    classes = scene.class_map().astype(np.int32)
    found = task.decode(np.round(task.encode(classes).maps * 255).astype(np.uint8), SETTINGS)
    assert sorted(found.class_names) == sorted(scene.class_names)
    np.testing.assert_array_equal(np.array([0, *map(scenes.PHASES.index, found.class_names)])[found.labels], classes)
    assert (found.scores == 1).all()


def test_pieces_that_touch_are_apart_where_their_phases_differ_and_one_where_not():
    labels = np.zeros((40, 40), np.int32)
    labels[5:15, 5:15], labels[5:15, 15:25], labels[20:30, 5:15], labels[30:35, 15:20] = 1, 2, 1, 1
    found = TASK.decode(bytes_of(labels), SETTINGS)
    assert found.class_names == ("carbide", "carbide", "carbide", "pore")  # the corner parts two of them
    assert [int((found.labels == number).sum()) for number in range(1, 5)] == [100, 100, 25, 100]
    assert (found.labels == 0).sum() == (labels == 0).sum()


def test_the_largest_map_decides_and_scores_are_its_mean():
    maps = np.zeros((3, 20, 20), np.uint8)
    maps[0], maps[1, 4:14, 4:14], maps[2, 4:14, 4:14] = 100, 204, 203
    found = TASK.decode(maps, SETTINGS)
    assert found.class_names == ("carbide",)
    assert found.scores[0] == pytest.approx(0.8)
    assert (found.labels > 0).sum() == 100


def test_pieces_below_the_smallest_area_are_background():
    labels = np.zeros((20, 20), np.int32)
    labels[2, 2:5], labels[10:12, 10:12] = 1, 2
    found = TASK.decode(bytes_of(labels), SETTINGS)
    assert found.class_names == ("pore",)
    assert found.labels.max() == 1


def test_a_field_of_the_background_alone_has_no_regions_and_an_empty_table():
    found = TASK.decode(bytes_of(np.zeros((16, 16), np.int32)), SETTINGS)
    table = TASK.measure(found, Micrograph(np.zeros((16, 16), np.uint8)))
    assert len(found) == 0
    assert {len(values) for values in table.values()} == {0}


def test_each_piece_says_what_it_and_its_phase_cover():
    labels = np.zeros((50, 40), np.int32)
    labels[0:10, 0:10], labels[20:30, 0:20], labels[40:45, 0:4] = 1, 1, 2
    found = TASK.decode(bytes_of(labels), SETTINGS)
    table = TASK.measure(found, Micrograph(np.zeros((50, 40), np.uint8), pixel_size_um=0.5))
    np.testing.assert_allclose(table["area_fraction"], [0.05, 0.1, 0.01])
    np.testing.assert_allclose(table["phase_area_fraction"], [0.15, 0.15, 0.01])
    np.testing.assert_allclose(table["area_um2"], [25, 50, 5])


def test_unknown_pixels_carry_no_weight():
    labels = np.array([[0, 1], [-1, 2]], np.int32)
    np.testing.assert_array_equal(TASK.encode(labels).weight, [[1, 1], [0, 1]])


@pytest.mark.parametrize("share", [0.1, 0.45, 0.55, 0.9])
def test_the_greys_of_two_phases_are_scaled_alike_whichever_covers_more(share):
    pixels = np.where(np.arange(10_000) < 10_000 * share, 90, 130).astype(np.uint8).reshape(100, 100, 1)
    center, spread = phases.scaling(pixels).window((100, 100), slice(0, 100), slice(0, 100))
    scaled = (pixels[..., 0] - center[0]) / spread[0]
    assert (scaled.min(), scaled.max()) == (-1, 1)


def test_a_blank_field_is_scaled_by_one():
    found = phases.scaling(np.full((8, 8, 1), 77, np.uint8))
    assert (float(found.center[0, 0, 0]), float(found.spread[0, 0, 0])) == (77, 1)


def test_a_task_is_named_by_classes_only_where_its_folder_has_them():
    assert TASK.annotations == ("classes",)
    assert TASK.outputs == CLASSES
    grains = tasks.find("grains")
    assert grains.named(CLASSES) is grains
    assert (grains.annotations, tasks.find("defects").annotations) == (("instances",), ("classes", "frames"))


@pytest.fixture
def drawn(tmp_path):
    """Ten drawn fields with class masks, as `python -m micro.scenes phases` writes them."""
    command.main(["phases", str(tmp_path / "drawn"), "--count", "10", "--size-px", "96"])
    return folder.read(tmp_path / "drawn")


def small(plan):
    network = plan.network.model_copy(update={"decoder_channels": (8, 8, 8)})
    return plan.model_copy(update={"steps": 2, "batch": 2, "crop_px": 64, "network": network})


def test_a_folder_of_class_masks_trains_a_bundle_for_its_classes(drawn, tmp_path, monkeypatch):
    monkeypatch.setattr("micro.training.loop.choose_halo", lambda *_: 16)
    plan = small(training.plan(drawn, "phases", minutes=1))
    assert plan.network.outputs == scenes.PHASES
    made = trained(plan, drawn, tmp_path / "made")
    assert made.card.classes == scenes.PHASES
    assert [row.what for row in made.card.scores][:2] == ["mean IoU", "IoU of matrix"]
    assert trial.prove(made, "cpu")
    answer = Engine(made, device="cpu").predict(drawn.images[0].image)
    assert set(answer.regions.class_names) <= set(scenes.PHASES[1:])


def test_the_part_of_a_class_mask_that_trained_is_not_known_where_places_are_held_out(drawn):
    few = replace(drawn, images=drawn.images[:3])
    plan = training.plan(few, "phases", minutes=1)
    assert plan.split == "place"
    for item, (train, test) in zip(few.images, zip(*sides(plan, few.images), strict=True), strict=True):
        assert train.labels.shape[1] == 72 - PLACE_GAP_PX
        assert (test.labels[:, :72] == -1).all()
        np.testing.assert_array_equal(test.labels[:, 72:], item.labels[:, 72:])


def test_masks_without_named_values_are_refused_with_what_is_missing(drawn):
    (drawn.root / "classes.yaml").unlink()
    with pytest.raises(BadFolder, match=r"a classes\.yaml names, and this folder has masks beside images/ that number"):
        training.plan(folder.read(drawn.root), "phases", minutes=1)


def test_class_masks_are_no_grains(drawn):
    with pytest.raises(BadFolder, match="grains learns from masks beside images/ that number regions"):
        training.plan(drawn, "grains", minutes=1)
