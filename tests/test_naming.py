"""Layers from contrasts: what the physics makes certain is certain, and what it leaves open is said to be open."""

import re
from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from micro.errors import BadSetting
from micro.thin_film import (
    Asked,
    Camera,
    Colour,
    Point,
    Profile,
    Seen,
    contrast,
    name,
    named_by_the_others,
    objections,
    picked,
)
from micro.thin_film.camera import WAVELENGTHS_NM, channel_weights, recorded
from micro.thin_film.materials import find, refractive_index
from micro.thin_film.stack import cone_reflectance

# cameras that are none of the prior's own: their channels lie apart from its middle
CAMERA = Camera(aperture=0.5, centre_nm=(610.0, 535.0, 455.0), width_nm=75.0, stray=0.02)


def seen(rows, *, noise=0.004, context=()):
    rows = np.asarray(rows, float).reshape(-1, 3)
    rows = rows + np.random.default_rng(0).normal(0, noise, rows.shape)
    context = np.asarray(context, float).reshape(-1, 3)
    return Seen(rows, np.ones(rows.shape, bool), context, np.full(3, 0.007))


def film(material, layers, oxide_nm, camera=CAMERA):
    return contrast(material, np.atleast_1d(layers), oxide_nm, camera)


@pytest.mark.parametrize(("material", "oxide_nm"), [("graphene", 90.0), ("mos2", 285.0), ("wse2", 90.0)])
def test_a_staircase_is_named_step_by_step(material, oxide_nm):
    names = name(seen(film(material, [1, 2, 3, 4], oxide_nm)), Asked(material, oxide_nm))
    assert names.class_names == ("1L", "2L", "3L", "4L")
    np.testing.assert_array_equal(names.layers, [1, 2, 3, 4])
    assert (names.probability > 0.8).all()
    assert names.trust > 0.9
    assert names.remarks == ()


def test_a_staircase_is_named_whatever_the_exposure_and_gamma():
    for gamma in (1.0, 1.5, 2.2):
        camera = Camera(aperture=0.5, centre_nm=(610.0, 535.0, 455.0), gamma=gamma)
        names = name(seen(film("graphene", [1, 2, 3, 4, 5], 90, camera)), Asked("graphene"))
        assert names.class_names == ("1L", "2L", "3L", "4L", "5L")


def test_one_flake_alone_is_less_sure_than_in_a_staircase_and_sure_where_the_camera_is_known():
    alone = seen(film("graphene", 2, 90))
    open_question = name(alone, Asked("graphene", 90.0)).probability[0]
    told = name(alone, Asked("graphene", 90.0, gamma=1.0))
    assert open_question < 0.9
    assert told.class_names == ("2L",)
    assert told.probability[0] > open_question


def test_what_points_of_a_profile_show_settles_what_one_flake_leaves_open():
    camera = Camera(centre_nm=(610.0, 535.0, 455.0), gamma=2.2)
    alone = seen(film("graphene", 2, 90, camera))
    points = [
        Point(image="a.png", layers=int(layers), contrast_r=red, contrast_g=green, contrast_b=blue)
        for layers, (red, green, blue) in zip((1, 2, 3), film("graphene", [1, 2, 3], 90, camera), strict=True)
    ]
    profile = Profile(material="graphene", points=tuple(points))
    names = name(alone, Asked(profile=profile))
    assert names.class_names == ("2L",)
    assert names.probability[0] > 0.95
    assert named_by_the_others(profile) == (("1L", True), ("2L", True), ("3L", True))


def colours(rows, image="a.png"):
    return tuple(Colour(image=image, contrast_r=red, contrast_g=green, contrast_b=blue) for red, green, blue in rows)


