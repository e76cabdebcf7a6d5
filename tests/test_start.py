"""A start for training: learned over sources of several tasks, begun from, refused where an image is asked about."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_bundles import SMALL_CLASSIFIER, SMALL_UNET, make_bundle

from micro import bundle, cli, networks, tasks, trial
from micro.errors import BadSetting
from micro.folder import AnnotatedFolder, annotated
from micro.scenes import flakes, grains
from micro.training import start
from micro.training.loop import starting_weights, take_over
from micro.training.making import About


def drawn(tmp_path, task, draw):
    scenes = [draw(seed, 96, 96) for seed in range(2)]
    items = tuple(annotated(scene.image, scene.labels, None) for scene in scenes)
    return start.Source(task, AnnotatedFolder(tmp_path / task, items, (), ()))


@pytest.fixture
def sources(tmp_path):
    return [drawn(tmp_path, "grains", grains.draw), drawn(tmp_path, "flakes", flakes.draw)]


@pytest.fixture
def begun(tmp_path):
    return make_bundle(tmp_path / "begun", SMALL_UNET)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(start, "CROP_PX", 64)
    monkeypatch.setattr(start, "INNER_STEPS", 2)
    monkeypatch.setattr(start, "ROUNDS_AN_EPOCH", 2)


def learned(sources, begun, out, rounds=4):
    card = start.card_of("start-test", About(), sources, "none")
    steps = start.start_steps(sources, rounds, out, card, begun)
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return stop.value


def test_a_start_moves_from_where_it_began_and_holds_a_last_layer_for_each_task(sources, begun, tmp_path):
    made = learned(sources, begun, tmp_path / "start")
    weights, before = made.weights(), begun.weights()
    name = "segmenter.encoder.layer1.0.conv1.weight"
    assert not np.array_equal(weights[name], before[name])
    assert weights["segmenter.grains_head.0.weight"].shape[0] == len(tasks.find("grains").outputs)
    assert weights["segmenter.flakes_head.0.weight"].shape[0] == len(tasks.find("flakes").outputs)
    assert weights["segmenter.encoder.conv1.weight"].shape[1] == 3
    assert [source.images for source in made.card.data] == [2, 2]


def test_a_start_that_was_stopped_goes_on_to_the_same_weights(sources, begun, tmp_path):
    whole = learned(sources, begun, tmp_path / "whole")
    card = start.card_of("start-test", About(), sources, "none")
    steps = start.start_steps(sources, 4, tmp_path / "again", card, begun)
    next(steps)
    steps.close()
    again = learned(sources, begun, tmp_path / "again")
    assert again.card.weights_sha256 == whole.card.weights_sha256


def test_training_begins_with_the_layers_of_a_start_and_the_last_one_of_its_task(sources, begun, tmp_path):
    from micro import training

    made = learned(sources, begun, tmp_path / "start")
    plan = training.plan(sources[0].folder, "grains", 1, start=made)
    network = networks.build(plan.network)
    take_over(network, starting_weights(plan, made))
    state, weights = network.state_dict(), made.weights()
    assert state["segmentation_head.0.weight"].numpy().tolist() == weights["segmenter.grains_head.0.weight"].tolist()
    name = "decoder.blocks.0.conv1.0.weight"
    assert state[name].numpy().tolist() == weights[f"segmenter.{name}"].tolist()


def test_a_grey_image_gives_the_same_in_networks_for_one_channel_and_for_three():
    torch.manual_seed(0)
    grey, colour, back = (
        networks.build(SMALL_UNET.model_copy(update={"in_channels": channels})).eval() for channels in (1, 3, 1)
    )
    take_over(colour, grey.state_dict())
    take_over(back, colour.state_dict())
    image = torch.rand(1, 1, 32, 32)
    with torch.no_grad():
        expected = grey(image)
        assert torch.allclose(colour(image.expand(-1, 3, -1, -1)), expected, atol=1e-5)
        assert torch.allclose(back(image), expected, atol=1e-5)


def test_a_start_is_listed_and_checked_and_answers_no_image(sources, begun, tmp_path, monkeypatch, capsys):
    place = tmp_path / "bundles"
    learned(sources, begun, place / "start-test")
    monkeypatch.setenv("MICRO_BUNDLES", str(place))
    assert cli.run(["models", "list"]) == 0
    assert "start-test 1.0.0  (start" in capsys.readouterr().out
    assert cli.run(["models", "show", "start-test"]) == 0
    assert "a start for training" in trial.prove(bundle.load("start-test"))
    (image,) = list(sources[0].folder.images)[:1]
    from PIL import Image

    Image.fromarray(image.image.pixels[..., 0]).save(tmp_path / "image.png")
    capsys.readouterr()
    code = cli.run(["predict", str(tmp_path / "image.png"), "--model", "start-test", "--out", str(tmp_path / "run")])
    assert code == 2
    assert "Train from it" in capsys.readouterr().err


@pytest.fixture
def frames(tmp_path):
    names = ["a", "b"] * 8
    items = tuple(annotated(grains.draw(seed, 64, 64).image, None, name) for seed, name in enumerate(names))
    return start.Source("defects", AnnotatedFolder(tmp_path, items, ("a", "b"), ()))


def test_a_start_of_frames_keeps_no_last_layer_and_begins_a_classifier_of_other_classes(frames, tmp_path):
    from micro import training

    begun = make_bundle(tmp_path / "begun", SMALL_CLASSIFIER, "defects")
    made = learned([frames], begun, tmp_path / "start", rounds=2)
    assert made.card.classifier.outputs == ("start",)
    assert not [name for name in made.weights() if name.startswith("classifier.classifier.3")]
    others = replace(frames.folder, images=tuple(replace(i, class_name=i.class_name * 2) for i in frames.folder.images))
    plan = training.plan(replace(others, classes=("aa", "bb")), "defects", 1, start=made)
    assert plan.frozen_steps
    network = networks.build(plan.network)
    take_over(network, starting_weights(plan, made))
    name = "features.1.block.0.0.weight"
    assert network.state_dict()[name].numpy().tolist() == made.weights()[f"classifier.{name}"].tolist()


def test_a_start_is_not_for_maps_and_frames_at_once(sources, begun, frames, tmp_path):
    both = make_bundle(tmp_path / "frames", SMALL_CLASSIFIER, "defects")
    begun = replace(begun, card=begun.card.model_copy(update={"classifier": both.card.classifier}))
    with pytest.raises(BadSetting, match="not for both"):
        learned([sources[0], frames], begun, tmp_path / "start")


def test_the_command_learns_a_start_from_folders(begun, tmp_path):
    from micro.scenes.__main__ import main as draw

    draw(["grains", str(tmp_path / "drawn"), "--count", "2", "--size-px", "96"])
    arguments = [str(tmp_path / "start-a"), "--from", str(begun.folder), "--learn", f"grains={tmp_path / 'drawn'}"]
    start.main([*arguments, "--rounds", "2"])
    card = bundle.load(tmp_path / "start-a").card
    assert card.command.startswith("python -m micro.training.start ")
    assert (card.task, card.data[0].name) == ("start", "an annotated folder")


def test_a_start_takes_the_place_of_no_bundle_and_goes_on_with_no_other(sources, begun, tmp_path):
    with pytest.raises(BadSetting, match="a bundle lies here"):
        learned(sources, begun, begun.folder)
    assert bundle.load(begun.folder).card == begun.card
    card = start.card_of("start-test", About(), sources, "none")
    steps = start.start_steps(sources, 4, tmp_path / "start", card, begun)
    next(steps)
    steps.close()
    for others, rounds in ((sources, 2), (sources[:1], 4)):
        with pytest.raises(BadSetting, match="other images or rounds"):
            learned(others, begun, tmp_path / "start", rounds)
    with pytest.raises(BadSetting, match="at least one"):
        learned(sources, begun, tmp_path / "none", rounds=0)


def test_a_description_of_more_folders_than_are_learned_is_refused(sources):
    about = About.model_validate({"beside": [{"name": str(number), "licence": "none"} for number in range(2)]})
    with pytest.raises(BadSetting, match="names 3 folders, and 2 are learned"):
        start.card_of("start-test", about, sources, "none")


@pytest.mark.parametrize(
    ("asked", "said"),
    [("grains", "write it as TASK=FOLDER"), ("nothing=here", "nothing"), ("grains=nowhere", "nowhere")],
)
def test_the_command_says_what_is_wrong_with_a_source(begun, tmp_path, capsys, asked, said):
    with pytest.raises(SystemExit) as stopped:
        start.main([str(tmp_path / "out"), "--from", str(begun.folder), "--learn", asked])
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("count", "said", "begins"),
    [
        (1, [], "start-test 1.0.0"),
        (1, ["--from", "none"], "random weights"),
        (1, ["--network", "resnet18"], "random weights"),
        (11, [], "random weights"),
    ],
)
def test_few_images_are_learned_from_the_start_unless_told_otherwise(
    sources, begun, tmp_path, monkeypatch, capsys, count, said, begins
):
    from micro.scenes.__main__ import main as draw

    learned(sources, begun, tmp_path / "bundles" / "start-segment", rounds=1)
    monkeypatch.setenv("MICRO_BUNDLES", str(tmp_path / "bundles"))
    draw(["grains", str(tmp_path / "few"), "--count", str(count), "--size-px", "96"])
    capsys.readouterr()
    plan = ["--write-plan", str(tmp_path / "plan.yaml"), "--out", str(tmp_path / "out")]
    assert cli.run(["train", str(tmp_path / "few"), "--task", "grains", *plan, *said]) == 0
    assert f"begins     from {begins}" in capsys.readouterr().out


def test_a_start_that_is_not_installed_begins_nothing(sources, tmp_path, monkeypatch):
    from micro import training

    monkeypatch.setattr("micro.bundle.installed", dict)
    assert training.usual_start(sources[0].folder, "grains") is None
