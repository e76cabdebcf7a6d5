import os
import platform
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import sqlalchemy as sa
from postgres import server  # noqa: F401 -- a fixture

from micro.errors import RunRefused
from micro.line import schema, tables
from micro.line.hold import clear, held, refuse_strangers, sweep
from micro.line.identity import Identity
from micro.line.ledger import LEASE_S, Ledger, Outcome, Result, Seen, images, runs, wipe
from micro.recipe import Recipe
from micro.regions import Maker, Prediction, Regions

MAKER = Maker("toy", "1.0.0", "0" * 64)
IDENTITY = Identity(Recipe(model="toy"), MAKER, "0.1.0")
ONE, TWO, THREE = "1" * 64, "2" * 64, "3" * 64


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """Where a ledger can be: a file in a run's folder, or a database server."""
    if request.param == "sqlite":
        return tmp_path
    address: str = request.getfixturevalue("server").fresh()
    return address


@pytest.fixture
def ledger(store: Path | str, tmp_path: Path) -> Iterator[Ledger]:
    with closing(Ledger(store, IDENTITY, tmp_path)) as ledger:
        yield ledger


def prediction(name: str, count: int = 2, **columns: object) -> Prediction:
    labels = np.zeros((4, 8), np.int32)
    labels[0, :count] = np.arange(1, count + 1)
    regions = Regions(labels, ("thin",) * count, np.full(count, 0.9, np.float32))
    table = {"area_px": np.ones(count, np.int64), **{name: np.asarray(values) for name, values in columns.items()}}
    return Prediction(name, 4, 8, MAKER, regions=regions, table=table, seconds=0.5)


def put(ledger: Ledger, found: Prediction | str, sha256: str | None = ONE, name: str = "a.png") -> Outcome:
    """Claim a new image and store its result, as a worker does."""
    name = found.image if isinstance(found, Prediction) else name
    (claim,) = ledger.add({name: f"/in/{name}"})
    return ledger.store([Result(claim, Seen(f"/in/{name}", f"stamp of {sha256}", sha256), found)])[0]


def image_rows(ledger: Ledger) -> list[dict[str, Any]]:
    closed = sa.select(images).where(images.c.state.in_(("done", "quarantined"))).order_by(images.c.name, images.c.id)
    with ledger.database.connect() as connection:
        return [{**row} for row in connection.execute(closed).mappings()]


def region_rows(ledger: Ledger) -> list[dict[str, Any]]:
    return [row for cells in tables.region_cells(ledger.database) for row in rows_of(cells)]


def rows_of(cells: tables.Cells) -> list[dict[str, Any]]:
    return [dict(zip(cells, row, strict=True)) for row in zip(*cells.values(), strict=True)]


def states(ledger: Ledger, *names: str) -> list[str]:
    return [row.state for rows in ledger.survey(names).values() for row in rows]


def test_what_is_stored_comes_back(ledger: Ledger) -> None:
    found = replace(prediction("a.png"), pixel_size_um=0.5, pixel_size_source="OME-XML", notes=("grey read as rgb",))
    assert put(ledger, found) == "stored"
    (row,) = image_rows(ledger)
    assert (row["name"], row["state"], row["sha256"], row["attempt"]) == ("a.png", "done", ONE, 1)
    assert (row["height_px"], row["width_px"], row["n_regions"], row["seconds"]) == (4, 8, 2, 0.5)
    assert (row["pixel_size_um"], row["pixel_size_source"]) == (0.5, "OME-XML")
    assert (row["model"], row["model_version"], row["weights_sha256"]) == ("toy", "1.0.0", "0" * 64)
    assert (row["notes"], row["error"], row["address"]) == (["grey read as rgb"], None, "/in/a.png")
    first, second = region_rows(ledger)
    assert (first["image"], first["index"], second["index"], first["class"]) == ("a.png", 1, 2, "thin")
    assert (first["score"], first["sha256"]) == (0.9, ONE)
    assert first["area_px"] == 1