def test_flakes_of_other_images_name_a_lone_one_though_nobody_counted_them():
    camera = Camera(centre_nm=(610.0, 535.0, 455.0), gamma=2.2)
    alone = seen(film("graphene", 2, 90, camera))
    staircase = film("graphene", [1, 3, 4, 5, 6], 90, camera)
    names = name(alone, Asked(profile=Profile(material="graphene", seen=colours(staircase))))
    assert name(alone, Asked("graphene")).probability[0] < 0.8
    assert names.class_names == ("2L",)
    assert names.probability[0] > 0.95


def test_an_image_that_made_its_profile_has_shown_its_flakes_but_once():
    flakes = seen(film("graphene", [1, 2, 4], 90))
    profile = Profile(material="graphene", seen=colours(flakes.contrast))
    np.testing.assert_array_equal(
        name(flakes, Asked(profile=profile)).probability, name(flakes, Asked("graphene")).probability
    )


@pytest.mark.parametrize(("material", "claimed"), [("graphene", "hbn"), ("mos2", "graphene"), ("mose2", "ws2")])
def test_flakes_of_other_images_contradict_a_wrong_material_that_a_lone_one_does_not(material, claimed):
    shown = film(material, [1, 2, 3, 4, 5], 285)
    alone = seen(shown[1])
    assert not name(alone, Asked(claimed, 285.0)).doubted
    names = name(alone, Asked(profile=Profile(material=claimed, oxide_nm=285, seen=colours(shown))))
    assert names.class_names == ("unknown",)
    assert "does not explain the colours" in names.remarks[0]


def test_an_image_of_another_setting_is_named_as_a_stranger():
    staircase = film("graphene", [1, 2, 3, 4, 5, 6], 90)
    same = colours(staircase[::2], "a.png") + colours(staircase[1::2], "b.png")
    strange = colours(film("graphene", [1, 2], 285), "c.png")
    assert objections(Profile(material="graphene", seen=same)) == ()
    (objection,) = objections(Profile(material="graphene", seen=same + strange))
    assert objection.startswith("c.png does not fit the other images.")
    residue = colours([(0.3, -0.2, 0.4)], "c.png")
    assert objections(Profile(material="graphene", seen=same + residue)) == (), "a single region may be anything"
    assert objections(Profile(material="graphene", seen=colours(staircase))) == (), "there is no other image"


def test_a_profile_of_a_wrong_material_is_questioned_and_not_its_images():
    staircase = film("mos2", [1, 2, 3, 4, 5], 285)
    profile = Profile(material="graphene", seen=colours(staircase[:3]) + colours(staircase[3:], "b.png"))
    (objection,) = objections(profile)
    assert re.search(r"graphene on \d+ nm of oxide does not explain the colours .* MoS2", objection)


def test_a_colour_is_picked_once_and_many_are_spread_from_dark_to_bright():
    few = np.array([[-0.1, -0.1, -0.1], [-0.11, -0.1, -0.1], [0.5, 0.5, 0.5]])
    found = picked(["a.png", "b.png", "c.png"], few, np.array([300, 900, 400]))
    assert [(each.image, each.contrast_r) for each in found] == [("b.png", -0.11), ("c.png", 0.5)]
    many = np.linspace(-0.9, 5, 200)[:, np.newaxis].repeat(3, 1)
    kept = np.array([each.contrast_r for each in picked(["a.png"] * 200, many, np.arange(200))])
    assert len(kept) == 40
    assert (kept[0], kept[-1]) == (-0.9, 5)
    assert np.diff(kept).max() < 0.2


