import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from run_folder import HOSTILE, Read
from small_bundles import SMALL_CLASSIFIER, SMALL_UNET, make_bundle

from micro import training
from micro.folder import AnnotatedFolder, annotated
from micro.micrograph import Micrograph
from micro.report.failures import failure
from micro.report.pictures import DRAWN, FOUND
from micro.report.training import write_training
from micro.score import regions
from micro.training import Curve, Outcome, Scored
from micro.trial import Case, PixelTrial, RegionTrial, Trial

CURVES = (
    Curve("fold 1 of 1", ((50, 0.9), (100, 0.4))),
    Curve("final", tuple((50 * step, 1 / step) for step in range(1, 41))),
)
SPEC = SMALL_UNET.model_copy(update={"outputs": ("matrix", "pore")})


def image(name: str, edge_px: int = 64) -> Micrograph:
    return Micrograph(np.full((edge_px, edge_px), 200, np.uint8), name)


def page_of(path: Path, folder: AnnotatedFolder, made: object, task: str, *scores: Scored) -> Read:
    plan = training.plan(folder, task, 0.1)
    write_training(path, Outcome(made, plan, CURVES, scores), [folder])  # type: ignore[arg-type]
    return Read(path)


def regioned(name: str, matched: int, only_found: int, only_truth: int) -> RegionTrial:
    sure = np.linspace(0.05, 0.95, matched + only_found).astype(np.float32)
    matches = regions.Matches(matched, only_found, only_truth)
    return RegionTrial(
        name, matches, 0.5, regions.Variation(0.1, 0.2), sure, np.arange(len(sure)) < matched, np.zeros(0, bool)
    )


def grains(*names: str) -> AnnotatedFolder:
    labels = np.kron([[1, 2], [3, 4]], np.ones((32, 32))).astype(np.int32)
    items = tuple(annotated(image(name), labels, None) for name in names)
    return AnnotatedFolder(Path("grains <b>"), items, (), ("2 masks fit no better than shifted.",))


def case(name: str, badness: float = 0.5) -> Case:
    truth, found = np.zeros((64, 64), np.int32), np.zeros((64, 64), np.int32)
    truth[4:20, 4:20], found[4:20, 4:20], found[40:60, 40:60], truth[4:20, 40:60] = 1, 1, 2, 2
    return Case(image(name), badness, truth, found, None, {})


def frames(names: tuple[str, ...] = ("clean", "crack")) -> AnnotatedFolder:
    items = [annotated(image(f"{name}/{number}.png"), None, name) for name in names for number in range(6)]
    apart = tuple(replace(item, group=item.image.name) for item in items)
    return AnnotatedFolder(Path("frames"), apart, names, ())


def test_regions_are_counted_image_by_image_the_worst_first_and_beside_the_start(tmp_path: Path) -> None:
    now = Trial((regioned("good.png", 8, 1, 1), regioned("bad.png", 1, 4, 5)))
    before = Trial((regioned("good.png", 9, 0, 0), regioned("bad.png", 0, 1, 6)))
    scored = Scored("two images", now, (case("bad.png"),), before)
    read = page_of(tmp_path / "p.html", grains("good.png", "bad.png"), make_bundle(tmp_path / "b"), "grains", scored)
    for words in (
        "Of 15 regions that were drawn, 9 were found at IoU 0.5 and 6 missed; 5 that were found are none.",
        "bad.png 0.500 0.100 1 4 5 good.png 0.500 0.800 8 1 1",
        "AP at IoU 0.5 0.562 0.450 -0.112",
        "worse",
        "fold 1 of 1 100 0.9000 0.4000",
        "final 2 000 1.0000 0.0250",
        "2 masks fit no better than shifted.",
        "held out",
    ):
        assert words in read.text.replace("\N{NARROW NO-BREAK SPACE}", " "), words
    plain, overlay = (str(picture["src"]) for picture in read.all("img"))
    assert plain.startswith("data:image/jpeg;base64,")
    assert plain != overlay


def test_classes_of_pixels_have_their_table_and_their_confusion(tmp_path: Path) -> None:
    tables = np.array([[[90, 10], [30, 70]], [[190, 10], [0, 0]]])
    rows = tuple(PixelTrial(f"{number}.png", table) for number, table in enumerate(tables))
    scored = Scored("two images", Trial(pixels=rows, class_names=("matrix", "pore")), start="It began from no bundle.")
    folder = AnnotatedFolder(Path("steel"), grains("a", "b").images, ("matrix", "pore"), (), ((0, "matrix"),))
    made = make_bundle(tmp_path / "b", SPEC, task="phases")
    read = page_of(tmp_path / "p.html", folder, made, "phases", scored)
    text = read.text
    assert re.search(r"matrix 300 0\.848 .*pore 100 0\.583 \S+ to \S+ 0\.700 \S+ to \S+ 0\.778", text)
    assert "matrix 280 20 pore 30 70" in text
    assert [each["class"] for each in read.all("td") if "shade" in str(each.get("class"))] == [
        *("n shade-5", "n shade-1", "n shade-2", "n shade-4")
    ]
    assert "It began from no bundle." in text
    assert "How sure" not in text


