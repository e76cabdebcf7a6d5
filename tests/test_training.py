import contextlib
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
import yaml
from small_bundles import SMALL_UNET, make_bundle

from micro import bundle, cli, folder, tasks, training, trial
from micro.card import NetworkSpec
from micro.engine import Engine
from micro.errors import BadFolder, BadSetting
from micro.micrograph import Micrograph
from micro.score.folds import fold_numbers
from micro.training import loop
from micro.training.guesses import guessed
from micro.training.loop import Epoch, loss_of
from micro.training.plan import PLACE_GAP_PX, PLAN, TrainingPlan, seconds_a_step
from micro.training.samples import Batch, Sampler
from micro.training.sides import set_aside, sides


def write(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)


@pytest.fixture(autouse=True)
def quick_halo(monkeypatch):
    """Measuring a halo takes longer than all else here, and has tests of its own."""
    monkeypatch.setattr("micro.training.loop.choose_halo", lambda *_: 16)


@pytest.fixture
def masks(tmp_path):
    """Four images of bright squares on a dark ground, each an instance."""
    root = tmp_path / "squares"
    for number in range(4):
        labels = np.kron(np.arange(1, 13).reshape(3, 4), np.ones((32, 32))).astype(np.uint16)
        image = np.random.default_rng(number).normal(120, 8, labels.shape) - 60 * (
            cv2.Laplacian(labels, cv2.CV_64F) != 0
        )
        write(root / "images" / f"{number}.png", image.clip(0, 255).astype(np.uint8))
        write(root / "masks" / f"{number}.png", labels)
    return folder.read(root)


@pytest.fixture
def frames(tmp_path):
    """Two classes that differ in texture, one image there twice."""
    root = tmp_path / "frames"
    for number in range(24):
        image = np.random.default_rng(number if number != 23 else 22).normal(128, 30, (64, 64))
        if number % 2 == 0 or number == 23:
            image = cv2.GaussianBlur(image, (0, 0), 2) + (number if number != 23 else 22)
        name = "smooth" if number % 2 == 0 or number == 23 else "rough"
        write(root / name / f"{number}.png", image.clip(0, 255).astype(np.uint8))
    return folder.read(root)


def short(plan, **changes):
    small = (
        plan.network.model_copy(update={"decoder_channels": (8, 8, 8)}) if plan.network.kind == "unet" else plan.network
    )
    facts = {"steps": 4, "batch": 2, "crop_px": 64, "network": small} | changes
    return plan.model_copy(update=facts)


def making(name="made"):
    return training.Making(name, training.About(), "micro train squares")


def finish(steps):
    epochs = []
    while True:
        try:
            epochs.append(next(steps))
        except StopIteration as stop:
            return epochs, stop.value.bundle


def outcome(steps):
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return stop.value


def weights(made):
    return (made.folder / bundle.WEIGHTS).read_bytes()


def test_a_plan_follows_from_folder_and_minutes_alone(masks):
    first, second = (training.plan(masks, "grains", 10) for _ in range(2))
    assert first == second
    assert training.plan(masks, "grains", 20).steps == pytest.approx(2 * first.steps, abs=1)
    assert first.split == "place"
    for word in ("resnet18", "held out", "the right 25%", str(first.steps)):
        assert word in first.describe()


def test_minutes_know_that_channelwise_networks_take_long_for_what_they_multiply():
    def seconds(network):
        spec = NetworkSpec(kind="classifier", encoder_name=network, in_channels=1, outputs=("a", "b"), input_px=128)
        return seconds_a_step(spec, 128, 32, "fp32")

    # on one core 2.47, 0.38 and 0.20 s; by their products alone they would be 1 to 32 to 51
    assert 5 < seconds("resnet18") / seconds("mobilenet_v3_small") < 10
    assert 8 < seconds("resnet18") / seconds("shufflenet_v2_x0_5") < 16
    # this one learns from 32 frames in 3 ms, and waits for them
    assert seconds("lenet5") == pytest.approx(0.032)


def test_an_epoch_says_how_long_its_part_still_takes():
    assert Epoch("final", 50, 1250, 0.5, 60.0).note == "final: loss 0.5000, 50 steps in 60 s, 24 min left"
    scored = Epoch("final", 50, 6050, 0.5, 120.0, 0.75)
    assert scored.note == "final: loss 0.5000, score 0.750, 50 steps in 120 s, 4.0 h left"
    assert Epoch("fold 1 of 5", 70, 80, 0.5, 10.0).note == "fold 1 of 5: loss 0.5000, 20 steps in 10 s, 5 s left"
    assert Epoch("final", 80, 80, 0.5, 10.0).note == "final: loss 0.5000, 30 steps in 10 s"


def test_a_folder_of_the_other_kind_is_refused(masks, frames):
    with pytest.raises(BadFolder, match="or from one folder a class"):
        training.plan(masks, "defects", 1)
    with pytest.raises(BadFolder, match="learns from masks"):
        training.plan(frames, "grains", 1)


def test_an_unknown_network_is_refused_before_any_minute_is_spent(masks):
    with pytest.raises(BadSetting, match="resnet18"):
        training.plan(masks, "grains", 1, network="efficientnet-b0")


def test_training_never_sees_the_places_that_measure(masks):
    plan = training.plan(masks, "grains", 1)
    train, test = sides(plan, masks.images)
    for whole, left, right in zip(masks.images, train, test, strict=True):
        edge = whole.image.width_px * 3 // 4
        assert left.image.width_px == edge - PLACE_GAP_PX
        assert np.array_equal(whole.image.pixels[:, : left.image.width_px], left.image.pixels)
        assert np.array_equal(whole.labels[:, edge:], right.labels[:, edge:]), "no square is cut here"
        assert (right.labels[:, :edge] == -1).all(), "what trained is not counted"