def test_a_classifier_leaves_scores_in_their_order_and_no_regions(ledger: Ledger) -> None:
    found = Prediction("a.png", 4, 8, MAKER, class_name="crack", class_scores={"ok": 0.25, "crack": 0.75}, verdict="NG")
    put(ledger, found)
    (row,) = image_rows(ledger)
    assert (row["class"], row["score"], row["verdict"], row["n_regions"]) == ("crack", 0.75, "NG", None)
    assert tables.class_names(ledger.database) == ["ok", "crack"]
    assert [known.verdict for known in ledger.survey(["a.png"])["a.png"]] == ["NG"]


def test_an_image_that_has_no_result_yet_is_in_no_table(ledger: Ledger) -> None:
    claims = ledger.add({"a.png": "/a.png", "b.png": "/b.png"})
    put(ledger, "empty", None, "c.png")
    ledger.release([claims[0].id])
    assert [row["name"] for row in image_rows(ledger)] == ["c.png"]
    assert states(ledger, "a.png", "b.png") == ["queued", "running"]


def test_other_bytes_under_a_name_are_another_image_and_the_first_keeps_its_result(ledger: Ledger) -> None:
    put(ledger, prediction("a.png", 3), ONE)
    put(ledger, prediction("a.png", 2), TWO)
    assert [(row["sha256"], row["n_regions"]) for row in image_rows(ledger)] == [(ONE, 3), (TWO, 2)]
    assert [(row["sha256"], row["index"]) for row in region_rows(ledger)] == [
        (ONE, 1),
        (ONE, 2),
        (ONE, 3),
        (TWO, 1),
        (TWO, 2),
    ]


def test_the_same_bytes_under_a_name_are_never_stored_twice(ledger: Ledger) -> None:
    put(ledger, prediction("a.png", 3), ONE)
    assert put(ledger, prediction("a.png", 3), ONE) == "known"
    assert len(image_rows(ledger)) == 1
    assert states(ledger, "a.png") == ["done"]


def test_of_results_under_a_name_the_one_whose_bytes_a_file_held_last_comes_last(ledger: Ledger) -> None:
    for sha256 in (ONE, TWO, ONE):
        put(ledger, prediction("a.png"), sha256)
        time.sleep(0.002)  # the ledger counts milliseconds
    assert [row.sha256 for row in ledger.survey(["a.png"])["a.png"]] == [TWO, ONE]
    assert [row["sha256"] for cells in tables.image_cells(ledger.database) for row in rows_of(cells)] == [TWO, ONE]


def test_a_file_that_two_workers_could_not_read_is_quarantined_once(ledger: Ledger) -> None:
    assert put(ledger, "no permission", None) == "stored"
    assert put(ledger, "no permission", None) == "known"
    (row,) = image_rows(ledger)
    assert (row["model"], row["model_version"], row["weights_sha256"]) == ("toy", "1.0.0", "0" * 64)


def test_only_one_image_of_a_name_is_open_at_a_time(ledger: Ledger) -> None:
    (claim,) = ledger.add({"a.png": "/a.png"})
    assert ledger.add({"a.png": "/a.png"}) == []
    ledger.release([claim.id])
    assert ledger.add({"a.png": "/a.png"}) == []
    assert ledger.claim(["a.png"]) == [claim]
    assert states(ledger, "a.png") == ["running"]


def test_a_quarantined_image_that_is_queued_again_is_replaced_by_its_result(ledger: Ledger) -> None:
    put(ledger, "cut off", ONE)
    (known,) = ledger.survey(["a.png"])["a.png"]
    ledger.requeue([known.id])
    (claim,) = ledger.claim(["a.png"])
    ledger.store([Result(claim, Seen("/a.png", None, TWO), prediction("a.png"))])
    (row,) = image_rows(ledger)
    assert (row["state"], row["sha256"], row["error"], row["attempt"]) == ("done", TWO, None, 2)


def test_an_image_under_whose_name_another_worker_opened_one_is_not_queued_again(ledger: Ledger) -> None:
    for name in ("a.png", "b.png"):
        put(ledger, prediction(name))
    known = [row.id for rows in ledger.survey(["a.png", "b.png"]).values() for row in rows]
    (claim,) = ledger.add({"a.png": "/other/a.png"})
    ledger.requeue([*known, claim.id])
    assert sorted(states(ledger, "a.png", "b.png")) == ["done", "queued", "running"]