def test_heights_that_were_measured_narrow_what_the_colours_of_a_thick_crystal_leave_open():
    camera = Camera(aperture=0.7, centre_nm=(610.0, 535.0, 455.0), gamma=1.6)
    heights_nm = np.array([8.0, 16.0, 24.0, 40.0, 52.0])
    shown = film("hbn", heights_nm / find("hbn").layer_nm, 300.0, camera)
    points = [
        Point(image="a.png", height_nm=nm, contrast_r=red, contrast_g=green, contrast_b=blue)
        for nm, (red, green, blue) in zip(heights_nm, shown, strict=True)
    ]
    profile = Profile(material="hbn", oxide_nm=300.0, points=tuple(points))
    alone = seen(film("hbn", 32 / find("hbn").layer_nm, 300.0, camera))
    told, untold = name(alone, Asked(profile=profile)), name(alone, Asked("hbn", 300.0))
    assert told.thickness_nm[0] == pytest.approx(32, abs=1.5)
    assert told.low_nm[0] <= 32 <= told.high_nm[0]
    assert told.high_nm[0] - told.low_nm[0] < 0.7 * (untold.high_nm[0] - untold.low_nm[0])
    assert all(agrees for _, agrees in named_by_the_others(profile))
    wrong = profile.model_copy(
        update={"points": (*points[:4], points[4].model_copy(update={"height_nm": 20.0}))},
    )
    answer, agrees = named_by_the_others(wrong)[4]
    assert not agrees
    assert re.fullmatch(r"5\d\.\d nm \(.*\)", answer)


def test_a_point_has_layers_or_a_height_and_not_both():
    rest = {"image": "a.png", "contrast_r": 0.1, "contrast_g": 0.1, "contrast_b": 0.1}
    assert Point(layers=3, **rest).known == "3L"
    assert Point(height_nm=24.4, **rest).known == "24.4 nm"
    for known in ({}, {"layers": 3, "height_nm": 1.0}, {"height_nm": 500.0}):
        with pytest.raises(ValidationError):
            Point(**known, **rest)
    with pytest.raises(ValidationError, match="has points or has seen flakes"):
        Profile(material="graphene")


def test_the_material_is_found_where_it_is_not_told():
    names = name(seen(film("graphene", [1, 2, 3, 4, 5], 90)), Asked())
    assert names.material == "graphene"
    assert names.class_names == ("1L", "2L", "3L", "4L", "5L")
    assert "no material was given" in names.remarks[0]


def test_what_its_colour_alone_calls_a_crystal_is_doubted_and_misleads_nobody():
    stairs = film("graphene", [1, 2, 3, 4], 90)
    strange = np.random.default_rng(3).uniform(-0.9, 0.9, (12, 3))
    rows = seen(np.concatenate([stairs, strange]))
    names = name(replace(rows, doubtful=np.arange(16) > 3), Asked("graphene", 90.0))
    assert names.class_names[:4] == ("1L", "2L", "3L", "4L")
    assert names.trust > 0.9
    alone = seen(film("graphene", 2, 90))
    assert (
        name(replace(alone, doubtful=np.array([True])), Asked("graphene", 90.0)).probability[0]
        < (name(alone, Asked("graphene", 90.0)).probability[0])
    )


@pytest.mark.parametrize("asked", [Asked("graphene", 285.0), Asked("mos2", 90.0)])
def test_a_wrong_material_or_oxide_is_said_and_no_number_is_sure(asked):
    names = name(seen(film("graphene", [1, 2, 3, 4, 5, 6], 90)), asked)
    assert names.trust < 0.5
    assert set(names.class_names) == {"unknown"}
    assert np.isnan(names.layers).all()
    assert "does not explain the colours (misfit" in names.remarks[0]
    assert re.search("graphene on [0-9]+ nm of oxide does .* times better", names.remarks[0])


@pytest.mark.parametrize(("material", "claimed"), [("graphene", "hbn"), ("mos2", "graphene"), ("mose2", "ws2")])
def test_a_wrong_material_on_the_right_oxide_is_said_too(material, claimed):
    names = name(seen(film(material, [1, 2, 3, 4, 5], 285)), Asked(claimed, 285.0))
    assert "does not explain the colours" in names.remarks[0]
    assert set(names.class_names) == {"unknown"}
    assert name(seen(film(material, [1, 2, 3, 4, 5], 285)), Asked(material, 285.0)).remarks == ()


