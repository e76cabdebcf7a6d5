"""Flakes: terraces that touch stay apart, tiles leave no trace, and contrast is what was drawn."""

from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from pydantic import ValidationError

from micro import bundle, folder, outlines, thin_film, trial
from micro.cli import run
from micro.engine import Engine
from micro.errors import BadSetting
from micro.formats import write_image, write_labels
from micro.line import colours
from micro.micrograph import Micrograph
from micro.regions import Regions
from micro.scenes import chips
from micro.scenes.flakes import draw
from micro.tasks import Lesson, find, flakes
from micro.tasks.flakes import (
    FlakeSettings,
    decode,
    encode,
    identify,
    measure,
    refine,
    regions_of,
    scaling,
    settings_of,
)


def maps_of(labels):
    return np.rint(encode(labels).maps * 255).astype(np.uint8)


def intersection_over_union(first, second):
    return (first & second).sum() / (first | second).sum()


def two_terraces():
    labels = np.zeros((120, 160), np.int32)
    labels[20:100, 20:70] = 1
    labels[20:100, 70:140] = 2
    return labels


def test_the_task_is_found_by_its_name():
    task = find("flakes")
    assert task.channels == ("rgb",)
    assert task.colour_is_evidence
    assert not task.orientation_is_evidence


def test_terraces_that_touch_come_back_as_they_were():
    labels = two_terraces()
    found = decode(maps_of(labels), FlakeSettings()).labels
    np.testing.assert_array_equal(found > 0, labels > 0)
    assert (found != labels).sum() < 10


def test_drawn_flakes_come_back_from_their_own_targets():
    overlaps = []
    for seed in range(6):
        labels = draw(seed, 384, 384).labels
        found = decode(maps_of(labels), FlakeSettings()).labels
        areas = np.bincount(labels.ravel())
        large = [label for label in range(1, len(areas)) if areas[label] >= 400]
        for label in large:
            counts = np.bincount(found[labels == label])
            counts[0] = 0
            overlaps.append(intersection_over_union(labels == label, found == max(counts.argmax(), 1)))
    assert len(overlaps) >= 15
    assert np.mean(np.array(overlaps) > 0.5) >= 0.9


def test_a_blurred_answer_still_tells_terraces_apart():
    maps = np.stack([cv2.GaussianBlur(part, (0, 0), 2) for part in maps_of(two_terraces())])
    assert len(decode(maps, FlakeSettings())) == 2


def test_a_flake_across_block_borders_is_one():
    labels = np.zeros((1300, 2300), np.int32)
    labels[1000:1060, 100:2200] = 1
    found = decode(maps_of(labels), FlakeSettings()).labels
    np.testing.assert_array_equal(found, labels)


def test_growth_in_blocks_equals_growth_in_one_piece(monkeypatch):
    rng = np.random.default_rng(1)
    labels = np.zeros((200, 330), np.int32)
    for number in range(1, 60):
        y, x, height, width = rng.integers(0, 190), rng.integers(0, 310), rng.integers(8, 60), rng.integers(8, 60)
        labels[y : y + height, x : x + width] = number
    maps = maps_of(labels)
    whole = decode(maps, FlakeSettings(min_area_px=1)).labels
    monkeypatch.setattr(flakes, "BLOCK_PX", 64)
    np.testing.assert_array_equal(decode(maps, FlakeSettings(min_area_px=1)).labels, whole)


def test_small_and_doubtful_flakes_are_dropped_and_the_rest_numbered_on():
    labels = two_terraces()
    labels[105:115, 5:15] = 3
    maps = maps_of(labels)
    maps[0][labels == 1] = 140
    found = decode(maps, FlakeSettings(min_score=0.8))
    assert len(found) == 1
    assert set(np.unique(found.labels)) == {0, 1}
    assert found.scores[0] > 0.99
    assert len(decode(maps, FlakeSettings(min_area_px=50))) == 3


