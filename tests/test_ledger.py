import os
import platform
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy.exc import StatementError

from micro.errors import RunRefused
from micro.line.ledger import Identity, Ledger, clear, held, refuse_strangers
from micro.recipe import Recipe
from micro.regions import Maker, Prediction, Regions

MAKER = Maker("toy", "1.0.0", "0" * 64)
IDENTITY = Identity(Recipe(model="toy"), MAKER, "0.1.0")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with closing(Ledger(tmp_path, IDENTITY)) as ledger:
        yield ledger


def prediction(name: str, count: int = 2, **columns: object) -> Prediction:
    labels = np.zeros((4, 8), np.int32)
    labels[0, :count] = np.arange(1, count + 1)
    regions = Regions(labels, ("thin",) * count, np.full(count, 0.9, np.float32))
    table = {"area_px": np.ones(count, np.int64), **{name: np.asarray(values) for name, values in columns.items()}}
    return Prediction(name, 4, 8, MAKER, regions=regions, table=table, seconds=0.5)


def images(ledger: Ledger) -> list[dict[str, Any]]:
    return [{**row} for batch in ledger.image_rows() for row in batch]


def regions(ledger: Ledger) -> list[dict[str, Any]]:
    return [{**row} for batch in ledger.region_rows() for row in batch]


def test_what_is_stored_comes_back(ledger: Ledger) -> None:
    ledger.enqueue(["a.png"])
    found = replace(prediction("a.png"), pixel_size_um=0.5, pixel_size_source="OME-XML", notes=("grey read as rgb",))
    ledger.store(found, "f" * 64, "labels/a.tif")
    (row,) = images(ledger)
    assert (row["name"], row["state"], row["sha256"], row["attempt"]) == ("a.png", "done", "f" * 64, 1)
    assert (row["height_px"], row["width_px"], row["n_regions"], row["seconds"]) == (4, 8, 2, 0.5)
    assert (row["pixel_size_um"], row["pixel_size_source"]) == (0.5, "OME-XML")
    assert (row["model"], row["model_version"], row["weights_sha256"]) == ("toy", "1.0.0", "0" * 64)
    assert (row["labels"], row["notes"], row["error"]) == ("labels/a.tif", ["grey read as rgb"], None)
    first, second = regions(ledger)
    assert (first["image"], first["index"], second["index"], first["class"]) == ("a.png", 1, 2, "thin")
    assert first["score"] == 0.9
    assert first["columns"] == {"area_px": 1}


def test_a_classifier_leaves_scores_and_no_regions(ledger: Ledger) -> None:
    ledger.enqueue(["a.png"])
    found = Prediction("a.png", 4, 8, MAKER, class_name="crack", class_scores={"ok": 0.25, "crack": 0.75}, verdict="NG")
    ledger.store(found, "f" * 64, None)
    (row,) = images(ledger)
    assert (row["class"], row["score"], row["verdict"], row["n_regions"]) == ("crack", 0.75, "NG", None)
    assert ledger.class_names() == ["ok", "crack"]
    assert ledger.stored()["a.png"].verdict == "NG"


def test_an_image_that_is_only_queued_is_in_no_table(ledger: Ledger) -> None:
    ledger.enqueue(["a.png", "b.png"])
    ledger.quarantine("b.png", None, "empty")
    assert [row["name"] for row in images(ledger)] == ["b.png"]
    assert ledger.stored()["a.png"].state == "queued"


def test_a_second_result_takes_the_place_of_the_first_with_its_regions(ledger: Ledger) -> None:
    ledger.enqueue(["a.png"])
    ledger.store(prediction("a.png", 3), "1" * 64, "labels/a.tif")
    ledger.enqueue(["a.png"])
    ledger.store(prediction("a.png", 2), "2" * 64, "labels/a.tif")
    (row,) = images(ledger)
    assert (row["sha256"], row["n_regions"], row["attempt"]) == ("2" * 64, 2, 2)
    assert [region["index"] for region in regions(ledger)] == [1, 2]


def test_a_quarantined_image_keeps_nothing_of_an_earlier_result(ledger: Ledger) -> None:
    ledger.enqueue(["a.png"])
    ledger.store(replace(prediction("a.png"), verdict="OK"), "1" * 64, "labels/a.tif")
    ledger.quarantine("a.png", "2" * 64, "truncated")
    (row,) = images(ledger)
    assert (row["state"], row["error"], row["sha256"]) == ("quarantined", "truncated", "2" * 64)
    assert {row[key] for key in ("labels", "verdict", "n_regions", "height_px", "class", "columns")} == {None}
    assert regions(ledger) == []


def test_an_image_and_its_regions_are_stored_together_or_not_at_all(ledger: Ledger) -> None:
    ledger.enqueue(["a.png"])
    with pytest.raises(StatementError):
        ledger.store(prediction("a.png", odd=[object(), object()]), "1" * 64, None)
    assert ledger.stored()["a.png"].state == "queued"
    assert regions(ledger) == []


def test_numbers_that_are_none_are_empty_and_float32_keeps_its_few_digits(ledger: Ledger) -> None:
    ledger.enqueue(["a.png"])
    values = np.array([0.1, np.nan], np.float32)
    ledger.store(prediction("a.png", contrast=values, ratio=np.array([np.inf, 0.1])), "1" * 64, None)
    first, second = (region["columns"] for region in regions(ledger))
    assert (first["contrast"], second["contrast"]) == (0.1, None)
    assert (first["ratio"], second["ratio"]) == (None, 0.1)


