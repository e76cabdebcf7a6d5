import json
import zipfile

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from small_bundles import SMALL_CLASSIFIER, make_bundle
from torch import nn

from micro import bundle, cli, export, installing, trial
from micro.engine import Engine
from micro.errors import BrokenBundle
from micro.formats.bioimageio import Tried, write_model
from micro.micrograph import Micrograph

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")


def picture(seed=0, shape=(150, 130)):
    return Micrograph(np.random.default_rng(seed).integers(0, 256, shape, np.uint8), f"picture {seed}")


def finish(steps):
    notes = []
    while True:
        try:
            notes.append(next(steps).note)
        except StopIteration as stop:
            return notes, stop.value


def test_a_segmenter_leaves_as_torchscript_and_decides_alike_at_any_size(tmp_path):
    made = make_bundle(tmp_path / "small")
    notes, parity = finish(export.export_steps(made, "torchscript", tmp_path / "out", export.views([picture()], 3)))
    assert notes[0] == "segmenter.pt written"
    assert parity.holds
    assert parity.images == 3
    assert parity.other_probability < 1e-5
    assert json.loads((tmp_path / "out" / export.PARITY).read_text())["weights_sha256"] == made.card.weights_sha256
    assert torch.jit.load(str(tmp_path / "out" / "segmenter.pt"))(torch.zeros(1, 1, 24, 40)).shape == (1, 2, 24, 40)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["segmenter", "classifier"])
def test_networks_leave_as_onnx_and_decide_alike(tmp_path, kind):
    made = make_bundle(tmp_path / "small")
    if kind == "classifier":
        made = make_bundle(tmp_path / "small", SMALL_CLASSIFIER, "defects", temperature=1.7)
    _, parity = finish(export.export_steps(made, "onnx", tmp_path / "out", export.views([picture()], 3)))
    assert parity.holds


def test_a_classifier_leaves_with_its_temperature(tmp_path):
    made = make_bundle(tmp_path / "small", SMALL_CLASSIFIER, "defects", temperature=2.5)
    _, parity = finish(
        export.export_steps(made, "torchscript", tmp_path / "out", [picture(n, (64, 64)) for n in range(2)])
    )
    assert parity.holds
    loaded = torch.jit.load(str(tmp_path / "out" / "classifier.pt"))
    assert float(loaded(torch.zeros(1, 1, 64, 64)).sum()) == pytest.approx(1)


def test_an_export_that_answers_otherwise_is_refused(tmp_path, monkeypatch):
    made = make_bundle(tmp_path / "small", SMALL_CLASSIFIER, "defects")
    always_scratch = torch.tensor([[0.0, 0.0, 1.0]])
    monkeypatch.setattr(export, "_torchscript", lambda *_: lambda pixels: always_scratch.repeat(len(pixels), 1))
    with pytest.raises(BrokenBundle, match="does not decide as small does"):
        finish(export.export_steps(made, "torchscript", tmp_path / "out", [picture(0, (64, 64))]))
    found = json.loads((tmp_path / "out" / export.PARITY).read_text())
    assert found["other_decisions"] == ["picture 0"]
    assert found["other_probability"] > 1e-3


def test_views_are_parts_of_the_image_and_the_same_each_time():
    one, two = (export.views([picture()], 5) for _ in range(2))
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(one, two, strict=True))
    assert len({view.pixels.shape for view in one}) > 1


@pytest.mark.parametrize(("asked", "images"), [([], 2), (["--views", "3"], 3), (["--views", "1"], 1)])
def test_an_export_is_compared_on_the_images_that_are_named_or_on_parts_of_them(tmp_path, asked, images):
    made = make_bundle(tmp_path / "small", SMALL_CLASSIFIER, "defects")
    (tmp_path / "images").mkdir()
    for number in range(2):
        Image.fromarray(picture(number, (64, 64)).pixels[..., 0]).save(tmp_path / "images" / f"{number}.png")
    to = ["--to", "torchscript", "--out", str(tmp_path / "out")]
    assert cli.run(["models", "export", str(made.folder), str(tmp_path / "images"), *to, *asked]) == 0
    assert json.loads((tmp_path / "out" / export.PARITY).read_text())["images"] == images


def test_an_engine_answers_with_the_network_that_it_is_given(tmp_path):
    engine = Engine(make_bundle(tmp_path / "small", SMALL_CLASSIFIER, "defects"), device="cpu")

    class Sure(nn.Module):
        def forward(self, frames):
            return torch.tensor([[0.0, 50.0, 0.0]]).repeat(len(frames), 1)

    engine.take_network("classifier", Sure())
    assert engine.predict(picture(0, (64, 64))).class_scores["crack"] == pytest.approx(1)


# --- bundles come in --------------------------------------------------------------------------------------------------


