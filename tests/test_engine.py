import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_bundles import SMALL_CLASSIFIER, SMALL_UNET, make_bundle

from micro.decide import tempered
from micro.engine import Engine, Item, Quarantined, pick_device
from micro.errors import BadSetting, BrokenBundle, MicroError, UnknownPixelSize, UnreadableImage
from micro.micrograph import Micrograph
from micro.networks.reach import measure_reach
from micro.recipe import Recipe


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("bundles") / "grains-random")


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles") / "defects-random"
    return make_bundle(folder, SMALL_CLASSIFIER, task="defects")


def picture(height, width, seed=0, channels=1):
    return Micrograph(np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8), f"{seed}.png")


def maps(engine, image):
    steps = engine.maps([image.pixels], [engine.task.scaling(image.pixels)])
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return stop.value[0]


def test_tiles_with_the_networks_whole_reach_answer_exactly_as_the_whole_image(tmp_path):
    reach = measure_reach(SMALL_UNET)
    halo = -(-max(reach.above_px, reach.below_px) // 8) * 8
    made = make_bundle(tmp_path / "grains-reach", SMALL_UNET.model_copy(update={"halo_px": halo}))
    image = picture(300, 500)
    whole = maps(Engine(made, device="cpu", tile_px=2048), image).astype(int)
    tiled = maps(Engine(made, device="cpu", tile_px=2 * halo + 64), image).astype(int)
    assert np.abs(whole - tiled).max() <= 1, "a byte may round the other way"


def test_steps_say_how_far_they_are_and_return_the_prediction(segmenter):
    engine = Engine(segmenter, device="cpu", tile_px=192)
    steps = engine.steps(picture(200, 300))
    seen = []
    while True:
        try:
            seen.append(next(steps))
        except StopIteration as stop:
            found = stop.value
            break
    assert [step.done for step in seen] == list(range(1, len(seen) + 1))
    assert seen[-1].done == seen[-1].total > 1
    assert found.regions.labels.shape == (200, 300)
    assert found.maker.weights_sha256 == segmenter.card.weights_sha256
    assert set(np.unique(found.regions.labels)) <= set(range(len(found.regions) + 1))


def test_a_closed_generator_leaves_an_engine_that_works(segmenter):
    engine = Engine(segmenter, device="cpu", tile_px=192)
    image = picture(200, 300)
    steps = engine.steps(image)
    next(steps)
    steps.close()
    assert engine.predict(image).regions is not None


@pytest.mark.parametrize("shape", [(1, 1), (1, 77), (33, 5)])
def test_the_smallest_images_are_answered(segmenter, classifier, shape):
    assert Engine(segmenter, device="cpu").predict(picture(*shape)).regions.labels.shape == shape
    assert Engine(classifier, device="cpu").predict(picture(*shape)).class_name in SMALL_CLASSIFIER.outputs


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_depth_of_the_pixels_does_not_change_the_answer(segmenter, dtype):
    bytes_ = picture(96, 96).pixels
    factor = {np.uint8: 1, np.uint16: 257, np.float32: 1 / 255}[dtype]
    deep = Micrograph((bytes_.astype(np.float64) * factor).astype(dtype))
    engine = Engine(segmenter, device="cpu")
    assert np.abs(maps(engine, deep).astype(int) - maps(engine, Micrograph(bytes_))).max() <= 1


def test_a_colour_image_is_read_as_grey_and_the_prediction_says_so(segmenter):
    found = Engine(segmenter, device="cpu").predict(picture(64, 64, channels=3))
    assert any("read as grey" in note for note in found.notes)


def test_a_grey_image_becomes_three_equal_channels_and_the_prediction_says_so(tmp_path):
    spec = SMALL_UNET.model_copy(update={"in_channels": 3})
    found = Engine(make_bundle(tmp_path / "b", spec, channels="rgb"), device="cpu").predict(picture(64, 64))
    assert any("three equal channels" in note for note in found.notes)


def test_an_image_is_brought_to_the_trained_scale_and_its_labels_back(tmp_path):
    engine = Engine(make_bundle(tmp_path / "b", pixel_size_um=0.5), device="cpu")
    image = replace(picture(60, 90), pixel_size_um=1.0)
    job = engine._prepare(image)
    assert job.pixels.shape == (120, 180, 1)
    found = engine.predict(image)
    assert found.regions.labels.shape == (60, 90)
    assert "area_um2" in found.table
    assert np.allclose(found.table["area_um2"], found.table["area_px"])
    present = np.unique(found.regions.labels[found.regions.labels > 0])
    assert present.tolist() == list(range(1, len(found.regions) + 1)), "numbers have no gaps"


def test_an_image_is_brought_to_the_scale_that_a_setting_names_and_its_labels_back(segmenter):
    def engine_for(diameter_px: float | str) -> Engine:
        return Engine(segmenter, Recipe(model="x", settings={"grain_diameter_px": diameter_px}), device="cpu")

    image = picture(60, 90)
    engine = engine_for(114)
    assert engine._prepare(image).pixels.shape == (30, 45, 1)
    found = engine.predict(image)
    assert found.regions.labels.shape == (60, 90)
    assert found.notes == ("grains are 114 px across, as given: read at 0.50 of the image's scale",)
    assert engine_for("any").predict(image).notes == ()
    assert "grains" in engine_for("auto").predict(image).notes[0]
    huge = Micrograph(np.zeros((20_000, 20_000), np.uint8), "huge.png")
    with pytest.raises(BadSetting, match=r"huge\.png: grains are 3 px across.*80000 x 80000"):
        engine_for(3)._prepare(huge)
    with pytest.raises(BadSetting, match="grain_diameter_px"):
        engine_for("often")


def test_an_image_of_unknown_scale_is_refused_where_the_card_states_one(tmp_path):
    engine = Engine(make_bundle(tmp_path / "b", pixel_size_um=0.5), device="cpu")
    with pytest.raises(UnknownPixelSize, match=r"trained at 0\.5 um.*--pixel-size-um"):
        engine.predict(picture(60, 90))


def test_a_pixel_size_that_would_blow_the_image_up_is_refused(tmp_path):
    engine = Engine(make_bundle(tmp_path / "b", pixel_size_um=0.001), device="cpu")
    with pytest.raises(BadSetting, match="Is the pixel size right"):
        engine.predict(replace(picture(60, 90), pixel_size_um=1000.0))


def test_the_recipes_pixel_size_wins_and_is_recorded(segmenter):
    engine = Engine(segmenter, Recipe(model="x", pixel_size_um=0.25), device="cpu")
    found = engine.predict(replace(picture(64, 64), pixel_size_um=9.0, pixel_size_source="FEI tag"))
    assert (found.pixel_size_um, found.pixel_size_source) == (0.25, "given by the user")


@pytest.mark.parametrize("image", [np.zeros((64, 64), np.uint8), "image.png"])
def test_what_is_no_micrograph_is_refused_with_the_way_to_make_one(segmenter, image):
    with pytest.raises(UnreadableImage, match=r"micro\.read\(path\), or micro\.Micrograph\(pixels"):
        Engine(segmenter, device="cpu").predict(image)


def test_an_unknown_setting_lists_those_there_are(segmenter):
    with pytest.raises(BadSetting, match=r"min_size.*min_area_px="):
        Engine(segmenter, Recipe(model="x", settings={"min_size": 3}), device="cpu")


@pytest.mark.parametrize(
    ("kind", "settings", "words"),
    [
        ("segmenter", {"twins": "keep"}, "never shown twins"),
        ("classifier", {"ok_classes": "claen, crack"}, "no class claen. There are: clean, crack, scratch"),
    ],
)
def test_a_setting_that_a_bundle_cannot_follow_is_refused_before_any_image(kind, settings, words, request):
    with pytest.raises(BadSetting, match=words):
        Engine(request.getfixturevalue(kind), Recipe(model="x", settings=settings), device="cpu")


def test_true_is_no_number_in_a_setting(segmenter):
    with pytest.raises(BadSetting, match=r"min_area_px: .*not true or false"):
        Engine(segmenter, Recipe(model="x", settings={"min_area_px": True}), device="cpu")


def test_weights_of_another_network_are_refused(tmp_path):
    made = make_bundle(tmp_path / "b")
    other = made.card.model_copy(update={"segmenter": SMALL_UNET.model_copy(update={"decoder_channels": (32, 8, 8)})})
    with pytest.raises(BrokenBundle, match="do not fit"):
        Engine(replace(made, card=other), device="cpu")


@pytest.mark.parametrize("name", ["tpu0", "gpu", ""])
def test_a_device_that_does_not_exist_is_refused(name):
    with pytest.raises(BadSetting, match="auto"):
        pick_device(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_cuda_is_refused_where_there_is_none():
    with pytest.raises(BadSetting, match="micro doctor"):
        pick_device("cuda")


@pytest.mark.parametrize(
    "fault",
    [torch.OutOfMemoryError("no room"), MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")],
)
def test_out_of_memory_halves_the_tile_and_the_prediction_says_so(segmenter, monkeypatch, fault):
    engine = Engine(segmenter, device="cpu", tile_px=512)
    image = picture(400, 400)
    whole = engine.predict(image)
    forward = engine._segment

    def too_large(pixels, windows):
        if pixels.shape[1] > 256:
            raise fault
        return forward(pixels, windows)

    monkeypatch.setattr(engine, "_segment", too_large)
    found = engine.predict(image)
    assert any("out of memory" in note for note in found.notes)
    assert (found.regions.labels != whole.regions.labels).mean() < 0.01


def test_out_of_memory_with_the_smallest_tile_is_said(segmenter, monkeypatch):
    engine = Engine(segmenter, device="cpu")
    monkeypatch.setattr(engine, "_segment", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError()))
    with pytest.raises(MicroError, match="out of memory even with tiles"):
        engine.predict(picture(400, 400))


def test_probabilities_of_a_frame_add_up_and_its_class_is_the_likeliest(classifier):
    found = Engine(classifier, device="cpu").predict(picture(64, 64))
    assert sum(found.class_scores.values()) == pytest.approx(1, abs=1e-5)
    assert found.class_scores[found.class_name] == max(found.class_scores.values())
    assert found.verdict == "NG"
    assert found.regions is None


@pytest.mark.parametrize("kind", ["segmenter", "classifier"])
def test_a_stream_gives_the_answers_of_single_images_in_order_and_sets_bad_ones_apart(kind, request):
    engine = Engine(request.getfixturevalue(kind), device="cpu")
    images = [picture(48 + 8 * (number % 3), 64, number) for number in range(40)]

    def unreadable():
        raise UnreadableImage("7.png: no image")

    items = [Item(image.name, (lambda image=image: image)) for image in images]
    items[7], items[8] = Item("7.png", unreadable), Item("8", lambda: 1 / 0)
    results = list(engine.stream(items))
    assert len(results) == 40
    assert results[7] == Quarantined("7.png", "7.png: no image")
    said = "8: cannot be read (ZeroDivisionError: division by zero). Look at what reads it."
    assert results[8] == Quarantined("8", said)
    for image, result in zip(images[:7] + images[9:], results[:7] + results[9:], strict=True):
        alone = engine.predict(image)
        assert result.image == image.name
        if alone.regions is not None:
            assert np.array_equal(result.regions.labels, alone.regions.labels)
        assert result.class_scores == alone.class_scores


def test_one_image_that_cannot_be_judged_does_not_take_its_group_along(tmp_path):
    spec = SMALL_CLASSIFIER
    engine = Engine(make_bundle(tmp_path / "b", spec, task="defects", pixel_size_um=1.0), device="cpu")
    images = [replace(picture(64, 64, number), pixel_size_um=None if number == 3 else 1.0) for number in range(6)]
    results = list(engine.stream(Item(image.name, (lambda image=image: image)) for image in images))
    assert [isinstance(result, Quarantined) for result in results] == [number == 3 for number in range(6)]


def test_a_stream_that_is_closed_ends_its_threads(classifier):
    engine = Engine(classifier, device="cpu")
    before = threading.active_count()
    results = engine.stream(Item(str(number), lambda: picture(64, 64)) for number in range(10_000))
    next(results)
    results.close()
    assert threading.active_count() == before


def test_a_stream_reads_no_further_than_its_budget_ahead_of_the_caller(classifier, monkeypatch):
    monkeypatch.setattr("micro.engine.stream.BUDGET_VALUES", 2**20)
    read = []

    def items():
        for number in range(500):
            yield Item(str(number), lambda number=number: read.append(number) or picture(64, 64, number))

    results = Engine(classifier, device="cpu").stream(items())
    for _ in range(5):
        next(results)
    # 16 images of the least weight fill the budget; each worker may finish the group it has begun
    assert len(read) <= 5 + 16 + 16 * 2
    results.close()


def test_a_fault_of_ours_sets_its_image_apart_with_a_reason_and_the_others_are_done(classifier, monkeypatch):
    engine = Engine(classifier, device="cpu")
    prepare = engine._prepare
    monkeypatch.setattr(engine, "_prepare", lambda image: prepare(image) if image.name != "3.png" else 1 / 0)
    images = [picture(64, 64, number) for number in range(6)]
    results = list(engine.stream(Item(image.name, (lambda image=image: image)) for image in images))
    assert [isinstance(result, Quarantined) for result in results] == [number == 3 for number in range(6)]
    assert "ZeroDivisionError" in results[3].reason


@pytest.mark.parametrize("kind", ["segmenter", "classifier"])
def test_what_goes_wrong_between_images_is_raised_after_the_results_of_those_before_it(kind, request):
    def items():
        for number in range(40):
            yield Item(str(number), lambda number=number: picture(64, 64, number))
        raise OSError("the list of images went away")

    results = Engine(request.getfixturevalue(kind), device="cpu").stream(items())
    assert [next(results).image for _ in range(40)] == [picture(64, 64, number).name for number in range(40)]
    with pytest.raises(OSError, match="went away"):
        next(results)


def test_a_fault_of_our_own_is_told_as_one_and_stops_nothing(classifier, monkeypatch):
    engine = Engine(classifier, device="cpu")
    plain = engine._prepare
    monkeypatch.setattr(engine, "_prepare", lambda image: {}["x"] if image.name == "1" else plain(image))
    images = [replace(picture(64, 64), name=name) for name in "012"]
    results = list(engine.stream(Item(image.name, (lambda image=image: image)) for image in images))
    said = "1: a fault inside micro (KeyError: 'x'). Please report it with this image."
    assert [result if isinstance(result, Quarantined) else None for result in results] == [
        None,
        Quarantined("1", said),
        None,
    ]


@pytest.mark.parametrize("kind", ["segmenter", "classifier"])
def test_a_stream_of_images_is_told_that_it_takes_items(kind, request):
    with pytest.raises(BadSetting, match="takes items, such as Item"):
        list(Engine(request.getfixturevalue(kind), device="cpu").stream([picture(64, 64)]))


def test_a_cards_temperature_makes_a_classifier_less_sure_and_changes_no_answer(tmp_path):
    image = Micrograph(np.random.default_rng(4).integers(0, 256, (64, 64, 1), np.uint8))
    cold, hot = (
        Engine(make_bundle(tmp_path / name, SMALL_CLASSIFIER, task="defects", temperature=t), device="cpu")
        for name, t in (("cold", 0.02), ("hot", 2))
    )
    plain = Engine(make_bundle(tmp_path / "1", SMALL_CLASSIFIER, task="defects"), device="cpu").predict(image)
    scores = np.array([list(plain.class_scores.values())])
    for engine, temperature in ((cold, 0.02), (hot, 2)):
        found = engine.predict(image)
        assert list(found.class_scores.values()) == pytest.approx(tempered(scores, temperature)[0], abs=1e-3)
        assert found.class_name == plain.class_name