def test_a_word_that_the_colours_speak_against_by_thousands_is_believed_and_asked_about():
    shown = seen(film("mose2", [1, 2, 3], 90.0))
    names = name(shown, Asked("wse2", 90.0))
    assert names.doubted
    assert names.trust > 0.9
    assert names.class_names == ("1L", "2L", "3L")
    assert re.match(r"read as WSe2 on 90 nm of oxide, as you say .* MoSe2 on 9\d nm .* times better", names.remarks[0])
    told = name(shown, Asked("mose2", 90.0))
    assert not told.doubted
    assert told.remarks == ()


def test_a_colour_that_no_film_has_is_unknown_and_spoils_no_other():
    names = name(seen([*film("graphene", [1, 2, 3], 90), (0.5, -0.6, 0.5)]), Asked("graphene", 90.0))
    assert names.class_names == ("1L", "2L", "3L", "unknown")
    assert names.misfit[3] > 5
    assert np.isnan(names.thickness_nm[3])


def test_a_thick_crystal_is_thick_and_its_height_lies_in_the_interval():
    names = name(seen(film("graphene", [1, 2, 3, 60], 90)), Asked("graphene", 90.0))
    assert names.class_names[3] == "thick"
    assert np.isnan(names.layers[3])
    assert names.low_nm[3] <= 60 * 0.335 <= names.high_nm[3]
    assert names.thickness_nm[3] == pytest.approx(60 * 0.335, rel=0.2)
    assert names.thickness_nm[0] == pytest.approx(0.335)


def test_a_thick_film_of_glue_is_residue():
    media = [refractive_index(part, WAVELENGTHS_NM) for part in ("residue", "oxide", "silicon")]
    heights = np.array([0.0, 80.0])[:, np.newaxis]
    weights = channel_weights(np.array(CAMERA.centre_nm), CAMERA.width_nm)
    light = cone_reflectance(media, (heights, np.array(285.0)), WAVELENGTHS_NM, CAMERA.aperture) @ weights.T
    glue = recorded(light[1:] / light[0], np.eye(3), 0.0, 1.0)
    names = name(seen([*film("graphene", [1, 2, 3, 4], 285), *glue]), Asked("graphene", 285.0))
    assert names.class_names == ("1L", "2L", "3L", "4L", "residue")


def test_a_saturated_channel_does_not_count():
    rows = film("graphene", [1, 2, 3, 4], 90)
    rows[3, 2] = 0.9
    usable = np.ones((4, 3), bool)
    usable[3, 2] = False
    given = Seen(rows, usable, np.zeros((0, 3)), np.full(3, 0.007))
    assert name(given, Asked("graphene", 90.0)).class_names == ("1L", "2L", "3L", "4L")


def test_the_same_contrasts_get_the_same_answer():
    given = seen(film("hbn", [3, 6, 12], 285))
    first, again = (name(given, Asked("hbn", 285.0)) for _ in range(2))
    assert first.class_names == again.class_names
    np.testing.assert_array_equal(first.probability, again.probability)


def test_what_the_image_shows_elsewhere_helps():
    alone = seen(film("graphene", 1, 90))
    helped = seen(film("graphene", 1, 90), context=film("graphene", [5, 8, 25, 50], 90))
    assert name(helped, Asked("graphene", 90.0)).probability[0] > name(alone, Asked("graphene", 90.0)).probability[0]


def test_a_profile_survives_its_file_and_a_broken_one_is_refused(tmp_path):
    point = Point(image="a.png", layers=1, contrast_r=-0.13, contrast_g=-0.14, contrast_b=-0.09)
    profile = Profile(material="graphene", oxide_nm=90.0, points=(point,))
    profile.save(tmp_path / "lab.yaml")
    assert Profile.load(tmp_path / "lab.yaml") == profile
    (tmp_path / "other.yaml").write_text("material: cheese\n", encoding="utf-8")
    for broken in ("other.yaml", "missing.yaml"):
        with pytest.raises(BadSetting, match="not a microscope profile"):
            Profile.load(tmp_path / broken)