def test_columns_are_the_union_in_the_order_of_the_longest_table_each_with_its_kind(ledger: Ledger) -> None:
    ledger.enqueue(["b.png", "a.png"])
    ledger.store(prediction("b.png", layers=[1, 2], depth_um=[0.5, 1.5]), "1" * 64, None)
    ledger.store(prediction("a.png", layers=[1.5, 2], phase=["x", "y"], round=[True, False]), "2" * 64, None)
    kinds = {"area_px": "int", "layers": "float", "phase": "text", "round": "bool", "depth_um": "float"}
    assert list(ledger.columns().items()) == list(kinds.items())


def test_rows_come_in_the_order_of_names_in_batches_of_bounded_size(ledger: Ledger) -> None:
    names = [f"{number:02}.png" for number in range(25)]
    ledger.enqueue(reversed(names))
    for name in reversed(names):
        ledger.store(prediction(name), "1" * 64, None)
    batches = list(ledger.image_rows(10))
    assert [len(batch) for batch in batches] == [10, 10, 5]
    assert [row["name"] for batch in batches for row in batch] == names
    assert [region["image"] for region in regions(ledger)] == [name for name in names for _ in range(2)]


def test_the_same_identity_goes_on_and_another_is_refused_with_what_differs(tmp_path: Path) -> None:
    with closing(Ledger(tmp_path, IDENTITY)) as ledger:
        ledger.enqueue(["a.png"])
        ledger.quarantine("a.png", None, "empty")
    with closing(Ledger(tmp_path, replace(IDENTITY, recipe=Recipe(model="weights/toy")))) as ledger:
        assert ledger.stored()["a.png"].state == "quarantined"
    others = {
        "micro_version: 0.1.0 then, 0.2.0 now": replace(IDENTITY, micro_version="0.2.0"),
        "weights_sha256: 0+ then, 1+ now": replace(IDENTITY, maker=replace(MAKER, weights_sha256="1" * 64)),
        "settings: {} then, {'min_area_px': 9} now": replace(
            IDENTITY, recipe=Recipe(model="toy", settings={"min_area_px": 9})
        ),
        "pixel_size_um: None then, 0.5 now": replace(IDENTITY, recipe=Recipe(model="toy", pixel_size_um=0.5)),
    }
    for words, other in others.items():
        with pytest.raises(RunRefused, match=words) as refusal:
            Ledger(tmp_path, other)
        assert "--overwrite" in str(refusal.value)
        assert "--out" in str(refusal.value)


def test_a_file_that_is_no_ledger_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").write_text("dear diary\n" * 100, encoding="utf-8")
    with pytest.raises(RunRefused, match="not a ledger that can be read"):
        Ledger(tmp_path, IDENTITY)
    clear(tmp_path)
    Ledger(tmp_path, IDENTITY).close()


def test_results_of_unknown_origin_are_refused(tmp_path: Path) -> None:
    refuse_strangers(tmp_path)
    (tmp_path / "labels").mkdir()
    with pytest.raises(RunRefused, match="holds labels, and no ledger says who made that"):
        refuse_strangers(tmp_path)
    Ledger(tmp_path, IDENTITY).close()
    refuse_strangers(tmp_path)


def test_clearing_removes_what_runs_made_and_nothing_else(tmp_path: Path) -> None:
    kept = ["labels/mine.tif", "notes.txt", "a.png"]
    (tmp_path / "labels").mkdir()
    for name in (*kept, "regions.csv"):
        (tmp_path / name).touch()
    (tmp_path / "ledger.sqlite").touch()
    (tmp_path.parent / "victim.tif").touch()
    with closing(Ledger(tmp_path, IDENTITY)) as ledger:
        ledger.enqueue(["a.png", "b.png"])
        ledger.store(prediction("a.png"), "1" * 64, "labels/a.tif")
        ledger.store(prediction("b.png"), "1" * 64, "../victim.tif")
    (tmp_path / "labels" / "a.tif").touch()
    clear(tmp_path)
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == set(kept)
    assert (tmp_path.parent / "victim.tif").exists()


def test_a_folder_that_is_held_is_refused_with_who_holds_it(tmp_path: Path) -> None:
    refusal = pytest.raises(RunRefused, match=f"process {os.getpid()} on {platform.node()}")
    with held(tmp_path), closing(Ledger(tmp_path, IDENTITY)), refusal, held(tmp_path):
        pass
    with held(tmp_path):
        pass


def test_another_process_cannot_have_a_held_folder_and_a_dead_one_leaves_it_free(tmp_path: Path) -> None:
    code = f"""
import os
from pathlib import Path
from micro.line.ledger import held
with held(Path({str(tmp_path)!r})):
    print("held", flush=True)
    input()
    os._exit(9)
"""
    with held(tmp_path):
        refused = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert "another process is working in this folder" in refused.stderr
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline().strip() == b"held"
        with pytest.raises(RunRefused, match="is working in this folder"), held(tmp_path):
            pass
        other.communicate(b"\n")
    assert other.returncode == 9
    with held(tmp_path):
        pass


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunRefused, match="cannot be written there"), held(tmp_path / "file"):
        pass


def test_the_ledger_can_be_read_by_others_while_it_is_written(tmp_path: Path) -> None:
    with closing(Ledger(tmp_path, IDENTITY)) as ledger:
        ledger.enqueue(["a.png"])
        ledger.store(prediction("a.png"), "1" * 64, None)
        with closing(sqlite3.connect(tmp_path / "ledger.sqlite")) as reader:
            query = "SELECT name, json_extract(regions.columns, '$.area_px') FROM images JOIN regions ON image_id = id"
            assert reader.execute(query).fetchall() == [("a.png", 1), ("a.png", 1)]