def test_an_empty_answer_gives_no_regions_and_an_empty_table():
    found = decode(np.zeros((2, 40, 50), np.uint8), FlakeSettings())
    assert len(found) == 0
    table = measure(found, Micrograph(np.full((40, 50, 3), 100, np.uint8)))
    assert all(len(values) == 0 for values in table.values())


def photograph(*, grain=0.0, corner=0.0, dots=0.0):
    """A substrate with two terraces, and a lower right corner that darkens by and by."""
    labels = np.zeros((400, 500), np.int32)
    labels[50:150, 60:140], labels[50:150, 140:200] = 1, 2
    rng = np.random.default_rng(0)
    light = np.full((400, 500, 3), 100.0)
    light[labels == 1] *= (0.9, 0.86, 0.95)
    light[labels == 2] *= (0.8, 0.73, 0.9)
    light[labels == 2] *= 1 + dots * rng.normal(0, 1, (25, 15)).repeat(4, 0).repeat(4, 1).reshape(-1, 1)
    y, x = np.mgrid[0:400, 0:500]
    light *= 1 - corner * ((y + x - 700) / 200).clip(0, 1)[..., np.newaxis]
    pixels = np.rint((light + rng.normal(0, grain, light.shape)).clip(0, 255)).astype(np.uint8)
    return labels, pixels, y + x > 790


def refined(labels, pixels):
    regions = Regions(labels, ("flake",) * int(labels.max()), np.ones(int(labels.max()), np.float32))
    return refine(regions, pixels, scaling(pixels), FlakeSettings())


def test_the_bare_substrate_is_no_flake_though_a_network_outlines_it():
    labels, pixels, _ = photograph()
    flooded = np.where(labels == 1, 1, 2).astype(np.int32)
    found = refined(flooded, pixels)
    assert np.unique(found.labels[labels == 0]).tolist() == [0]
    assert found.labels[100, 100] > 0


def test_terraces_are_kept_and_a_dark_corner_that_has_no_edge_is_dropped():
    labels, pixels, corner = photograph(corner=0.1)
    found = refined(np.where(corner, 3, labels).astype(np.int32), pixels)
    np.testing.assert_array_equal(found.labels, labels)


def test_a_patch_that_is_not_of_one_colour_is_dropped():
    labels, pixels, _ = photograph(dots=0.1)
    np.testing.assert_array_equal(refined(labels, pixels).labels, np.where(labels == 1, 1, 0))


def test_a_terrace_may_be_as_uneven_as_the_grain_of_its_photograph_makes_it():
    labels, pixels, _ = photograph(grain=14.0)
    assert len(refined(labels, pixels)) == 2


def unseen(pixels, **settings):
    """What is found where the network saw nothing."""
    nothing = Regions(np.zeros(pixels.shape[:2], np.int32), (), np.zeros(0, np.float32))
    return refine(nothing, pixels, scaling(pixels), FlakeSettings(**settings))


def test_hbn_is_found_by_its_colour_where_the_network_sees_nothing():
    labels, pixels, _ = photograph(grain=1.0, corner=0.1)
    found = unseen(pixels, material="hbn", find="auto")
    assert found.scores.tolist() == [0, 0]
    for number in (1, 2):
        own, drawn = found.labels == np.median(found.labels[labels == number]), labels == number
        assert np.count_nonzero(own & drawn) > 0.9 * np.count_nonzero(own | drawn)
    np.testing.assert_array_equal(unseen(pixels, find="colour").labels, found.labels)
    assert not len(unseen(pixels, material="graphene", find="auto"))
    assert not len(unseen(pixels, material="hbn"))  # a bundle that was trained on hBN sees it, and bulk is none
    assert bundle.load("flakes-thin").card.settings == {"find": "auto"}


def test_what_the_network_saw_is_not_found_again_by_its_colour():
    labels, pixels, _ = photograph(grain=1.0)
    first = Regions((labels == 1).astype(np.int32), ("flake",), np.array([0.9], np.float32))
    found = refine(first, pixels, scaling(pixels), FlakeSettings(find="colour"))
    np.testing.assert_array_equal(found.labels == 1, labels == 1)
    assert found.scores.tolist() == pytest.approx([0.9, 0])


