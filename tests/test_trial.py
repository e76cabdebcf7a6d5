import numpy as np
import pytest
from small_bundles import SMALL_CLASSIFIER, SMALL_UNET, make_bundle

from micro import bundle, trial
from micro.engine import Engine
from micro.errors import BadFolder, BadSetting, BrokenBundle
from micro.folder import Annotated
from micro.micrograph import Micrograph


def frame(class_name, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (64, 64), np.uint8)
    return Annotated(Micrograph(pixels, f"{seed}.png"), None, class_name, str(seed), str(seed), True)


def test_a_bundle_of_the_other_kind_cannot_be_scored(tmp_path):
    engine = Engine(make_bundle(tmp_path / "b"), device="cpu")
    with pytest.raises(BadFolder, match="finds regions"):
        trial.run(engine, [frame("clean")])


def test_a_class_the_bundle_does_not_know_is_named(tmp_path):
    engine = Engine(make_bundle(tmp_path / "b", SMALL_CLASSIFIER, task="defects"), device="cpu")
    with pytest.raises(BadFolder, match="rust"):
        trial.run(engine, [frame("clean"), frame("rust", 1)])


def test_a_trial_of_classes_counts_what_the_engine_answers(tmp_path):
    engine = Engine(make_bundle(tmp_path / "b", SMALL_CLASSIFIER, task="defects"), device="cpu")
    items = [frame(name, seed) for seed, name in enumerate(SMALL_CLASSIFIER.outputs * 2)]
    result = trial.run(engine, items)
    right = sum(engine.predict(item.image).class_name == item.class_name for item in items)
    assert result.measured("six frames")[0].value == pytest.approx(right / 6, abs=1e-4)
    assert result.measured("six frames")[0].on == "six frames"
    assert trial.joined([result, result]).class_score().confusion.sum() == 12


def test_a_trial_of_regions_scores_the_engines_own_answer_perfect(tmp_path):
    engine = Engine(make_bundle(tmp_path / "b"), device="cpu")
    image = Micrograph(np.random.default_rng(1).integers(0, 256, (128, 128), np.uint8))
    labels = engine.predict(image).regions.labels
    result = trial.run(engine, [Annotated(image, labels, None, "a", "a", True)])
    figures = {row.what: row.value for row in result.measured("itself")}
    assert figures["adjusted Rand index"] == 1
    assert figures["AP at IoU 0.5"] == 1
    assert figures["false regions an image"] == 0
    assert "AP50" in result.describe()


def test_a_trial_of_pixels_counts_the_engines_own_answer_as_right(tmp_path):
    spec = SMALL_UNET.model_copy(update={"outputs": ("matrix", "carbide", "pore")})
    engine = Engine(make_bundle(tmp_path / "b", spec, task="phases"), device="cpu")
    image = Micrograph(np.random.default_rng(1).integers(0, 256, (128, 128), np.uint8))
    found = engine.predict(image).regions
    labels = np.array([0, *map(spec.outputs.index, found.class_names)], np.int32)[found.labels]
    other = labels.copy()
    other[:64][labels[:64] == 0] = 1
    other[100:] = -1
    items = [Annotated(image, truth, None, name, name, True) for name, truth in (("a", labels), ("b", other))]
    itself = {row.what: row.value for row in trial.run(engine, items[:1]).measured("itself")}
    assert itself["mean IoU"] == itself["pixels named right"] == 1
    both = trial.joined([trial.run(engine, [item]) for item in items])
    wrong = ((labels != other) & (other >= 0)).sum()
    known = labels.size + (other >= 0).sum()
    figures = {row.what: row for row in both.measured("both")}
    assert figures["pixels named right"].value == pytest.approx(1 - wrong / known, abs=1e-4)
    assert figures["mean IoU"].low <= figures["mean IoU"].value < 1
    named = [f"IoU of {name}" for name in spec.outputs]
    assert list(figures) == ["mean IoU", *named, "pixels named right", "IoU over all classes together"]
    share = known - wrong, known + wrong  # each wrong pixel is in the union twice
    assert figures["IoU over all classes together"].value == pytest.approx(share[0] / share[1], abs=1e-4)
    assert "mean IoU" in both.describe()


