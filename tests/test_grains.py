import tracemalloc
from functools import cache

import cv2
import numpy as np
import pytest

from micro import measure, tasks
from micro.errors import BadSetting
from micro.micrograph import Micrograph
from micro.regions import Regions
from micro.score import regions as score
from micro.tasks import grains

SETTINGS = grains.GrainSettings()


@cache
def cells(seed: int = 0, count: int = 60, shape_px: tuple[int, int] = (300, 400)) -> np.ndarray:
    """A Voronoi partition: grains that touch, of about 50 px."""
    rng = np.random.default_rng(seed)
    seeds = rng.uniform(0, shape_px, (count, 2)).astype(np.float32)
    y, x = np.mgrid[: shape_px[0], : shape_px[1]].astype(np.float32)
    nearest = np.zeros(shape_px, np.int32)
    best = np.full(shape_px, np.inf, np.float32)
    for index, (cy, cx) in enumerate(seeds, 1):
        square = (y - cy) ** 2 + (x - cx) ** 2
        nearest[square < best] = index
        np.minimum(best, square, out=best)
    nearest.flags.writeable = False
    return nearest


def maps_of(labels: np.ndarray, blur_px: float = 0.0) -> np.ndarray:
    maps = np.round(grains.encode(labels).maps * 255).astype(np.uint8)
    if blur_px:
        maps = np.stack([cv2.GaussianBlur(part, (0, 0), blur_px) for part in maps])
    return maps


def found_ap(truth: np.ndarray, found: np.ndarray) -> float:
    return score.match(score.overlap(truth, found)).average_precision


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_what_encode_writes_decode_reads_back(seed):
    truth = cells(seed)
    found = grains.decode(maps_of(truth), SETTINGS)
    assert len(found) == truth.max()
    cells_shared = score.overlap(truth, found.labels)
    assert score.match(cells_shared, iou=0.9).average_precision == 1
    assert score.adjusted_rand_index(cells_shared) > 0.97
    assert (found.labels > 0).all()


def test_decode_fades_under_blur_and_does_not_collapse():
    truth = cells()
    counts = [len(grains.decode(maps_of(truth, blur_px), SETTINGS)) for blur_px in (0.5, 1.0, 1.5, 2.5)]
    assert counts[:3] == [pytest.approx(60, abs=2)] * 3  # the tips of wedges may come off
    assert counts[3] > 50


def test_two_grains_stay_two_where_their_boundary_has_a_gap():
    truth = np.ones((80, 120), np.int32)
    truth[:, 60:] = 2
    maps = maps_of(truth)
    maps[0, 34:46] = 255  # the etchant left twelve pixels of the boundary out
    maps[1, 34:46] = np.maximum(maps[1, 34:46], 120)
    found = grains.decode(maps, SETTINGS)
    assert len(found) == 2
    assert found_ap(truth, found.labels) == 1


def test_ripple_on_a_plateau_does_not_split_a_grain():
    rng = np.random.default_rng(0)
    maps = maps_of(np.ones((100, 100), np.int32))
    maps[:2] -= rng.integers(0, 30, (2, 100, 100)).astype(np.uint8)
    assert len(grains.decode(maps, SETTINGS)) == 1


@pytest.mark.parametrize("blur_px", [0.0, 2.0])
def test_small_blocks_give_exactly_what_one_block_gives(monkeypatch, blur_px):
    maps = maps_of(cells(), blur_px)
    rng = np.random.default_rng(0)
    maps = np.clip(maps + rng.normal(0, 20, maps.shape), 0, 255).astype(np.uint8)
    whole = grains.decode(maps, SETTINGS)
    monkeypatch.setattr(grains, "BLOCK_PX", 64)
    monkeypatch.setattr(grains, "BAND_ROWS", 50)
    parts = grains.decode(maps, SETTINGS)
    np.testing.assert_array_equal(parts.labels, whole.labels)
    np.testing.assert_array_equal(parts.scores, whole.scores)


