"""Normal sheets are remembered, and a mark that none of them had is strange, and lit where it lies."""

import csv
import weakref
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from small_bundles import SMALL_CLASSIFIER, SMALL_UNET, make_bundle

from micro import anomaly, cli
from micro.errors import BadSetting
from micro.micrograph import Micrograph


def sheet(seed, mark=False):
    """A drawn sheet of 128 x 192 px, with a dark cross of 24 px at row 40 and column 120 or without."""
    random = np.random.default_rng(seed)
    pixels = cv2.GaussianBlur(random.normal(130, 12, (128, 192)), (0, 0), sigmaX=1, sigmaY=4)
    pixels += random.normal(0, 2, pixels.shape)
    if mark:
        pixels[28:52, 117:123] -= 70
        pixels[37:43, 108:132] -= 70
    return Micrograph(pixels.clip(0, 255).astype(np.uint8)[..., np.newaxis], f"{seed}.png")


class Plain:
    """Stands for a network: what it computes of a patch are the patch's own pixels."""

    card = SimpleNamespace(name="plain", weights_sha256="0" * 64)

    def features(self, image):
        return image.pixels.astype(np.float32).reshape(8, 16, 12, 16).swapaxes(1, 2).reshape(8, 12, 256)


def learned(encoder, count=20, unreadable=()):
    return result(anomaly.learn_steps(encoder, (None if i in unreadable else sheet(i) for i in range(count)), count))


def result(steps):
    try:
        while True:
            next(steps)
    except StopIteration as stop:
        return stop.value


@pytest.fixture(scope="module", params=["unet", "classifier"])
def encoder(request, tmp_path_factory):
    spec = {"unet": SMALL_UNET, "classifier": SMALL_CLASSIFIER}[request.param]
    if request.param == "unet":
        spec = spec.model_copy(update={"decoder_channels": (16, 16, 8, 8)})
    task = {"unet": "grains", "classifier": "defects"}[request.param]
    return anomaly.Encoder(make_bundle(tmp_path_factory.mktemp(request.param), spec, task=task), "cpu")


def test_a_mark_is_stranger_than_all_normal_sheets_and_lit_where_it_lies(encoder):
    memory = learned(encoder)
    normal = [memory.look(encoder, sheet(seed)).score for seed in range(100, 110)]
    marked = memory.look(encoder, sheet(200, mark=True))
    assert marked.score > 1.2 * max(normal)
    assert np.median(normal) < 1
    assert marked.heat.shape == (128, 192)
    row, column = np.unravel_index(marked.heat.argmax(), marked.heat.shape)
    assert (row, column) == (pytest.approx(40, abs=16), pytest.approx(120, abs=20))


def test_a_memory_is_read_back_as_it_was_written(encoder, tmp_path):
    memory = learned(encoder)
    memory.save(tmp_path / "normal.safetensors")
    again = anomaly.Memory.load(tmp_path / "normal.safetensors")
    strange = sheet(200, mark=True)
    assert again.look(encoder, strange).score == pytest.approx(memory.look(encoder, strange).score, rel=0.01)
    assert (again.model, again.images) == (memory.model, 20)


def test_the_normal_image_that_sets_the_limit_is_not_strange_to_a_memory_from_a_file(encoder, tmp_path):
    learned(encoder).save(tmp_path / "normal.safetensors")
    again = anomaly.Memory.load(tmp_path / "normal.safetensors")
    assert max(again.look(encoder, sheet(seed)).score for seed in range(16, 20)) == 1


def test_a_memory_of_other_weights_and_a_file_that_is_none_are_refused(encoder, tmp_path):
    other = anomaly.Memory(np.zeros((4, 8), np.float32), 1.0, "other", "0" * 64, 20)
    with pytest.raises(BadSetting, match="other weights"):
        other.look(encoder, sheet(0))
    (tmp_path / "none.safetensors").write_bytes(b"nothing")
    with pytest.raises(BadSetting, match="no memory"):
        anomaly.Memory.load(tmp_path / "none.safetensors")


