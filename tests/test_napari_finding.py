from dataclasses import replace

import numpy as np
import pytest
from small_bundles import SMALL_CLASSIFIER, SMALL_UNET, make_bundle

from micro import formats, tasks
from micro.errors import MicroError, UnreadableImage
from micro.folder import read_for
from micro.micrograph import Micrograph
from micro.recipe import Recipe
from micro.regions import Maker, Prediction, Regions
from micro.tasks import grains
from micro_napari import keeping, teaching
from micro_napari.finding import Finding, headline

SMALL_PHASES = SMALL_UNET.model_copy(update={"outputs": ("matrix", "carbide", "pore")})
MAKER = Maker("small", "0.1.0", "1" * 64)


@pytest.fixture(scope="module")
def cards(tmp_path_factory):
    root = tmp_path_factory.mktemp("bundles")
    return {
        "grains": make_bundle(root / "small").card,
        "flakes": make_bundle(root / "flat", task="flakes").card,
        "defects": make_bundle(root / "frames", SMALL_CLASSIFIER, task="defects").card,
        "phases": make_bundle(root / "pixels", SMALL_PHASES, task="phases").card,
    }


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def quarters(edge=40):
    """Four square regions that fill an image."""
    half = edge // 2
    y, x = np.mgrid[:edge, :edge]
    return (1 + (y >= half) * 2 + (x >= half)).astype(np.int32)


def found(cards, labels=None, um=0.5, task="grains", names=None):
    labels = quarters() if labels is None else labels
    count = int(labels.max())
    image = Micrograph(np.zeros(labels.shape, np.uint8), "field.tif", um, "OME-XML")
    names = names or ("grain",) * count
    regions = Regions(labels, names, np.linspace(0.5, 0.9, count, dtype=np.float32))
    prediction = Prediction("field.tif", *labels.shape, MAKER, um, "OME-XML", regions, grains.measure(regions, image))
    return Finding(cards[task], Recipe(model="small"), image, prediction)


def test_row_i_of_the_table_is_label_i_and_holds_what_the_engine_measured(cards):
    finding = found(cards)
    features = finding.measured.features
    assert features["index"].tolist() == [0, 1, 2, 3, 4]
    assert features["class"].tolist() == ["background", "grain", "grain", "grain", "grain"]
    for name, values in finding.prediction.table.items():
        assert np.array_equal(features[name][1:], values), name
    assert not features["edited"].any()


def test_a_boundary_that_moves_changes_two_rows_and_flags_them(cards):
    finding, moved = found(cards), quarters()
    moved[:20, 20:22] = 1
    features = finding.measure(moved).features
    assert features["area_px"].tolist() == [0, 440, 360, 400, 400]
    assert features["edited"].tolist() == [False, True, True, False, False]


def test_what_is_undone_is_not_edited(cards):
    finding = found(cards)
    finding.measure(np.where(quarters() == 2, 1, quarters()).astype(np.int32))
    assert finding.measure(quarters()).edited == 0


def test_a_flake_that_nobody_named_has_no_layers(cards):
    painted = quarters()
    painted[:5, :5] = 7
    names = found(cards, task="flakes", names=("2L", "1L", "2L", "3L")).measure(painted).features["class"]
    assert names.tolist() == ["background", "2L", "1L", "2L", "3L", "unknown", "unknown", "unknown"]
    nothing = found(cards, np.zeros((40, 40), np.int32), task="flakes")
    assert nothing.measure(painted).features["class"][7] == "unknown"
    assert teaching.pixel_classes(nothing, painted) is None


def test_a_region_that_is_gone_keeps_its_row_and_is_not_counted(cards):
    finding = found(cards)
    measured = finding.measure(np.where(quarters() == 4, 3, quarters()).astype(np.int32))
    assert measured.features["area_px"].tolist() == [0, 400, 400, 800, 0]
    assert measured.features["score"][4] == pytest.approx(0.9)
    assert measured.alive.tolist() == [1, 2, 3]
    assert measured.edited == 2


def test_a_new_region_gets_a_row_with_its_class_and_no_score(cards):
    finding, labels = found(cards), quarters()
    number = finding.free_number(labels)
    finding.classes[number] = "twin"
    labels[5:10, 5:10] = number
    features = finding.measure(labels).features
    assert number == 5
    assert features["class"][5] == "twin"
    assert np.isnan(features["score"][5])
    assert features["edited"].tolist() == [False, True, False, False, False, True]