def test_dirt_that_wanders_is_no_crystal_by_its_colour():
    pixels = np.full((300, 300, 3), 100, np.uint8)
    pixels[100:112, 100:200], pixels[100:200, 100:112] = 90, 90  # an L of 12 px: an eighth of its hull
    pixels[220:260, 220:260] = 90
    assert np.unique(np.argwhere(unseen(pixels, find="colour").labels)[:, 0]).min() >= 218


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((120, 160, 3), np.uint8),
        np.random.default_rng(0).poisson(0.3, (120, 160, 3)).astype(np.uint8),
        np.full((120, 160, 3), -0.25, np.float32),
    ],
    ids=["shutter closed", "shutter closed, with noise", "below zero, as after subtraction"],
)
def test_a_frame_without_light_is_scaled_and_shows_no_flake(pixels):
    scale = scaling(pixels)
    assert np.isfinite(scale.center).all()
    assert not len(unseen(pixels, material="hbn", find="auto"))
    labels = np.zeros(pixels.shape[:2], np.int32)
    identity = named(Micrograph(pixels), labels, material="graphene")
    assert identity.class_names == ()


def test_the_smallest_terrace_may_be_a_single_pixel():
    _, pixels, _ = photograph(grain=1.0)
    specks = np.zeros(pixels.shape[:2], np.int32)
    specks[100, 100], specks[60:65, 60:65], specks[120:126, 100:105] = 1, 2, 3  # 1 and 2 pixels are left without a rim
    regions = Regions(specks, ("flake",) * 3, np.ones(3, np.float32))
    assert len(refine(regions, pixels, scaling(pixels), FlakeSettings(min_area_px=1))) <= 3


def test_places_do_not_depend_on_the_blocks_in_which_they_are_looked_for(monkeypatch):
    _, pixels, _ = photograph(grain=3.0, dots=0.02)
    whole = unseen(pixels, find="colour")
    monkeypatch.setattr(outlines, "PLACES_PX", 64)
    np.testing.assert_array_equal(unseen(pixels, find="colour").labels, whole.labels)
    assert len(whole)


def test_unknown_pixels_carry_no_weight():
    labels = two_terraces()
    labels[:10] = -1
    targets = encode(labels)
    assert targets.weight[:10].sum() == 0
    assert (targets.weight[10:] == 1).all()
    assert targets.maps[:, :10].sum() == 0


def test_contrast_is_the_one_that_was_drawn_even_under_a_vignette():
    labels = two_terraces()
    y, x = np.mgrid[0:120, 0:160]
    light = 1 - 0.2 * ((y / 120 - 0.5) ** 2 + (x / 160 - 0.5) ** 2)
    pixels = light[..., np.newaxis] * np.array([200.0, 150, 100])
    pixels[labels == 1] *= (0.9, 0.8, 1.0)
    pixels[labels == 2] *= (0.5, 0.6, 0.7)
    regions = Regions(labels, ("flake", "flake"), np.ones(2, np.float32))
    table = measure(regions, Micrograph(np.rint(pixels).astype(np.uint8), pixel_size_um=0.5))
    np.testing.assert_allclose(table["contrast_r_mean"], [-0.1, -0.5], atol=0.02)
    np.testing.assert_allclose(table["contrast_g_mean"], [-0.2, -0.4], atol=0.02)
    np.testing.assert_allclose(table["contrast_b_mean"], [0, -0.3], atol=0.02)
    np.testing.assert_allclose(table["area_um2"], [80 * 50 / 4, 80 * 70 / 4])
    np.testing.assert_allclose(table["inscribed_diameter_um"], [50 / 2, 70 / 2], atol=1)
    assert table["crystal"].tolist() == [1, 1]
    assert not any(name.endswith("_um2") for name in measure(regions, Micrograph(np.rint(pixels).astype(np.uint8))))


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValidationError):
        FlakeSettings(min_area_px=0)
    with pytest.raises(ValidationError):
        FlakeSettings(inside_above=1.5)


