import hashlib
import json
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from small_bundles import SMALL_CLASSIFIER, make_bundle
from toy_line import HASTY, RECIPE, Toy, drained, draw, folder_of, listed, rows, run, same_bytes, steps
from zoo import make_zoo

from micro import formats
from micro.engine import Engine
from micro.errors import MicroError, RunRefused
from micro.line import reading
from micro.line.run import Place, run_steps
from micro.line.station import GROUP_S
from micro.line.watcher import RunSummary
from micro.micrograph import Item, Micrograph
from micro.recipe import Recipe
from micro.regions import Prediction, Quarantined

IMAGE_COLUMNS = [
    *("image", "sha256", "height_px", "width_px", "pixel_size_um", "pixel_size_source", "class", "score"),
    *("verdict", "n_regions", "labels", "seconds", "model", "model_version", "weights_sha256", "state", "error"),
    "notes",
]


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
    assert list(found[0]) == ["image", "index", "class", "score", "area_px", "brightness_mean", "sha256"]
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
                key: value if key in ("image", "labels", "model") or value in ("", "0") else str(type(row[key])(value))
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
    again = run(tmp_path / "in", tmp_path / "out", Toy(classes=("fine", "crack")))
    assert (again.done, again.unchanged, again.ng) == (2, 2, 1), "a run that goes on fails on an NG of before, too"


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
    summary = drained(run_steps(listed(tmp_path / "zoo"), engine, RECIPE, Place(tmp_path / "out"), HASTY))
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
    monkeypatch.setattr(reading, "WHOLE_BYTES", 10)
    monkeypatch.setattr(formats, "decode", None)
    run(tmp_path / "in", tmp_path / "large")
    for name in ("images.csv", "regions.csv"):
        assert same_bytes(tmp_path / "small" / name, tmp_path / "large" / name)


def test_a_second_run_reads_nothing_again(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "in", 4)
    (folder / "bad.png").touch()
    run(folder, tmp_path / "out")
    before = (tmp_path / "out" / "images.csv").read_bytes()
    engine = Toy()
    summary = run(folder, tmp_path / "out", engine)
    assert engine.read == []
    assert (summary.done, summary.unchanged, summary.quarantined) == (4, 4, 1)
    assert "empty" in summary.failures["bad.png"]
    assert (tmp_path / "out" / "images.csv").read_bytes() == before


def test_what_failed_is_tried_again_when_asked_or_when_its_bytes_changed(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "in", 4)
    (folder / "bad.png").touch()
    run(folder, tmp_path / "out")
    engine = Toy()
    again = replace(HASTY, retry_quarantined=True)
    assert run(folder, tmp_path / "out", engine, manners=again).quarantined == 1
    assert engine.read == ["bad.png"]
    draw(folder / "bad.png", 2)
    summary = run(folder, tmp_path / "out")
    assert (summary.done, summary.unchanged, summary.quarantined) == (5, 4, 0)
    assert [row["state"] for row in rows(tmp_path / "out" / "images.csv")] == ["done"] * 5


