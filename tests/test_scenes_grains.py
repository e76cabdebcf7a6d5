import subprocess
import sys

import cv2
import numpy as np
import pytest
from skimage.measure import label, regionprops

from micro import formats
from micro.micrograph import Micrograph
from micro.scenes import __main__ as command
from micro.scenes import grains
from micro.scenes.grains import polycrystal
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


@pytest.mark.parametrize("etch", ["any", *grains.ETCHES])
def test_the_same_seed_draws_the_same_section_however_it_is_etched(etch):
    first, again = (grains.draw(7, 96, 112, etch=etch) for _ in range(2))
    np.testing.assert_array_equal(first.image.pixels, again.image.pixels)
    np.testing.assert_array_equal(first.labels, again.labels)
    assert first.image.pixels.dtype == np.uint8


def test_a_grain_is_at_least_as_large_as_the_smallest_and_connected_however_it_is_etched():
    for seed, etch in enumerate(grains.ETCHES):
        labels = grains.draw(seed, 160, 160, etch=etch, grain_px=20).labels
        assert np.bincount(labels.ravel())[1:].min() >= grains.SMALLEST_PX
        assert label(labels, connectivity=1).max() == labels.max()


def test_any_etch_draws_every_kind_and_sizes_from_16_to_160_px():
    scenes = [grains.draw(seed, 320, 320, etch="any") for seed in range(40)]
    across_px = np.array([np.sqrt(4 / np.pi * scene.labels.size / scene.labels.max()) for scene in scenes])
    assert across_px.min() < 25
    assert across_px.max() > 110
    assert {scene.image.channels for scene in scenes} == {1, 3}


def test_twins_cross_grains_as_straight_bands_and_are_no_grains_of_their_own():
    rng = np.random.default_rng(0)
    labels = polycrystal.tessellate(rng, (300, 300), polycrystal.Shape(60))
    crystals = polycrystal.twinned(rng, labels, share=1.0)
    np.testing.assert_array_equal(crystals // 2, labels)
    twins = crystals % 2 == 1
    assert 0.05 < twins.mean() < 0.5
    # a whole grain is crossed, and what is cut out of it is a band: as long as the grain, and narrower
    for number in range(1, int(labels.max()) + 1):
        whole, band = labels == number, twins & (labels == number)
        assert band.sum() < 0.8 * whole.sum()


def test_joined_grains_are_whole_neighbours_made_one():
    rng = np.random.default_rng(0)
    labels = polycrystal.tessellate(rng, (300, 300), polycrystal.Shape(30))
    before = int(labels.max())
    for share in (0.0, 0.4):
        made = polycrystal.joined(rng, labels, share)
        assert label(made, connectivity=1).max() == made.max()
        assert made.max() == pytest.approx(before * (1 - share), rel=0.15)
        held = {(int(one), int(all_)) for one, all_ in zip(labels.ravel(), made.ravel(), strict=True)}
        assert len(held) == before, "no grain was divided"
    np.testing.assert_array_equal(polycrystal.joined(rng, labels, 0.0), labels)


def test_lobed_grains_are_less_convex_and_the_usual_ones_stay_as_they_were():
    def solidity(scenes):
        shapes = [each for scene in scenes for each in regionprops(scene.labels)]
        return np.mean([each.solidity for each in shapes if each.area > 200])

    seeds = range(4)
    usual = [grains.draw(seed, 200, 200, grain_px=30, etch="any") for seed in seeds]
    lobed = [grains.draw(seed, 200, 200, grain_px=30, etch="any", lobed=0.6) for seed in seeds]
    assert solidity(lobed) < solidity(usual) - 0.02
    again = grains.draw(0, 200, 200, grain_px=30, etch="any", lobed=0.0)
    np.testing.assert_array_equal(again.image.pixels, usual[0].image.pixels)


def test_tones_by_orientation_tell_neighbours_apart_where_no_groove_does():
    for etch in ("contrast", "channeling"):
        differs = []
        for seed in range(6):
            scene = grains.draw(seed, 200, 200, etch=etch, grain_px=50)
            grey = np.asarray(scene.image.pixels[..., 0], np.float64)
            counts = np.bincount(scene.labels.ravel())[1:]
            means = np.bincount(scene.labels.ravel(), grey.ravel())[1:] / counts
            differs.append(means[counts > 200].std())
        assert np.median(differs) > 6


def looks(pixels):
    """Median, spread, fine detail, and the share that is clearly darker than the median."""
    grey = np.asarray(pixels, np.float32).mean(axis=2)
    middle = np.median(grey)
    detail = np.abs(cv2.Laplacian(grey, cv2.CV_32F)).mean()
    return np.array([middle, grey.std(), detail, (grey < middle - 25).mean()])


@pytest.mark.data
@pytest.mark.parametrize(
    ("folder", "etch"),
    [
        ("nist-gsat-steel", "boundaries"),
        ("pure-iron-serial/images", "boundaries"),
        ("nasa-meltpool/images", "contrast"),
    ],
)
def test_real_sections_lie_within_what_is_drawn(folder, etch, data):
    drawn = np.array([looks(grains.draw(seed, 300, 300, etch=etch).image.pixels) for seed in range(30)])
    # the highlighted ones were gone over by hand
    paths = sorted(path for path in (data / "grains" / folder).iterdir() if "highlighted" not in path.stem)
    photographs = [formats.read(path) for path in paths if formats.is_image_name(path)]
    assert photographs
    for photograph in photographs[:6]:
        # the upper part of the melt pools shows the mount, black
        real = looks(photograph.pixels[200:])
        assert (real >= drawn.min(axis=0)).all(), photograph.name
        assert (real <= drawn.max(axis=0)).all(), photograph.name


def test_an_unknown_etch_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="channeling"):
        grains.draw(0, 64, 64, etch="nital")