def test_scaled_pixels_are_contrast_plus_the_hue_of_the_substrate():
    substrate_rgb = np.array([130, 115, 160], np.float64)
    pixels = np.full((80, 100, 3), substrate_rgb.astype(np.uint8), np.uint8)
    pixels[20:40, 30:50] = (substrate_rgb * 0.8).astype(np.uint8)
    found = flakes.scaling(pixels)
    center, spread = found.window((80, 100), slice(0, 80), slice(0, 100))
    scaled = (pixels.transpose(2, 0, 1) - center) / spread
    hue = substrate_rgb / substrate_rgb.mean() - 1
    assert np.allclose(scaled[:, 60, 80], hue, atol=0.02)
    assert np.allclose(scaled[:, 30, 40] - scaled[:, 60, 80], -0.2, atol=0.02)


def drawn_chip():
    """A staircase of graphene on 90 nm, one to four layers, with its labels."""
    labels = np.zeros((160, 240), np.int32)
    light = np.ones((160, 240, 3))
    steps = thin_film.contrast("graphene", np.arange(1, 5), 90.0, thin_film.Camera(centre_nm=(608.0, 537.0, 457.0)))
    for count, step in enumerate(steps, 1):
        labels[30:130, 40 * count : 40 * count + 40] = count
        light[labels == count] += step
    noise = np.random.default_rng(0).normal(0, 1, light.shape)
    pixels = light * (130, 115, 150) + noise
    return Micrograph(np.rint(pixels).astype(np.uint8), "chip.tif", 0.4), labels


def named(image, labels, **settings):
    regions = Regions(labels, ("flake",) * int(labels.max()), np.ones(int(labels.max()), np.float32))
    table = measure(regions, image)
    return identify(regions, image, table, FlakeSettings(**settings))


def test_layers_are_counted_by_their_colour():
    identity = named(*drawn_chip(), material="graphene", oxide_nm=90)
    assert identity.class_names == ("1L", "2L", "3L", "4L")
    np.testing.assert_array_equal(identity.columns["layers"], [1, 2, 3, 4])
    np.testing.assert_allclose(identity.columns["thickness_nm"], 0.335 * np.arange(1, 5))
    assert (identity.columns["layers_probability"] > 0.8).all()
    assert not identity.columns["review"].any()
    assert set(identity.columns["material"]) == {"graphene"}
    assert identity.notes == ()


def test_who_asks_for_more_certainty_gets_more_to_review():
    identity = named(*drawn_chip(), material="graphene", oxide_nm=90, sure_above=1)
    assert identity.columns["review"].all()


def test_a_wrong_oxide_is_said_in_the_notes_and_every_region_is_up_for_review():
    identity = named(*drawn_chip(), material="graphene", oxide_nm=285)
    assert "does not explain the colours (misfit" in identity.notes[0]
    assert identity.columns["review"].all()


def test_a_grey_image_has_no_layers_and_says_so():
    image, labels = drawn_chip()
    identity = named(replace(image, pixels=image.pixels[..., :1]), labels)
    assert set(identity.class_names) == {"unknown"}
    assert identity.columns["review"].all()
    assert "grey" in identity.notes[0]


def test_no_regions_need_no_names():
    image, labels = drawn_chip()
    assert named(image, 0 * labels).class_names == ()


def test_saturated_channels_are_said():
    image, labels = drawn_chip()
    pixels = image.pixels.copy()
    pixels[labels == 3, 2] = 0
    pixels[labels == 4] = (90, 255, 255)
    identity = named(replace(image, pixels=pixels), labels, material="graphene", oxide_nm=90)
    assert identity.class_names[:3] == ("1L", "2L", "3L")
    assert identity.columns["saturated"].tolist() == [False, False, True, True]
    assert "2 of 4 regions" in identity.notes[-1]