def test_what_two_trainings_held_out_is_what_neither_saw(masks, tmp_path):
    by_place = training.plan(masks, "grains", 1)
    plans = {
        "a": by_place,
        "b": by_place.model_copy(update={"held_out_share": 0.5}),
        "c": by_place.model_copy(update={"split": "image", "held_out": ("1.png", "3.png")}),
        "d": by_place.model_copy(update={"split": "image", "held_out": ("gone.png",)}),
    }
    made = {name: make_bundle(tmp_path / name) for name in plans}
    for name, plan in plans.items():
        (made[name].folder / PLAN).write_text(plan.model_dump_json())
    for pair in ("ab", "ba"):
        both = training.held_out_of_all([made[name] for name in pair], masks)
        assert [int((item.labels >= 0).any(axis=0).sum()) for item in both] == [32] * 4
    both = training.held_out_of_all([made["c"], made["b"]], masks)
    assert [(item.image.name, int((item.labels >= 0).any(axis=0).sum())) for item in both] == [
        ("1.png", 64),
        ("3.png", 64),
    ]
    with pytest.raises(BadFolder, match=r"none of the 1 images .* such as gone\.png"):
        training.held_out_images(made["d"], masks)


@pytest.mark.parametrize("width_px", [32, 40])
def test_images_too_narrow_for_two_parts_are_refused(masks, width_px):
    small = [
        replace(
            item, image=replace(item.image, pixels=item.image.pixels[:, :width_px]), labels=item.labels[:, :width_px]
        )
        for item in masks.images
    ]
    plan = training.plan(replace(masks, images=tuple(small)), "grains", 1)
    with pytest.raises(BadFolder, match=r"too narrow.*0\.png, 1\.png"):
        sides(plan, small)
    with pytest.raises(BadFolder, match="too small to set a part aside"):
        set_aside(plan.model_copy(update={"patience": 2}), small)


def test_a_region_cut_by_the_edge_of_the_held_out_part_counts_if_most_of_it_is_there(masks):
    plan = training.plan(masks, "grains", 1)
    labels = np.zeros((8, 100), np.int32)
    labels[0, 70:77], labels[2, 74:80], labels[4, 90:95] = 5, 6, 7
    image = Micrograph(np.zeros((8, 100), np.uint8))
    _, (right,) = sides(plan, [replace(masks.images[0], image=image, labels=labels)])
    assert np.count_nonzero(right.labels == 5) == 0
    assert np.count_nonzero(right.labels == 6) == 5
    assert np.count_nonzero(right.labels == 7) == 5


def test_folds_divide_classes_evenly_and_keep_copies_together(frames):
    groups, classes = [item.group for item in frames.images], [item.class_name for item in frames.images]
    numbers = fold_numbers(groups, classes, 4, seed=1)
    fold_of = {item.image.name: number for item, number in zip(frames.images, numbers, strict=True)}
    assert fold_of["smooth/22.png"] == fold_of["smooth/23.png"]
    for name in frames.classes:
        counts = np.bincount(
            [n for i, n in zip(frames.images, numbers, strict=True) if i.class_name == name], minlength=4
        )
        assert counts.max() - counts.min() <= 2


def test_a_class_of_one_group_trains_and_is_never_held_out(frames):
    rare = [replace(item, class_name="rare") if item.image.name == "rough/1.png" else item for item in frames.images]
    lone = replace(frames, images=tuple(rare), classes=("rare", "rough", "smooth"))
    for seed in range(4):
        plan = training.plan(lone, "defects", 0.1, seed=seed)
        train, test = sides(plan, lone.images)
        kept, aside = set_aside(plan.model_copy(update={"patience": 2}), train)
        assert test
        assert aside
        assert {item.class_name for item in kept} == set(lone.classes), seed


def test_batches_depend_on_their_number_alone(masks):
    plan = short(training.plan(masks, "grains", 1))
    task = tasks.find("grains")
    one, other = (Sampler(plan, task, [masks.images]) for _ in range(2))
    other.batch(0)
    assert torch.equal(one.batch(5).pixels, other.batch(5).pixels)
    assert not torch.equal(one.batch(5).pixels, one.batch(6).pixels)
    assert [torch.equal(a.pixels, one.batch(n).pixels) for n, a in enumerate(other.batches(0, 3))] == [True] * 3


def test_twins_are_shown_to_the_network_as_a_part_of_their_grains(masks):
    # one crop: what is drawn for the next one depends on the boundaries in this one
    plan = short(training.plan(masks, "grains", 1), batch=1)
    without = Sampler(plan, tasks.find("grains"), [masks.images]).batch(3)
    crossed = [
        replace(item, twins=np.arange(item.labels.shape[1]) % 40 < 20 + 0 * item.labels) for item in masks.images
    ]
    with_twins = Sampler(plan, tasks.find("grains"), [crossed]).batch(3)
    assert torch.equal(without.target[:, :2], with_twins.target[:, :2])
    assert without.target[:, 2].max() == 0
    assert with_twins.target[:, 2].max() == 1


def test_every_frame_comes_once_before_any_comes_twice(frames):
    plan = short(training.plan(frames, "defects", 1), batch=5)
    sampler = Sampler(plan, tasks.find("defects"), [frames.images])
    seen = [index for number in range(10) for index in sampler._next_frames(number)]
    assert sorted(seen[: len(frames.images)]) == list(range(len(frames.images)))


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(masks, tmp_path):
    plan = short(training.plan(masks, "grains", 1))
    made = [finish(training.train_steps(plan, masks, tmp_path / name, making()))[1] for name in "ab"]
    assert weights(made[0]) == weights(made[1])
    other = finish(training.train_steps(plan.model_copy(update={"seed": 1}), masks, tmp_path / "c", making()))[1]
    assert weights(made[0]) != weights(other)


