import hashlib
import json
import pickle

import numpy as np
import pytest
from small_bundles import SMALL_UNET, make_bundle

from micro import bundle
from micro.errors import BrokenBundle, UnknownBundle


@pytest.fixture
def made(tmp_path):
    return make_bundle(tmp_path / "grains-test")


def rewrite_card(made, **changes):
    path = made.folder / bundle.CARD
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_weights_come_back_in_half_precision_of_what_was_saved(tmp_path):
    values = {"segmenter.w": np.linspace(-1, 1, 7, dtype=np.float32), "segmenter.count": np.array(3, np.int64)}
    card = make_bundle(tmp_path / "a").card
    loaded = bundle.save(tmp_path / "b", card, values).weights()
    assert np.array_equal(loaded["segmenter.w"], values["segmenter.w"].astype(np.float16).astype(np.float32))
    assert loaded["segmenter.w"].dtype == np.float32
    assert loaded["segmenter.count"] == 3


def test_a_bundle_is_found_by_its_name_and_by_its_folder(made, monkeypatch):
    monkeypatch.setenv("MICRO_BUNDLES", str(made.folder.parent))
    assert bundle.load("grains-test").card == made.card
    assert bundle.load(made.folder).card == made.card
    assert bundle.installed()["grains-test"] == made.folder
    made.folder.rename(made.folder.with_name(".grains-test.123.part"))
    assert not [name for name in bundle.installed() if "grains-test" in name], "half an installation is none"


def test_an_unknown_name_lists_what_is_installed(made, monkeypatch):
    monkeypatch.setenv("MICRO_BUNDLES", str(made.folder.parent))
    with pytest.raises(UnknownBundle, match=r"No bundle 'grians-test'.*Installed: .*grains-test"):
        bundle.load("grians-test")


def test_changed_weights_are_refused(made):
    path = made.folder / bundle.WEIGHTS
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(BrokenBundle, match="changed or damaged"):
        made.weights()


def test_a_pickle_in_place_of_weights_is_refused_and_not_executed(made, tmp_path):
    trap = tmp_path / "executed"

    class Trap:
        def __reduce__(self):
            return (open, (str(trap), "w"))

    data = pickle.dumps(Trap())
    (made.folder / bundle.WEIGHTS).write_bytes(data)
    rewrite_card(made, weights_sha256=hashlib.sha256(data).hexdigest())
    with pytest.raises(BrokenBundle, match="not a safetensors file"):
        bundle.load(made.folder).weights()
    assert not trap.exists()


def test_a_card_with_an_unknown_key_is_refused(made):
    rewrite_card(made, hook="os.system")
    with pytest.raises(BrokenBundle, match="hook"):
        bundle.load(made.folder)


@pytest.mark.parametrize("name", ["../grains", "a/b", "..", "", "Grains", "x" * 65])
def test_a_card_whose_name_is_a_path_is_refused(made, name):
    rewrite_card(made, name=name)
    with pytest.raises(BrokenBundle, match="name"):
        bundle.load(made.folder)


def test_a_card_without_any_network_is_refused(made):
    rewrite_card(made, segmenter=None)
    with pytest.raises(BrokenBundle, match="neither"):
        bundle.load(made.folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"input_px": None, "kind": "classifier"}, "input_px"),
        ({"decoder_channels": [16, -8, 8]}, "decoder_channels"),
        ({"halo_px": 63}, "halo_px"),
        ({"halo_px": 1024}, "halo_px"),
        ({"outputs": ["inside", "inside"]}, "two outputs"),
        ({"in_channels": 3}, "channels"),
        ({"kind": "classifier", "input_px": 64}, "not a classifier"),
    ],
)
def test_a_card_whose_network_cannot_be_is_refused_before_any_image(made, change, words):
    rewrite_card(made, segmenter=SMALL_UNET.model_dump() | change)
    with pytest.raises(BrokenBundle, match=words):
        bundle.load(made.folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\x00"])
def test_a_card_that_is_no_card_is_refused(made, text):
    (made.folder / bundle.CARD).write_text(text)
    with pytest.raises(BrokenBundle, match="not the card"):
        bundle.load(made.folder)


def test_weights_that_link_out_of_the_folder_are_refused(made, tmp_path):
    outside = tmp_path / "weights"
    (made.folder / bundle.WEIGHTS).rename(outside)
    (made.folder / bundle.WEIGHTS).symlink_to(outside)
    with pytest.raises(BrokenBundle, match="a link"):
        made.weights()


def test_missing_weights_are_named(made):
    (made.folder / bundle.WEIGHTS).unlink()
    with pytest.raises(BrokenBundle, match=r"weights\.safetensors: missing"):
        made.weights()