def test_a_number_that_was_ever_given_is_not_given_again(cards):
    finding = found(cards)
    finding.classes[9] = "twin"
    assert finding.free_number(quarters()) == 10


def test_a_class_that_was_changed_is_an_edit(cards):
    finding = found(cards)
    finding.classes[2] = "twin"
    assert finding.measure(quarters()).features["edited"].tolist() == [False, False, True, False, False]


def test_the_headline_of_grains_is_their_size_by_counting(cards):
    finding = found(cards)
    # four grains at four corners of the frame count 1/4 each: 1 grain on (40 x 0.5 um)^2 = 400 um2 = 4e-4 mm2, that is
    # 2500 a mm2, and G = 3.321928 log10(2500) - 2.954 (E112, Table 6)
    assert headline(finding).startswith(f"G {3.321928 * np.log10(2500) - 2.954:.2f}, one field")
    assert "4 grains, 4 cut by the frame" in headline(finding)


def test_fields_of_one_specimen_have_an_interval_together(cards):
    # 2500 and 2550.76 grains a mm2: mean 2525.38, s 35.89, and t(0.975, 1) = 12.706 makes +- 322.5
    said = headline(found(cards), [found(cards, um=0.495)])
    low, high = (3.321928 * np.log10(density) - 2.954 for density in (2525.38 - 322.5, 2525.38 + 322.5))
    assert f"95 % CI {low:.2f} to {high:.2f} over 2 fields" in said


def test_grains_without_a_pixel_size_have_no_size(cards):
    assert "G needs the pixel size" in headline(found(cards, um=None))


def test_a_field_without_a_size_of_its_own_does_not_bear_that_of_another(cards):
    said = headline(found(cards, um=None), [found(cards)])
    assert said == "4 grains, 4 cut by the frame. G needs the pixel size."
    finding = found(cards)
    nothing = np.zeros((40, 40), np.int32)
    finding.measured = replace(finding.measure(nothing), grains=finding.count_grains(nothing))
    said = headline(finding, [found(cards)])
    assert said == "0 grains, 0 cut by the frame. G needs a larger field with grains."


def test_the_headline_follows_the_edit(cards):
    finding = found(cards)
    before = headline(finding)
    two = np.where(quarters() > 2, 2, 1).astype(np.int32)
    finding.measured = finding.measure(two)
    assert finding.count_grains(two).value == pytest.approx(2500)
    assert "2 grains" in headline(finding) != before


def test_flakes_are_ranked_by_area_with_their_class(cards):
    labels = np.zeros((40, 40), np.int32)
    labels[2:6, 2:6], labels[10:30, 10:30] = 1, 2
    said = headline(found(cards, labels, task="flakes", names=("1 layer", "2 layers"))).splitlines()
    assert said[0].startswith("2 flakes")
    assert said[1] == "1. 2 layers 2: 100 um2"
    assert said[2] == "2. 1 layer 1: 4 um2"


def test_the_headline_of_a_frame_is_its_verdict(cards):
    image = Micrograph(np.zeros((8, 8), np.uint8), "frame.png")
    prediction = Prediction("frame.png", 8, 8, MAKER, class_name="crack", class_scores={"crack": 0.93}, verdict="NG")
    assert headline(Finding(cards["defects"], Recipe(model="frames"), image, prediction)) == "NG: crack (93.0%)"


def test_corrections_are_kept_for_the_same_image_and_weights(cards):
    finding, edited = found(cards), quarters()
    edited[0, 0] = 7
    finding.classes[7] = "twin"
    keeping.save(finding, edited)
    (again,) = keeping.load(found(cards))
    assert np.array_equal(again.labels(), edited)
    assert again.classes[7] == "twin"
    assert keeping.load(found(cards, quarters(20))) == []
    keeping.forget(finding)
    assert keeping.load(found(cards)) == []


def test_each_run_keeps_its_corrections_beside_those_of_others(cards, monkeypatch):
    monkeypatch.setattr(keeping, "MOST_OF_ONE", 3)
    runs = [found(cards) for _ in range(4)]
    for number, run in enumerate(runs, 5):
        for corner in (0, number):
            edited = quarters()
            edited[0, 0] = corner
            keeping.save(run, edited)
    assert [int(each.labels()[0, 0]) for each in keeping.load(found(cards))] == [8, 7, 6]
    keeping.forget(runs[2])
    assert [int(each.labels()[0, 0]) for each in keeping.load(found(cards))] == [8, 6]


