import hashlib
import json
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet
import pytest
import tifffile
from tessellations import shaken_lattice, voronoi, with_lines
from toy_line import Toy, drained, rows, steps

from micro import cli, formats, tasks
from micro.line.corrections import correct
from micro.micrograph import Micrograph
from micro.regions import Prediction, Regions
from micro.specimen.edits import Change, altered, compare

UM = 0.5


class Grower(Toy):
    """Finds the grains that an image is drawn with: its grey values are their numbers."""

    def judge(self, image: Micrograph) -> Prediction:
        labels = image.pixels[..., 0].astype(np.int32)
        count = int(labels.max())
        regions = Regions(labels, ("grain",) * count, np.ones(count, np.float32))
        table = tasks.find("grains").measure(regions, image)
        facts = (image.name, image.height_px, image.width_px, self.maker, image.pixel_size_um, image.pixel_size_source)
        return Prediction(*facts, regions=regions, table=table)


def drawn(seed: int, grains: int = 60) -> np.ndarray:
    return voronoi(seed, grains, (160, 200)).labels


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run over two images of about 70 grains each."""
    for name, seed in (("a", 1), ("b", 2)):
        (tmp_path / "images").mkdir(exist_ok=True)
        image = Micrograph(drawn(seed).astype(np.uint8), pixel_size_um=UM, pixel_size_source="drawn")
        formats.write_image(tmp_path / "images" / f"{name}.tif", image)
    drained(steps(tmp_path / "images", tmp_path / "run", Grower()))
    return tmp_path / "run"


def measured(*arguments: object, out: Path) -> tuple[int, dict]:
    code = cli.run(["measure", *map(str, arguments), "--out", str(out)])
    return code, json.loads((out / "specimen.json").read_text(encoding="utf-8"))


def g_of(record: dict) -> float:
    return record["sizes"]["planimetric_saltikov"]["g"]


def merged(labels: np.ndarray, one: int, other: int) -> np.ndarray:
    return np.where(labels == other, one, labels).astype(np.int32)


def whole(labels: np.ndarray) -> list[int]:
    """Numbers of grains that touch no frame."""
    frame = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    return [int(number) for number in np.setdiff1d(labels, [0, *frame])]


def neighbour(labels: np.ndarray, number: int) -> int:
    grown = cv2.dilate((labels == number).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    around = labels[grown & (labels != number)]
    return int(np.bincount(around).argmax())


def test_an_untouched_run_is_measured_as_it_was_found(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    code, record = measured(run, out=tmp_path / "out")
    assert code == 0
    assert [each["change"] for each in record["inputs"]] == [None, None]
    assert [field["pixel_size_um"] for field in record["fields"]] == pytest.approx([UM, UM])
    assert "Corrected" not in capsys.readouterr().out
    theirs, ours = rows(run / "regions.csv"), rows(tmp_path / "out" / "regions.csv")
    assert list(ours[0]) == list(theirs[0])
    for mine, other in zip(ours, theirs, strict=True):
        assert {**mine, "score": ""} == {**other, "score": ""}


def test_a_corrected_boundary_changes_g_at_once_and_is_on_the_record(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    before = measured(run, out=tmp_path / "before")[1]
    labels = drawn(1)
    inside = whole(labels)
    formats.write_labels(tmp_path / "mine.tif", merged(labels, inside[0], neighbour(labels, inside[0])))
    correct(run, tmp_path / "images" / "a.tif", "A. Smith", labels=tmp_path / "mine.tif")
    code, after = measured(run, out=tmp_path / "after")
    assert code == 0
    assert g_of(after) < g_of(before)
    change = next(each for each in after["inputs"] if each["field"] == "a.tif")
    assert change["change"] == {
        "before": len(np.unique(labels)),
        "after": len(np.unique(labels)) - 1,
        "added": 0,
        "removed": 0,
        "merged": 1,
        "split": 0,
        "reshaped": 0,
    }
    assert change["corrections"][0]["author"] == "A. Smith"
    assert "Corrected: a.tif: " in capsys.readouterr().out
    assert before["inputs"][0]["labels_sha256"] != change["labels_sha256"]


def test_a_label_file_that_was_changed_where_it_lies_is_found_out(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    labels = drawn(2)
    inside = whole(labels)
    formats.write_labels(run / "labels" / "b.tif", merged(labels, inside[0], neighbour(labels, inside[0])), UM)
    record = measured(run, out=tmp_path / "out")[1]
    change = {each["field"]: each["change"] for each in record["inputs"]}
    assert change["a.tif"] is None
    assert (change["b.tif"]["before"] - change["b.tif"]["after"], change["b.tif"]["merged"]) == (1, None)
    assert "what was found is not kept" in capsys.readouterr().out


def test_an_image_of_a_run_that_could_not_be_read_is_missed_on_the_screen_in_the_record_and_on_the_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    for name, seed in (("bolt/a", 1), ("nut/b", 2)):
        (tmp_path / "images" / name).parent.mkdir(parents=True)
        image = Micrograph(drawn(seed).astype(np.uint8), pixel_size_um=UM, pixel_size_source="drawn")
        formats.write_image(tmp_path / "images" / f"{name}.tif", image)
    (tmp_path / "images" / "nut" / "torn.tif").write_bytes((tmp_path / "images" / "nut" / "b.tif").read_bytes()[:99])
    drained(steps(tmp_path / "images", tmp_path / "run", Grower()))
    code, record = measured(tmp_path / "run", out=tmp_path / "out")
    assert code == 0
    assert list(record["left_out"]) == ["nut/torn.tif"]
    assert "Left out: nut/torn.tif: " in capsys.readouterr().out
    assert cli.run(["report", str(tmp_path / "out")]) == 0
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "An image of the run is no field of this specimen" in page
    assert cli.run(["measure", str(tmp_path / "run"), "--specimen-by", "folder", "--out", str(tmp_path / "two")]) == 0
    parts = {each: json.loads((tmp_path / "two" / each / "specimen.json").read_text()) for each in ("bolt", "nut")}
    assert [list(parts[each]["left_out"]) for each in ("bolt", "nut")] == [[], ["nut/torn.tif"]]


def test_the_page_says_by_which_settings_grains_were_found_though_nobody_changed_one(run: Path, tmp_path: Path):
    drained(steps(tmp_path / "images", tmp_path / "by", Grower(settings=tasks.find("grains").settings())))
    for folder in (run, tmp_path / "by"):
        facts = json.loads((folder / "run.json").read_text())
        (folder / "run.json").write_text(json.dumps({key: value for key, value in facts.items() if value != {}}))
        assert measured(folder, out=tmp_path / folder.name / "g")[0] == 0
        assert cli.run(["report", str(tmp_path / folder.name / "g")]) == 0
    page = (tmp_path / "by" / "g" / "report.html").read_text(encoding="utf-8")
    assert "toy 1.0.0, min_area_px=20, " in page
    assert "twins=merge" in page
    assert "toy 1.0.0, weights" in (run / "g" / "report.html").read_text(encoding="utf-8"), "of a run of before"


def test_what_a_run_left_undone_is_missed_in_the_record_and_a_run_that_goes_on_is_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    facts = json.loads((run / "run.json").read_text())
    facts["counts"]["images"] += 3
    (run / "run.json").write_text(json.dumps(facts | {"state": "interrupted"}))
    code, record = measured(run, out=tmp_path / "out")
    assert (code, list(record["left_out"])) == (0, ["3 images"])
    assert "Left out: 3 images: no result yet" in capsys.readouterr().out
    (run / "run.json").write_text(json.dumps(facts | {"state": "running"}))
    assert cli.run(["measure", str(run), "--out", str(tmp_path / "other")]) == 2
    assert "the run goes on, or was killed" in capsys.readouterr().err


def test_of_a_file_that_was_written_anew_what_it_last_held_is_the_field_and_the_rest_is_named(
    run: Path, tmp_path: Path
):
    before = measured(run, out=tmp_path / "before")[1]
    was = hashlib.sha256((tmp_path / "images" / "a.tif").read_bytes()).hexdigest()
    formats.write_image(tmp_path / "images" / "a.tif", Micrograph(drawn(3).astype(np.uint8), pixel_size_um=UM))
    drained(steps(tmp_path / "images", run, Grower()))
    record = measured(run, out=tmp_path / "out")[1]
    assert [each["field"] for each in record["inputs"]] == ["a.tif", "b.tif"]
    assert g_of(record) != g_of(before)
    assert record["inputs"][0]["image_sha256"] != was
    assert record["left_out"] == {f"a.tif ({was[:8]})": "an earlier image of this name; the last one is the field"}


def test_a_run_that_found_other_things_has_no_grain_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    class Finder(Grower):
        def judge(self, image: Micrograph) -> Prediction:
            found = super().judge(image)
            assert found.regions is not None
            return replace(found, regions=replace(found.regions, class_names=("carbide",) * len(found.regions)))

    formats.write_image(tmp_path / "a.tif", Micrograph(drawn(1).astype(np.uint8)))
    drained(steps(tmp_path / "a.tif", tmp_path / "run", Finder()))
    assert cli.run(["measure", str(tmp_path / "run"), "--out", str(tmp_path / "out")]) == 2
    assert "this run found carbide, and not grains" in " ".join(capsys.readouterr().err.split())


def test_a_run_is_measured_alone(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert cli.run(["measure", str(run), str(tmp_path / "images"), "--out", str(tmp_path / "out")]) == 2
    assert "Name it alone" in capsys.readouterr().err


def test_the_tables_of_a_run_are_not_written_over(run: Path, capsys: pytest.CaptureFixture[str]):
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    assert cli.run(["measure", str(run), "--out", str(run)]) == 2
    message = " ".join(capsys.readouterr().err.split())
    assert "tables of a run lie there" in message
    assert "run-grain-size" in message
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before


def test_each_kind_of_edit_is_counted_as_that_kind():
    labels = drawn(3, 40)
    one = whole(labels)[0]
    other = neighbour(labels, one)
    rows_, columns = np.nonzero(labels == one)
    upper = (labels == one) & (np.arange(labels.shape[0])[:, None] < np.median(rows_))
    split = np.where(upper, 999, labels).astype(np.int32)
    erased = np.where(labels == one, 0, labels).astype(np.int32)
    moved = labels.copy()
    moved[rows_[0], columns[0]] = other
    count = len(np.unique(labels))
    assert compare(labels, merged(labels, one, other)) == Change(count, count - 1, 0, 0, 1, 0, 0)
    assert compare(labels, split) == Change(count, count + 1, 0, 0, 0, 1, 0)
    assert compare(split, labels) == Change(count + 1, count, 0, 0, 1, 0, 0)
    assert compare(labels, erased) == Change(count, count - 1, 0, 1, 0, 0, 0)
    assert compare(erased, labels) == Change(count - 1, count, 1, 0, 0, 0, 0)
    reshaped = compare(labels, moved)
    assert reshaped is not None
    assert (reshaped.reshaped, reshaped.merged, reshaped.split) == (2, 0, 0)


def test_new_numbers_for_the_same_grains_are_no_edit():
    labels = drawn(4, 40)
    numbers = np.random.default_rng(1).permutation(int(labels.max()) + 1) + 1
    assert compare(labels, numbers[labels].astype(np.int32)) is None
    assert altered(labels, {}) is not None


def test_a_pixel_for_a_pixel_between_two_grains_is_an_edit_of_the_file():
    labels = np.repeat([[1] * 10 + [2] * 10], 20, axis=0).astype(np.int32)
    found = {1: (200, 9.5, 4.5), 2: (200, 9.5, 14.5)}
    assert altered(labels, found) is None
    labels[0, 9], labels[19, 10] = 2, 1
    assert altered(labels, found) == Change(2, 2)


def test_a_label_file_that_was_changed_where_it_lies_may_hold_any_number(run: Path, tmp_path: Path):
    labels = drawn(2).astype(np.int32)
    formats.write_labels(run / "labels" / "b.tif", np.where(labels == 5, 2**31 - 1, labels).astype(np.int32), UM)
    change = {each["field"]: each["change"] for each in measured(run, out=tmp_path / "out")[1]["inputs"]}
    assert change["b.tif"]["before"] == change["b.tif"]["after"] == len(np.unique(labels))


def test_label_files_lie_in_any_form_and_keep_their_numbers(tmp_path: Path):
    labels = drawn(5, 40) + 70000
    colours = np.stack([labels >> 16 & 255, labels >> 8 & 255, labels & 255], axis=-1).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "colours.png"), colours[..., ::-1])
    code, record = measured(tmp_path / "colours.png", "--scale-bar", "100px=50um", out=tmp_path / "out")
    assert code == 0
    assert record["fields"][0]["pixel_size_source"] == "scale bar, 100 px = 50 um"
    table = pyarrow.parquet.read_table(tmp_path / "out" / "regions.parquet")
    assert table["index"].to_pylist() == np.unique(labels).tolist()
    formats.write_labels(tmp_path / "same.tif", labels.astype(np.int32), UM)
    again = measured(tmp_path / "same.tif", out=tmp_path / "again")[1]
    assert again["fields"][0]["pixel_size_source"] == "OME-XML"
    given = measured(tmp_path / "same.tif", "--pixel-size-um", "0.25", out=tmp_path / "given")[1]
    assert given["fields"][0]["pixel_size_um"] == 0.25
    assert g_of(again) == pytest.approx(g_of(record))


def test_without_a_pixel_size_the_table_is_in_pixels_and_there_is_no_g(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    formats.write_labels(tmp_path / "steel.tif", drawn(6))
    code, record = measured(tmp_path / "steel.tif", out=tmp_path / "out")
    said = capsys.readouterr().err
    assert code == 1
    for way in ("steel.tif", "--pixel-size-um", "--scale-bar 222px=50um", "calibration"):
        assert way in said
        assert way in record["refusal"]
    assert "sizes" not in record
    head = (tmp_path / "out" / "regions.csv").read_text(encoding="utf-8").splitlines()[0].replace('"', "").split(",")
    assert "area_px" in head
    assert not [name for name in head if "um" in name.split("_")[-1]]


@pytest.mark.parametrize("beside", [False, True])
def test_a_calibration_that_is_not_used_is_named_with_the_reason(beside: bool, tmp_path: Path):
    calibrated = tmp_path / ("images" if beside else "labels") / "a.tif"
    for folder in ("labels", "images"):
        (tmp_path / folder).mkdir()
    formats.write_labels(tmp_path / "labels" / "a.tif", drawn(6))
    tifffile.imwrite(calibrated, drawn(6).astype(np.uint8), imagej=True, resolution=(2, 1), metadata={"unit": "um"})
    asked = [tmp_path / "labels", *(["--image", tmp_path / "images"] if beside else [])]
    code, record = measured(*asked, out=tmp_path / "out")
    assert code == 1
    assert "ImageJ states pixels of 0.5 x 1 um, which are not square; not used" in record["refusal"]


def test_the_micrographs_beside_give_their_pixel_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    labels, images = tmp_path / "labels", tmp_path / "images"
    labels.mkdir()
    images.mkdir()
    formats.write_labels(labels / "a.tif", drawn(7), UM)
    tifffile.imwrite(
        images / "a.tif", drawn(7).astype(np.uint8), imagej=True, resolution=(4, 4), metadata={"unit": "um"}
    )
    code, record = measured(labels, "--image", images, out=tmp_path / "out")
    assert code == 0
    assert record["fields"][0]["pixel_size_um"] == pytest.approx(0.25), "and not what the label file says"
    assert len(record["inputs"][0]["image_sha256"]) == 64
    (images / "a.tif").rename(images / "b.tif")
    assert cli.run(["measure", str(labels), "--image", str(images), "--out", str(tmp_path / "out")]) == 2
    assert "no image of that name" in capsys.readouterr().err


def test_labels_of_another_size_than_their_micrograph_do_not_take_its_pixel_size(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    half = drawn(1)[::2, ::2]
    (tmp_path / "half").mkdir()
    formats.write_labels(tmp_path / "half" / "a.tif", half)
    arguments = ["measure", str(tmp_path / "half"), "--image", str(tmp_path / "images"), "--out", str(tmp_path / "out")]
    assert cli.run(arguments) == 2
    assert "80 x 100 px, and its image" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()
    formats.write_labels(run / "labels" / "a.tif", half)
    assert cli.run(["measure", str(run), "--out", str(tmp_path / "out")]) == 2
    assert "its image a.tif is 160 x 200 px" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("um", ["-0.5", "0", "nan", "inf"])
def test_an_impossible_pixel_size_is_refused_before_a_table_of_it_is_written(
    um: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    formats.write_labels(tmp_path / "a.tif", drawn(1))
    arguments = ["measure", str(tmp_path / "a.tif"), f"--pixel-size-um={um}", "--out", str(tmp_path / "out")]
    assert cli.run(arguments) == 2
    assert "--pixel-size-um" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_field_inside_one_grain_is_no_mask_of_boundaries(tmp_path: Path):
    formats.write_labels(tmp_path / "a.tif", drawn(1), UM)
    formats.write_labels(tmp_path / "b.tif", np.ones((160, 200), np.int32), UM)
    code, record = measured(tmp_path, out=tmp_path / "out")
    assert code == 0
    assert [field["grains"] for field in record["fields"]] == [len(np.unique(drawn(1))), 1]


def test_all_labels_are_one_specimen_or_each_folder_is(tmp_path: Path):
    for folder, seed in (("bolt", 1), ("nut", 2)):
        for number in (1, 2):
            (tmp_path / "in" / folder).mkdir(parents=True, exist_ok=True)
            formats.write_labels(tmp_path / "in" / folder / f"{number}.tif", drawn(10 * seed + number), UM)
    together = measured(tmp_path / "in", "--specimen", "all parts", out=tmp_path / "one")[1]
    assert (together["name"], len(together["fields"])) == ("all parts", 4)
    code = cli.run(["measure", str(tmp_path / "in"), "--specimen-by", "folder", "--out", str(tmp_path / "two")])
    assert code == 0
    parts = {each: json.loads((tmp_path / "two" / each / "specimen.json").read_text()) for each in ("bolt", "nut")}
    assert [field["name"] for field in parts["nut"]["fields"]] == ["nut/1.tif", "nut/2.tif"]
    assert parts["bolt"]["sizes"]["planimetric_saltikov"]["fields"] == 2


def test_a_folder_that_cannot_be_measured_costs_the_others_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for folder, labels in (("a", drawn(1)), ("b", np.zeros((40, 40), np.int32)), ("c", drawn(2))):
        (tmp_path / "in" / folder).mkdir(parents=True)
        formats.write_labels(tmp_path / "in" / folder / "1.tif", labels, UM)
    assert cli.run(["measure", str(tmp_path / "in"), "--specimen-by", "folder", "--out", str(tmp_path / "out")]) == 1
    assert "b: not measured. " in capsys.readouterr().err
    assert sorted(path.parent.name for path in tmp_path.glob("out/*/specimen.json")) == ["a", "c"]
    for folder in ("a", "c"):
        formats.write_labels(tmp_path / "in" / folder / "1.tif", np.zeros((40, 40), np.int32), UM)
    assert cli.run(["measure", str(tmp_path / "in"), "--specimen-by", "folder", "--out", str(tmp_path / "out")]) == 2


@pytest.mark.parametrize("form", [("--store", "{}"), ("--store={}",)])
def test_the_password_of_a_ledger_is_in_no_record(
    form: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    formats.write_labels(tmp_path / "a.tif", drawn(1), UM)
    store = [word.format("postgresql+pg8000://micro:hush@host/line") for word in form]
    arguments = ["measure", str(tmp_path / "a.tif"), *store, "--out", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", ["micro", *arguments])
    assert cli.run(arguments) == 0
    command = json.loads((tmp_path / "out" / "specimen.json").read_text(encoding="utf-8"))["command"]
    assert "micro:***@host/line" in command
    assert "hush" not in command


def test_a_mask_of_boundaries_is_measured_when_it_is_named_as_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    labels = drawn(8)
    mask = np.where(with_lines(labels, 3) == 0, 255, 0).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    arguments = [str(tmp_path / "mask.png"), "--pixel-size-um", "0.5"]
    assert cli.run(["measure", *arguments, "--out", str(tmp_path / "out")]) == 2
    assert "--boundary-value 255" in capsys.readouterr().err
    code, record = measured(*arguments, "--boundary-value", "255", out=tmp_path / "out")
    assert code == 0
    formats.write_labels(tmp_path / "labels.tif", labels, 0.5)
    assert g_of(record) == pytest.approx(g_of(measured(tmp_path / "labels.tif", out=tmp_path / "true")[1]), abs=0.1)


def test_a_mask_without_a_boundary_of_the_named_value_is_not_one_grain(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    mask = np.where(with_lines(drawn(8), 3) == 0, 255, 0).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "grey.png"), mask)
    cv2.imwrite(str(tmp_path / "colour.png"), np.stack([mask] * 3, axis=-1))
    for name, value, held in (("grey.png", "254", "it holds 0, 255"), ("colour.png", "255", "it holds 0, 16777215")):
        arguments = ["measure", str(tmp_path / name), "--pixel-size-um", "0.5", "--boundary-value", value]
        assert cli.run([*arguments, "--out", str(tmp_path / "out")]) == 2
        assert held in " ".join(capsys.readouterr().err.split())
        assert not (tmp_path / "out").exists()


def test_a_photograph_and_a_mask_of_classes_are_not_taken_for_grains(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    random = np.random.default_rng(1)
    cv2.imwrite(str(tmp_path / "photo.png"), random.normal(120, 20, (160, 200)).clip(1, 255).astype(np.uint8))
    cv2.imwrite(str(tmp_path / "classes.png"), (1 + drawn(8) % 4).astype(np.uint8))
    for name in ("photo.png", "classes.png"):
        arguments = ["measure", str(tmp_path / name), "--pixel-size-um", "0.5", "--out", str(tmp_path / "out")]
        assert cli.run(arguments) == 2
        assert "pieces, and a grain is in one" in " ".join(capsys.readouterr().err.split())
        assert not (tmp_path / "out").exists()


def test_specks_are_given_to_their_neighbours_on_request(tmp_path: Path):
    labels = drawn(9)
    labels[80:83, 80:83] = 255
    formats.write_labels(tmp_path / "a.tif", labels, UM)
    kept = measured(tmp_path / "a.tif", out=tmp_path / "kept")[1]
    given = measured(tmp_path / "a.tif", "--min-area-px", "20", out=tmp_path / "given")[1]
    assert any("specks" in warning for warning in kept["warnings"])
    assert not any("specks" in warning for warning in given["warnings"])


def test_a_smallest_area_below_zero_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    formats.write_labels(tmp_path / "a.tif", drawn(9), UM)
    assert cli.run(["measure", str(tmp_path), "--min-area-px", "-5", "--out", str(tmp_path / "out")]) == 2
    assert "--min-area-px -5: an area is 0 px or more" in capsys.readouterr().err


def test_where_all_grains_are_smaller_than_asked_for_the_number_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    formats.write_labels(tmp_path / "a.tif", drawn(9), UM)
    assert cli.run(["measure", str(tmp_path), "--min-area-px", "99999", "--out", str(tmp_path / "out")]) == 2
    assert "no grain has 99999 px" in capsys.readouterr().err


def test_a_field_without_a_grain_refuses_the_specimen_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    formats.write_labels(tmp_path / "a.tif", drawn(1), UM)
    formats.write_labels(tmp_path / "b.tif", np.zeros((40, 40), np.int32), UM)
    assert cli.run(["measure", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "b.tif: There is no grain" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_twenty_million_pixels_are_a_table_and_a_grain_size_within_thirty_seconds(tmp_path: Path):
    labels = shaken_lattice(1, 48, 76, 114)
    formats.write_labels(tmp_path / "large.tif", labels, 0.3)
    start = time.process_time()
    code, record = measured(tmp_path / "large.tif", out=tmp_path / "out")
    assert time.process_time() - start < 30
    assert code == 0
    assert record["fields"][0]["grains"] > 8000