def test_an_image_that_fails_when_done_again_keeps_nothing_of_its_result(ledger: Ledger) -> None:
    put(ledger, replace(prediction("a.png"), verdict="OK"), ONE)
    (known,) = ledger.survey(["a.png"])["a.png"]
    ledger.requeue([known.id])
    (claim,) = ledger.claim(["a.png"])
    ledger.store([Result(claim, Seen("/a.png", None, ONE), "truncated")])
    (row,) = image_rows(ledger)
    assert (row["state"], row["error"], row["sha256"]) == ("quarantined", "truncated", ONE)
    assert {row[key] for key in ("labels", "verdict", "n_regions", "height_px", "class", "columns")} == {None}
    assert region_rows(ledger) == []


def test_a_group_of_images_and_their_regions_is_stored_whole_or_not_at_all(ledger: Ledger) -> None:
    claims = {claim.name: claim for claim in ledger.add({"a.png": "/a.png", "b.png": "/b.png"})}
    whole = prediction("b.png")
    assert whole.regions is not None
    bad = replace(whole, regions=replace(whole.regions, class_names=("thin", None)))  # type: ignore[arg-type]
    with pytest.raises(sa.exc.DBAPIError):
        ledger.store(
            [Result(claims["a.png"], Seen("/a"), prediction("a.png")), Result(claims["b.png"], Seen("/b"), bad)]
        )
    assert states(ledger, "a.png", "b.png") == ["running", "running"]
    assert region_rows(ledger) == []


@pytest.mark.parametrize("driver", ["pg8000", "psycopg"])
def test_rows_are_bound_by_their_places_or_by_name_as_the_driver_wants_it(driver: str) -> None:
    class Connection:
        def exec_driver_sql(self, words: str, rows: list[Any]) -> None:
            bound.append(words % rows[0])

    bound: list[str] = []
    dialect = import_module(f"sqlalchemy.dialects.postgresql.{driver}").dialect()
    statement = sa.update(images).where(images.c.id == sa.bindparam("image")).values(state=sa.bindparam("state"))
    row = {"image": 7, "state": "done", "more": 1}
    schema.Bulk.of(statement, dialect).run(cast("sa.Connection", Connection()), [row])
    assert bound == ["UPDATE images SET state=done::VARCHAR WHERE images.id = 7::INTEGER"]


def test_numbers_that_are_none_are_empty_and_float32_keeps_its_few_digits(ledger: Ledger) -> None:
    values = np.array([0.1, np.nan], np.float32)
    put(ledger, prediction("a.png", contrast=values, ratio=np.array([np.inf, 0.1])))
    first, second = region_rows(ledger)
    assert (first["contrast"], second["contrast"]) == (0.1, None)
    assert (first["ratio"], second["ratio"]) == (None, 0.1)


def test_columns_are_the_union_in_the_order_of_the_longest_table_each_with_its_kind(ledger: Ledger) -> None:
    put(ledger, prediction("b.png", layers=[1, 2], depth_um=[0.5, 1.5]))
    put(ledger, prediction("a.png", layers=[1.5, 2], phase=["x", "y"], round=[True, False]), TWO)
    kinds = {"area_px": "int", "layers": "float", "phase": "text", "round": "bool", "depth_um": "float"}
    assert list(tables.columns(ledger.database).items()) == list(kinds.items())


def test_rows_come_in_the_order_of_the_bytes_of_names_in_batches_of_bounded_size(ledger: Ledger) -> None:
    names = [*(f"{number:02}.png" for number in range(22)), "B.png", "a.png", "é.png"]
    for name in reversed(names):
        put(ledger, prediction(name))
    batches = [cells["image"] for cells in tables.image_cells(ledger.database, 10)]
    assert [len(batch) for batch in batches] == [10, 10, 5]
    assert [name for batch in batches for name in batch] == names
    assert [region["image"] for region in region_rows(ledger)] == [name for name in names for _ in range(2)]