def test_training_that_was_stopped_goes_on_to_the_same_weights(masks, tmp_path, monkeypatch):
    monkeypatch.setattr("micro.training.loop.STEPS_AN_EPOCH", 2)
    plan = short(training.plan(masks, "grains", 1))
    undisturbed = outcome(training.train_steps(plan, masks, tmp_path / "a", making()))
    stopped = training.train_steps(plan, masks, tmp_path / "b", making())
    next(stopped)
    stopped.close()
    resumed = outcome(training.train_steps(plan, masks, tmp_path / "b", making(), resume=True))
    assert weights(resumed.bundle) == weights(undisturbed.bundle)
    assert resumed.curves == undisturbed.curves
    assert [done for done, _ in resumed.curves[0].points] == [2, 4], "the way before the stop is kept"


def test_the_steps_before_a_stop_are_not_done_again(masks, tmp_path, monkeypatch):
    monkeypatch.setattr("micro.training.loop.STEPS_AN_EPOCH", 2)
    plan = short(training.plan(masks, "grains", 1))
    stopped = training.train_steps(plan, masks, tmp_path / "b", making())
    next(stopped)
    stopped.close()
    epochs, _ = finish(training.train_steps(plan, masks, tmp_path / "b", making(), resume=True))
    assert [epoch.done for epoch in epochs] == [4]


@pytest.mark.parametrize("name", ["README.md", "card.json"])
def test_what_lies_in_the_folder_of_the_bundle_is_not_written_over(masks, tmp_path, name):
    plan = short(training.plan(masks, "grains", 1))
    (tmp_path / name).write_text("mine")
    with pytest.raises(BadSetting, match=f"{name} lies here"):
        next(training.train_steps(plan, masks, tmp_path, making()))
    assert (tmp_path / name).read_text() == "mine"


def test_another_plan_cannot_go_on_with_this_training(masks, tmp_path):
    plan = short(training.plan(masks, "grains", 1))
    steps = training.train_steps(plan, masks, tmp_path / "a", making())
    next(steps)
    steps.close()
    with pytest.raises(BadSetting, match="--resume"):
        next(training.train_steps(plan, masks, tmp_path / "a", making()))
    with pytest.raises(BadSetting, match="another plan"):
        next(training.train_steps(plan.model_copy(update={"seed": 9}), masks, tmp_path / "a", making(), resume=True))


def test_what_comes_out_is_a_bundle_that_proves_itself(masks, tmp_path, monkeypatch):
    halos = iter((40, 48))  # one for each image it is measured on; the larger one serves both
    monkeypatch.setattr("micro.training.loop.choose_halo", lambda *_: next(halos))
    plan = short(training.plan(masks, "grains", 1))
    _, made = finish(training.train_steps(plan, masks, tmp_path / "squares-1", making("squares-1")))
    loaded = bundle.load(made.folder)
    assert trial.prove(loaded, "cpu")
    assert loaded.card.segmenter.halo_px == 48
    assert {row.what for row in loaded.card.scores} >= {"adjusted Rand index", "AP at IoU 0.5"}
    assert TrainingPlan.model_validate_json((made.folder / "plan.json").read_text()).steps == 4
    assert [(item.labels >= 0).sum() for item in training.held_out_images(loaded, masks)] == [96 * 32] * 4
    assert not (made.folder / "training").exists()
    assert "micro train squares" in (made.folder / "README.md").read_text()
    with pytest.raises(BadSetting, match="a trained bundle lies here"):
        next(training.train_steps(plan, masks, made.folder, making()))


def test_folds_measure_every_frame_once_and_the_final_weights_see_all(frames, tmp_path):
    plan = short(training.plan(frames, "defects", 1, folds=2, network="mobilenet_v3_small"), batch=4)
    epochs, made = finish(training.train_steps(plan, frames, tmp_path / "d", making("d")))
    assert [epoch.part for epoch in epochs] == ["fold 1 of 2", "fold 2 of 2", "final"]
    assert [row.what for row in made.card.scores] == ["accuracy", "macro-F1", "calibration error"] * 2
    assert "quality 75" in made.card.scores[3].on
    kept = trial.kept_answers(made)
    assert sorted(kept.images) == [item.image.name for item in frames.images], "each once, by a network it never saw"
    assert [kept.class_names[number] for number in kept.truth] == [name.partition("/")[0] for name in kept.images]
    assert kept.probabilities.sum(axis=1) == pytest.approx(1, abs=1e-4)
    assert made.card.temperature == 1, "24 frames are too few to say"
    with pytest.raises(BadFolder, match="trained on all"):
        training.held_out_images(made, frames)
    assert Engine(made, device="cpu").predict(frames.images[0].image).class_name in frames.classes


def test_a_sample_answered_otherwise_than_stored_fails_its_proof(masks, tmp_path):
    plan = short(training.plan(masks, "grains", 1))
    _, made = finish(training.train_steps(plan, masks, tmp_path / "a", making()))
    sample = made.folder / trial.SAMPLE
    pixels = cv2.imread(str(sample), cv2.IMREAD_UNCHANGED)
    assert cv2.imwrite(str(sample), np.random.default_rng(0).permutation(pixels.ravel()).reshape(pixels.shape))
    with pytest.raises(Exception, match="another label"):
        trial.prove(made, "cpu")


