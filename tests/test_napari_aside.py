import os
import shlex
import subprocess
import sys
import tempfile
import time
from types import SimpleNamespace

import numpy as np
import pytest
from small_bundles import make_bundle

from micro import bundle
from micro.cli.predict import _recipe
from micro.engine import Engine
from micro.errors import MicroError
from micro.grain_size import Field
from micro.micrograph import Micrograph
from micro.recipe import Recipe
from micro.scenes import grains
from micro.thin_film import Point, Profile
from micro_napari.aside import GLIMPSE_PX, Aside, Question, Specimen
from micro_napari.commands import Ended, predict_line, run_steps, stand_behind


@pytest.fixture(scope="module")
def aside():
    process = Aside()
    yield process
    process.close()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("bundles") / "small").folder


@pytest.fixture(scope="module")
def image():
    return grains.draw(1, 256, 320).image


def finished(steps):
    seen = []
    while True:
        try:
            seen.append(next(steps))
        except StopIteration as stop:
            return seen, stop.value


def test_an_answer_from_aside_is_the_engines_bit_for_bit(aside, model, image):
    recipe = Recipe(model=str(model), pixel_size_um=0.5)
    _, answer = finished(aside.predict_steps(Question(recipe, image)))
    expected = Engine(bundle.load(model), recipe).predict(image)
    assert np.array_equal(answer.regions.labels, expected.regions.labels)
    assert answer.regions.class_names == expected.regions.class_names
    assert np.array_equal(answer.regions.scores, expected.regions.scores)
    assert answer.table.keys() == expected.table.keys()
    for name, values in expected.table.items():
        assert np.array_equal(answer.table[name], values), name
    assert answer.pixel_size_source == expected.pixel_size_source


def test_each_tile_is_shown_where_it_lies(aside, model, image):
    steps, _ = finished(aside.predict_steps(Question(Recipe(model=str(model)), image, tile_px=256)))
    glimpses = [glimpse for step in steps for glimpse in step.glimpses]
    seen = np.zeros((256, 320), int)
    for glimpse in glimpses:
        height, width = glimpse.chance.shape
        seen[glimpse.top_px : glimpse.top_px + height, glimpse.left_px : glimpse.left_px + width] += 1
    assert len(glimpses) > 1
    assert (seen == 1).all()
    assert max(step.total for step in steps) == len(glimpses)


def test_of_a_large_image_a_coarser_grid_is_shown_without_gaps(aside, model):
    wide = Micrograph(np.zeros((64, 2 * GLIMPSE_PX + 5), np.uint8))
    steps, _ = finished(aside.predict_steps(Question(Recipe(model=str(model)), wide, tile_px=512)))
    glimpses = [glimpse for step in steps for glimpse in step.glimpses]
    height, width = glimpses[0].shape_px
    seen = np.zeros((height, width), int)
    for glimpse in glimpses:
        rows = slice(glimpse.top_px, glimpse.top_px + glimpse.chance.shape[0])
        seen[rows, glimpse.left_px : glimpse.left_px + glimpse.chance.shape[1]] += 1
    assert width <= GLIMPSE_PX
    assert (seen == 1).all()


def test_closing_stops_it_soon_and_the_next_question_is_answered(aside, model, image):
    large = Micrograph(np.tile(image.pixels, (8, 8, 1)))
    steps = aside.predict_steps(Question(Recipe(model=str(model)), large, tile_px=256))
    while not next(steps).done:
        pass
    began = time.monotonic()
    steps.close()
    assert time.monotonic() - began < 2
    _, answer = finished(aside.predict_steps(Question(Recipe(model=str(model)), image)))
    assert answer.regions.labels.shape == (256, 320)


def test_a_process_that_is_closed_leaves_nobody_waiting():
    mine = Aside()

    def begun():
        steps = mine.assess_steps(Specimen(()))
        next(steps)
        next(steps)
        process = mine._process.popen
        mine.close()
        assert process.poll() is not None
        return steps

    begun().close()
    with pytest.raises(MicroError, match="process ended"):
        finished(begun())
    assert mine._process is None


