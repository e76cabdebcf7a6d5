import csv

import cv2
import numpy as np
import pytest
from small_bundles import SMALL_CLASSIFIER, SMALL_UNET, make_bundle

from micro import cli
from micro.engine import Engine
from micro.micrograph import Micrograph
from micro.suggestion import Look, doubt, look, ranked


def looks(*points):
    """Images "a", "b", ... with a doubt and two features each."""
    return [Look(chr(97 + number), each[0], np.array(each[1:], float)) for number, each in enumerate(points)]


def order(found):
    return "".join(each.image for each in found)


def test_the_next_image_is_doubtful_and_unlike_those_before_it():
    found = ranked(looks((0.9, 0, 0), (0.8, 0, 0.1), (0.3, 5, 5), (0.0, -9, 9)), [])
    assert order(found) == "acbd", "b is as doubtful as a and shows the same; d is not doubted at all"
    assert found[0].novelty is None
    assert found[1].novelty > found[2].novelty


def test_what_is_annotated_is_not_asked_for_again():
    points = looks((0.9, 0, 0), (0.5, 5, 5))
    assert order(ranked(points, [])) == "ab"
    assert order(ranked(points, [np.array([0.0, 0.1])])) == "ba"


def test_features_count_alike_whatever_their_scale():
    points = looks((0.5, 0, 0), (0.5, 1000, 0), (0.5, 0, 0.001))
    assert order(ranked(points, [np.array([500, 0.0])])) == order(ranked(points, [np.array([500, 0.0])]))
    far = {each.image: each.novelty for each in ranked(points, [np.zeros(2)])}
    assert far["b"] == pytest.approx(far["c"], rel=0.2)


def test_regions_are_doubted_where_answers_contradict_each_other_and_frames_where_their_mean_is_unsure():
    half, yes, no = (np.full((2, 4, 4), value, np.uint8) for value in (127, 255, 0))
    assert doubt([half] * 4) == pytest.approx(0, abs=1e-4), "an edge that is uncertain by nature"
    assert doubt([yes] * 4) == doubt([no] * 4) == 0
    assert doubt([yes, no, yes, no]) == pytest.approx(1)
    frame = half[:, :1, :1]
    assert doubt([frame] * 4) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(("spec", "task"), [(SMALL_UNET, "grains"), (SMALL_CLASSIFIER, "defects")])
def test_a_mirrored_image_is_doubted_alike_and_has_its_own_features(tmp_path, spec, task):
    engine = Engine(make_bundle(tmp_path / "b", spec, task=task), device="cpu")
    pixels = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8), (0, 0), 2)
    one, mirrored = (look(engine, Micrograph(np.ascontiguousarray(each))) for each in (pixels, pixels[:, ::-1]))
    assert one.doubt == pytest.approx(mirrored.doubt, abs=1e-6)
    assert one.doubt > 0
    assert one.features.shape == mirrored.features.shape
    assert not np.array_equal(one.features, mirrored.features)
    assert np.array_equal(one.features, look(engine, Micrograph(pixels)).features)


def test_features_of_a_large_image_are_the_mean_over_its_tiles(tmp_path):
    made = make_bundle(tmp_path / "b")
    pixels = np.tile(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8), (8, 8))
    whole, tiled = (look(Engine(made, device="cpu", tile_px=edge), Micrograph(pixels)) for edge in (512, 256))
    assert np.allclose(whole.features, tiled.features, rtol=0.05, atol=0.02 * np.abs(whole.features).max())


def test_the_verb_ranks_a_folder_and_leaves_out_what_is_annotated(tmp_path, capsys):
    bundle = make_bundle(tmp_path / "b", SMALL_CLASSIFIER, task="defects")
    for place, count in (("new", 4), ("old/images", 2)):
        (tmp_path / place).mkdir(parents=True)
        for number in range(count):
            pixels = np.random.default_rng(number).integers(0, 256, (64, 64), np.uint8)
            assert cv2.imwrite(str(tmp_path / place / f"{number}.png"), pixels)
    (tmp_path / "new" / "torn.png").write_bytes(b"")
    command = ["suggest", str(tmp_path / "new"), "--model", str(bundle.folder), "--out", str(tmp_path / "s.csv")]
    assert cli.run([*command, "--known", str(tmp_path / "old")]) == 1, "one image could not be read"
    said = capsys.readouterr()
    assert "2 are annotated already" in said.out
    assert "torn.png" in said.err
    rows = list(csv.DictReader((tmp_path / "s.csv").read_text().splitlines()))
    assert [row["rank"] for row in rows] == ["1", "2"]
    assert sorted(row["image"] for row in rows) == ["2.png", "3.png"]
    first = (tmp_path / "s.csv").read_bytes()
    assert cli.run([*command, "--known", str(tmp_path / "old")]) == 1
    assert (tmp_path / "s.csv").read_bytes() == first


def test_a_list_goes_into_a_folder_that_is_made_and_a_place_for_none_is_refused_before_the_work(tmp_path, capsys):
    bundle = make_bundle(tmp_path / "b", SMALL_CLASSIFIER, task="defects")
    assert cv2.imwrite(str(tmp_path / "a.png"), np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8))
    command = ["suggest", str(tmp_path / "a.png"), "--model", str(bundle.folder), "--out"]
    assert cli.run([*command, str(tmp_path / "made" / "next.csv")]) == 0
    capsys.readouterr()
    assert cli.run([*command, str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"{tmp_path}: is a folder. Name a file in it.\n"