def test_a_network_learns_squares_in_a_few_steps(masks, tmp_path, monkeypatch):
    monkeypatch.setattr("micro.training.loop.STEPS_AN_EPOCH", 10)
    plan = short(training.plan(masks, "grains", 1), steps=60, batch=4, ema_decay=0.9)
    epochs, _ = finish(training.train_steps(plan, masks, tmp_path / "a", making()))
    assert epochs[-1].loss < 0.75 * epochs[0].loss


def test_training_from_a_bundle_begins_with_its_weights(masks, tmp_path):
    plan = short(training.plan(masks, "grains", 1), steps=1, learning_rate=1e-12)
    _, first = finish(training.train_steps(plan, masks, tmp_path / "a", making()))
    plan = short(training.plan(masks, "grains", 1, start=first, seed=5), steps=1, learning_rate=1e-12)
    assert "made 1.0.0" in plan.describe()
    again = training.Making("again", training.About(), "micro train", start=first)
    _, second = finish(training.train_steps(plan, masks, tmp_path / "b", again))
    name = "segmenter.encoder.layer1.0.conv1.weight"
    assert np.array_equal(first.weights()[name], second.weights()[name])


@pytest.mark.parametrize(("task", "share"), [("grains", 0.25), ("flakes", 1)])
def test_only_a_bundle_that_goes_on_with_its_own_question_learns_more_slowly(masks, tmp_path, task, share):
    maps = SMALL_UNET.model_copy(update={"outputs": tasks.find("grains").outputs})
    begun = make_bundle(tmp_path / "begun", maps, task)
    scratch, plan = (training.plan(masks, "grains", 1, start=start) for start in (None, begun))
    assert plan.learning_rate == pytest.approx(share * scratch.learning_rate)
    assert ("0.25 of the usual" in plan.describe()) == (share < 1)


def test_what_it_began_from_answers_the_same_images_where_it_can(masks, tmp_path):
    plan = short(training.plan(masks, "grains", 1), steps=1)
    first = outcome(training.train_steps(plan, masks, tmp_path / "a", making()))
    assert first.scores[0].start == "It began from no bundle."
    plan = short(training.plan(masks, "grains", 1, start=first.bundle), steps=1)
    again = replace(making("again"), start=first.bundle)
    (scored,) = outcome(training.train_steps(plan, masks, tmp_path / "b", again)).scores
    assert scored.start.badness().tolist() == first.scores[0].trial.badness().tolist()
    assert sorted(case.badness for case in scored.worst) == sorted(scored.trial.badness())
    other = replace(first.bundle, card=first.bundle.card.model_copy(update={"classes": ("grains", "pores")}))
    plan = short(training.plan(masks, "grains", 1, start=other), steps=1)
    (scored,) = outcome(training.train_steps(plan, masks, tmp_path / "c", replace(again, start=other))).scores
    assert scored.start == "made answers another question: grains, grains, pores."


def test_a_bundle_without_the_kind_of_network_is_no_start(masks, frames, tmp_path):
    plan = short(training.plan(masks, "grains", 1), steps=1)
    _, segmenter = finish(training.train_steps(plan, masks, tmp_path / "a", making()))
    with pytest.raises(BadSetting, match="no classifier to begin from"):
        training.plan(frames, "defects", 1, start=segmenter)


def test_a_classifier_of_other_classes_learns_its_last_layer_first_and_then_all(frames, tmp_path):
    plan = short(training.plan(frames, "defects", 1, network="lenet5"))
    _, first = finish(training.train_steps(plan, frames, tmp_path / "a", making()))
    renamed = tuple(replace(item, class_name=f"new {item.class_name}") for item in frames.images)
    others = replace(frames, images=renamed, classes=tuple(f"new {name}" for name in frames.classes))
    planned = training.plan(others, "defects", 1, start=first)
    assert planned.frozen_steps == round(0.2 * planned.steps)
    assert "stands still for" in planned.describe()
    assert training.plan(frames, "defects", 1, start=first).frozen_steps == 0, "no layer is new"
    moved = {}
    for steps in (3, 4):
        plan = short(planned, steps=steps, frozen_steps=3)
        again = replace(making(f"{steps}"), start=first)
        _, made = finish(training.train_steps(plan, others, tmp_path / f"{steps}", again))
        after = made.weights()
        moved[steps] = {name for name, before in first.weights().items() if not np.array_equal(before, after[name])}
    assert moved[3] == {"classifier.head.weight", "classifier.head.bias"}
    assert moved[4] == set(first.weights())


def test_layers_whose_outputs_vary_little_are_normalised_right_after_a_short_training(frames, tmp_path):
    plan = training.plan(frames, "defects", 1, network="mobilenet_v3_small")
    _, made = finish(training.train_steps(short(plan, steps=40, batch=8), frames, tmp_path / "m", making("m")))
    learned = trial.run(Engine(made, device="cpu"), frames.images)
    assert learned.class_score().accuracy.value > 0.9, "what it learned, it knows outside of training too"


def test_another_folder_measures_what_a_folder_trained(masks, tmp_path):
    plan = short(training.plan(masks, "grains", 1), steps=1)
    with_more = replace(making(), measure=masks)
    _, made = finish(training.train_steps(plan, masks, tmp_path / "a", with_more))
    assert [row.on for row in made.card.scores[:1]] == ["squares, 4 images that nothing trained on"]
    assert made.card.scores[-1].on == plan.describe_held_out()


