import subprocess
import sys

import cv2
import numpy as np
import pytest
from skimage.measure import label

from micro.micrograph import Micrograph
from micro.scenes import __main__ as command
from micro.scenes import grains
from micro.scenes.scene import Scene


def test_the_same_seed_draws_the_same_scene_and_another_seed_another():
    first, again, other = grains.draw(3, 128, 160), grains.draw(3, 128, 160), grains.draw(4, 128, 160)
    np.testing.assert_array_equal(first.image.pixels, again.image.pixels)
    np.testing.assert_array_equal(first.labels, again.labels)
    assert (first.image.pixels != other.image.pixels).any()


@pytest.mark.parametrize("seed", range(6))
def test_grains_fill_the_frame_in_connected_pieces_numbered_in_raster_order(seed):
    labels = grains.draw(seed, 160, 128).labels
    values, first, area_px = np.unique(labels, return_index=True, return_counts=True)
    assert values.tolist() == list(range(1, len(values) + 1))
    assert (np.diff(first) > 0).all()
    assert label(labels, connectivity=1).max() == len(values)
    assert area_px.min() >= grains.SMALLEST_PX


def test_grains_have_the_size_that_was_asked_for():
    labels = grains.draw(0, 400, 400, grain_px=30).labels
    assert np.sqrt(4 / np.pi * labels.size / labels.max()) == pytest.approx(30, rel=0.2)


def test_most_boundaries_are_darker_than_what_lies_on_both_sides():
    scenes = [grains.draw(seed, 200, 200) for seed in range(6)]
    darker = []
    for scene in scenes:
        grey = np.asarray(scene.image.pixels[..., 0], np.float32)
        wall = np.zeros(scene.labels.shape, bool)
        wall[:, 1:] |= scene.labels[:, 1:] != scene.labels[:, :-1]
        wall[:, :6] = wall[:, -6:] = False
        beside = np.minimum(np.roll(grey, 5, 1), np.roll(grey, -5, 1))
        darker.append((grey < beside)[wall].mean())
    assert min(darker) > 0.6


def test_the_light_leaves_the_image_neither_black_nor_white():
    for seed in range(8):
        grey = grains.draw(seed, 128, 128).image.pixels
        assert 60 < grey.mean() < 253


def test_a_section_without_room_for_grains_is_refused():
    with pytest.raises(ValueError, match="32 px"):
        grains.draw(0, 16, 200)


def test_the_command_writes_pairs_that_hold_the_truth(tmp_path):
    command.main(["grains", str(tmp_path), "--count", "2", "--seed", "5", "--size-px", "96"])
    for seed in (5, 6):
        scene = grains.draw(seed, 96, 96)
        mask = cv2.imread(str(tmp_path / "masks" / f"grains-{seed}.png"), cv2.IMREAD_UNCHANGED)
        image = cv2.imread(str(tmp_path / "images" / f"grains-{seed}.png"), cv2.IMREAD_UNCHANGED)
        assert mask.dtype == np.uint16
        np.testing.assert_array_equal(mask, scene.labels)
        np.testing.assert_array_equal(image, scene.image.pixels[..., 0])
    assert len(list(tmp_path.rglob("*.png"))) == 4


def test_a_frame_with_a_class_goes_to_the_folder_of_its_class_in_its_own_colours(tmp_path):
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[..., 0] = 200  # red
    scene = Scene(Micrograph(pixels, "strip-0"), np.zeros((8, 8), np.int32), class_name="crack")
    command.save(scene, tmp_path)
    read = cv2.cvtColor(cv2.imread(str(tmp_path / "crack" / "strip-0.png")), cv2.COLOR_BGR2RGB)
    np.testing.assert_array_equal(read, pixels)
    assert not (tmp_path / "masks").exists()


def test_the_command_runs_as_a_module(tmp_path):
    arguments = ["grains", str(tmp_path / "ü"), "--count", "1", "--size-px", "64"]
    subprocess.run([sys.executable, "-m", "micro.scenes", *arguments], check=True)
    assert (tmp_path / "ü" / "images" / "grains-0.png").exists()


def test_a_scene_refuses_labels_without_a_name_or_of_another_size():
    image = Micrograph(np.zeros((4, 5), np.uint8))
    with pytest.raises(ValueError, match="no name"):
        Scene(image, np.ones((4, 5), np.int32))
    with pytest.raises(ValueError, match="int32"):
        Scene(image, np.zeros((5, 4), np.int32))