def test_decode_needs_no_more_than_sixteen_bytes_a_pixel_beside_the_maps(monkeypatch):
    monkeypatch.setattr(grains, "BLOCK_PX", 128)  # what blocks and bands need is constant, and small in a large image
    monkeypatch.setattr(measure, "BAND_PX", 1 << 14)
    maps = np.tile(maps_of(cells()), (1, 5, 3))
    tracemalloc.start()
    grains.decode(maps, SETTINGS)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak / maps[0].size < 16


def test_grains_are_numbered_in_the_order_one_meets_them():
    labels = grains.decode(maps_of(cells(4)), SETTINGS).labels
    values, first = np.unique(labels, return_index=True)
    assert values.tolist() == list(range(1, len(values) + 1))
    assert (np.diff(first) > 0).all()


def test_a_grain_below_the_smallest_area_goes_to_its_neighbours():
    truth = np.ones((100, 100), np.int32)
    truth[40:52, 40:52] = 2
    assert len(grains.decode(maps_of(truth), grains.GrainSettings(min_area_px=100))) == 2
    merged = grains.decode(maps_of(truth), grains.GrainSettings(min_area_px=200))
    assert len(merged) == 1
    assert (merged.labels == 1).all()


def test_what_lies_far_from_any_grain_belongs_to_none():
    truth = cells().copy()
    truth[:, 200:] = 0
    labels = grains.decode(maps_of(truth), grains.GrainSettings(reach_px=10)).labels
    assert (labels[:, 215:] == 0).all()
    assert (labels[:, :195] > 0).all()


def test_an_image_without_grains_has_no_regions():
    found = grains.decode(np.zeros((2, 40, 50), np.uint8), SETTINGS)
    assert (len(found), found.labels.max()) == (0, 0)
    assert all(len(column) == 0 for column in grains.measure(found, Micrograph(np.zeros((40, 50), np.uint8))).values())


@pytest.mark.parametrize("shape_px", [(1, 1), (1, 300), (5, 2)])
def test_an_image_of_a_few_pixels_is_decoded(shape_px):
    found = grains.decode(np.full((2, *shape_px), 255, np.uint8), grains.GrainSettings(min_area_px=1))
    assert (found.labels == 1).all()


def test_a_window_of_larger_maps_is_decoded_like_a_copy_of_it():
    window = maps_of(cells())[:, 20:200, 30:250]
    window.flags.writeable = False
    np.testing.assert_array_equal(grains.decode(window, SETTINGS).labels, grains.decode(window.copy(), SETTINGS).labels)