def test_what_cannot_measure_is_refused_before_a_minute_is_spent(masks, frames, tmp_path):
    plan = short(training.plan(masks, "grains", 1), steps=1)
    labels = [np.where(np.arange(128) < 90, item.labels, -1) for item in masks.images]
    left = [replace(item, labels=each) for item, each in zip(masks.images, labels, strict=True)]
    with pytest.raises(BadFolder, match="nothing is annotated in what measures the training: the right 25%"):
        next(training.train_steps(plan, replace(masks, images=tuple(left)), tmp_path / "a", making()))
    named = replace(masks, classes=("matrix", "carbide"), values=((0, "matrix"), (1, "carbide")))
    turned = replace(named, classes=("carbide", "matrix"))
    for other in (frames, turned):
        with pytest.raises(BadFolder, match="annotated with"):
            next(training.train_steps(plan, named, tmp_path / "a", replace(making(), measure=other)))
    assert not (tmp_path / "a").exists()


def test_folders_beside_give_as_many_crops_as_the_folder_itself_and_measure_nothing(masks, tmp_path):
    dark = [replace(item, image=replace(item.image, pixels=item.image.pixels // 2)) for item in masks.images]
    drawn = replace(masks, root=tmp_path / "drawn", images=tuple(dark[:1]))
    plan = short(training.plan(masks, "grains", 1, beside=[drawn]), steps=1)
    assert "in equal shares from squares, drawn" in plan.describe()
    sampler = Sampler(plan, tasks.find("grains"), [masks.images, drawn.images])
    chosen = [sampler._folders.index(sampler._any_folder(np.random.default_rng(seed))) for seed in range(200)]
    assert 70 < sum(chosen) < 130
    assert len(sampler.whole_images(2)) == 3, "the halo must do for images of every folder"
    about = training.About(beside=({"name": "drawn squares", "licence": "BSD-3-Clause"},))
    _, made = finish(training.train_steps(plan, masks, tmp_path / "a", replace(making(), about=about, beside=(drawn,))))
    assert [(source.name, source.images, source.role) for source in made.card.data[1:]] == [
        ("drawn squares", 1, "training only")
    ]
    assert {row.on for row in made.card.scores} == {plan.describe_held_out()}


def test_a_description_of_more_folders_than_the_command_names_is_refused():
    about = training.About(beside=({"name": "drawn squares", "licence": "BSD-3-Clause"},))
    with pytest.raises(BadSetting, match="--with"):
        replace(making(), about=about)


def test_folders_beside_must_hold_the_same_kind_of_annotation(masks, frames):
    with pytest.raises(BadFolder, match="masks"):
        training.plan(masks, "grains", 1, beside=[frames])


def test_folds_of_masks_measure_every_group_once(masks, tmp_path):
    two = [replace(item, group=str(number // 2)) for number, item in enumerate(masks.images)]
    grouped = replace(masks, images=tuple(two))
    plan = short(training.plan(grouped, "grains", 1, folds=2), steps=2)
    _, made = finish(training.train_steps(plan, grouped, tmp_path / "a", making()))
    page = (made.folder / "README.md").read_text()
    assert all(page.count(f"  {item.image.name}\n") == 1 for item in masks.images)
    with pytest.raises(BadSetting, match="2 groups"):
        training.plan(grouped, "grains", 1, folds=3)


def test_imagenet_is_refused_with_a_sentence_where_it_cannot_be_downloaded(masks, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "segmentation_models_pytorch.encoders.get_encoder", lambda *_, **__: (_ for _ in ()).throw(OSError)
    )
    plan = short(training.plan(masks, "grains", 1, start="imagenet"))
    with pytest.raises(BadSetting, match="cannot be downloaded here"):
        next(training.train_steps(plan, masks, tmp_path / "a", making()))


def test_weights_of_imagenet_are_taken_by_the_layers_they_fit(masks, tmp_path, monkeypatch):
    import segmentation_models_pytorch as smp

    learned = smp.encoders.get_encoder("resnet18", depth=3, weights=None)
    monkeypatch.setattr("segmentation_models_pytorch.encoders.get_encoder", lambda *_, **__: learned)
    plan = short(training.plan(masks, "grains", 1, start="imagenet"), steps=1, learning_rate=1e-12)
    _, made = finish(training.train_steps(plan, masks, tmp_path / "a", making()))
    name = "layer1.0.conv1.weight"
    taken = made.weights()[f"segmenter.encoder.{name}"]
    assert np.array_equal(taken, learned.state_dict()[name].numpy().astype(np.float16))
    assert made.weights()["segmenter.encoder.conv1.weight"].shape[1] == 1, "grey images keep a layer of their own"


def test_batches_are_the_same_where_the_images_lie_in_a_file(masks, monkeypatch):
    plan = short(training.plan(masks, "grains", 1))
    sampler = Sampler(plan, tasks.find("grains"), [masks.images])
    monkeypatch.setattr("micro.folder.shelf.KEPT_BYTES", 0)
    stored = folder.read(masks.root)
    assert all(isinstance(item.labels, np.memmap) for item in stored.images)
    assert all(isinstance(item.image.pixels.base.base, np.memmap) for item in stored.images)
    colour = replace(
        stored,
        images=tuple(
            replace(item, image=replace(item.image, pixels=np.repeat(item.image.pixels, 3, axis=2)))
            for item in stored.images
        ),
    )
    for images in (stored.images, colour.images):
        again = Sampler(plan, tasks.find("grains"), [images])
        for one, other in zip(sampler.batches(3, 5), again.batches(3, 5), strict=True):
            assert torch.equal(one.pixels, other.pixels)
            assert torch.equal(one.target, other.target)
    assert all(isinstance(source.pixels, np.memmap) for source in again._sources)


def test_a_plan_goes_to_yaml_and_back_and_may_be_edited_between(masks, tmp_path):
    derived = training.plan(masks, "grains", 1)
    path = tmp_path / "plan.yaml"
    training.write_plan(path, derived)
    assert training.read_plan(path, derived, masks.images) == derived
    path.write_text(path.read_text().replace(f"batch: {derived.batch}", "batch: 3"))
    assert training.read_plan(path, derived, masks.images) == derived.model_copy(update={"batch": 3})


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"task": "flakes"}, "its task is 'flakes'"),
        ({"batch": 0}, "batch: Input should be greater"),
        ({"bacth": 4}, "bacth: Extra inputs"),
        ({"split": "image", "held_out": ["z.png"]}, r"not in the folder: z\.png"),
        ({"split": "image", "held_out": []}, "0 of 4 images held out"),
        ({"split": "folds", "folds": 9}, "9 folds: at least 2"),
        ({"class_weights": [1, 2]}, "grains finds regions and no classes"),
        ({"dice": 1.5}, "dice: Input should be less"),
        ({"frozen_steps": 3}, "frozen_steps: it begins from random weights"),
    ],
)
def test_an_edited_plan_that_cannot_be_followed_is_refused(masks, tmp_path, changes, problem):
    derived = training.plan(masks, "grains", 1)
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump(derived.model_dump(mode="json") | changes))
    with pytest.raises(BadSetting, match=problem):
        training.read_plan(path, derived, masks.images)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"crop_px": 96}, "crop_px is 96 and the network's input_px 64"),
        ({"split": "place", "held_out_share": 0.25}, "a part of a frame has no class"),
        ({"network": {"in_channels": 2}}, r"in_channels: Input should be 1 or 3"),
        ({"split": "image", "held_out": ["rough/1.png", "rough/3.png"]}, "all that there is of rough"),
    ],
)
def test_an_edited_plan_for_frames_that_cannot_be_followed_is_refused(frames, tmp_path, changes, problem):
    few = [
        item
        for item in frames.images
        if item.class_name == "smooth" or item.image.name in ("rough/1.png", "rough/3.png")
    ]
    derived = training.plan(replace(frames, images=tuple(few)), "defects", 1)
    path = tmp_path / "plan.yaml"
    facts = derived.model_dump(mode="json")
    changes = changes | {"network": facts["network"] | changes.get("network", {})}
    path.write_text(yaml.safe_dump(facts | changes))
    with pytest.raises(BadSetting, match=problem):
        training.read_plan(path, derived, few)