def test_frames_show_how_sure_and_how_often_right(tmp_path: Path) -> None:
    probabilities = np.array([[0.9, 0.1]] * 6 + [[0.6, 0.4]] * 4 + [[0.4, 0.6]] * 2)
    trial = Trial(class_names=("clean", "crack"), truth=np.repeat([0, 1], 6), probabilities=probabilities)
    worst = Case(image("crack/0.png"), 0.6, None, None, "crack", {"clean": 0.6, "crack": 0.4})
    spec = SMALL_CLASSIFIER.model_copy(update={"outputs": ("clean", "crack")})
    made = make_bundle(tmp_path / "b", spec, task="defects")
    read = page_of(tmp_path / "p.html", frames(), made, "defects", Scored("12 frames", trial, (worst,)))
    for words in ("crack 6 0.333 0.097 to 0.700", "0.600 6 0.333", "0.900 6 1.000", "answered clean 0.60, crack 0.40"):
        assert words in read.text, words
    assert [each["alt"] for each in read.all("img")] == ["crack/0.png"]


def test_hostile_names_are_texts_and_nothing_else(tmp_path: Path) -> None:
    rows = tuple(regioned(name, 1, 1, 1) for name in HOSTILE)
    scored = Scored(HOSTILE[0], Trial(rows), tuple(case(name) for name in HOSTILE), HOSTILE[1])
    made = make_bundle(tmp_path / "b", summary=HOSTILE[2], limits=(HOSTILE[3],), command=HOSTILE[4])
    read = page_of(tmp_path / "p.html", grains(*HOSTILE), made, "grains", scored)
    assert not {tag for tag, _ in read.elements} & {"script", "iframe", "object", "embed", "form", "base", "link"}
    for tag, attributes in read.elements:
        assert not any(name.startswith("on") or name == "style" for name in attributes), tag
        assert re.match(r"data:image/jpeg;base64,|$", attributes.get("src") or ""), tag
        assert "href" not in attributes, tag
    shown = [name.replace("\n", "\\n").replace("\u202e", "\\u202e") for name in HOSTILE]
    assert all(name in "".join(read.texts) for name in shown)
    assert "\u202e" not in (tmp_path / "p.html").read_text(encoding="utf-8")


def test_what_is_missed_and_what_is_false_are_filled_and_what_is_right_is_not() -> None:
    part = failure(case("a.png"), "instances")
    assert part.overlay is not None
    times = len(part.plain) // 64

    def shift(row: int, column: int) -> np.ndarray:
        place = ((row + 0.5) * times, (column + 0.5) * times)
        row, column = map(int, place)
        assert part.overlay is not None
        return part.overlay[row, column].astype(int) - part.plain[row, column]

    assert not shift(12, 12).any(), "found as it was drawn"
    false, missed = shift(50, 50), shift(12, 50)
    assert np.argmin(false) == np.argmin(FOUND)
    assert np.argmin(missed) == np.argmin(DRAWN)


def test_of_a_large_image_the_part_where_most_is_wrong_is_shown() -> None:
    truth = np.zeros((1000, 1400), np.int32)
    found = truth.copy()
    truth[:, :200] = -1
    found[700:760, 900:990] = 1
    big = Case(Micrograph(np.zeros(truth.shape, np.uint16), "big.tif"), 1.0, truth, found, None, {})
    for annotation in ("instances", "classes"):
        part = failure(big, annotation)  # type: ignore[arg-type]
        assert part.rows.start <= 700 < 760 <= part.rows.stop
        assert part.columns.start <= 900 < 990 <= part.columns.stop
        assert part.plain.shape == (360, 360, 3)


def test_training_leaves_its_page_beside_the_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from micro import cli, formats

    folder = grains("0.png", "1.png")
    for place in ("images", "masks"):
        (tmp_path / "squares" / place).mkdir(parents=True)
    for item in folder.images:
        assert item.labels is not None
        noise = np.random.default_rng(int(item.image.name[0])).integers(0, 255, (64, 64), np.uint8)
        formats.write_image(tmp_path / "squares" / "images" / item.image.name, Micrograph(noise))
        formats.write_image(tmp_path / "squares" / "masks" / item.image.name, Micrograph(item.labels.astype(np.uint8)))
    monkeypatch.setattr("micro.training.loop.choose_halo", lambda *_: 16)
    out = tmp_path / "made"
    command = ["train", str(tmp_path / "squares"), "--task", "grains", "--out", str(out), "--minutes", "0.001"]
    assert cli.run(command) == 0
    assert "the right 25% of every image" in Read(out / "training.html").text