def test_words_that_no_database_takes_are_stored_without_what_it_refuses(ledger: Ledger) -> None:
    assert put(ledger, "odd \udcff and \0 bytes") == "stored"
    assert image_rows(ledger)[0]["error"] == r"odd \udcff and  bytes"


# --- who works on what ------------------------------------------------------------------------------------------------


def test_two_workers_never_get_the_same_image(store: Path | str, tmp_path: Path) -> None:
    names = [f"{number:03}.png" for number in range(200)]
    got: list[str] = []

    def work() -> None:
        with closing(Ledger(store, IDENTITY, tmp_path)) as ledger:
            started.wait()
            for first in range(0, 200, 7):
                part = names[first : first + 7]
                ledger.add(dict.fromkeys(part, "/in"))
                got.extend(claim.name for claim in ledger.claim(part))
            ended.wait()  # who ends gives back what it has claimed

    started, ended = threading.Barrier(3, timeout=120), threading.Barrier(3, timeout=120)
    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(got) == names


def test_the_claims_of_a_dead_worker_are_taken_over_and_its_late_result_is_not_stored(
    store: Path | str, tmp_path: Path
) -> None:
    with closing(Ledger(store, IDENTITY, tmp_path)) as slow, closing(Ledger(store, IDENTITY, tmp_path)) as other:
        (claim,) = slow.add({"a.png": "/a.png"})
        assert other.claim(["a.png"]) == []
        with other.database.begin() as connection:
            connection.execute(sa.update(runs).where(runs.c.id == slow.run_id).values(alive_until=1))
        (taken,) = other.claim(["a.png"])
        assert slow.store([Result(claim, Seen("/a", None, ONE), prediction("a.png", 1))]) == ["lost"]
        slow.release([claim.id])
        slow.close()
        assert states(other, "a.png") == ["running"]
        assert other.store([Result(taken, Seen("/a", None, ONE), prediction("a.png", 3))]) == ["stored"]
        other.release([taken.id])
        assert [row["n_regions"] for row in image_rows(other)] == [3]
        assert len(region_rows(other)) == 3


def test_a_worker_that_ends_gives_its_claims_back(store: Path | str, tmp_path: Path) -> None:
    with closing(Ledger(store, IDENTITY, tmp_path)) as first:
        claims = {claim.name: claim.id for claim in first.add({"a.png": "/a.png", "b.png": "/b.png"})}
        first.release([claims["a.png"]])
        with closing(Ledger(store, IDENTITY, tmp_path)) as second:
            assert [claim.name for claim in second.claim(["a.png", "b.png"])] == ["a.png"]
    with closing(Ledger(store, IDENTITY, tmp_path)) as third:
        assert {claim.name for claim in third.claim(["a.png", "b.png"])} == {"a.png", "b.png"}


