import csv
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from small_bundles import SMALL_CLASSIFIER, make_bundle
from zoo import make_zoo

from micro import formats
from micro.engine import Engine, Item, Quarantined
from micro.errors import MicroError, RunRefused
from micro.line import run as run_module
from micro.line.run import RunSummary, run_steps
from micro.line.sources import find
from micro.micrograph import Micrograph
from micro.recipe import Recipe
from micro.regions import Maker, Prediction, Progress, Regions

RECIPE = Recipe(model="toy")
IMAGE_COLUMNS = [
    *("image", "sha256", "height_px", "width_px", "pixel_size_um", "pixel_size_source", "class", "score"),
    *("verdict", "n_regions", "seconds", "model", "model_version", "weights_sha256", "state", "error"),
]


@dataclass
class Toy:
    """Finds bright bars; a stand-in for an engine with the manners that a run relies on."""

    maker: Maker = field(default_factory=lambda: Maker("toy", "1.0.0", "0" * 64))
    device: str = "cpu"
    classes: tuple[str, ...] = ()
    read: list[str] = field(default_factory=list)
    closed: bool = False

    def stream(self, items: Iterable[Item]) -> Iterator[Prediction | Quarantined]:
        try:
            for item in items:
                self.read.append(item.name)
                try:
                    yield self.judge(item.read())
                except MicroError as fault:
                    yield Quarantined(item.name, str(fault))
        finally:
            self.closed = True

    def judge(self, image: Micrograph) -> Prediction:
        base = Prediction(image.name, image.height_px, image.width_px, self.maker, image.pixel_size_um, seconds=0.25)
        if self.classes:
            share = float((image.pixels > 0).mean())
            scores = dict(zip(self.classes, (1 - share, share), strict=True))
            best = max(scores, key=scores.__getitem__)
            return replace(base, class_name=best, class_scores=scores, verdict="NG" if share > 0.5 else "OK")
        count, labels = cv2.connectedComponents((image.pixels[..., 0] > 0).astype(np.uint8))
        area_px = np.bincount(labels.ravel(), minlength=count)[1:]
        table: dict[str, Any] = {"brightness_mean": np.full(count - 1, 0.5), "area_px": area_px}
        if image.pixel_size_um is not None:
            table["area_um2"] = area_px * image.pixel_size_um**2
        regions = Regions(labels.astype(np.int32), ("bar",) * (count - 1), np.ones(count - 1, np.float32))
        return replace(base, regions=regions, table=table)


def draw(path: Path, bars: int) -> None:
    """Write an 8 x 32 image with some bars, each of 8 pixels."""
    pixels = np.zeros((8, 32), np.uint8)
    pixels[:, 1 : 1 + 2 * bars : 2] = 200
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)


def folder_of(path: Path, count: int) -> Path:
    for number in range(count):
        draw(path / f"{number:03}.png", number % 5)
    return path


def run(folder: Path, out: Path, engine: Toy | None = None, **more: Any) -> RunSummary:
    return drained(run_steps(find([str(folder)]), engine or Toy(), more.pop("recipe", RECIPE), out, **more))


def drained(steps: Generator[Progress, None, RunSummary]) -> RunSummary:
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            summary: RunSummary = stop.value
            return summary


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def same_bytes(one: Path, other: Path) -> bool:
    return one.read_bytes() == other.read_bytes()