def test_the_command_may_not_say_something_else_than_its_plan(masks, tmp_path, capsys):
    command = ["train", str(masks.root), "--task", "grains", "--out", str(tmp_path / "out"), "--from", "none"]
    path = str(tmp_path / "plan.yaml")
    assert cli.run([*command, "--write-plan", path, "--seed", "3"]) == 0
    for said, problem in (
        (["--seed", "4"], "its seed is 3"),
        (["--seed", "0"], "its seed is 3"),
        (["--network", "resnet34"], "its network is resnet18"),
        (["--minutes", "5"], "its steps say how long it takes"),
    ):
        assert cli.run([*command, "--plan", path, *said]) == 2
        assert problem in capsys.readouterr().err


def test_the_only_image_of_a_class_of_pixels_is_not_held_out(tmp_path):
    for number in range(12):
        labels = np.zeros((64, 64), np.uint8)
        labels[:20] = 1
        labels[40:] = 2 if number == 7 else 0
        write(tmp_path / "images" / f"{number}.png", np.random.default_rng(number).integers(0, 255, (64, 64), np.uint8))
        write(tmp_path / "masks" / f"{number}.png", labels)
    (tmp_path / "classes.yaml").write_text("0: matrix\n1: pore\n2: carbide\n")
    read = folder.read(tmp_path)
    plans = [training.plan(read, "phases", 1, seed=seed) for seed in range(8)]
    assert all(plan.held_out and "7.png" not in plan.held_out for plan in plans)


@pytest.mark.parametrize("minutes", [0, -5, float("nan"), float("inf")])
def test_a_plan_takes_some_minutes(masks, minutes):
    with pytest.raises(BadSetting, match="minutes: a training takes some"):
        training.plan(masks, "grains", minutes)


def test_an_edited_plan_may_not_tear_a_group_apart(masks, tmp_path):
    one_group = [replace(item, group="plate 7") for item in masks.images]
    derived = training.plan(masks, "grains", 1)
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump(derived.model_dump(mode="json") | {"split": "image", "held_out": ["0.png"]}))
    with pytest.raises(BadSetting, match=r"on both sides of the split: 0\.png, 1\.png"):
        training.read_plan(path, derived, one_group)