def test_the_geometry_of_squares_is_counted_exactly():
    # 3 x 3 squares of 20 px: one inside, four cut by sides, four at corners
    rows, columns = np.indices((60, 60)) // 20
    labels = (3 * rows + columns + 1).astype(np.int32)
    found = grains.geometry(labels, pixel_size_um=0.5)
    assert found.grains_per_mm2 == pytest.approx((1 + 4 / 2 + 4 / 4) / (60 * 0.0005) ** 2)
    # each of 120 lines of 30 um crosses two boundaries
    assert found.mean_intercept_um == pytest.approx(15)


def test_a_single_grain_covers_all_corners_and_is_crossed_nowhere():
    found = grains.geometry(np.ones((10, 10), np.int32), pixel_size_um=1.0)
    assert found.grains_per_mm2 == pytest.approx(0.25 / 0.01**2)
    assert found.mean_intercept_um == float("inf")


def test_the_geometry_of_a_drawn_section_agrees_with_the_size_it_was_drawn_at():
    labels = grains.draw(0, 600, 600, grain_px=24).labels
    found = grains.geometry(labels, pixel_size_um=0.5)
    across_um = np.sqrt(4 / np.pi / found.grains_per_mm2) * 1000
    assert across_um == pytest.approx(12, rel=0.1)
    # isotropic plane sections: mean intercept = pi/4 of the diameter for circles, a little less for polygons
    assert 0.7 < found.mean_intercept_um / across_um < 0.9


def test_a_section_without_room_for_grains_is_refused():
    with pytest.raises(ValueError, match="32 px"):
        grains.draw(0, 16, 200)


def test_the_command_writes_pairs_that_hold_the_truth(tmp_path):
    command.main(["grains", str(tmp_path), "--count", "2", "--seed", "5", "--size-px", "96", "--etch", "iron"])
    for seed in (5, 6):
        scene = grains.draw(seed, 96, 96)
        mask = cv2.imread(str(tmp_path / "masks" / f"grains-{seed}.png"), cv2.IMREAD_UNCHANGED)
        image = cv2.imread(str(tmp_path / "images" / f"grains-{seed}.png"), cv2.IMREAD_UNCHANGED)
        assert mask.dtype == np.uint16
        np.testing.assert_array_equal(mask, scene.labels)
        np.testing.assert_array_equal(image, scene.image.pixels[..., 0])
    assert len(list(tmp_path.rglob("*.png"))) == 4


def test_the_command_draws_grains_of_every_kind_unless_one_is_named(tmp_path):
    command.main(["grains", str(tmp_path / "all"), "--count", "2", "--size-px", "96"])
    command.main(["grains", str(tmp_path / "one"), "--count", "1", "--size-px", "96", "--etch", "tint"])
    for seed in (0, 1):
        image = cv2.imread(str(tmp_path / "all" / "images" / f"grains-{seed}.png"), cv2.IMREAD_GRAYSCALE)
        drawn = grains.draw(seed, 96, 96, etch="any").image.pixels
        assert image.shape == drawn.shape[:2]
        if drawn.shape[2] == 1:
            np.testing.assert_array_equal(image, drawn[..., 0])
    assert (tmp_path / "one" / "masks" / "grains-tint-0.png").exists()


def test_the_command_draws_grains_of_a_size_and_lobed_where_asked(tmp_path):
    asked = ["grains", str(tmp_path), "--count", "1", "--seed", "3", "--size-px", "128"]
    command.main([*asked, "--grain-px", "30", "--lobed", "0.6"])
    mask = cv2.imread(str(tmp_path / "masks" / "grains-3.png"), cv2.IMREAD_UNCHANGED)
    drawn = grains.draw(3, 128, 128, grain_px=30, etch="any", lobed=0.6)
    np.testing.assert_array_equal(mask, drawn.labels)


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
