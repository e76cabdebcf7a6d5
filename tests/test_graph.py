import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from small_bundles import SMALL_CLASSIFIER, make_bundle
from toy_line import drained

from micro import bundle, cli, export
from micro.engine import Engine
from micro.errors import BadSetting, BrokenBundle
from micro.micrograph import Item, Micrograph
from micro.networks.graph import Graph


@pytest.fixture
def steel(tmp_path):
    """A copy of a bundle that came with a graph."""
    shutil.copytree(bundle.load("sheet-steel").folder, tmp_path / "steel")
    return bundle.load(tmp_path / "steel")


def frames(count):
    chance = np.random.default_rng(3)
    return [Micrograph(chance.integers(0, 256, (128, 128), np.uint8), f"{number}") for number in range(count)]


def scores(predictions):
    return np.array([list(each.class_scores.values()) for each in predictions])


def plain(steel):
    """The same weights without their graph."""
    (steel.folder / bundle.GRAPH).unlink()
    return bundle.save(steel.folder, steel.card.model_copy(update={"graph_sha256": None}), steel.weights())


def test_a_graph_answers_as_the_network_does_and_the_same_to_the_last_bit_in_any_batch(steel):
    engine = Engine(steel, device="cpu")
    images = frames(40)
    alone = scores(engine.predict(image) for image in images)
    together = scores(engine.stream(Item(image.name, lambda image=image: image) for image in images))
    assert np.array_equal(alone, together)
    own = engine.network("classifier")
    assert not isinstance(own, Graph)
    with torch.inference_mode():
        batch = torch.cat([engine.frame(image) for image in images])
        difference = own(batch).softmax(1) - Graph(steel.graph())(batch).softmax(1)
    assert 0 < difference.abs().max() < 1e-5


def test_an_engine_with_a_graph_goes_to_another_process(steel):
    engine = Engine(steel, device="cpu")
    (image,) = frames(1)
    assert pickle.loads(pickle.dumps(engine)).predict(image).class_scores == engine.predict(image).class_scores


def test_a_graph_that_was_changed_or_is_gone_is_refused(steel):
    path = steel.folder / bundle.GRAPH
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(BrokenBundle, match=r"classifier\.onnx: SHA-256 is"):
        Engine(steel, device="cpu")
    path.unlink()
    with pytest.raises(BrokenBundle, match="missing"):
        Engine(steel, device="cpu")


def test_compiling_keeps_a_graph_that_answers_alike_and_says_how_alike(steel, monkeypatch, capsys):
    graph = steel.graph()
    made = plain(steel)
    assert made.graph() is None
    monkeypatch.setattr(export.graph, "write", lambda _network, _spec, path, _answer: Path(path).write_bytes(graph))
    assert cli.run(["models", "compile", str(made.folder), "--views", "3"]) == 0
    assert "3 images, 3 decided alike" in capsys.readouterr().out
    assert bundle.load(made.folder).graph() == graph
    assert bundle.load(made.folder).card.weights_sha256 == made.card.weights_sha256


def test_compiling_keeps_no_graph_that_answers_otherwise(steel, monkeypatch):
    graph = steel.graph()
    weights = {name: value * 2 if value.ndim == 2 else value for name, value in steel.weights().items()}
    made = bundle.save(steel.folder, steel.card.model_copy(update={"graph_sha256": None}), weights)
    monkeypatch.setattr(export.graph, "write", lambda _network, _spec, path, _answer: Path(path).write_bytes(graph))
    with pytest.raises(BrokenBundle, match="is not kept"):
        drained(export.compile_steps(made, frames(3)))
    assert json.loads((made.folder / bundle.CARD).read_text())["graph_sha256"] is None


def test_a_bundle_without_a_classifier_has_nothing_to_compile(tmp_path):
    with pytest.raises(BadSetting, match="small has no classifier"):
        drained(export.compile_steps(make_bundle(tmp_path / "small"), frames(1)))


@pytest.mark.slow
def test_a_classifier_is_written_as_a_graph(tmp_path):
    made = make_bundle(tmp_path / "small", SMALL_CLASSIFIER, "defects", temperature=1.7)
    parity = drained(export.compile_steps(made, frames(3)))
    assert parity.holds
    assert parity.other_probability < 1e-5
    compiled = bundle.load(made.folder)
    assert np.allclose(
        scores(Engine(compiled, device="cpu").predict(image) for image in frames(3)),
        scores(Engine(made, device="cpu").predict(image) for image in frames(3)),
        atol=1e-5,
    )


def test_nothing_is_compiled_that_is_compared_on_no_image(steel):
    made = plain(steel)
    with pytest.raises(BadSetting, match="no image to compare on"):
        drained(export.compile_steps(made, []))
    assert bundle.load(made.folder).graph() is None
