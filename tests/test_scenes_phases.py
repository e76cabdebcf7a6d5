import cv2
import numpy as np
import pytest

from micro import folder
from micro.micrograph import Micrograph
from micro.scenes import __main__ as command
from micro.scenes import phases
from micro.scenes.scene import Scene


def test_the_same_seed_draws_the_same_field_and_another_seed_another():
    first, again, other = phases.draw(1, 160, 192), phases.draw(1, 160, 192), phases.draw(2, 160, 192)
    np.testing.assert_array_equal(first.image.pixels, again.image.pixels)
    np.testing.assert_array_equal(first.labels, again.labels)
    assert (first.labels != other.labels).any()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["phases", "FILE"], "cannot be written there"), (["phases", "OUT", "--count", "0"], "--count is 1")],
)
def test_scenes_that_cannot_be_drawn_are_refused_in_a_sentence(arguments, words, tmp_path, capsys):
    (tmp_path / "FILE").touch()
    with pytest.raises(SystemExit, match="2"):
        command.main([arguments[0], str(tmp_path / arguments[1]), *arguments[2:]])
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("seed", range(3))
def test_each_region_is_a_connected_piece_of_one_phase(seed):
    scene = phases.draw(seed, 300, 256)
    classes = scene.class_map()
    for number, name in enumerate(phases.PHASES[1:], start=1):
        pieces = cv2.connectedComponents((classes == number).view(np.uint8), connectivity=4)[0] - 1
        assert pieces == scene.class_names.count(name)
    assert np.bincount(scene.labels.ravel())[1:].min() >= phases.SMALLEST_PX


def test_large_precipitates_cover_about_half_and_fine_ones_lie_clear_of_them():
    fractions = []
    for seed in range(6):
        classes = phases.draw(seed).class_map()
        fractions.append([(classes == number).mean() for number in range(3)])
        apart_px = cv2.distanceTransform((classes != 1).view(np.uint8), cv2.DIST_L2, 5)
        assert apart_px[classes == 2].min() >= phases.CHANNEL_PX - 2
    matrix, secondary, tertiary = np.mean(fractions, axis=0)
    assert 0.3 < matrix < 0.7
    assert 0.3 < secondary < 0.6
    assert 0.005 < tertiary < 0.06


def test_precipitates_are_darker_than_the_matrix():
    for seed in range(4):
        scene = phases.draw(seed, 256, 256)
        grey, classes = np.asarray(scene.image.pixels[..., 0], float), scene.class_map()
        means = [grey[classes == number].mean() for number in range(3)]
        assert means[0] > max(means[1:]) + 5


def test_a_field_without_room_for_precipitates_is_refused():
    with pytest.raises(ValueError, match="64 px"):
        phases.draw(0, 32, 200)


def test_the_command_writes_a_folder_of_class_masks(tmp_path):
    command.main(["phases", str(tmp_path), "--count", "2", "--size-px", "96"])
    read = folder.read(tmp_path)
    assert read.classes == phases.PHASES
    for seed, item in enumerate(read.images):
        np.testing.assert_array_equal(item.labels, phases.draw(seed, 96, 96).class_map())


def test_a_scene_refuses_a_region_of_a_class_that_there_is_not():
    image = Micrograph(np.zeros((4, 5), np.uint8))
    with pytest.raises(ValueError, match="pore"):
        Scene(image, np.ones((4, 5), np.int32), ("pore",), classes=("matrix", "carbide"))