@pytest.mark.parametrize("task", ["grains", "phases"])
def test_an_image_of_which_nothing_is_known_counts_nowhere(tmp_path, task):
    spec = SMALL_UNET if task == "grains" else SMALL_UNET.model_copy(update={"outputs": ("matrix", "carbide", "pore")})
    engine = Engine(make_bundle(tmp_path / "b", spec, task=task), device="cpu")
    image = Micrograph(np.random.default_rng(1).integers(0, 256, (64, 64), np.uint8))
    labels = (np.indices((64, 64)).sum(axis=0) // 32).astype(np.int32).clip(max=2)
    some, none = (Annotated(image, truth, None, "a", "a", True) for truth in (labels, np.full_like(labels, -1)))
    assert trial.run(engine, [none, some]).measured("") == trial.run(engine, [some]).measured("")
    both = trial.run(engine, [none, some])
    assert [case.truth.max() for case in trial.worst(engine, [none, some], both, 2)] == [2]
    with pytest.raises(BadFolder, match="no annotated image"):
        trial.run(engine, [none])


def test_nothing_to_score_is_said(tmp_path):
    with pytest.raises(BadFolder, match="no annotated image"):
        trial.run(Engine(make_bundle(tmp_path / "b"), device="cpu"), [])


def test_answers_come_back_from_a_bundle_as_they_were_and_are_missed_where_there_are_none(tmp_path):
    made = make_bundle(tmp_path / "b", SMALL_CLASSIFIER, task="defects")
    result = trial.run(Engine(made, device="cpu"), [frame(name, seed) for seed, name in enumerate(made.card.classes)])
    with pytest.raises(BrokenBundle, match="--folds"):
        trial.kept_answers(made)
    trial.keep_answers(made.folder, result)
    kept = trial.kept_answers(made)
    assert (kept.images, kept.groups, kept.class_names) == (result.images, result.groups, result.class_names)
    assert np.array_equal(kept.truth, result.truth)
    assert kept.probabilities == pytest.approx(result.probabilities, rel=1e-5)
    (made.folder / trial.ANSWERS).write_text("image,class\na.png,crack\n")
    with pytest.raises(BrokenBundle, match="not a table of answers"):
        trial.kept_answers(made)


@pytest.mark.parametrize(("dtype", "pixel_size_um"), [(np.uint8, None), (np.uint8, 0.5), (np.float32, None)])
def test_a_bundle_proves_itself_on_a_sample_of_any_kind(tmp_path, dtype, pixel_size_um):
    made = make_bundle(tmp_path / "b")
    pixels = np.random.default_rng(1).integers(0, 256, (96, 96), np.uint8).astype(dtype)
    sample = Micrograph(pixels, "sample", pixel_size_um, None if pixel_size_um is None else "OME-XML")
    trial.keep_proof(made.folder, sample, Engine(made, device="cpu").predict(sample))
    assert trial.sample_of(made).pixel_size_um == pixel_size_um
    assert "as expected" in trial.prove(made, "cpu")


def test_a_start_is_asked_for_no_sample():
    with pytest.raises(BadSetting, match="answers no image"):
        trial.sample_of(bundle.load("start-segment"))


NO_NUMBERS = '{"class_scores": {"clean": NaN, "crack": NaN, "scratch": NaN}}'


@pytest.mark.parametrize("text", [None, "", "[]", "{}", '{"class_scores": {"clean": "x"}}', "\xff", NO_NUMBERS])
def test_a_bundle_whose_stored_answer_is_none_is_broken(tmp_path, text):
    made = make_bundle(tmp_path / "b", SMALL_CLASSIFIER, task="defects")
    sample = frame("clean").image
    trial.keep_proof(made.folder, sample, Engine(made, device="cpu").predict(sample))
    stored = made.folder / trial.EXPECTED_SCORES
    stored.unlink()
    if text is not None:
        stored.write_bytes(text.encode("latin1"))
    with pytest.raises(BrokenBundle):
        trial.prove(made, "cpu")


def test_the_worst_images_come_first_with_the_answers_that_were_counted(tmp_path):
    engine = Engine(make_bundle(tmp_path / "b"), device="cpu")
    image = Micrograph(np.random.default_rng(1).integers(0, 256, (128, 128), np.uint8))
    found = engine.predict(image).regions
    none = np.zeros_like(found.labels)
    none[:60, :60] = 1
    items = [Annotated(image, labels, None, "a", "a", True) for labels in (found.labels, none)]
    score = trial.run(engine, items)
    assert score.badness()[0] == 0 < score.badness()[1]
    assert score.regions[0].right.all()
    assert np.array_equal(score.regions[0].sure, found.scores)
    (worst,) = trial.worst(engine, items, score, 1)
    assert worst.badness == score.badness()[1]
    assert np.array_equal(worst.truth, none)
    assert np.array_equal(worst.found, found.labels)
    assert sum(each.count for each in score.sureness()) == sum(len(row.sure) for row in score.regions)