def test_a_process_that_is_closed_while_its_last_words_are_read_has_none():
    errors = tempfile.TemporaryFile()  # noqa: SIM115 -- it is closed below, as by another thread
    popen = SimpleNamespace(kill=lambda: None, wait=errors.close)
    assert Aside()._last_words(SimpleNamespace(popen=popen, errors=errors)) == ""


def test_a_refusal_has_the_engines_sentence(aside, image):
    with pytest.raises(MicroError, match="No bundle 'absent'"):
        finished(aside.predict_steps(Question(Recipe(model="absent"), image)))


def test_a_profile_that_was_saved_anew_is_read_anew(aside, tmp_path):
    blank = Micrograph(np.full((96, 96, 3), 120, np.uint8))
    path = tmp_path / "microscope.yaml"
    point = Point(image="chip.tif", layers=1, contrast_r=-0.13, contrast_g=-0.13, contrast_b=-0.09)
    recipe = Recipe(model="flakes-thin", settings={"material": "graphene", "profile": str(path)})
    Profile(material="graphene", points=(point,)).save(path)
    _, answer = finished(aside.predict_steps(Question(recipe, blank)))
    assert len(answer.regions) == 0
    Profile(material="hbn", points=(point,)).save(path)
    with pytest.raises(MicroError, match="is of material hbn"):
        finished(aside.predict_steps(Question(recipe, blank)))


def test_a_process_that_dies_is_reported_and_replaced(aside, model, image):
    steps = aside.predict_steps(Question(Recipe(model=str(model)), Micrograph(np.tile(image.pixels, (8, 8, 1)))))
    while not next(steps).note.startswith("preparing"):
        pass
    aside._process.popen.kill()
    with pytest.raises(MicroError, match="ended"):
        finished(steps)
    assert finished(aside.predict_steps(Question(Recipe(model=str(model)), image)))[1].regions is not None


def test_the_grain_size_page_is_that_of_the_assessment(aside):
    labels = grains.draw(1, 128, 128).labels.astype(np.int32)
    _, page = finished(aside.assess_steps(Specimen((Field(labels, 0.5, "a.tif"),))))
    assert "Saltikov" in page
    with pytest.raises(MicroError, match="no pixel size"):
        finished(aside.assess_steps(Specimen((Field(labels, None, "a.tif"),))))


def test_a_command_is_heard_line_by_line_and_ends_with_its_code(tmp_path):
    heard, ended = finished(run_steps(["predict", "gone.png", "--model", "grains-iron", "--out", str(tmp_path / "o")]))
    assert isinstance(ended, Ended)
    assert ended.code == 2
    assert "gone.png" in ended.words
    assert any("gone.png" in each.words for each in heard)


def test_a_command_that_nobody_listens_to_any_more_is_interrupted():
    steps = run_steps(["check", "grains-iron"])
    next(steps)
    began = time.monotonic()
    steps.close()
    assert time.monotonic() - began < 20


def test_the_command_line_says_all_that_the_recipe_does():
    recipe = Recipe(
        model="a b", pixel_size_um=0.1 + 0.2, settings={"min_area_px": 30, "scale": "auto"}, review_below=0.9
    )
    words = shlex.split(predict_line(["my image.tif"], recipe, "cpu", "out"))
    assert words[:3] == ["micro", "predict", "my image.tif"]
    assert float(words[words.index("--pixel-size-um") + 1]) == 0.1 + 0.2
    flags = [words[index + 1] for index, word in enumerate(words) if word == "--set"]
    assert _recipe(None, "a b", 0.1 + 0.2, tuple(flags), 0.9) == recipe
    assert words[-2:] == ["--device", "cpu"]


@pytest.mark.skipif(not hasattr(os, "getpriority"), reason="this system knows no niceness")
def test_the_window_goes_first_where_cores_are_few():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        stand_behind(process)
        assert os.getpriority(os.PRIO_PROCESS, process.pid) > os.getpriority(os.PRIO_PROCESS, 0)
        process.kill()
    stand_behind(process)  # one that has ended disturbs nobody