def test_what_is_surely_none_of_the_crystal_is_up_for_review():
    image, labels = drawn_chip()
    pixels = image.pixels.copy()
    pixels[labels == 4] = (200, 60, 230)
    identity = named(replace(image, pixels=pixels), labels, material="graphene", oxide_nm=90)
    assert identity.class_names == ("1L", "2L", "3L", "unknown")
    assert identity.columns["layers_probability"][3] > 0.8
    assert identity.columns["review"].tolist() == [False, False, False, True]


def test_points_in_a_table_become_a_profile_that_names_layers(tmp_path):
    image, labels = drawn_chip()
    write_image(tmp_path / "chip.tif", image)
    rows = "".join(f"chip.tif,{40 * count + 20},80,{count}\n" for count in range(1, 5))
    (tmp_path / "points.csv").write_text("image,x,y,layers\n" + rows, encoding="utf-8")
    profile = str(tmp_path / "lab.yaml")
    assert run(["profile", str(tmp_path / "points.csv"), "--material", "graphene", "--out", profile]) == 0
    alone = np.where(labels == 2, 1, 0).astype(np.int32)
    identity = named(image, alone, profile=profile)
    assert identity.class_names == ("2L",)
    assert identity.columns["layers_probability"][0] > 0.95


def test_the_brightest_crystal_of_an_image_in_floats_is_not_taken_for_saturated():
    pixels = np.full((160, 240, 3), 0.25, np.float32)
    pixels[40:120, 60:140] = (0.4, 0.5, 0.35)
    mark = flakes.Mark(100, 80, height_nm=60)
    (point,) = flakes.known_points(Micrograph(pixels), [mark])
    assert (point.contrast_r, point.contrast_g) == pytest.approx((0.6, 1.0), abs=0.01)
    pixels[40:120, 60:140] = 1
    with pytest.raises(BadSetting, match="saturated"):
        flakes.known_points(Micrograph((255 * pixels).astype(np.uint8)), [mark])