def test_only_so_many_corrections_are_kept(cards, monkeypatch):
    monkeypatch.setattr(keeping, "MOST_KEPT", 2)
    for edge in (20, 30, 40):
        keeping.save(found(cards, quarters(edge)), quarters(edge))
    assert len(list((keeping.home() / "corrections").iterdir())) == 2


def test_a_damaged_correction_is_none_or_says_so(cards):
    folder = keeping.save(found(cards), quarters())
    (folder / "labels.tif").write_bytes(b"cut")
    with pytest.raises(UnreadableImage):
        keeping.load(found(cards))[0].labels()
    (folder / "facts.json").write_bytes(b"{")
    assert keeping.load(found(cards)) == []


def test_the_pixel_size_of_an_objective_is_remembered():
    assert keeping.objectives() == {}
    keeping.remember_objective("20x", 0.39)
    keeping.remember_objective("50x", 0.15)
    assert keeping.objectives() == {"20x": 0.39, "50x": 0.15}


def test_an_image_is_added_to_a_training_folder_once_with_its_last_labels(cards, tmp_path):
    finding, folder = found(cards), tmp_path / "set"
    teaching.add(folder, finding.image, quarters())
    edited = np.where(quarters() == 4, 3, quarters()).astype(np.int32)
    path = teaching.add(folder, finding.image, edited)
    assert teaching.count(folder) == 1
    assert np.array_equal(formats.read_labels(folder / "masks" / path.name), edited)
    back = formats.read(path)
    assert np.array_equal(back.pixels, finding.image.pixels)
    assert back.pixel_size_um == pytest.approx(0.5)


def test_a_task_of_pixel_classes_is_taught_their_values_and_a_table_that_names_them(cards, tmp_path):
    finding, folder = found(cards, task="phases", names=("pore", "carbide", "pore", "pore")), tmp_path / "set"
    labels = np.where(quarters() == 4, 0, quarters()).astype(np.int32)
    teaching.add(folder, finding.image, labels, teaching.pixel_classes(finding, labels))
    finding.classes[9] = "crack"
    labels[:5, :5] = 9
    teaching.add(folder, finding.image, labels, teaching.pixel_classes(finding, labels))
    annotated = read_for(tasks.find("phases"), folder)
    assert annotated.classes == ("matrix", "carbide", "pore", "crack")
    expected = np.array([0, 2, 1, 2, 0, 0, 0, 0, 0, 3])[labels]
    assert np.array_equal(annotated.images[0].labels, expected)
    assert teaching.pixel_classes(found(cards), labels) is None
    with pytest.raises(MicroError, match="classes of pixels"):
        teaching.add(folder, finding.image, labels)


def test_flakes_are_taught_with_their_layers_and_thick_crystals_as_none(cards, tmp_path):
    folder = tmp_path / "set"
    finding = found(cards, task="flakes", names=("2L", "1L", "thick", "unknown"))
    teaching.add(folder, finding.image, quarters(), teaching.pixel_classes(finding, quarters()))
    annotated = read_for(tasks.find("flakes"), folder)
    assert annotated.images[0].region_classes == ("2L", "1L")
    assert np.array_equal(annotated.images[0].labels, np.array([0, 1, 2, 0, -1])[quarters()])
    finding.classes[4] = "bilayer"
    with pytest.raises(MicroError, match="bilayer"):
        teaching.pixel_classes(finding, quarters())
    nameless = found(cards, task="flakes", names=("unknown",) * 4)
    assert teaching.pixel_classes(nameless, quarters()) is None
    with pytest.raises(MicroError, match="classes of pixels"):
        teaching.add(folder, nameless.image, quarters())


def test_two_images_of_one_name_are_two_in_the_training_folder(cards, tmp_path):
    teaching.add(tmp_path / "set", found(cards).image, quarters())
    other = Micrograph(np.ones((40, 40), np.uint8), "field.tif", 0.5)
    teaching.add(tmp_path / "set", other, quarters())
    assert teaching.count(tmp_path / "set") == 2


def test_a_folder_of_other_things_and_an_image_without_regions_are_refused(cards, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.doc").touch()
    with pytest.raises(Exception, match="other things"):
        teaching.add(tmp_path / "other", found(cards).image, quarters())
    with pytest.raises(Exception, match="no region"):
        teaching.add(tmp_path / "set", found(cards).image, np.zeros((40, 40), np.int32))