def test_threads_that_make_batches_for_a_gpu_make_the_same_ones(masks, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    plan = short(training.plan(masks, "grains", 1))
    sampler = Sampler(plan, tasks.find("grains"), [masks.images])
    alone = [sampler.batch(number) for number in range(12)]
    monkeypatch.setattr("micro.training.samples.Batch.on", lambda batch, device: batch)
    together = list(sampler.batches(0, 12, torch.device("meta")))
    assert len(together) == 12
    for one, other in zip(alone, together, strict=True):
        assert torch.equal(one.pixels, other.pixels)
        assert torch.equal(one.target, other.target)


def test_all_that_learns_lies_on_the_device_and_no_step_waits_for_its_loss(masks, tmp_path, monkeypatch):
    """Tensors of the device "meta" have no numbers: mixing them with others fails, and so does reading one."""
    plan = short(training.plan(masks, "grains", 1), steps=3)
    paces = []
    monkeypatch.setattr("micro.training.loop.pick_device", lambda name: torch.device({"cuda": "meta"}.get(name, name)))
    monkeypatch.setattr("micro.training.loop._pace", lambda step, steps: paces.append(step) or 1.0)
    monkeypatch.setattr("torch.autocast", lambda kind, dtype, enabled: contextlib.nullcontext())
    with pytest.raises(RuntimeError, match=r"item\(\) cannot be called on meta"):
        next(training.train_steps(plan, masks, tmp_path / "a", replace(making(), device="cuda")))
    assert paces == [0, 1, 2], "the loss is read after the last step of the epoch"


def test_a_device_that_is_not_there_is_refused_before_any_minute_is_spent(masks):
    if torch.cuda.is_available():
        pytest.skip("this machine has one")
    with pytest.raises(BadSetting, match="No cuda device"):
        training.plan(masks, "grains", 1, device="cuda")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu_training_learns_what_it_learns_on_a_cpu(masks, tmp_path):
    plan = short(training.plan(masks, "grains", 1, device="cuda"), steps=60, batch=4, ema_decay=0.9)
    assert plan.precision == "bf16"
    losses = []
    for device in ("cpu", "cuda"):
        made = outcome(training.train_steps(plan, masks, tmp_path / device, replace(making(), device=device)))
        losses.append(made.curves[0].points[-1][1])
    assert losses[1] == pytest.approx(losses[0], rel=0.05)


def test_a_pixel_of_a_weighted_class_counts_so_much_more_in_all_maps():
    target = torch.zeros(1, 3, 4, 4)
    target[:, 0], target[:, 0, 0], target[:, 2, 0] = 1, 0, 1
    batch = Batch(torch.zeros(1, 1, 4, 4), target, torch.ones(1, 1, 4, 4))
    plan = SimpleNamespace(class_weights=(), dice=0.0, label_smoothing=0.0)
    weighted = SimpleNamespace(**{**vars(plan), "class_weights": (0.5, 1.0, 3.0)})
    wrong_in_rare, wrong_in_common = (target * 8 - 4 for _ in range(2))
    wrong_in_rare[0, :, 0, 0] *= -1
    wrong_in_common[0, :, 3, 0] *= -1
    same = [float(loss_of(answer, batch, plan)) for answer in (wrong_in_rare, wrong_in_common)]
    rare, common = (float(loss_of(answer, batch, weighted)) for answer in (wrong_in_rare, wrong_in_common))
    assert same[0] == pytest.approx(same[1])
    base = float(loss_of(target * 8 - 4, batch, plan))
    assert (rare - base) / (common - base) == pytest.approx(6, rel=1e-3), "3.0 beside 0.5"
    frames = Batch(torch.zeros(2, 1, 4, 4), torch.tensor([0, 2]), torch.ones(2))
    logits = torch.tensor([[0.0, 0, 0], [1.0, 0, 0]])
    assert loss_of(logits, frames, weighted) > loss_of(logits, frames, plan)


def test_soft_dice_counts_a_small_class_like_a_large_one_and_nothing_where_nothing_is_known():
    target = torch.zeros(1, 2, 16, 16)
    target[:, 0], target[:, 0, :2, :2], target[:, 1, :2, :2] = 1, 0, 1
    weight = torch.ones(1, 1, 16, 16)
    plan = SimpleNamespace(class_weights=(), dice=1.0, label_smoothing=0.0)
    batch = Batch(torch.zeros(1, 1, 16, 16), target, weight)
    assert float(loss_of(target * 40 - 20, batch, plan)) == pytest.approx(0, abs=1e-4)
    without_small = torch.stack([torch.ones(1, 16, 16), torch.zeros(1, 16, 16)], dim=1) * 40 - 20
    missed = float(loss_of(without_small, batch, plan))
    assert missed == pytest.approx(0.5 * (1 - 1 / 5) + 0.5 * (1 - 505 / 509), rel=1e-3)
    weight[:, :, :2, :2] = 0
    assert float(loss_of(without_small, batch, plan)) == pytest.approx(0, abs=1e-4)


def test_balanced_classes_weigh_one_over_the_root_of_their_share_and_crops_lie_on_each(masks, frames):
    names = ("matrix", "common", "rare")
    labels = np.zeros((96, 128), np.int32)
    labels[:, :64], labels[:4, 120:123] = 1, 2
    classes = replace(masks, images=tuple(replace(item, labels=labels) for item in masks.images), classes=names)
    plan = training.plan(classes, "phases", 1, balance=True)
    shares = np.bincount(labels.ravel()) / labels.size
    assert np.array(plan.class_weights) / plan.class_weights[0] == pytest.approx(np.sqrt(shares[0] / shares), rel=1e-3)
    assert float(np.array(plan.class_weights) @ shares) == pytest.approx(1, rel=1e-3)
    assert f"rare {plan.class_weights[2]:g}" in plan.describe()
    task = tasks.find("phases").named(names)
    plain, even = (Sampler(short(each), task, [classes.images]) for each in (training.plan(classes, "phases", 1), plan))
    on_rare = [np.mean([labels[tuple(place)] == 2 for place in each._sources[0].places]) for each in (plain, even)]
    assert on_rare[0] < 0.01
    assert on_rare[1] == pytest.approx(0.5)
    assert training.plan(frames, "defects", 1, balance=True).class_weights == pytest.approx((1.05, 0.96), abs=0.02)
    with pytest.raises(BadSetting, match="name no classes"):
        training.plan(masks, "grains", 1, balance=True)


def test_patience_ends_a_training_and_the_best_weights_are_taken(masks, tmp_path, monkeypatch):
    monkeypatch.setattr("micro.training.loop.STEPS_AN_EPOCH", 2)
    monkeypatch.setattr("micro.training.loop._pace", lambda *_: 1.0)
    plan = short(training.plan(masks, "grains", 1), steps=12, patience=2)
    monkeypatch.setattr("micro.training.loop._lesson", scored_by(0.2, 0.6, 0.5, 0.4, 0.9, 0.9))
    epochs, made = finish(training.train_steps(plan, masks, tmp_path / "a", making()))
    assert [(epoch.done, epoch.score) for epoch in epochs] == [(2, 0.2), (4, 0.6), (6, 0.5), (8, 0.4)]
    monkeypatch.setattr("micro.training.loop._lesson", scored_by(0.2, 0.6))
    four = plan.model_copy(update={"steps": 4})
    assert weights(made) == weights(finish(training.train_steps(four, masks, tmp_path / "b", making()))[1])


def scored_by(*scores):
    real, given = loop._lesson, iter(scores)

    def lesson(plan, folder, train, place, making):
        return real(plan.model_copy(update={"patience": 0}), folder, train, place, making)[0], lambda _: next(given)

    return lesson


def test_a_training_that_stops_early_is_the_same_after_a_stop_at_any_epoch(masks, tmp_path, monkeypatch):
    monkeypatch.setattr("micro.training.loop.STEPS_AN_EPOCH", 2)
    plan = short(training.plan(masks, "grains", 1), steps=8, patience=1, split="image", held_out=("0.png",))
    undisturbed = outcome(training.train_steps(plan, masks, tmp_path / "a", making()))
    for stop in range(1, len(undisturbed.curves[0].points) + 1):
        out = tmp_path / f"b{stop}"
        stopped = training.train_steps(plan, masks, out, making())
        for _ in range(stop):
            next(stopped)
        stopped.close()
        resumed = outcome(training.train_steps(plan, masks, out, making(), resume=True))
        assert weights(resumed.bundle) == weights(undisturbed.bundle)
        assert resumed.curves == undisturbed.curves


def test_what_says_when_to_stop_never_trains(masks, frames):
    plan = training.plan(masks, "grains", 1).model_copy(update={"patience": 3})
    train = list(masks.images)
    (trains, *_), (aside, *_) = set_aside(plan, train)
    known = np.flatnonzero((aside.labels >= 0).any(axis=0))
    assert trains.labels.shape[1] + PLACE_GAP_PX == known[0]
    frames_train, frames_aside = set_aside(plan, frames.images)
    assert {item.group for item in frames_train}.isdisjoint(item.group for item in frames_aside)
    assert len(frames_train) + len(frames_aside) == len(frames.images)
    assert set_aside(plan.model_copy(update={"patience": 0}), train) == (train, [])
    with pytest.raises(BadFolder, match="too small"):
        set_aside(plan, sides(plan, masks.images)[0])


def test_images_without_annotation_teach_every_other_step_of_the_second_half(masks, tmp_path):
    plan = short(training.plan(masks, "grains", 1, unlabelled="more"), steps=8)
    images = tuple(item.image for item in masks.images[:2])
    sampler = Sampler(plan, tasks.find("grains"), (masks.images,), images)
    assert [sampler.batch(number).is_known for number in range(8)] == [True] * 5 + [False, True, False]
    more = replace(making(), unlabelled=images)
    _, made = finish(training.train_steps(plan, masks, tmp_path / "a", more))
    _, plain = finish(
        training.train_steps(plan.model_copy(update={"unlabelled": None}), masks, tmp_path / "b", making())
    )
    assert weights(made) != weights(plain)
    assert [(source.name, source.images) for source in made.card.data][1:] == [("more", 2)]


def test_only_what_a_network_is_sure_of_both_ways_is_learned():
    class Halves(torch.nn.Module):
        """Sure of the left quarter as it lies in the image, of the right quarter as it is told, unsure between."""

        def forward(self, pixels):
            return pixels * 10

    pixels = torch.zeros(1, 1, 4, 8)
    pixels[..., :2], pixels[..., -2:] = 1, -1
    batch = Batch(pixels, torch.zeros(1, 1, 4, 8), torch.zeros(1, 1, 4, 8), is_known=False)
    learned = guessed(Halves(), {}, batch)
    assert learned.weight[0, 0, 0].tolist() == [1, 1, 0, 0, 0, 0, 1, 1]
    assert learned.target[0, 0, 0, [0, 7]].tolist() == pytest.approx([1, 0], abs=1e-3)

    class Sided(torch.nn.Module):
        """Says that the left half of whatever it is shown is inside."""

        def forward(self, pixels):
            answer = torch.full_like(pixels, -9.0)
            answer[..., :4] = 9
            return answer

    assert not guessed(Sided(), {}, batch).weight.any()


def test_a_folder_of_images_without_annotation_is_read_or_its_faults_are_listed(masks, tmp_path):
    for number, item in enumerate(masks.images[:2]):
        write(tmp_path / "more" / "deep" / f"{number}.png", item.image.pixels[..., 0])
    assert [image.name for image in folder.unlabelled(tmp_path / "more")] == ["0.png", "1.png"]
    (tmp_path / "more" / "broken.png").write_bytes(b"no image")
    with pytest.raises(BadFolder, match=r"broken\.png"):
        folder.unlabelled(tmp_path / "more")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadFolder, match="0 images"):
        folder.unlabelled(tmp_path / "empty")


def test_a_task_of_frames_cannot_learn_from_images_without_annotation(frames):
    with pytest.raises(BadSetting, match="only maps are learned"):
        training.plan(frames, "defects", 1, unlabelled="more")