def test_points_with_heights_make_a_profile_too(tmp_path, capsys):
    image, labels = drawn_chip()
    write_image(tmp_path / "chip.tif", image)
    rows = "".join(f"chip.tif,{40 * count + 20},80,,{0.335 * count + 0.1}\n" for count in range(2, 5))
    (tmp_path / "points.csv").write_text(f"image,x,y,layers,height_nm\nchip.tif,60,80,1,\n{rows}", encoding="utf-8-sig")
    profile = tmp_path / "lab.yaml"
    assert run(["profile", str(tmp_path / "points.csv"), "--material", "graphene", "--out", str(profile)]) == 0
    assert "4 points are named as you say" in capsys.readouterr().out
    points = thin_film.Profile.load(profile).points
    assert [point.known for point in points] == ["1L", "0.77 nm", "1.105 nm", "1.44 nm"]
    alone = np.where(labels == 2, 1, 0).astype(np.int32)
    assert named(image, alone, profile=str(profile)).class_names == ("2L",)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("image,x,y\nchip.tif,1,1\n", "image,x,y and layers or height_nm is needed"),
        ("image,x,y,layers\nchip.tif,1,one,1\n", "image,x,y and layers or height_nm is needed"),
        ("image,x,y,layers,height_nm\nchip.tif,60,80,1,0.3\n", "layers or height_nm is needed"),
        ("image,x,y,layers\nchip.tif,60,80,12\n", "(60, 80): layers: Input should be less than or equal to 10"),
        ("image,x,y,height_nm\nchip.tif,60,80,-2\n", "(60, 80): height_nm: Input should be greater than 0"),
        ("image,x,y,layers\n", "no point"),
        ("image,x,y,layers\nchip.tif,900,10,1\n", "lies outside"),
        ("image,x,y,layers\nnone.tif,1,1,1\n", "none.tif"),
    ],
)
def test_a_table_that_makes_no_profile_is_refused_with_a_reason(tmp_path, table, message, capsys):
    write_image(tmp_path / "chip.tif", drawn_chip()[0])
    (tmp_path / "points.csv").write_text(table, encoding="utf-8")
    out = tmp_path / "lab.yaml"
    assert run(["profile", str(tmp_path / "points.csv"), "--material", "graphene", "--out", str(out)]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_a_run_makes_a_profile_of_flakes_that_nobody_counted(tmp_path, capsys):
    images = tmp_path / "images"
    images.mkdir()
    for seed in (4, 5):
        scene = chips.draw(seed, 256, 384, material="graphene", oxide_nm=90.0, microscope=3)
        write_image(images / f"{seed}.tif", scene.image)
    found, profile = tmp_path / "found", tmp_path / "lab.yaml"
    assert (
        run(["predict", str(images), "--model", "flakes-thin", "--out", str(found), "--set", "material=graphene"]) == 0
    )
    assert run(["profile", str(found), "--material", "graphene", "--out", str(profile)]) == 0
    made = thin_film.Profile.load(profile)
    told = capsys.readouterr()
    assert f"lab.yaml: the colours of {len(made.seen)} flakes of graphene." in told.out
    assert "does not fit" not in told.err
    assert {colour.image for colour in made.seen} == {"4.tif", "5.tif"}
    words = ["predict", str(images), "--model", "flakes-thin", "--out", str(tmp_path / "named")]
    assert run([*words, "--set", f"profile={profile}"]) == 0

    rows = pa.parquet.read_table(found / "images.parquet").to_pylist()
    rows.append({**rows[-1], "sha256": "f" * 64, "n_regions": 0})  # the file was written anew, and is empty now
    pa.parquet.write_table(pa.Table.from_pylist(rows), found / "images.parquet")
    assert {colour.image for colour in colours.of_run(found)} == {"4.tif"}


def test_what_is_no_run_of_flakes_makes_no_profile(tmp_path, capsys):
    out = tmp_path / "lab.yaml"
    assert run(["profile", str(tmp_path), "--material", "graphene", "--out", str(out)]) == 2
    assert "holds no record of a run" in capsys.readouterr().err
    assert run(["profile", "--material", "graphene", "--out", str(out)]) == 2
    assert "Name a table of points" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"contrast_r_mean": None}, "no contrast_r_mean, so they are no flakes"),
        ({"saturated": [True, True]}, "none of 2 regions is a flake of known colour"),
        ({"contrast_g_mean": [np.nan, 50.0]}, "none of 2 regions is a flake of known colour"),
    ],
)
def test_colours_are_of_flakes_that_show_theirs(changed, message):
    table = {"area_px": [400, 300], "saturated": [False, True]}
    table |= {f"contrast_{channel}_mean": [-0.1, -0.2] for channel in "rgb"}
    columns = {name: np.array(values) for name, values in table.items()}
    (only,) = thin_film.colours_of(["a.png", "b.png"], columns)
    assert (only.image, only.contrast) == ("a.png", (-0.1, -0.1, -0.1))
    columns |= {name: np.array(values) for name, values in changed.items()}
    with pytest.raises(BadSetting, match=message):
        thin_film.colours_of(["a.png", "b.png"], {name: each for name, each in columns.items() if each.ndim})


CLASSES = ("substrate", "1L", "2L", "3L", "4L", "thick", "unknown")


def classes_of_chip():
    """The drawn chip with its classes painted: the staircase, a thick crystal, and a place that nobody knows."""
    image, labels = drawn_chip()
    classes = labels.copy()
    classes[140:150, 40:60] = CLASSES.index("thick")
    classes[140:150, 100:120] = CLASSES.index("unknown")
    return image, classes


def test_classes_of_layers_become_terraces_with_names():
    _, classes = classes_of_chip()
    classes[60:70, 40:80] = 0  # cuts the monolayer in two
    instances, names = regions_of(classes, CLASSES)
    assert names == ("1L", "1L", "2L", "3L", "4L")
    assert [set(np.unique(classes[instances == number])) for number in range(1, 6)] == [{1}, {1}, {2}, {3}, {4}]
    assert (instances[140:150, 100:120] == -1).all()
    assert (instances[140:150, 40:60] == 0).all()