def test_thinned_patches_reach_every_kind_of_patch():
    random = np.random.default_rng(0)
    common, rare = random.normal(0, 1, (990, 16)), random.normal(40, 1, (10, 16))
    kept = anomaly.thinned(np.concatenate([common, rare]).astype(np.float32), 50)
    assert len(kept) == 50
    assert (kept.mean(axis=1) > 20).any()
    assert len(anomaly.thinned(common.astype(np.float32), 2000)) == 990


def test_too_few_normal_images_are_refused(encoder):
    with pytest.raises(BadSetting, match="at least 10"):
        learned(encoder, 5)


def test_images_are_let_go_one_after_the_other():
    there = []

    def read():
        for seed in range(20):
            image = sheet(seed)
            there.append(weakref.ref(image))
            yield image
            del image
            assert sum(each() is not None for each in there) <= 2

    assert result(anomaly.learn_steps(Plain(), read(), 20)).images == 20


def test_what_cannot_be_read_moves_no_image_into_the_last_fifth_or_out_of_it():
    whole, parts = learned(Plain()), learned(Plain(), unreadable=(17, 18))
    np.testing.assert_array_equal(parts.patches, whole.patches)
    assert parts.limit <= whole.limit
    assert parts.images == 18
    fewer = learned(Plain(), unreadable=range(3))
    assert (fewer.images, len(fewer.patches)) == (17, 13 * 96)


@pytest.mark.parametrize(
    ("unreadable", "said"),
    [
        (range(16, 20), "None of the last 4 of 20 images"),
        (range(11), "9 normal images; at least 10"),
        (range(16), "Only images of the last fifth"),
    ],
)
def test_a_memory_without_enough_readable_images_is_refused(unreadable, said):
    with pytest.raises(BadSetting, match=said):
        learned(Plain(), unreadable=unreadable)


def test_the_verb_says_which_images_it_left_out(tmp_path, capsys):
    made = make_bundle(tmp_path / "bundle", SMALL_CLASSIFIER, task="defects")
    (tmp_path / "normal").mkdir()
    for number in range(12):
        cv2.imwrite(str(tmp_path / "normal" / f"{number:02}.png"), sheet(number).pixels)
    asked = ["anomaly", "learn", str(tmp_path / "normal"), "--model", str(made.folder), "--out", str(tmp_path / "m")]
    (tmp_path / "normal" / "03.png").write_bytes(b"no image")
    assert cli.run(asked) == 1
    said = capsys.readouterr()
    assert "left out: 03.png" in said.err
    assert "patches of 11 images" in said.out
    for number in (10, 11):
        (tmp_path / "normal" / f"{number}.png").write_bytes(b"no image")
    assert cli.run(asked) == 2
    assert "at least 10" in capsys.readouterr().err


def test_the_verb_learns_finds_and_lights_what_is_strange(tmp_path, capsys):
    made = make_bundle(tmp_path / "bundle", SMALL_CLASSIFIER, task="defects")
    for number in range(12):
        place = tmp_path / "normal" / f"{number:02}.png"
        place.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(place), sheet(number).pixels)
    (tmp_path / "new").mkdir()
    cv2.imwrite(str(tmp_path / "new" / "good.png"), sheet(3).pixels)
    cv2.imwrite(str(tmp_path / "new" / "marked.png"), sheet(4, mark=True).pixels)
    memory, model = str(tmp_path / "normal.safetensors"), str(made.folder)
    assert cli.run(["anomaly", "learn", str(tmp_path / "normal"), "--model", model, "--out", memory]) == 0
    asked = ["anomaly", "find", str(tmp_path / "new"), "--memory", memory, "--model", model]
    assert cli.run([*asked, "--out", str(tmp_path / "out"), "--fail-on-ng"]) == 3
    with (tmp_path / "out" / "anomalies.csv").open() as file:
        rows = {row["image"]: row["is_normal"] for row in csv.DictReader(file)}
    assert rows == {"good.png": "True", "marked.png": "False"}
    assert cv2.imread(str(tmp_path / "out" / "marked.png")).shape[1] > 2 * 192 - 1
    assert not (tmp_path / "out" / "good.png").exists()