@pytest.fixture
def proved(tmp_path, monkeypatch):
    """A bundle that proves itself, and an empty place for installed ones."""
    monkeypatch.setenv("MICRO_BUNDLES", str(tmp_path / "installed"))
    made = make_bundle(tmp_path / "small-one", SMALL_CLASSIFIER, "defects")
    trial.keep_proof(made.folder, picture(0, (64, 64)), Engine(made, device="cpu").predict(picture(0, (64, 64))))
    return made


def zipped(folder, path, prefix="small-one/"):
    with zipfile.ZipFile(path, "w") as archive:
        for file in folder.iterdir():
            archive.write(file, prefix + file.name)
    return path


@pytest.mark.parametrize("form", ["folder", "zip", "url"])
def test_a_bundle_that_proves_itself_is_installed(proved, tmp_path, form):
    path = zipped(proved.folder, tmp_path / "b.zip")
    source = {"folder": str(proved.folder), "zip": str(path), "url": path.as_uri()}[form]
    found = installing.add(source)
    assert found.bundle.folder == tmp_path / "installed" / "small-one"
    assert bundle.load("small-one").card == proved.card
    with pytest.raises(BrokenBundle, match="is installed in"):
        installing.add(source)


def test_a_zip_with_a_damaged_member_is_refused(tmp_path):
    source = tmp_path / "b.zip"
    with zipfile.ZipFile(source, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("b/card.json", "{}" * 200)
    data = bytearray(source.read_bytes())
    start = 30 + len("b/card.json")  # of the packed bytes, after the header of the member
    data[start : start + 4] = b"\xff" * 4
    source.write_bytes(bytes(data))
    with pytest.raises(BrokenBundle, match="not a zip that can be unpacked"):
        installing.add(str(source))


@pytest.mark.parametrize("spoil", ["weights", "sample", "outside", "no card", "no zip", "missing"])
def test_a_bundle_that_does_not_prove_itself_is_not_installed(proved, tmp_path, spoil):
    source = tmp_path / "b.zip"
    if spoil == "weights":
        (proved.folder / bundle.WEIGHTS).write_bytes(b"x")
    if spoil == "sample":
        answer = {"class_scores": {"clean": 0.9, "crack": 0.1, "scratch": 0.0}}
        (proved.folder / trial.EXPECTED_SCORES).write_text(json.dumps(answer))
    if spoil == "no card":
        (proved.folder / bundle.CARD).unlink()
    if spoil != "missing":
        zipped(proved.folder, source)
    if spoil == "outside":
        with zipfile.ZipFile(source, "a") as archive:
            archive.writestr("../../escaped.txt", "x")
    if spoil == "no zip":
        source.write_bytes(b"PK nothing")
    with pytest.raises(BrokenBundle):
        installing.add(str(source))
    assert not (tmp_path / "installed").exists() or not list((tmp_path / "installed").iterdir())
    assert not list(tmp_path.rglob("escaped.txt"))


@pytest.mark.parametrize("kind", ["segmenter", "classifier"])
def test_a_model_for_the_zoo_is_valid_answers_its_own_test_and_needs_no_network(tmp_path, kind, monkeypatch):
    pytest.importorskip("bioimageio.spec")
    made = make_bundle(tmp_path / "small", limits=("It has learned nothing.",))
    if kind == "classifier":
        made = make_bundle(tmp_path / "small", SMALL_CLASSIFIER, "defects", temperature=1.7)
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("it asked the network"))
    finish(export.export_steps(made, "bioimageio", tmp_path / "out", export.views([picture()], 2)))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted((f"{kind}.zip", export.PARITY))
    with zipfile.ZipFile(tmp_path / "out" / f"{kind}.zip") as model:
        model.extractall(tmp_path / "model")
    network = torch.jit.load(str(tmp_path / "model" / f"{kind}.pt"))
    pixels, expected = (np.load(tmp_path / "model" / f"{name}.npy") for name in ("pixels", "probabilities"))
    assert np.allclose(network(torch.from_numpy(pixels)).numpy(), expected, atol=1e-5)
    assert made.card.summary in (tmp_path / "model" / "README.md").read_text()
    (path,) = (tmp_path / "model").glob("*.yaml")
    described = yaml.safe_load(path.read_text(encoding="utf-8"))
    (axes,) = (each["axes"] for each in described["inputs"])
    assert axes[2]["size"] == ({"min": 8, "step": 8} if kind == "segmenter" else 64)


def test_a_model_whose_test_does_not_fit_is_refused(tmp_path):
    pytest.importorskip("bioimageio.spec")
    made = make_bundle(tmp_path / "small")
    path = tmp_path / "segmenter.pt"
    path.write_bytes(b"no matter what")
    pixels = np.zeros((1, 1, 16, 16), np.float32)
    tried = Tried(pixels, np.zeros((1, 5, 16, 16), np.float32))
    with pytest.raises(BrokenBundle, match=r"bioimageio\.spec finds no valid model"):
        write_model(tmp_path / "m.zip", made.card, made.card.segmenter, path, tried)
