"""A pixel size that is given by hand: every verb whose bundle needs one takes it."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from small_bundles import SMALL_CLASSIFIER, make_bundle

from micro import cli
from micro.engine import Engine
from micro.line.reading import Look, Reader
from micro.line.sources import Source


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Frames of which no file says a pixel size, a folder a class, and a bundle that needs one."""
    root = tmp_path_factory.mktemp("scale")
    random = np.random.default_rng(0)
    for number in range(6):
        path = root / "frames" / SMALL_CLASSIFIER.outputs[number % 3] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), random.integers(0, 255, (96, 96), np.uint8))
    make_bundle(root / "needs-scale", SMALL_CLASSIFIER, "defects", pixel_size_um=2.0)
    return root


VERBS = {
    "explain": ("explain", "FRAMES", "--model", "BUNDLE", "--out", "OUT"),
    "suggest": ("suggest", "FRAMES", "--model", "BUNDLE", "--out", "OUT"),
    "score": ("score", "FRAMES", "--model", "BUNDLE"),
    "reference": ("models", "reference", "BUNDLE", "FRAMES"),
    "export": ("models", "export", "BUNDLE", "FRAMES", "--to", "torchscript", "--out", "OUT"),
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_whose_bundle_needs_a_scale_takes_one_by_hand(place, verb, tmp_path, capsys):
    places = {"FRAMES": place / "frames", "BUNDLE": place / "needs-scale", "OUT": tmp_path / "out"}
    command = [str(places.get(word, word)) for word in VERBS[verb]]
    assert cli.run(command) == 2
    assert "--pixel-size-um" in capsys.readouterr().err
    assert cli.run([*command, "--scale-bar", "100px=100um"]) == 0, capsys.readouterr().err
    assert cli.run([*command, "--scale-bar", "100px=100um", "--pixel-size-um", "1"]) == 2
    assert "say the same thing" in capsys.readouterr().err


def test_the_size_that_is_given_is_that_of_every_image(place):
    first = next((place / "frames").rglob("*.png"))
    image = Reader(0, 1.5).read(Look(Source(first.name, str(first))))
    assert (image.pixel_size_um, image.pixel_size_source) == (1.5, "given by the user")
    engine = Engine.load(str(place / "needs-scale"), "cpu", 4.0)
    assert engine.predict(replace(image, pixel_size_um=None)).pixel_size_um == 4.0