@pytest.mark.parametrize("classes", [("substrate", "monolayer"), ("1L", "2L"), ("substrate", "11L")])
def test_other_classes_are_refused_with_those_that_are_known(classes):
    with pytest.raises(BadSetting, match="1L to 10L, thick, residue and unknown"):
        regions_of(np.zeros((8, 8), np.int32), classes)


def test_named_terraces_make_a_profile_that_names_layers_and_their_material():
    image, classes = classes_of_chip()
    lesson = Lesson(image, *regions_of(classes, CLASSES))
    profile = settings_of([lesson])["profile"]
    assert [point["layers"] for point in profile["points"]] == [1, 2, 3, 4]
    assert profile["material"] == "graphene"
    alone = np.where(classes == 2, 1, 0).astype(np.int32)
    assert named(image, alone, profile=profile).class_names == ("2L",)
    other = named(image, alone, profile=profile, material="hbn")
    assert set(other.columns["material"]) == {"hbn"}, "the crystal that the user names"
    assert named(image, alone, profile="").notes == named(image, alone).notes, "no profile, not the bundle's either"
    assert settings_of([replace(lesson, labels=lesson.labels * 0, classes=())]) == {}


def test_the_largest_terraces_of_each_number_of_layers_make_the_profile(monkeypatch):
    image, classes = classes_of_chip()
    pixels = image.pixels.copy()
    classes[60:64, 80:120] = 0  # cuts the second layer into 30 and 66 rows
    pixels[30:60, 80:120, 0] -= 20
    classes[39:, 160:200] = 0  # leaves 9 rows of the fourth
    classes[:, 169:200][classes[:, 169:200] == 4] = 0
    monkeypatch.setattr(flakes, "MOST_POINTS", 1)
    monkeypatch.setattr(thin_film, "profile_of", lambda points: thin_film.Profile(material="graphene", points=points))
    (_, second, _) = settings_of([Lesson(replace(image, pixels=pixels), *regions_of(classes, CLASSES))])["profile"][
        "points"
    ]
    assert second["layers"] == 2
    assert second["contrast_r"] == pytest.approx(np.median(pixels[70:125, 85:115, 0]) / 130 - 1, abs=0.02)


def test_a_folder_of_classes_trains_a_bundle_that_brings_its_microscope(tmp_path, monkeypatch):
    monkeypatch.setattr("micro.training.loop._with_halo", lambda plan, *_: plan)  # measuring that takes longest
    image, classes = classes_of_chip()
    for name in ("images", "masks"):
        (tmp_path / "lab" / name).mkdir(parents=True)
    write_image(tmp_path / "lab/images/chip.tif", image)
    write_labels(tmp_path / "lab/masks/chip.tif", classes, None)
    lines = "".join(f"{value}: {name}\n" for value, name in enumerate(CLASSES))
    (tmp_path / "lab/classes.yaml").write_text(lines, encoding="utf-8")
    out = tmp_path / "lab-flakes"
    command = ["train", str(tmp_path / "lab"), "--task", "flakes", "--out", str(out), "--minutes", "0.001"]
    assert run(command) == 0
    card = bundle.load(out).card
    assert card.settings["profile"]["material"] == "graphene"
    # the right of the image measures, and its fourth layer is unknown to the microscope
    assert [point["layers"] for point in card.settings["profile"]["points"]] == [1, 2, 3]
    assert Engine.load(str(out)).settings.profile.points[0].layers == 1


def test_a_trial_counts_the_found_terraces_that_are_named_right():
    image, classes = classes_of_chip()
    labels, names = regions_of(classes, CLASSES)
    answer = Regions(labels.clip(0), ("1L", "2L", "4L", "4L"), np.ones(4, np.float32))
    parrot = SimpleNamespace(
        task=find("flakes"), settings=FlakeSettings(), predict=lambda _: SimpleNamespace(regions=answer)
    )
    item = replace(folder.annotated(image, labels, None), region_classes=names)
    figures = {row.what: row.value for row in trial.run(parrot, [item]).measured("")}
    assert figures["found regions named right"] == 0.75
    unnamed = trial.run(parrot, [replace(item, region_classes=())]).measured("")
    assert "found regions named right" not in {row.what for row in unnamed}