def test_a_worker_says_now_and_then_that_it_lives(store: Path | str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("micro.line.ledger.BEAT_S", 0.02)
    with closing(Ledger(store, IDENTITY, tmp_path)) as ledger, closing(Ledger(store, IDENTITY, tmp_path)) as other:
        ledger.add({"a.png": "/a.png"})
        mine = runs.c.id == ledger.run_id
        with other.database.begin() as connection:
            connection.execute(sa.update(runs).where(mine).values(alive_until=1))
        until = time.monotonic() + 20
        alive_until = 1.0
        while alive_until == 1 and time.monotonic() < until:
            time.sleep(0.02)
            with other.database.connect() as connection:
                query = sa.select(runs.c.alive_until, schema.now(connection)).where(mine)
                alive_until, now = connection.execute(query).one()
        assert 0.5 * LEASE_S < alive_until - now <= LEASE_S
        assert other.claim(["a.png"]) == []


def test_a_killed_worker_of_this_machine_need_not_be_waited_for(store: Path | str, tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    with closing(Ledger(store, IDENTITY, tmp_path)) as dead:
        dead.add({"a.png": "/a.png"})
        with dead.database.begin() as connection:
            connection.execute(sa.update(runs).values(pid=process.pid, place="another machine"))
        with closing(Ledger(store, IDENTITY, tmp_path)) as other:
            assert other.claim(["a.png"]) == [], "there the number may be that of a living process"
            with dead.database.begin() as connection:
                here = sa.select(runs.c.place).where(runs.c.id == other.run_id).scalar_subquery()
                connection.execute(sa.update(runs).where(runs.c.id == dead.run_id).values(place=here))
        with closing(Ledger(store, IDENTITY, tmp_path)) as other:
            assert len(other.claim(["a.png"])) == 1


def test_what_was_done_before_the_connection_broke_is_not_done_twice(ledger: Ledger) -> None:
    ledger.add({"a.png": "/a.png"})  # of which the answer is lost
    (claim,) = ledger.claim(["a.png"])
    assert ledger.reserve(claim) == ledger.reserve(claim) == "labels/a.tif"
    result = Result(claim, Seen("/a", None, ONE), prediction("a.png"))
    (other,) = ledger.add({"b.png": "/b.png"})
    failure = Result(other, Seen("/b", None, TWO), "cut off")
    assert ledger.store([result, failure]) == ["stored", "stored"]
    assert ledger.store([result, failure]) == ["stored", "stored"]
    assert states(ledger, "a.png", "b.png") == ["done", "quarantined"]
    assert len(region_rows(ledger)) == 2


def test_no_two_images_get_the_same_label_file(ledger: Ledger) -> None:
    names = ["a.png", "a.jpg", "a.png.bmp", "a"]
    claims = {claim.name: claim for claim in ledger.add(dict.fromkeys(names, "/in"))}
    files = [ledger.reserve(claims[name]) for name in names]
    assert files[:2] == ["labels/a.tif", "labels/a.jpg.tif"]
    assert len(set(files)) == 4


# --- whose ledger it is -----------------------------------------------------------------------------------------------


def test_the_same_identity_goes_on_and_another_is_refused_with_what_differs(store: Path | str, tmp_path: Path) -> None:
    with closing(Ledger(store, IDENTITY, tmp_path)) as ledger:
        put(ledger, "empty", None)
    with closing(Ledger(store, replace(IDENTITY, recipe=Recipe(model="weights/toy")), tmp_path)) as ledger:
        assert states(ledger, "a.png") == ["quarantined"]
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
            Ledger(store, other, tmp_path)
        assert "--overwrite" in str(refusal.value)
        assert "--out" in str(refusal.value)


def test_a_shared_ledger_is_not_wiped_while_another_works_with_it(server: Any, tmp_path: Path) -> None:  # noqa: F811
    address = server.fresh()
    with closing(Ledger(address, IDENTITY, tmp_path)) as ledger:
        put(ledger, prediction("a.png"))
        with pytest.raises(RunRefused, match=rf"process {os.getpid()} on .* is working with this ledger"):
            wipe(address, tmp_path)
    assert wipe(address, tmp_path) == []
    with closing(Ledger(address, replace(IDENTITY, micro_version="0.2.0"), tmp_path)) as ledger:
        assert image_rows(ledger) == []


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("sqlite:///a.sqlite", "no PostgreSQL database"),
        ("my database", "no address of a database"),
        ("postgresql+nosuch://localhost/x", "its driver is missing"),
        ("postgresql+pg8000://micro:secret@127.0.0.1:1/x", "cannot be opened .* Nothing in it is lost"),
    ],
)
def test_an_address_that_leads_to_no_ledger_is_refused_without_its_password(
    address: str, words: str, tmp_path: Path
) -> None:
    with pytest.raises(RunRefused, match=words) as refusal:
        Ledger(address, IDENTITY, tmp_path)
    assert "secret" not in str(refusal.value)


def test_a_new_ledger_that_others_open_at_the_same_moment_is_waited_for(tmp_path: Path) -> None:
    first = sqlite3.connect(tmp_path / "ledger.sqlite", isolation_level=None, check_same_thread=False)
    first.execute("CREATE TABLE a (b)")
    first.execute("BEGIN IMMEDIATE")
    rest = threading.Timer(0.3, first.rollback)
    rest.start()
    Ledger(tmp_path, IDENTITY, tmp_path).close()
    rest.join()