def test_each_image_gets_one_row_its_regions_and_its_labels(tmp_path: Path) -> None:
    draw(tmp_path / "in" / "a.png", 2)
    draw(tmp_path / "in" / "deep" / "b.png", 0)
    summary = run(tmp_path / "in", tmp_path / "out")
    assert (summary.images, summary.done, summary.quarantined, summary.ng, summary.unchanged) == (2, 2, 0, 0, 0)

    first, second = rows(tmp_path / "out" / "images.csv")
    assert list(first) == IMAGE_COLUMNS
    assert (first["image"], first["height_px"], first["width_px"], first["n_regions"]) == ("a.png", "8", "32", "2")
    assert (second["image"], second["n_regions"], second["state"], second["error"]) == ("deep/b.png", "0", "done", "")
    assert first["sha256"] == hashlib.sha256((tmp_path / "in" / "a.png").read_bytes()).hexdigest()
    assert (first["model"], first["model_version"], first["weights_sha256"]) == ("toy", "1.0.0", "0" * 64)

    found = rows(tmp_path / "out" / "regions.csv")
    assert list(found[0]) == ["image", "index", "class", "score", "area_px", "brightness_mean"]
    assert [(row["image"], row["index"], row["area_px"]) for row in found] == [("a.png", "1", "8"), ("a.png", "2", "8")]

    labels = formats.read_labels(tmp_path / "out" / "labels" / "a.tif")
    assert labels.shape == (8, 32)
    assert np.bincount(labels.ravel()).tolist() == [240, 8, 8]
    assert formats.read_labels(tmp_path / "out" / "labels" / "deep" / "b.tif").max() == 0


def test_parquet_and_csv_say_the_same(tmp_path: Path) -> None:
    run(folder_of(tmp_path / "in", 5), tmp_path / "out")
    for name in ("images", "regions"):
        table = pq.read_table(tmp_path / "out" / f"{name}.parquet")
        texts = rows(tmp_path / "out" / f"{name}.csv")
        assert table.column_names == list(texts[0])
        for row, text in zip(table.to_pylist(), texts, strict=True):
            assert {key: "" if value is None else str(value) for key, value in row.items()} == {
                key: value if key in ("image", "model") or value in ("", "0") else str(type(row[key])(value))
                for key, value in text.items()
            }


def test_a_classifier_gives_probabilities_and_verdicts_and_no_labels(tmp_path: Path) -> None:
    draw(tmp_path / "in" / "a.png", 1)
    assert cv2.imwrite(str(tmp_path / "in" / "b.png"), np.full((8, 8), 9, np.uint8))
    summary = run(tmp_path / "in", tmp_path / "out", Toy(classes=("fine", "crack")))
    assert (summary.done, summary.ng) == (2, 1)
    first, second = rows(tmp_path / "out" / "images.csv")
    assert list(first) == [*IMAGE_COLUMNS[:8], "p_fine", "p_crack", *IMAGE_COLUMNS[8:]]
    assert (first["class"], float(first["p_crack"]), first["verdict"], first["n_regions"]) == ("fine", 1 / 32, "OK", "")
    assert (second["class"], float(second["score"]), second["verdict"]) == ("crack", 1.0, "NG")
    assert rows(tmp_path / "out" / "regions.csv") == []
    assert not (tmp_path / "out" / "labels").exists()


def test_columns_in_micrometres_are_empty_where_one_size_is_unknown_and_absent_where_all_are(tmp_path: Path) -> None:
    draw(tmp_path / "in" / "a.png", 1)
    formats.write_image(tmp_path / "in" / "b.tif", replace(formats.read(tmp_path / "in" / "a.png"), pixel_size_um=0.5))
    run(tmp_path / "in", tmp_path / "out")
    unknown, known = rows(tmp_path / "out" / "regions.csv")
    assert list(known)[4:6] == ["area_px", "area_um2"]
    assert (unknown["area_um2"], float(known["area_um2"])) == ("", 2.0)
    assert [row["pixel_size_um"] for row in rows(tmp_path / "out" / "images.csv")] == ["", "0.5"]
    (tmp_path / "in" / "b.tif").unlink()
    run(tmp_path / "in", tmp_path / "other")
    assert not any("_um" in name for name in rows(tmp_path / "other" / "regions.csv")[0])