def test_a_profile_of_an_unknown_material_is_refused(tmp_path, capsys):
    write_image(tmp_path / "chip.tif", drawn_chip()[0])
    (tmp_path / "points.csv").write_text("image,x,y,layers\nchip.tif,60,80,1\n", encoding="utf-8")
    out = tmp_path / "lab.yaml"
    assert run(["profile", str(tmp_path / "points.csv"), "--material", "cheese", "--out", str(out)]) == 2
    assert "graphene" in capsys.readouterr().err


def profile_file(tmp_path, **facts):
    point = thin_film.Point(image="chip.tif", layers=1, contrast_r=-0.13, contrast_g=-0.13, contrast_b=-0.09)
    path = tmp_path / "lab.yaml"
    thin_film.Profile(material="graphene", points=(point,), **facts).save(path)
    return str(path)


@pytest.mark.parametrize(
    "asked", [{"material": "hbn"}, {"material": "graphene", "oxide_nm": 300}, {"gamma": 2.2}], ids=str
)
def test_a_setting_that_a_profile_contradicts_is_refused_and_not_left_unheeded(tmp_path, asked):
    profile = profile_file(tmp_path, oxide_nm=90, gamma=1.0)
    with pytest.raises(BadSetting, match=r"lab\.yaml is of .* Leave one of the two out"):
        FlakeSettings(**asked, profile=profile)


def test_settings_that_a_profile_shares_or_leaves_open_stand_beside_it(tmp_path):
    profile = profile_file(tmp_path, oxide_nm=90)
    found = FlakeSettings(material="graphene", oxide_nm=90, gamma=2.2, profile=profile)
    assert (found.profile.material, found.gamma) == ("graphene", 2.2)


def test_a_profile_that_is_not_there_stops_a_run_before_its_first_image(tmp_path, capsys):
    write_image(tmp_path / "chip.tif", drawn_chip()[0])
    out = tmp_path / "out"
    arguments = ["predict", str(tmp_path / "chip.tif"), "--model", "flakes-thin", "--out", str(out)]
    assert run([*arguments, "--set", f"profile={tmp_path / 'none.yaml'}"]) == 2
    assert "not a microscope profile" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    ("out", "message"),
    [("points.csv", "take the place of its own points"), ("", "is a folder"), ("chip.tif/x.yaml", "cannot be")],
)
def test_a_profile_that_cannot_be_written_is_said_and_takes_the_place_of_nothing(tmp_path, out, message, capsys):
    write_image(tmp_path / "chip.tif", drawn_chip()[0])
    points = tmp_path / "points.csv"
    points.write_text("image,x,y,layers\nchip.tif,60,80,1\n", encoding="utf-8")
    before = points.read_bytes()
    assert run(["profile", str(points), "--material", "graphene", "--out", str(tmp_path / out)]) == 2
    assert message in capsys.readouterr().err
    assert points.read_bytes() == before


def test_a_profile_makes_the_folder_that_it_is_to_lie_in(tmp_path):
    write_image(tmp_path / "chip.tif", drawn_chip()[0])
    (tmp_path / "points.csv").write_text("image,x,y,layers\nchip.tif,60,80,1\n", encoding="utf-8")
    out = tmp_path / "microscopes" / "lab.yaml"
    assert run(["profile", str(tmp_path / "points.csv"), "--material", "graphene", "--out", str(out)]) == 0
    assert len(thin_film.Profile.load(out).points) == 1


def test_an_image_given_as_the_table_of_points_is_refused_in_one_sentence(tmp_path, capsys):
    (tmp_path / "chip.tif").write_bytes(b"\xff" * 10_000)
    assert (
        run(["profile", str(tmp_path / "chip.tif"), "--material", "graphene", "--out", str(tmp_path / "a.yaml")]) == 2
    )
    assert len(capsys.readouterr().err) < 300 + len(str(tmp_path))