def test_a_ledger_that_is_locked_is_not_to_be_thrown_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Ledger(tmp_path, IDENTITY, tmp_path).close()
    monkeypatch.setattr(schema, "PATIENCE_S", 0.1)
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(RunRefused, match=r"cannot be opened \(database is locked\). Nothing in it is lost"):
            Ledger(tmp_path, IDENTITY, tmp_path)


def test_a_file_that_is_no_ledger_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").write_text("dear diary\n" * 100, encoding="utf-8")
    with pytest.raises(RunRefused, match="not a ledger that can be read"):
        Ledger(tmp_path, IDENTITY, tmp_path)
    clear(tmp_path)
    Ledger(tmp_path, IDENTITY, tmp_path).close()


def test_results_of_unknown_origin_are_refused(tmp_path: Path) -> None:
    refuse_strangers(tmp_path)
    (tmp_path / "labels").mkdir()
    with pytest.raises(RunRefused, match="holds labels, and no ledger says who made that"):
        refuse_strangers(tmp_path)
    Ledger(tmp_path, IDENTITY, tmp_path).close()
    refuse_strangers(tmp_path)


def test_clearing_removes_what_runs_made_and_nothing_else(tmp_path: Path) -> None:
    kept = ["labels/mine.tif", "notes.txt", "a.png"]
    (tmp_path / "labels").mkdir()
    for name in (*kept, "regions.csv"):
        (tmp_path / name).touch()
    (tmp_path.parent / "victim.tif").touch()
    with closing(Ledger(tmp_path, IDENTITY, tmp_path)) as ledger:
        claims = {claim.name: claim for claim in ledger.add({"a.png": "/a.png", "b.png": "/b.png"})}
        for name, file in (("a.png", "labels/a.tif"), ("b.png", "../victim.tif")):
            ledger.store([Result(claims[name], Seen("/in", None, ONE), prediction(name), file)])
    (tmp_path / "labels" / "a.tif").touch()
    clear(tmp_path)
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == set(kept)
    assert (tmp_path.parent / "victim.tif").exists()


def test_half_written_files_of_killed_runs_are_swept_up_and_those_of_living_workers_are_not(tmp_path: Path) -> None:
    (tmp_path / "labels" / "day").mkdir(parents=True)
    drafts = [tmp_path / ".1.part", tmp_path / "labels" / ".2.part", tmp_path / "labels" / "day" / ".3.part"]
    for draft in (*drafts, tmp_path / "labels" / "kept.tif"):
        draft.touch()
    os.utime(drafts[2], (1, 1))
    sweep(tmp_path, is_mine=False)
    assert [draft.exists() for draft in drafts] == [True, True, False]
    sweep(tmp_path, is_mine=True)
    assert not any(draft.exists() for draft in drafts)
    assert (tmp_path / "labels" / "kept.tif").exists()


def test_a_folder_that_is_held_is_refused_with_who_holds_it(tmp_path: Path) -> None:
    refusal = pytest.raises(RunRefused, match=f"process {os.getpid()} on {platform.node()}")
    with held(tmp_path), closing(Ledger(tmp_path, IDENTITY, tmp_path)), refusal, held(tmp_path):
        pass
    with held(tmp_path):
        pass


def test_another_process_cannot_have_a_held_folder_and_a_dead_one_leaves_it_free(tmp_path: Path) -> None:
    code = f"""
import os
from pathlib import Path
from micro.line.hold import held
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
    with closing(Ledger(tmp_path, IDENTITY, tmp_path)) as ledger:
        put(ledger, prediction("a.png"))
        with ledger.database.begin() as writing:
            writing.execute(sa.update(images).values(notes=["half done"]))
            with schema.connect(tmp_path).connect() as reader:
                assert reader.scalar(sa.select(images.c.notes)) is None
        with closing(sqlite3.connect(tmp_path / "ledger.sqlite")) as plain:
            query = "SELECT name, json_extract(regions.columns, '$.area_px') FROM images JOIN regions ON image_id = id"
            assert plain.execute(query).fetchall() == [("a.png", 1), ("a.png", 1)]
