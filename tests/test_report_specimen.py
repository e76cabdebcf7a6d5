import hashlib
import json
import re
import shutil
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree as ET

import browser
import numpy as np
import pytest
from numpy.typing import NDArray
from run_folder import HOSTILE, Read, Run

from micro import cli, formats, grain_size
from micro.errors import MicroError
from micro.line import schema, tables
from micro.line.corrections import correct
from micro.micrograph import Micrograph
from micro.report import plates
from micro.report.plates import Plate
from micro.report.specimen import write_specimen


def squares(edge_px: int, size_px: int = 160) -> NDArray[np.int32]:
    """Return square grains in rows and columns, every second row shifted by half a grain."""
    y, x = np.mgrid[:size_px, :size_px]
    row = y // edge_px
    column = (x + edge_px // 2 * (row % 2)) // edge_px
    return np.asarray(1 + row * (size_px // edge_px + 1) + column, np.int32)


class Made:
    """Label files and their micrographs, and the specimen that was measured of them."""

    def __init__(self, place: Path) -> None:
        self.labels, self.images, self.out = place / "labels", place / "images", place / "out"
        for folder in (self.labels, self.images):
            folder.mkdir(exist_ok=True)

    def add(self, name: str, labels: NDArray[np.int32], *, noise: bool = False) -> None:
        pixels = (labels % 7 * 30).astype(np.uint8)
        if noise:
            pixels = np.random.default_rng(len(name)).integers(0, 256, labels.shape, np.uint8)
        formats.write_labels(self.labels / name, labels)
        formats.write_image(self.images / name, Micrograph(pixels))

    def measure(self, *more: str, specimen: str = "plate 7") -> int:
        command = ["measure", str(self.labels), "--image", str(self.images), "--out", str(self.out)]
        return cli.run([*command, "--specimen", specimen, *more])

    def page(self, **more: str) -> Read:
        write_specimen(self.out, self.out / "report.html", **more)
        return Read(self.out / "report.html")


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three fields of square grains of different size, at 0.5 um a pixel, and what was measured of them."""
    place = tmp_path_factory.mktemp("measured")
    made = Made(place)
    for name, edge_px in (("a.tif", 20), ("b.tif", 21), ("c.tif", 22)):
        made.add(name, squares(edge_px))
    assert made.measure("--pixel-size-um", "0.5") == 0
    return place


@pytest.fixture
def specimen(measured: Path, tmp_path: Path) -> Made:
    """A copy of that, to be changed."""
    shutil.copytree(measured, tmp_path, dirs_exist_ok=True)
    return Made(tmp_path)


def assessed(*edges_px: int) -> grain_size.Assessment:
    return grain_size.assess([grain_size.Field(squares(edge_px), 0.5, "any") for edge_px in edges_px])


def test_the_page_says_the_figures_of_the_fields_and_all_that_a_signed_page_needs(specimen: Made) -> None:
    text = specimen.page(operator="Ada Lovelace").text
    found = assessed(20, 21, 22)
    assert found.intercept is not None
    for size in (found.planimetric, found.intercept):
        assert f"G = {size.g:.2f} 95 % CI {size.g_low:.2f} to {size.g_high:.2f}" in text
        assert f"%RA {size.relative_accuracy_percent:.1f}" in text
    for words in (
        *("plate 7", "ASTM E112-13", "Only 3 of at least 5 fields", "0.5 µm a pixel, from: given by the user"),
        *("measured by", "Ada Lovelace", "reviewed by", "signature", "lognormal fit", "weighted by area"),
        *("1. a.tif", "2. b.tif", "3. c.tif", "none recorded", "not stated"),
    ):
        assert words in text, words
    for file in (*specimen.labels.iterdir(), *specimen.images.iterdir()):
        assert hashlib.sha256(file.read_bytes()).hexdigest() in text


def test_the_record_on_the_page_reproduces_its_figures(specimen: Made, tmp_path: Path) -> None:
    shown = "".join(specimen.page(operator="Ada").texts)
    record = json.loads(shown[shown.index('{\n "name"') : shown.rindex("}") + 1])
    assert record == {**json.loads((specimen.out / "specimen.json").read_text(encoding="utf-8")), "operator": "Ada"}
    fields = []
    for facts, source in zip(record["fields"], record["inputs"], strict=True):
        file = specimen.out / source["labels"]
        assert hashlib.sha256(file.read_bytes()).hexdigest() == source["labels_sha256"]
        size = facts["pixel_size_um"], facts["name"], facts["pixel_size_source"]
        fields.append(grain_size.Field(formats.read_labels(file), *size))
    again = json.loads(json.dumps(grain_size.assess(fields, record["name"]).record()))
    assert {key: record[key] for key in again} == again


def test_a_page_elsewhere_takes_its_record_along(specimen: Made, tmp_path: Path) -> None:
    assert cli.run(["report", str(specimen.out), "--operator", "Ada"]) == 0
    assert not (specimen.out / "report.json").exists(), "the record is there already"
    assert cli.run(["report", str(specimen.out), "--operator", "Ada", "--out", str(tmp_path / "sent" / "p.html")]) == 0
    assert "Ada" in Read(tmp_path / "sent" / "p.html").text
    assert json.loads((tmp_path / "sent" / "p.json").read_text())["operator"] == "Ada"


def test_a_page_takes_the_place_of_no_record(specimen: Made, capsys: pytest.CaptureFixture[str]) -> None:
    record = (specimen.out / "specimen.json").read_bytes()
    assert cli.run(["report", str(specimen.out), "--out", str(specimen.out / "specimen.json")]) == 2
    assert "ends in .html" in capsys.readouterr().err
    assert (specimen.out / "specimen.json").read_bytes() == record


def test_labels_are_found_from_a_folder_that_is_a_link(made: Made, tmp_path: Path) -> None:
    made.add("a.tif", squares(20))
    (tmp_path / "far" / "away" / "disk").mkdir(parents=True)
    made.out.symlink_to(tmp_path / "far" / "away" / "disk")
    assert made.measure("--pixel-size-um", "0.5") == 0
    text = made.page().text
    assert "1. a.tif" in text
    assert "The image is gone" not in text


@pytest.mark.parametrize("record", ["[]", "null", '{"name": "plate 7"}'])
def test_what_is_no_record_of_a_specimen_is_refused(record: str, tmp_path: Path) -> None:
    (tmp_path / "specimen.json").write_text(record, encoding="utf-8")
    with pytest.raises(MicroError, match="is not the record of a specimen"):
        write_specimen(tmp_path, tmp_path / "report.html")


def test_labels_are_read_as_they_were_measured(made: Made) -> None:
    labels = squares(24)
    labels[30:32, 30:32] = 1000
    edge = np.zeros(labels.shape, bool)
    edge[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    edge[1:] |= labels[1:] != labels[:-1]
    made.add("a.tif", np.where(edge, 7, 0).astype(np.int32))
    assert made.measure("--pixel-size-um", "0.5", "--boundary-value", "7", "--min-area-px", "20") == 0
    text = made.page().text
    assert "pixels of the value 7" in text
    assert "20 px; smaller ones were given to their neighbours" in text


def test_what_is_not_what_was_measured_gets_no_page(specimen: Made) -> None:
    record = json.loads((specimen.out / "specimen.json").read_text())
    other = json.loads(json.dumps(record))
    other["sizes"]["planimetric_saltikov"]["g"] += 0.01
    (specimen.out / "specimen.json").write_text(json.dumps(other))
    with pytest.raises(MicroError, match="finds other figures"):
        specimen.page()
    (specimen.out / "specimen.json").write_text(json.dumps(record))
    formats.write_labels(specimen.labels / "b.tif", squares(40))
    with pytest.raises(MicroError, match=r"b\.tif: has changed since it was measured"):
        specimen.page()
    assert not (specimen.out / "report.html").exists()


def test_without_a_pixel_size_there_is_no_page_and_the_ways_to_give_one(made: Made) -> None:
    made.add("a.tif", squares(20))
    assert made.measure() == 1
    with pytest.raises(MicroError, match="--scale-bar"):
        made.page()


def test_an_image_that_changed_is_not_shown_for_the_one_that_was_measured(specimen: Made) -> None:
    assert "has changed" not in specimen.page().text
    (specimen.images / "a.tif").write_bytes((specimen.images / "b.tif").read_bytes())
    (specimen.images / "c.tif").unlink()
    assert specimen.page().text.count("The image is gone, or has changed since it was measured") == 2


def test_a_run_tells_who_found_the_grains_and_what_people_changed(tmp_path: Path) -> None:
    ran = Run(tmp_path / "run")
    (ran.folder / "labels").mkdir()
    labels = squares(24, 120)
    formats.write_labels(ran.folder / "labels" / "a.tif", labels, 0.5)
    size = {"height_px": 120, "width_px": 120, "pixel_size_um": 0.5, "pixel_size_source": "OME-XML"}
    made_by = {"model": "grains-any", "model_version": "1.2.3", "weights_sha256": "a" * 64}
    count = len(np.unique(labels))
    pixels = (labels % 7 * 30).astype(np.uint8)
    heads = [["area_px", "int"], ["centroid_y_px", "float"], ["centroid_x_px", "float"]]
    ran.add(
        "a.png", None, pixels, id=1, run_id=1, labels="labels/a.tif", n_regions=count, columns=heads, **size, **made_by
    )
    middle = {"centroid_y_px": 0.0, "centroid_x_px": 0.0}
    ran.regions = [
        {"image_id": 1, "index": index, "class": "grain", "columns": {"area_px": area, **middle}}
        for index, area in enumerate(np.bincount(labels.ravel())[1:].tolist(), 1)
    ]
    ran.started = {"recipe": {"settings": {}}, **made_by}
    ran.store(settings={"twins": "keep"})
    engine = schema.connect(ran.folder)
    tables.export(engine, ran.folder)
    engine.dispose()
    formats.write_labels(tmp_path / "mine.tif", squares(40, 120))
    correct(ran.folder, ran.images / "0.png", "Grace <Hopper>", labels=tmp_path / "mine.tif")
    assert cli.run(["measure", str(ran.folder), "--out", str(tmp_path / "out")]) == 0
    write_specimen(tmp_path / "out", tmp_path / "out" / "report.html")
    text = Read(tmp_path / "out" / "report.html").text
    assert f"grains-any 1.2.3, twins=keep, weights SHA-256 {'a' * 64}" in text
    assert "by Grace <Hopper>, 20" in text
    assert f"{count} grains found, " in text
    assert "OME-XML" in text
    assert "has changed" not in text


def test_counts_of_many_grains_are_on_the_page_with_all_their_digits(made: Made) -> None:
    made.add("a.tif", squares(5, 700))
    assert made.measure("--pixel-size-um", "0.5") == 0
    record = json.loads((made.out / "specimen.json").read_text(encoding="utf-8"))
    hits = record["sizes"]["intercept_heyn"]["count"]
    assert hits > 1e5
    assert hits % 1 == 0.5
    assert made.page().text.count(f"{hits:.1f} hits") == 2


def test_one_field_has_no_interval(made: Made) -> None:
    made.add("a.tif", squares(20))
    assert made.measure("--scale-bar", "100px=50um") == 0
    assert made.page().text.count("one field: no confidence interval") == 2


@pytest.mark.slow
def test_ten_noisy_fields_make_less_than_five_megabytes(made: Made) -> None:
    for number in range(10):
        made.add(f"{number}.tif", squares(20, 1400), noise=True)
    assert made.measure("--pixel-size-um", "0.5") == 0
    made.page()
    assert (made.out / "report.html").stat().st_size < 5_000_000


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = Made(tmp_path_factory.mktemp("hostile"))
    for name in HOSTILE:
        made.add(name.replace("/", "").removesuffix(".png")[-240:] + ".tif", squares(24, 72))
    assert made.measure("--pixel-size-um", "0.5", specimen=HOSTILE[0]) == 0
    made.page(operator=HOSTILE[2])
    return made.out / "report.html"


def test_hostile_names_of_specimen_fields_and_people_are_texts(hostile: Path) -> None:
    read = Read(hostile)
    assert not {tag for tag, _ in read.elements} & {"script", "iframe", "object", "embed", "form", "base", "link"}
    for tag, attributes in read.elements:
        assert not any(name.startswith("on") for name in attributes), tag
        for name in ("src", "href"):
            assert re.match("data:image/(jpeg|png);base64,|#|$", attributes.get(name) or ""), tag
    texts = "".join(read.texts)
    for name in (HOSTILE[0], HOSTILE[2], HOSTILE[5].replace("/", "").replace(".png", ".tif")):
        assert name in texts
    assert "default-src 'none'" in str(read.all("meta")[1]["content"])


@pytest.mark.skipif(browser.CHROMIUM is None, reason="no Chromium is installed: apt-get install chromium")
def test_in_a_browser_no_name_of_a_specimen_runs_a_script(hostile: Path, tmp_path: Path) -> None:
    document = browser.opened(hostile, tmp_path / "profile")
    assert browser.title(document) == f"{HOSTILE[0]}: grain size"
    assert document.count("<article") == len(HOSTILE)


def counts_of(labels: NDArray[np.int32], um: float = 0.5) -> tuple[grain_size.FieldCount, grain_size.FieldCount]:
    found = grain_size.assess([grain_size.Field(labels, um, "any")])
    assert found.intercept is not None
    return found.counts[found.planimetric.method.key][0], found.counts[found.intercept.method.key][0]


def test_each_grain_and_each_hit_that_counts_is_a_dot_of_its_weight() -> None:
    labels = squares(24)
    planimetric, intercept = counts_of(labels)
    views = plates.draw(Plate(labels, None), 1, planimetric, intercept, most_bytes=10**6)
    for svg, count in ((views.planimetric, planimetric), (views.intercept, intercept)):
        dots: Counter[str] = Counter()
        for path in ET.fromstring(svg).iter("path"):
            style, _, kind = path.attrib["class"].partition(" ")
            dots[kind] += path.attrib["d"].count("M") * (style == "mark")
        weights = count.counted.pattern.weights
        expected = {"one": 1.0, "half": 0.5, "quarter": 0.25}
        found = {kind: int((weights == weight).sum()) for kind, weight in expected.items()}
        found["more"] = int((weights > 1).sum())
        assert +dots == +Counter(found)
    (lines,) = (path for path in ET.fromstring(views.intercept).iter("path") if path.get("class") == "test")
    assert lines.attrib["d"].count("M") == len(intercept.counted.pattern.lines_px)


@pytest.mark.parametrize("um", [0.013, 0.5, 40.0])
def test_the_scale_bar_is_as_long_as_it_says(um: float) -> None:
    labels = squares(24)
    views = plates.draw(Plate(labels, None), 1, *counts_of(labels, um), most_bytes=10**6)
    svg = ET.fromstring(views.whole)
    width = float(svg.attrib["viewBox"].split()[2])
    (bar,) = (box for box in svg.iter("rect") if box.get("class") == "scale")
    (text,) = (text.text for text in svg.iter("text"))
    number, unit = str(text).split()
    length_um = float(number) * {"µm": 1, "mm": 1000}[unit]
    shown_um = float(bar.attrib["width"]) / width * labels.shape[1] * um
    assert shown_um == pytest.approx(length_um, rel=0.01)
    assert width / 20 < float(bar.attrib["width"]) < width / 4


def test_of_many_grains_the_middle_is_shown_and_framed() -> None:
    labels = squares(6)
    views = plates.draw(Plate(labels, None), 1, *counts_of(labels), most_bytes=10**6)
    assert views.is_part
    (frame,) = (box for box in ET.fromstring(views.whole).iter("rect") if box.get("class") == "part")
    left, edge = float(frame.attrib["x"]), float(frame.attrib["width"])
    width = float(ET.fromstring(views.whole).attrib["viewBox"].split()[2])
    assert left + edge / 2 == pytest.approx(width / 2, rel=0.01)
    dots = sum(path.attrib["d"].count("M") for path in ET.fromstring(views.planimetric).iter("path"))
    assert dots == pytest.approx(plates.LEGIBLE_GRAINS, rel=0.2)


def test_a_photograph_takes_no_more_bytes_than_it_may() -> None:
    labels = squares(48, 960)
    noise = np.random.default_rng(0).integers(0, 256, labels.shape, np.uint8)
    plate = Plate(labels, Micrograph(noise))
    sizes = [len(plates.draw(plate, 1, *counts_of(labels), most_bytes=most).whole) for most in (10**7, 10**5)]
    assert sizes[0] > 3e5
    assert sizes[1] < 1.1e5