def test_a_file_replaced_by_another_of_the_same_name_is_a_new_image_and_the_old_one_keeps_its_result(
    tmp_path: Path,
) -> None:
    folder = folder_of(tmp_path / "in", 4)
    run(folder, tmp_path / "out")
    stat = (folder / "001.png").stat()
    draw(folder / "001.png", 3)
    os.utime(folder / "001.png", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    engine = Toy()
    summary = run(folder, tmp_path / "out", engine)
    assert engine.read == ["001.png"]
    assert (summary.images, summary.done, summary.unchanged) == (4, 4, 3)
    table = [row for row in rows(tmp_path / "out" / "images.csv") if row["image"] == "001.png"]
    assert [row["n_regions"] for row in table] == ["1", "3"]
    assert table[1]["sha256"] == hashlib.sha256((folder / "001.png").read_bytes()).hexdigest()
    found = [formats.read_labels(tmp_path / "out" / row["labels"]).max() for row in table]
    assert found == [1, 3]
    of_name = [row["sha256"] for row in rows(tmp_path / "out" / "regions.csv") if row["image"] == "001.png"]
    assert of_name == [table[0]["sha256"], *[table[1]["sha256"]] * 3]
    engine = Toy()
    run(folder, tmp_path / "out", engine)
    assert engine.read == []


def test_an_image_that_lost_its_label_file_is_judged_again(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "in", 4)
    run(folder, tmp_path / "out")
    before = (tmp_path / "out" / "images.csv").read_bytes()
    (tmp_path / "out" / "labels" / "002.tif").unlink()
    engine = Toy()
    run(folder, tmp_path / "out", engine)
    assert engine.read == ["002.png"]
    assert (tmp_path / "out" / "images.csv").read_bytes() == before
    assert formats.read_labels(tmp_path / "out" / "labels" / "002.tif").max() == 2


def test_a_folder_that_was_copied_elsewhere_is_known_by_its_bytes(tmp_path: Path) -> None:
    run(folder_of(tmp_path / "in", 4), tmp_path / "out")
    folder_of(tmp_path / "elsewhere" / "in", 4)
    engine = Toy()
    summary = run(tmp_path / "elsewhere" / "in", tmp_path / "out", engine)
    assert engine.read == []
    assert summary.unchanged == 4


@pytest.mark.parametrize("are_labels_gone", [False, True])
def test_a_file_that_is_gone_keeps_its_result_and_one_that_was_never_there_is_quarantined(
    are_labels_gone: bool, tmp_path: Path
) -> None:
    folder = folder_of(tmp_path / "in", 2)
    listing = tmp_path / "in" / "list.txt"
    listing.write_text("000.png\n001.png\nnever.png\n", encoding="utf-8")
    drained(run_steps(listed(listing), Toy(), RECIPE, Place(tmp_path / "out"), HASTY))
    (folder / "001.png").unlink()
    if are_labels_gone:
        (tmp_path / "out" / "labels" / "001.tif").unlink()
    summary = drained(run_steps(listed(listing), Toy(), RECIPE, Place(tmp_path / "out"), HASTY))
    assert (summary.done, summary.unchanged, summary.quarantined) == (2, 2, 1)
    assert [row["n_regions"] for row in rows(tmp_path / "out" / "images.csv")] == ["0", "1", ""]
    assert "does not exist" in summary.failures["never.png"]


def test_a_file_that_is_written_anew_after_two_failures_under_its_name_is_judged(tmp_path: Path) -> None:
    class Failing(Toy):
        def judge(self, image: Micrograph) -> Prediction:
            raise MicroError("no memory")

    def drawn(bars: int, engine: Toy) -> RunSummary:
        draw(tmp_path / "in" / "a.png", bars)
        return run(tmp_path / "in", tmp_path / "out", engine)

    drawn(1, Toy())
    drawn(2, Failing())
    (tmp_path / "out" / "labels" / "a.tif").unlink()
    drawn(1, Failing())
    summary = drawn(3, Toy())
    assert (summary.done, summary.quarantined) == (1, 0)
    found = {row["state"]: row["n_regions"] for row in rows(tmp_path / "out" / "images.csv")}
    assert found == {"quarantined": "", "done": "3"}


def test_a_run_that_was_closed_midway_leaves_tables_and_goes_on_to_the_same_end(tmp_path: Path) -> None:
    class Halting(Toy):
        def judge(self, image: Micrograph) -> Prediction:
            if image.name == "007.png":
                time.sleep(1.5 * GROUP_S)  # results that end sooner than that may all be stored as one group
            return super().judge(image)

    folder = folder_of(tmp_path / "in", 150)
    (folder / "005x.png").touch()
    run(folder, tmp_path / "undisturbed")
    engine: Toy = Halting()
    first = steps(folder, tmp_path / "out", engine)
    assert [next(first).done for _ in range(7)] == [1, 2, 3, 4, 5, 6, 7]
    first.close()
    assert engine.closed
    stored = len(rows(tmp_path / "out" / "images.csv"))
    assert 7 <= stored < 150
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert (record["state"], record["counts"]["done"] + record["counts"]["quarantined"]) == ("interrupted", stored)
    engine = Toy()
    summary = run(folder, tmp_path / "out", engine)
    assert (summary.done, summary.quarantined) == (150, 1)
    assert len(engine.read) == 151 - stored
    for name in ("images.csv", "regions.csv"):
        assert same_bytes(tmp_path / "out" / name, tmp_path / "undisturbed" / name)


def test_a_run_that_is_told_to_stop_finishes_what_is_in_hand(tmp_path: Path) -> None:
    stop = threading.Event()

    class Slow(Toy):
        def stream(self, items: Iterable[Item]) -> Iterator[Prediction | Quarantined]:
            results = super().stream(items)
            group = [next(results), next(results), next(results)]  # as a batch that is in the network
            stop.set()
            yield from group
            yield from results

    engine = Slow()
    with pytest.raises(KeyboardInterrupt):
        run(folder_of(tmp_path / "in", 9), tmp_path / "out", engine, stop=stop)
    assert engine.read == ["000.png", "001.png", "002.png"]
    assert len(rows(tmp_path / "out" / "images.csv")) == 3
    assert json.loads((tmp_path / "out" / "run.json").read_text())["state"] == "interrupted"
    assert run(tmp_path / "in", tmp_path / "out").unchanged == 3


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
    assert {row["image"] for row in rows(tmp_path / "out" / "images.csv")} <= {"000.png", "001.png"}
    engine = Toy()
    summary = run(tmp_path / "in", tmp_path / "out", engine)
    assert (summary.done, summary.unchanged + len(engine.read)) == (4, 4)


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


def test_a_setting_whose_file_says_something_else_since_is_another_recipe(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "in", 2)
    profile = tmp_path / "microscope.yaml"
    recipe = Recipe(model="toy", settings={"profile": str(profile), "ok_classes": "no file, " * 100})
    profile.write_text("points: 4\n", encoding="utf-8")
    run(folder, tmp_path / "out", recipe=recipe)
    assert run(folder, tmp_path / "out", recipe=recipe).unchanged == 2
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["files_sha256"] == {"profile": hashlib.sha256(profile.read_bytes()).hexdigest()}
    profile.write_text("points: 5\n", encoding="utf-8")
    with pytest.raises(RunRefused, match=r"microscope\.yaml: another file then"):
        run(folder, tmp_path / "out", recipe=recipe)


def test_whoever_holds_a_folder_does_not_wait_for_the_leases_of_a_killed_run_in_another_container(
    tmp_path: Path,
) -> None:
    folder = folder_of(tmp_path / "in", 1)
    run(folder, tmp_path / "out")
    with closing(sqlite3.connect(tmp_path / "out" / "ledger.sqlite")) as ledger, ledger:
        ledger.execute("UPDATE runs SET place = 'elsewhere', alive_until = ?", [time.time() + 20])
        ledger.execute("UPDATE images SET state = 'running', stored = NULL")
    summary = run(folder, tmp_path / "out")
    assert summary.done == 1
    assert summary.seconds < 15


def test_two_runs_cannot_share_a_folder(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "in", 3)
    with closing(steps(folder, tmp_path / "out")) as first:
        next(first)
        with pytest.raises(RunRefused, match=rf"process {os.getpid()} on .* is working in this folder"):
            run(folder, tmp_path / "out", overwrite=True)
    assert run(folder, tmp_path / "out").done == 3


def test_namesakes_do_not_overwrite_each_other(tmp_path: Path) -> None:
    draw(tmp_path / "one" / "a.png", 1)
    draw(tmp_path / "one" / "a.bmp", 2)
    draw(tmp_path / "one" / "a.tif" / "b.png", 4)
    draw(tmp_path / "two" / "a.png", 3)
    drained(run_steps(listed(tmp_path / "one", tmp_path / "two"), Toy(), RECIPE, Place(tmp_path / "out"), HASTY))
    table = rows(tmp_path / "out" / "images.csv")
    assert len({row["labels"] for row in table}) == 4
    found = {row["image"]: formats.read_labels(tmp_path / "out" / row["labels"]).max() for row in table}
    assert found == {"one/a.bmp": 2, "one/a.png": 1, "one/a.tif/b.png": 4, "two/a.png": 3}


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
    run(folder / "000.png", tmp_path / "out")
    summary = run(folder / "003.png", tmp_path / "out")
    assert (summary.images, summary.done) == (1, 1)
    assert [row["image"] for row in rows(tmp_path / "out" / "images.csv")] == ["000.png", "003.png"]


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


def test_an_out_whose_name_is_no_text_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(RunRefused, match="no UTF-8"):
        run(folder_of(tmp_path / "in", 1), tmp_path / "l\udcfcn")
    assert [each.name for each in tmp_path.iterdir()] == ["in"]


def test_a_thousand_results_cost_less_than_two_seconds_of_one_core(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "in", 1000)
    began = time.process_time()
    summary = run(folder, tmp_path / "out", Toy(classes=("fine", "crack")))
    assert time.process_time() - began < 2
    assert summary.done == 1000


def test_the_line_is_imported_without_torch() -> None:
    code = "import sys, micro.line.run, micro.line.arrivals; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
