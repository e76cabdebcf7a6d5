"""Classifiers whose reasons are known by construction, and what is shown of them."""

import cv2
import numpy as np
import pytest
import torch
from small_bundles import SMALL_CLASSIFIER, SMALL_UNET, make_bundle
from torch import nn

from micro import cli, networks
from micro.engine.explain import Explainer
from micro.errors import BadSetting
from micro.micrograph import Micrograph


class Bright(nn.Module):
    """Says "crack" for bright places, "scratch" for dark ones, "clean" for nothing at all."""

    def __init__(self, edge_px, padding_px):
        super().__init__()
        signs = nn.Conv2d(1, 2, edge_px, stride=8, padding=padding_px, bias=False)
        signs.weight.data = torch.stack([torch.ones(1, edge_px, edge_px), -torch.ones(1, edge_px, edge_px)])
        self.features = nn.Sequential(signs, nn.ReLU(inplace=True))
        self.last = nn.Linear(2, 3)
        self.last.weight.data = torch.tensor([[0.0, 0], [1, 0], [0, 1]])
        self.last.bias.data = torch.tensor([0.1, 0, 0])

    def forward(self, frames):
        return self.last(self.features(frames).mean((2, 3)))


@pytest.fixture(params=[(8, 0), (9, 4)], ids=["cells beside each other", "cells centred on every eighth pixel"])
def bright(request, tmp_path, monkeypatch):
    monkeypatch.setattr(networks, "build", lambda _spec: Bright(*request.param))
    return make_bundle(tmp_path / "bright", SMALL_CLASSIFIER, task="defects")


@pytest.fixture
def marked():
    """A grey frame with a bright mark at its upper left and a weaker dark one at its lower right."""
    pixels = np.full((128, 128, 1), 100, np.uint8)
    pixels[16:32, 32:48], pixels[72:88, 80:96] = 220, 40
    return Micrograph(pixels, "marked.png")


def test_the_heat_lies_on_what_the_class_was_computed_from(bright, marked):
    explainer = Explainer(bright, "cpu")
    for name, rows, columns in (("crack", slice(16, 32), slice(32, 48)), ("scratch", slice(72, 88), slice(80, 96))):
        said = explainer.explain(marked, name)
        assert said.class_name == name
        assert said.heat.shape == (128, 128)
        assert (said.heat.min(), said.heat.max()) == (0, 1)
        assert said.heat[rows, columns].min() > 0.25, "cells are 8 px wide, and fade into their neighbours"
        assert said.heat[rows, columns].mean() > 0.55
        places = [(places * said.heat).sum() / said.heat.sum() for places in np.mgrid[:128, :128]]
        assert places == pytest.approx([rows.start + 7.5, columns.start + 7.5], abs=1), "half a cell is 4 px or 8"
        far = np.ones((128, 128), bool)
        far[max(0, rows.start - 20) : rows.stop + 20, max(0, columns.start - 20) : columns.stop + 20] = False
        assert said.heat[far].max() < 0.05, "next to nothing elsewhere"
    assert explainer.explain(marked).class_name == "crack", "the likeliest class speaks if none is named"
    assert explainer.explain(marked, "clean").heat.max() == 0, "a class that nothing speaks for has no heat"


def test_the_answer_is_that_of_the_engine(tmp_path, marked):
    explainer = Explainer(make_bundle(tmp_path / "b", SMALL_CLASSIFIER, task="defects"), "cpu")
    said = explainer.explain(marked)
    assert said.prediction.class_scores == explainer.engine.predict(marked).class_scores
    assert said.heat.max() <= 1


def test_what_cannot_be_explained_is_refused(bright, marked, tmp_path):
    with pytest.raises(BadSetting, match="clean, crack, scratch"):
        Explainer(bright, "cpu").explain(marked, "rust")
    with pytest.raises(BadSetting, match=r"labels/"):
        Explainer(make_unet(tmp_path), "cpu")


def make_unet(folder):
    """A segmenter's bundle; its weights are never read."""
    made = make_bundle(folder / "u", SMALL_CLASSIFIER, task="defects")
    return type(made)(made.folder, made.card.model_copy(update={"classifier": None, "segmenter": SMALL_UNET}))


def test_each_frame_gets_a_picture_beside_its_heat(bright, marked, tmp_path, capsys):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    assert cv2.imwrite(str(tmp_path / "in" / "deep" / "a.png"), marked.pixels)
    (tmp_path / "in" / "b.png").write_bytes(b"no image")
    asked = ["explain", str(tmp_path / "in"), "--model", str(bright.folder), "--out", str(tmp_path / "out")]
    assert cli.run([*asked, "--device", "cpu"]) == 1
    said = capsys.readouterr()
    assert "deep/a.png: crack" in said.out
    assert "b.png" in said.err
    picture = cv2.imread(str(tmp_path / "out" / "deep" / "a.png"))
    assert picture.shape == (512, 1024, 3)
    frame, over = picture[:, :512].astype(int), picture[:, 512:].astype(int)
    change = np.abs(over - frame).sum(axis=2)
    assert change[4 * 24, 4 * 40] > 60
    assert change[4 * 104, 4 * 20] == 0


def test_a_picture_takes_the_place_of_no_image_and_of_no_other_picture(bright, marked, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    for name in ("a.png", "a.bmp", "b.bmp"):
        assert cv2.imwrite(str(tmp_path / "in" / name), marked.pixels)
    before = (tmp_path / "in" / "a.png").read_bytes()
    asked = ["explain", str(tmp_path / "in"), "--model", str(bright.folder), "--device", "cpu", "--out"]
    assert cli.run([*asked, str(tmp_path / "out")]) == 0
    made = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert made == ["a.bmp.png", "a.png.png", "b.png"]
    (tmp_path / "in" / "a.bmp").unlink()
    assert cli.run([*asked, str(tmp_path / "in")]) == 2
    assert "a.png: is one of the images" in capsys.readouterr().err
    assert (tmp_path / "in" / "a.png").read_bytes() == before
    assert not (tmp_path / "in" / "b.png").exists()
