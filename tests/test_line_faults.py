"""What a line meets in its weeks: full disks, closed folders, lost databases, files that grow, second copies."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from postgres import server  # noqa: F401 -- a fixture
from small_bundles import SMALL_CLASSIFIER, make_bundle
from test_line_kills import Worker, assert_same_end
from toy_line import RECIPE, Toy, drained, draw, folder_of, listed, rows, run, steps

from micro import formats
from micro.errors import RunRefused
from micro.line.arrivals import Watched
from micro.line.run import Place, run_steps
from micro.line.sources import Search
from micro.line.station import Manners
from micro.line.watcher import Ended, Event, Paused, Resumed, RunSummary
from micro.micrograph import Micrograph
from micro.regions import Prediction, Progress

PATIENT = Manners(settle_s=0.0, give_up_after_s=300.0)
NOBODY = 65534


def paused(running: Generator[Progress, None, RunSummary], limit_s: float = 120.0) -> str:
    """Go on until the run says that it waits, and return why."""
    ends = time.monotonic() + limit_s
    for step in running:
        if step.note.startswith("waiting: "):
            return step.note
        assert time.monotonic() < ends
    raise AssertionError("the run came to its end without waiting")


# --- disks ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of sixteen megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(place)], check=False, capture_output=True
    )
    if not mounted or mounted.returncode:
        pytest.skip("this user may not mount a small disk")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def fill(disk: Path) -> Path:
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return ballast


@pytest.mark.parametrize("classes", [(), ("fine", "crack")], ids=["label files", "ledger alone"])
def test_a_full_disk_is_waited_for_and_nothing_is_lost(
    tmp_path: Path, small_disk: Path, classes: tuple[str, ...]
) -> None:
    folder = folder_of(tmp_path / "in", 60)
    run(folder, tmp_path / "undisturbed", Toy(classes=classes))
    events: list[Event] = []
    running = steps(folder, small_disk / "out", Toy(classes=classes), manners=PATIENT, watchers=[events.append])
    next(running)
    ballast = fill(small_disk)
    assert "results cannot be stored" in paused(running)
    assert "waiting" in next(running).note, "it is still full"
    ballast.unlink()
    summary = drained(running)
    assert (summary.done, summary.quarantined) == (60, 0)
    if classes:
        assert (small_disk / "out" / "images.csv").read_bytes() == (
            tmp_path / "undisturbed" / "images.csv"
        ).read_bytes()
    else:
        assert_same_end(small_disk / "out", tmp_path / "undisturbed", 60)
    kinds = [type(event) for event in events]
    assert kinds.count(Paused) == kinds.count(Resumed) == 1


def test_a_run_that_has_waited_long_enough_gives_up_and_the_next_goes_on(tmp_path: Path, small_disk: Path) -> None:
    folder = folder_of(tmp_path / "in", 60)
    run(folder, tmp_path / "undisturbed")
    events: list[Event] = []
    impatient = Manners(settle_s=0.0, give_up_after_s=0.2)
    running = steps(folder, small_disk / "out", manners=impatient, watchers=[events.append])
    next(running)
    ballast = fill(small_disk)
    with pytest.raises(RunRefused, match=r"(No space left on device|disk is full).*run the same command again"):
        drained(running)
    assert isinstance(events[-1], Ended)
    assert events[-1].state == "stopped"
    ballast.unlink()
    assert run(folder, small_disk / "out").done == 60
    assert_same_end(small_disk / "out", tmp_path / "undisturbed", 60)


def test_a_run_that_waits_can_be_told_to_stop(tmp_path: Path, small_disk: Path) -> None:
    stop = threading.Event()
    running = steps(folder_of(tmp_path / "in", 20), small_disk / "out", manners=PATIENT, stop=stop)
    next(running)
    ballast = fill(small_disk)
    paused(running)
    stop.set()
    with pytest.raises(KeyboardInterrupt):
        drained(running)
    ballast.unlink()
    assert run(tmp_path / "in", small_disk / "out").done == 20


@pytest.fixture
def as_ordinary_user() -> Iterator[Path]:
    """A folder of an ordinary user, for whom rights count; root ignores them."""
    if os.geteuid() == 0:
        os.seteuid(NOBODY)
    try:
        with tempfile.TemporaryDirectory(prefix="micro-") as folder:
            yield Path(folder)
    finally:
        if os.getuid() == 0:
            os.seteuid(0)


def test_a_folder_that_becomes_read_only_is_waited_for(as_ordinary_user: Path) -> None:
    folder = folder_of(as_ordinary_user / "in", 300)
    out = as_ordinary_user / "out"
    running = steps(folder, out, manners=PATIENT)
    next(running)
    (out / "labels").chmod(0o555)
    assert "Permission denied" in paused(running)
    (out / "labels").chmod(0o755)
    assert drained(running).done == 300
    run(folder, as_ordinary_user / "undisturbed")
    assert_same_end(out, as_ordinary_user / "undisturbed", 300)


def test_a_folder_that_is_read_only_from_the_start_is_refused(as_ordinary_user: Path) -> None:
    folder = folder_of(as_ordinary_user / "in", 3)
    (as_ordinary_user / "out").mkdir(mode=0o555)
    with pytest.raises(RunRefused, match="results cannot be written there"):
        run(folder, as_ordinary_user / "out")


# --- databases --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("away_s", [1, pytest.param(20, marks=pytest.mark.slow)])
def test_a_database_that_goes_away_is_waited_for_and_nothing_is_lost(
    tmp_path: Path,
    server: Any,  # noqa: F811
    away_s: float,
) -> None:
    folder = folder_of(tmp_path / "in", 60)
    run(folder, tmp_path / "undisturbed")
    running = steps(folder, tmp_path / "out", manners=PATIENT, store=server.fresh())
    next(running)
    server.stop()
    assert "results cannot be stored" in paused(running)
    back = threading.Timer(away_s, server.start)
    back.start()
    summary = drained(running)
    back.join()
    assert (summary.done, summary.quarantined) == (60, 0)
    assert_same_end(tmp_path / "out", tmp_path / "undisturbed", 60)


def test_two_workers_at_one_ledger_share_the_images_and_both_know_the_end(
    tmp_path: Path,
    server: Any,  # noqa: F811
) -> None:
    folder = folder_of(tmp_path / "in", 60)
    run(folder, tmp_path / "undisturbed")
    store = server.fresh()
    engines = [Toy(), Toy()]
    ends: list[RunSummary] = []

    def work(engine: Toy) -> None:
        ends.append(run(folder, tmp_path / "out", engine, store=store))

    workers = [threading.Thread(target=work, args=(engine,)) for engine in engines]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    read = sorted(engines[0].read + engines[1].read)
    assert read == [f"{number:03}.png" for number in range(60)], "each image is read by one of them"
    assert [end.done for end in ends] == [60, 60]
    assert sum(end.unchanged for end in ends) == 60
    run(folder, tmp_path / "out", store=store)
    assert_same_end(tmp_path / "out", tmp_path / "undisturbed", 60)


def test_a_result_that_no_database_takes_is_quarantined_and_its_neighbours_are_stored(
    tmp_path: Path,
    server: Any,  # noqa: F811
) -> None:
    class Odd(Toy):
        def judge(self, image: Micrograph) -> Prediction:
            found = super().judge(image)
            return replace(found, class_name="\0") if image.name == "001.png" else found

    summary = run(folder_of(tmp_path / "in", 3), tmp_path / "out", Odd(), store=server.fresh())
    assert (summary.done, summary.quarantined) == (2, 1)
    assert "cannot be stored" in summary.failures["001.png"]


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [1.0, pytest.param(5.0, marks=pytest.mark.slow)])
@pytest.mark.parametrize("is_watched", [True, False], ids=["watched", "listed"])
def test_a_file_that_grows_is_judged_once_and_whole(tmp_path: Path, seconds: float, is_watched: bool) -> None:
    folder = folder_of(tmp_path / "in", 3)
    draw(tmp_path / "whole.png", 4)
    data = (tmp_path / "whole.png").read_bytes()

    def grow() -> None:
        with (folder / "grown.png").open("wb", buffering=0) as file:
            for part in range(10):
                file.write(data[len(data) * part // 10 : len(data) * (part + 1) // 10])
                time.sleep(seconds / 10)

    writer = threading.Thread(target=grow)
    writer.start()
    while not (folder / "grown.png").exists():
        time.sleep(0.01)
    manners = Manners(settle_s=0.6, give_up_after_s=0.0)
    sources = [str(folder)]
    coming = Watched(Search(sources), 0.6) if is_watched else listed(folder)
    with closing(coming):
        running = run_steps(coming, Toy(), RECIPE, Place(tmp_path / "out"), manners)
        names = [next(running).note for _ in range(4)]
        running.close()
    writer.join()
    assert sorted(names) == ["000.png", "001.png", "002.png", "grown.png"]
    table = {row["image"]: row for row in rows(tmp_path / "out" / "images.csv")}
    assert (table["grown.png"]["state"], table["grown.png"]["n_regions"]) == ("done", "4")
    assert len(rows(tmp_path / "out" / "images.csv")) == 4


def test_a_camera_that_writes_over_its_files_has_each_frame_judged(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "in", 1)
    with closing(Watched(Search([str(folder)]), 0.1)) as coming:
        running = run_steps(coming, Toy(), RECIPE, Place(tmp_path / "out"), Manners(settle_s=0.1))
        next(running)
        for bars in (3, 1, 2):
            time.sleep(0.05)
            draw(folder / "000.png", bars)
            assert next(running).note == "000.png"
        running.close()
    assert [row["n_regions"] for row in rows(tmp_path / "out" / "images.csv")] == ["0", "3", "1", "2"]


def test_a_watched_file_that_was_set_aside_half_written_and_then_completed_counts_once(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "in", 1)
    (folder / "late.png").touch()
    with closing(Watched(Search([str(folder)]), 0.1)) as coming:
        running = run_steps(coming, Toy(), RECIPE, Place(tmp_path / "out"), Manners(settle_s=0.1))
        assert any("late.png: quarantined" in next(running).note for _ in range(2))
        draw(folder / "late.png", 2)
        assert next(running).note == "late.png"
        running.close()
    counts = json.loads((tmp_path / "out" / "run.json").read_text(encoding="utf-8"))["counts"]
    assert (counts["images"], counts["done"], counts["quarantined"]) == (2, 2, 0)


# --- the command itself -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "defects-random"
    return make_bundle(folder, SMALL_CLASSIFIER, "defects").folder


def command(bundle: Path, folder: Path, out: Path, *more: str) -> list[str]:
    arguments = [str(folder), "--model", str(bundle), "--out", str(out), "--device", "cpu", *more]
    return [sys.executable, "-m", "micro", "predict", *arguments]


@pytest.mark.slow
def test_a_watching_command_that_is_told_to_end_stores_what_is_in_hand_and_refuses_a_second_copy(
    tmp_path: Path, bundle: Path
) -> None:
    folder = folder_of(tmp_path / "in", 40)
    out = tmp_path / "out"
    line = command(bundle, folder, out, "--watch", "--settle", "0.1", "--progress", "json")
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(3):
            json.loads(process.stdout.readline())
        second = subprocess.run(line, capture_output=True, text=True, check=False)
        assert second.returncode == 2
        assert f"process {process.pid} on" in second.stderr
        assert "is working in this folder" in second.stderr
        process.send_signal(signal.SIGTERM)
        said = [json.loads(words) for words in process.stdout.read().splitlines() if words.startswith("{")]
    assert process.returncode == 130
    table = rows(out / "images.csv")
    assert len(table) == 3 + len(said)
    assert {row["state"] for row in table} == {"done"}
    assert json.loads((out / "run.json").read_text())["state"] == "interrupted"


@pytest.mark.slow
def test_the_real_command_with_a_segmenter_is_killed_again_and_again(tmp_path: Path) -> None:
    segmenter = make_bundle(tmp_path / "grains-random").folder
    folder = folder_of(tmp_path / "in", 300)
    line = [*command(segmenter, folder, tmp_path / "out"), "--progress", "json"]
    undisturbed = [*command(segmenter, folder, tmp_path / "undisturbed"), "--progress", "json"]
    assert subprocess.run(undisturbed, check=False, capture_output=True).returncode == 0
    for results in (1, 20, 45, 2, 60):
        worker = Worker(line)
        assert worker.lives_until(results, 0.01)
        worker.kill()
    assert Worker(line).end() == 0
    numbers = [
        [{key: value for key, value in row.items() if key != "seconds"} for row in rows(place / "images.csv")]
        for place in (tmp_path / "out", tmp_path / "undisturbed")
    ]
    assert numbers[0] == numbers[1]
    assert len(numbers[0]) == 300
    regions = [(place / "regions.csv").read_bytes() for place in (tmp_path / "out", tmp_path / "undisturbed")]
    assert regions[0] == regions[1]
    for row in numbers[0]:
        assert formats.read_labels(tmp_path / "out" / row["labels"]).max() == int(row["n_regions"])
