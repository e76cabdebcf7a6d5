import json
import resource
from pathlib import Path
from typing import Any

import pytest
from line_events import set_aside, started, stored, summary

from micro.drift import Shift
from micro.errors import MicroError
from micro.line.journal import OLD_FILES, Journal
from micro.line.watcher import Depth, Drift, Ended, Paused, Resumed

SHIFT = Shift("brightness_mean", 50, 0.9, 0.5, 1e-9, 0.5, 0.4, is_drift=True)


def lines(path: Path) -> list[dict[str, Any]]:
    text = path.read_bytes()
    assert text.endswith(b"\n")
    return [json.loads(line) for line in text.splitlines()]


def test_each_image_and_each_turn_of_a_run_is_one_line_that_says_who_answered(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "logs" / "line.jsonl")
    calm = Drift((SHIFT,), has_changed=False)
    events = [started(), stored(), set_aside(), Depth(3, 1), Paused("disk full"), Resumed(2.0), calm]
    for event in (
        *events,
        Drift((SHIFT,), has_changed=True),
        Drift((), has_changed=True),
        Ended("finished", summary()),
    ):
        journal(event)
    written = lines(tmp_path / "logs" / "line.jsonl")
    kinds = ["started", "image", "image", "paused", "resumed", "drift", "drift over", "ended"]
    assert [line["event"] for line in written] == kinds
    assert all(line["time"].endswith("+00:00") for line in written)
    begun, done, aside, paused, resumed, drift, _, ended = written
    assert (begun["model"], begun["store"], begun["images"]) == ("toy", "sqlite:///out/ledger.sqlite", 2)
    assert (done["image"], done["state"], done["verdict"], done["class"]) == ("a.png", "done", "NG", "crack")
    assert (done["score"], done["sha256"], done["n_regions"]) == (0.75, "1" * 64, None)
    assert done["seconds"] == {"read": 0.001, "judge": 0.03, "store": 0.002, "latency": 0.04}
    assert (aside["image"], aside["state"], aside["error"]) == ("b.png", "quarantined", "b.png: empty.")
    for line in (done, aside):
        assert (line["model"], line["model_version"], line["weights_sha256"]) == ("toy", "1.0.0", "0" * 64)
    assert (paused["reason"], resumed["seconds"]) == ("disk full", 2.0)
    assert [shift["statistic"] for shift in drift["statistics"]] == ["brightness_mean"]
    assert (ended["state"], ended["quarantined"], ended["failures"]) == ("finished", 1, {"b.png": "empty"})


@pytest.mark.parametrize(
    "name", ["two\nlines.png", 'quo"te.png', "\u202egnp.png", "\u2028.png", "粒.png", "bad\\xff.png"]
)
def test_a_hostile_name_stays_one_line_of_plain_letters(tmp_path: Path, name: str) -> None:
    Journal(tmp_path / "log")(stored(name))
    assert (tmp_path / "log").read_bytes().isascii()
    (line,) = lines(tmp_path / "log")
    assert line["image"] == name


def test_a_full_file_is_put_away_and_the_oldest_goes(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "log", file_bytes=1000)
    for number in range(60):
        journal(stored(f"{number:03}.png"))
    files = [tmp_path / "log", *(tmp_path / f"log.{age}" for age in range(1, OLD_FILES + 1))]
    assert sorted(tmp_path.iterdir()) == sorted(files)
    assert all(file.stat().st_size <= 1000 for file in files)
    kept = [line["image"] for file in reversed(files) for line in lines(file)]
    assert kept == [f"{number:03}.png" for number in range(60 - len(kept), 60)]


def test_a_journal_goes_on_behind_what_an_earlier_run_wrote_or_anew_when_it_was_taken_away(tmp_path: Path) -> None:
    Journal(tmp_path / "log")(stored("a.png"))
    journal = Journal(tmp_path / "log")
    journal(stored("b.png"))
    assert [line["image"] for line in lines(tmp_path / "log")] == ["a.png", "b.png"]
    (tmp_path / "log").rename(tmp_path / "yesterday")
    journal(stored("c.png"))
    assert [line["image"] for line in lines(tmp_path / "log")] == ["c.png"]


def test_a_journal_that_cannot_be_written_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(MicroError, match="Give another --log"):
        Journal(tmp_path)


def test_a_full_disk_costs_whole_lines_and_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    journal = Journal(tmp_path / "log")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # beyond this size the system writes a part of the line, or nothing, as a full disk does
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        for number in range(300):
            journal(stored(f"{number:03}.png"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    kept = lines(tmp_path / "log")
    assert 0 < len(kept) < 300
    assert len(caplog.records) == 1
    journal(stored("after.png"))
    assert lines(tmp_path / "log")[-1]["image"] == "after.png"
    assert f"{300 - len(kept)} lines are lost" in caplog.messages[-1]