def test_a_surer_grain_has_a_higher_score():
    maps = maps_of(cells())
    sure, unsure = grains.decode(maps, SETTINGS).scores, grains.decode(maps // 4 * 3, SETTINGS).scores
    assert (unsure.mean(), sure.mean()) == (pytest.approx(0.75 * sure.mean(), abs=0.02), pytest.approx(0.9, abs=0.1))


def test_lines_of_zero_between_grains_mean_the_same_as_grains_that_touch():
    touching = cells()
    parted = touching.copy()
    parted[1:][touching[1:] != touching[:-1]] = 0
    parted[:, 1:][touching[:, 1:] != touching[:, :-1]] = 0
    found = grains.decode(maps_of(parted), SETTINGS)
    assert found_ap(touching, found.labels) > 0.95


def test_specks_and_unknown_pixels_have_no_weight_and_all_others_have():
    labels = np.ones((60, 60), np.int32)
    labels[10:14, 10:14] = 2  # 16 px: a slip of the annotator
    labels[30:36, 30:36] = 3
    labels[:, 50:] = -1
    weight = grains.encode(labels).weight
    assert (weight[10:14, 10:14] == 0).all()
    assert (weight[:, 50:] == 0).all()
    assert (weight >= 1).sum() == 60 * 50 - 16
    assert weight[0, 0] == 1
    assert weight[29, 30] == 1 + grains.BOUNDARY_WEIGHT


def test_the_frame_is_no_boundary():
    maps = grains.encode(np.ones((30, 30), np.int32)).maps
    assert (maps[:2] == 1).all()
    assert (maps[2] == 0).all()


def twinned() -> tuple[np.ndarray, np.ndarray]:
    """Two grains, and these with one twin that crosses the left grain and one that ends inside the right one."""
    grains_alone = np.ones((120, 160), np.int32)
    grains_alone[:, 80:] = 2
    both = grains_alone.copy()
    both[40:60, :80] += tasks.TWIN
    both[70:90, 120:] += tasks.TWIN
    return grains_alone, both


def test_twins_are_part_of_their_grains_unless_they_are_kept():
    truth, both = twinned()
    maps = maps_of(both)
    np.testing.assert_array_equal(maps[:2], maps_of(truth)[:2])
    merged = grains.decode(maps, SETTINGS)
    np.testing.assert_array_equal(merged.labels, grains.decode(maps_of(truth), SETTINGS).labels)
    kept = grains.decode(maps, grains.GrainSettings(twins="keep"))
    parts = truth.copy()
    parts[40:60, :80], parts[60:, :80], parts[70:90, 120:] = 3, 4, 5
    assert len(kept) == 5
    assert found_ap(parts, kept.labels) == 1
    assert (kept.labels > 0).all()


def test_the_sides_of_twins_weigh_as_much_as_boundaries_and_unknown_ones_nothing():
    both = twinned()[1]
    weight = grains.encode(both).weight
    assert weight[40, 30] == 1 + grains.BOUNDARY_WEIGHT
    both[:70] = -1
    unknown = grains.encode(both)
    assert (unknown.weight[:70] == 0).all()
    assert unknown.maps[2, 80, 119] == 1


def test_a_network_that_was_never_shown_twins_does_not_keep_them():
    two_maps = maps_of(cells())[:2]
    assert len(grains.decode(two_maps, SETTINGS)) == 60
    with pytest.raises(BadSetting, match="twins=merge"):
        grains.decode(two_maps, grains.GrainSettings(twins="keep"))


def test_areas_are_in_micrometres_only_where_the_pixel_size_is_known():
    found = grains.decode(maps_of(cells()), SETTINGS)
    known = grains.measure(found, Micrograph(np.zeros((300, 400), np.uint8), pixel_size_um=0.5))
    assert known["area_um2"].sum() == pytest.approx(300 * 400 * 0.25)
    assert "area_um2" not in grains.measure(found, Micrograph(np.zeros((300, 400), np.uint8)))


def scaled(pixels: np.ndarray) -> np.ndarray:
    scaling = grains.scaling(pixels[..., None])
    center, spread = scaling.window(pixels.shape, slice(0, pixels.shape[0]), slice(0, pixels.shape[1]))
    return ((pixels - center) / spread)[0]


def section(shape_px: tuple[int, int] = (512, 800)) -> np.ndarray:
    """Grey grains with noise and boundaries that are 60 darker."""
    rng = np.random.default_rng(0)
    truth = cells(0, 150, shape_px)
    wall = (grains.encode(truth).maps[0] < 0.2).astype(np.float32)
    return 180 + rng.normal(0, 4, shape_px).astype(np.float32) - 60 * wall


def test_scaling_undoes_gain_offset_and_a_vignette():
    pixels = section()
    y, x = np.mgrid[-1:1:512j, -1:1:800j]
    vignette = (0.4 * pixels - 30 * (y**2 + x**2)).astype(np.float32)
    plain, dimmed = scaled(pixels), scaled(vignette)
    inside = grains.encode(cells(0, 150, (512, 800))).maps[0] == 1
    assert abs(plain[inside].mean()) < 0.2
    blocks = dimmed[:500, :800].reshape(5, 100, 8, 100).transpose(0, 2, 1, 3).reshape(40, -1)
    depth = 60 / grains.scaling(vignette[..., None]).spread[0, 0, 0]
    assert np.abs(np.median(blocks, axis=1)).max() < 0.2 * depth
    assert np.corrcoef(plain.ravel(), dimmed.ravel())[0, 1] > 0.85


def test_one_black_scratch_does_not_hide_the_faint_boundaries():
    pixels = section()
    scratched = pixels.copy()
    scratched[200:204] = 0
    assert scaled(scratched)[:190].std() == pytest.approx(scaled(pixels)[:190].std(), rel=0.35)


@pytest.mark.parametrize("shape_px", [(1, 1), (7, 900), (3000, 40)])
def test_blank_and_tiny_images_are_scaled_to_zero(shape_px):
    assert np.abs(scaled(np.full(shape_px, 77, np.uint8))).max() < 0.001


def test_the_task_is_found_by_its_name():
    task = tasks.find("grains")
    assert (task.outputs, task.channels[0]) == (("inside", "depth", "twin"), "grey")


def test_scratches_darken_thin_lines():
    random = np.random.default_rng(0)
    drawn = np.stack([grains._scratch((200, 200), random) for _ in range(20)])
    assert (drawn >= 0).all()
    assert drawn.max(axis=(1, 2)).min() > 0.3
    assert (drawn > 0.3).mean() < 0.03


def test_gaps_lay_the_inside_of_grains_over_boundaries():
    labels = cells()
    before = -5 * (grains.encode(labels).maps[0] < 0.2).astype(np.float32)[..., None]
    after = before.copy()
    grains._open_gaps(after, grains._distance_px(labels), np.random.default_rng(0))
    changed = np.abs(after - before)[..., 0] > 0.1
    assert changed.any()
    assert (before[changed] == -5).all()
    assert after[changed].max() == 0


def test_faded_boundaries_keep_their_noise_and_some_of_their_contrast():
    labels = cells()
    noise = np.random.default_rng(1).normal(0, 0.5, labels.shape)
    before = (noise - 5 * (grains._distance_px(labels) < 1))[..., None].astype(np.float32)
    faded = np.stack([before] * 20)
    for number, plane in enumerate(faded):
        grains._fade_boundaries(plane, labels, np.random.default_rng(number))
    wall = grains._distance_px(labels) < 1
    contrast = -faded[:, wall].mean(axis=(1, 2))
    assert (contrast > 0.5).all()
    assert contrast.min() < 4.5
    assert faded[:, wall].std(axis=0).mean() > 0.3
    deep = grains._distance_px(labels) > grains.FADE_REACH_PX + 1
    assert deep.any()
    np.testing.assert_array_equal(faded[0][deep], before[deep])


def test_spoiling_leaves_its_input_alone_and_follows_its_seed():
    labels = cells()
    before = np.zeros((*labels.shape, 1), np.float32)
    first, again = (grains.spoil(before, labels, np.random.default_rng(3)) for _ in range(2))
    assert (before == 0).all()
    np.testing.assert_array_equal(first, again)


def test_noise_leaves_pixels_about_as_strong_as_they_were():
    before = np.random.default_rng(0).normal(0, 1, (200, 200, 1)).astype(np.float32)
    noisy = [grains._noisy(before, np.random.default_rng(seed)) for seed in range(20)]
    assert {part.dtype for part in noisy} == {np.dtype(np.float32)}
    assert all(0.6 < part.std() < 1.3 for part in noisy)
    kept = [np.corrcoef(part.ravel(), before.ravel())[0, 1] for part in noisy]
    assert min(kept) < 0.6
    assert max(kept) > 0.95


@pytest.mark.parametrize("shape_px", [(1, 1), (9, 30), (40, 12)])
def test_small_crops_can_be_spoiled(shape_px):
    labels = np.ones(shape_px, np.int32)
    labels[:, shape_px[1] // 2 :] = 2
    for seed in range(10):
        spoiled = grains.spoil(np.zeros((*shape_px, 1), np.float32), labels, np.random.default_rng(seed))
        assert spoiled.shape == (*shape_px, 1)


def finder(true_px: float, shape_px: tuple[int, int]) -> tuple[np.ndarray, list[float], object]:
    """An image, a list of the scales at which it is shown, and a network that counts its grains of true_px.

    The image's grey values are the numbers of the columns, so that what is shown tells at which scale it is.
    """
    pixels = np.broadcast_to(np.linspace(0, 1, shape_px[1], dtype=np.float32)[:, None], (*shape_px, 1))
    scales: list[float] = []

    def find(shown: np.ndarray, settings: grains.GrainSettings) -> Regions:
        assert settings.twins == "merge", "twins would be taken for smaller grains"
        step = (float(shown[0, -1, 0]) - float(shown[0, 0, 0])) / (shown.shape[1] - 1)
        scales.append(1 / (step * (shape_px[1] - 1)))
        seen_px = true_px * scales[-1]
        count = max(1, round(shown.shape[0] * shown.shape[1] / (np.pi / 4 * seen_px**2)))
        if not 10 < seen_px < 250:  # what it was not trained on it answers wrongly
            count *= 3
        return Regions(np.zeros(shown.shape[:2], np.int32), ("grain",) * count, np.ones(count, np.float32))

    return pixels, scales, find


@pytest.mark.parametrize("true_px", [6.0, 20.0, 50.0, 110.0, 400.0, 900.0])
def test_the_scale_of_the_grains_is_estimated_from_the_image_and_said(true_px):
    pixels, scales, find = finder(true_px, (4000, 5000))
    zoom = grains.zoom(pixels, grains.GrainSettings(grain_diameter_px="auto", twins="keep"), find)
    near = 1 / grains.NEAR < grains.USUAL_PX / true_px < grains.NEAR
    wanted = 1.0 if near else min(grains.USUAL_PX / true_px, grains.LARGEST_ZOOM)
    assert zoom.factor == pytest.approx(wanted, rel=0.1)
    assert "estimated from the image" in zoom.notes[0]
    assert f"{zoom.factor:.2f} of the image's scale" in zoom.notes[0] or near
    assert len(scales) <= grains.ESTIMATES + 1


def test_texture_that_is_gone_at_half_the_scale_is_not_taken_for_grains():
    pixels, scales, find = finder(160.0, (4000, 5000))

    def find_texture(shown: np.ndarray, settings: grains.GrainSettings) -> Regions:
        found = find(shown, settings)
        if scales[-1] < 0.75:
            return found
        count = round(shown.shape[0] * shown.shape[1] / (np.pi / 4 * grains.USUAL_PX**2))
        return Regions(found.labels, ("grain",) * count, np.ones(count, np.float32))

    zoom = grains.zoom(pixels, grains.GrainSettings(grain_diameter_px="auto"), find_texture)
    assert zoom.factor == pytest.approx(grains.USUAL_PX / 160, rel=0.1)


def test_the_scale_of_the_grains_can_be_given_or_left():
    def never(_: np.ndarray) -> Regions:
        raise AssertionError

    pixels = np.zeros((60, 80, 1), np.uint8)
    assert grains.zoom(pixels, SETTINGS, never) == tasks.Zoom()
    given = grains.zoom(pixels, grains.GrainSettings(grain_diameter_px=114), never)
    assert given.factor == pytest.approx(0.5)
    assert "114 px across, as given" in given.notes[0]
    assert grains.zoom(pixels, grains.GrainSettings(grain_diameter_px=57), never).factor == 1


def test_an_image_with_hardly_a_grain_is_read_as_it_is_and_says_so():
    pixels = np.zeros((300, 300, 1), np.uint8)
    one = Regions(np.ones((300, 300), np.int32), ("grain",), np.ones(1, np.float32))
    zoom = grains.zoom(pixels, grains.GrainSettings(grain_diameter_px="auto"), lambda *_: one)
    assert zoom.factor == 1
    assert "too few grains" in zoom.notes[0]