def test_bad_images_are_quarantined_with_a_reason_and_the_others_are_done(tmp_path: Path) -> None:
    good = tmp_path / "in" / "good.png"
    draw(good, 3)
    (tmp_path / "in" / "empty.png").touch()
    (tmp_path / "in" / "text.tif").write_text("no image", encoding="utf-8")
    (tmp_path / "in" / "torn.png").write_bytes(good.read_bytes()[:60])
    (tmp_path / "in" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(tmp_path / "in" / "pipe.png")
    summary = run(tmp_path / "in", tmp_path / "out")
    assert (summary.images, summary.done, summary.quarantined) == (6, 1, 5)
    assert set(summary.failures) == {"empty.png", "text.tif", "torn.png", "gone.png", "pipe.png"}
    table = {row["image"]: row for row in rows(tmp_path / "out" / "images.csv")}
    assert len(table) == 6
    assert {row["state"] for name, row in table.items() if name != "good.png"} == {"quarantined"}
    assert "empty" in table["empty.png"]["error"]
    assert table["text.tif"]["sha256"] == hashlib.sha256(b"no image").hexdigest()
    assert (table["gone.png"]["sha256"], table["gone.png"]["model"]) == ("", "toy")
    assert table["good.png"]["state"] == "done"


def test_with_a_real_network_every_file_of_the_zoo_has_the_end_it_should_have(tmp_path: Path) -> None:
    (tmp_path / "zoo").mkdir()
    zoo = make_zoo(tmp_path / "zoo")
    engine = Engine(make_bundle(tmp_path / "toy", SMALL_CLASSIFIER, "defects"), device="cpu")
    summary = drained(run_steps(find([str(tmp_path / "zoo")]), engine, RECIPE, tmp_path / "out"))
    table = rows(tmp_path / "out" / "images.csv")
    ends = {"done": "ok", "quarantined": "bad"}
    assert {row["image"]: ends[row["state"]] for row in table} == zoo
    assert all(bool(row["error"]) == (row["state"] == "quarantined") for row in table)
    assert summary.images == len(table) == len(zoo)


def test_a_decoder_that_fails_in_its_own_way_quarantines_the_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def burst(data: bytes, name: str) -> Micrograph:
        raise ZeroDivisionError("odd header")

    monkeypatch.setattr(formats, "decode", burst)
    summary = run(folder_of(tmp_path / "in", 1), tmp_path / "out")
    assert "ZeroDivisionError: odd header" in summary.failures["000.png"]


def test_large_files_are_hashed_and_read_without_lying_in_memory_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(folder_of(tmp_path / "in", 3), tmp_path / "small")
    monkeypatch.setattr(run_module, "WHOLE_BYTES", 10)
    monkeypatch.setattr(formats, "decode", None)
    run(tmp_path / "in", tmp_path / "large")
    for name in ("images.csv", "regions.csv"):
        assert same_bytes(tmp_path / "small" / name, tmp_path / "large" / name)


def test_a_second_run_reads_nothing_again_and_tries_the_quarantined(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "in", 4)
    (folder / "bad.png").touch()
    run(folder, tmp_path / "out")
    before = (tmp_path / "out" / "images.csv").read_bytes()
    engine = Toy()
    summary = run(folder, tmp_path / "out", engine)
    assert engine.read == ["bad.png"]
    assert (summary.done, summary.unchanged, summary.quarantined) == (4, 4, 1)
    assert (tmp_path / "out" / "images.csv").read_bytes() == before
    draw(folder / "bad.png", 2)
    summary = run(folder, tmp_path / "out")
    assert (summary.done, summary.unchanged, summary.quarantined) == (5, 4, 0)


def test_an_image_with_other_bytes_or_without_its_label_file_is_judged_again(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "in", 4)
    run(folder, tmp_path / "out")
    stat = (folder / "001.png").stat()
    draw(folder / "001.png", 3)
    os.utime(folder / "001.png", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    (tmp_path / "out" / "labels" / "002.tif").unlink()
    engine = Toy()
    run(folder, tmp_path / "out", engine)
    assert engine.read == ["001.png", "002.png"]
    table = rows(tmp_path / "out" / "images.csv")
    assert [row["n_regions"] for row in table] == ["0", "3", "2", "3"]
    assert formats.read_labels(tmp_path / "out" / "labels" / "001.tif").max() == 3


def test_an_image_that_became_unreadable_leaves_no_old_labels(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "in", 3)
    run(folder, tmp_path / "out")
    (folder / "001.png").write_bytes(b"")
    run(folder, tmp_path / "out")
    assert not (tmp_path / "out" / "labels" / "001.tif").exists()
    assert {row["image"] for row in rows(tmp_path / "out" / "regions.csv")} == {"002.png"}


def test_a_run_that_was_closed_midway_leaves_tables_and_goes_on_to_the_same_end(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "in", 12)
    (folder / "005x.png").touch()
    run(folder, tmp_path / "undisturbed")
    engine = Toy()
    steps = run_steps(find([str(folder)]), engine, RECIPE, tmp_path / "out")
    assert [next(steps).done for _ in range(7)] == [1, 2, 3, 4, 5, 6, 7]
    steps.close()
    assert engine.closed
    assert len(rows(tmp_path / "out" / "images.csv")) == 7
    assert json.loads((tmp_path / "out" / "run.json").read_text())["state"] == "interrupted"
    engine = Toy()
    summary = run(folder, tmp_path / "out", engine)
    assert (summary.done, summary.quarantined, summary.unchanged) == (12, 1, 6)
    assert engine.read == ["005x.png", *(f"{number:03}.png" for number in range(6, 12))]
    for name in ("images.csv", "regions.csv"):
        assert same_bytes(tmp_path / "out" / name, tmp_path / "undisturbed" / name)


def test_ctrl_c_in_the_engine_leaves_tables_and_ends_the_engine(tmp_path: Path) -> None:
    class Interrupted(Toy):
        def judge(self, image: Micrograph) -> Prediction:
            if image.name == "002.png":
                raise KeyboardInterrupt
            return super().judge(image)

    engine = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        run(folder_of(tmp_path / "in", 4), tmp_path / "out", engine)
    assert engine.closed
    assert len(rows(tmp_path / "out" / "images.csv")) == 2
    assert run(tmp_path / "in", tmp_path / "out").unchanged == 2


def test_a_killed_run_goes_on_to_the_same_end(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "in", 60)
    run(folder, tmp_path / "undisturbed")
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from test_run import RECIPE, Toy, run_steps, find
for step in run_steps(find([{str(folder)!r}]), Toy(), RECIPE, Path({str(tmp_path / "out")!r})):
    print(step.done, flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        while int(process.stdout.readline()) < 20:
            pass
        process.send_signal(signal.SIGKILL)
    assert json.loads((tmp_path / "out" / "run.json").read_text())["state"] == "running"
    engine = Toy()
    summary = run(folder, tmp_path / "out", engine)
    assert (summary.done, summary.unchanged + len(engine.read)) == (60, 60)
    assert summary.unchanged >= 20
    for name in ("images.csv", "regions.csv"):
        assert same_bytes(tmp_path / "out" / name, tmp_path / "undisturbed" / name)
    assert len(list((tmp_path / "out" / "labels").glob("*.tif"))) == 60


def test_another_recipe_in_the_same_folder_is_refused_and_overwriting_starts_anew(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "in", 3)
    run(folder, tmp_path / "out")
    other = Recipe(model="toy", settings={"min_area_px": 9})
    with pytest.raises(RunRefused, match="--overwrite"):
        run(folder, tmp_path / "out", recipe=other)
    (folder / "002.png").unlink()
    summary = run(folder, tmp_path / "out", recipe=other, overwrite=True)
    assert (summary.done, summary.unchanged) == (2, 0)
    assert [row["image"] for row in rows(tmp_path / "out" / "images.csv")] == ["000.png", "001.png"]
    assert sorted(path.name for path in (tmp_path / "out" / "labels").iterdir()) == ["000.tif", "001.tif"]
    assert json.loads((tmp_path / "out" / "run.json").read_text())["recipe"]["settings"] == {"min_area_px": 9}


def test_two_runs_cannot_share_a_folder(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "in", 3)
    with closing(run_steps(find([str(folder)]), Toy(), RECIPE, tmp_path / "out")) as steps:
        next(steps)
        with pytest.raises(RunRefused, match=rf"process {os.getpid()} on .* is working in this folder"):
            run(folder, tmp_path / "out", overwrite=True)
    assert run(folder, tmp_path / "out").done == 3


def test_namesakes_do_not_overwrite_each_other(tmp_path: Path) -> None:
    draw(tmp_path / "one" / "a.png", 1)
    draw(tmp_path / "one" / "a.bmp", 2)
    draw(tmp_path / "two" / "a.png", 3)
    sources = find([str(tmp_path / "one"), str(tmp_path / "two")])
    drained(run_steps(sources, Toy(), RECIPE, tmp_path / "out"))
    labels = tmp_path / "out" / "labels"
    found = {str(path.relative_to(labels)): formats.read_labels(path).max() for path in labels.rglob("*.tif")}
    assert found == {"a.tif": 2, "one/a.tif": 1, "two/a.tif": 3}


def test_hostile_names_come_through_tables_and_files(tmp_path: Path) -> None:
    names = [
        "=1+1.png",
        "@x.png",
        'a"b.png',
        "a\nb.png",
        "a,b.png",
        "<script>.png",
        "鉄" * 80 + ".png",
        "n" * 251 + ".png",
    ]
    draw(tmp_path / "pattern.png", 1)
    (tmp_path / "in").mkdir()
    for name in names:
        (tmp_path / "in" / name).write_bytes((tmp_path / "pattern.png").read_bytes())
    summary = run(tmp_path / "in", tmp_path / "out")
    assert (summary.done, summary.quarantined) == (8, 0)
    assert {row["image"] for row in rows(tmp_path / "out" / "images.csv")} == set(names)
    assert {row["image"] for row in rows(tmp_path / "out" / "regions.csv")} == set(names)
    assert '\n"=1+1.png",' in (tmp_path / "out" / "images.csv").read_text(encoding="utf-8")
    assert len(list((tmp_path / "out" / "labels").glob("*.tif"))) == 8


def test_results_of_other_sources_in_the_same_folder_stay(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "in", 4)
    drained(run_steps(find([str(folder / "000.png")]), Toy(), RECIPE, tmp_path / "out"))
    summary = drained(run_steps(find([str(folder / "003.png")]), Toy(), RECIPE, tmp_path / "out"))
    assert (summary.images, summary.done) == (1, 1)
    assert [row["image"] for row in rows(tmp_path / "out" / "images.csv")] == ["000.png", "003.png"]


def test_a_disk_that_is_full_stops_the_run_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folder_of(tmp_path / "in", 3)
    write = formats.write_labels

    def write_until_full(path: Path, labels: Any, pixel_size_um: float | None = None) -> None:
        if path.name == "001.tif":
            raise OSError(28, "No space left on device")
        write(path, labels, pixel_size_um)

    with monkeypatch.context() as patch:
        patch.setattr(formats, "write_labels", write_until_full)
        with pytest.raises(RunRefused, match=r"No space left on device.*run the same command again"):
            run(folder, tmp_path / "out")
    summary = run(folder, tmp_path / "out")
    assert (summary.done, summary.unchanged) == (3, 1)


def test_the_record_says_what_was_asked_who_answered_and_how_it_ended(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "in", 2)
    (folder / "bad.png").touch()
    run(folder, tmp_path / "out", recipe=Recipe(model="toy", review_below=0.8))
    record = json.loads((tmp_path / "out" / "run.json").read_text(encoding="utf-8"))
    assert record["recipe"]["review_below"] == 0.8
    assert record["bundle"] == {"name": "toy", "version": "1.0.0", "weights_sha256": "0" * 64}
    assert record["counts"] == {"images": 3, "done": 2, "unchanged": 0, "quarantined": 1, "ng": 0}
    assert (record["state"], record["device"]) == ("finished", "cpu")
    assert {"micro", "python", "torch", "numpy"} <= set(record["versions"])
    assert record["started"] <= record["ended"]


def test_an_out_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(RunRefused, match="results cannot be written there"):
        run(folder_of(tmp_path / "in", 1), tmp_path / "out")


def test_a_thousand_results_cost_less_than_two_seconds_of_one_core(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "in", 1000)
    began = time.process_time()
    summary = run(folder, tmp_path / "out", Toy(classes=("fine", "crack")))
    assert time.process_time() - began < 2
    assert summary.done == 1000


def test_the_line_is_imported_without_torch() -> None:
    code = "import sys, micro.line.run, micro.line.sources; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
