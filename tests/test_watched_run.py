"""A run as those see it who watch it: the journal, the counters, the drift in its record."""

import json
import urllib.request
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from small_bundles import SMALL_CLASSIFIER, make_bundle
from toy_line import Toy, folder_of, run, steps

from micro import cli, drift
from micro.line.journal import Journal
from micro.line.metrics import Metrics, served
from micro.micrograph import Micrograph


def record(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "run.json").read_text(encoding="utf-8"))
    return found


def frames(folder: Path, brightness: int, count: int = 60) -> Path:
    folder.mkdir()
    for number in range(count):
        pixels = np.random.default_rng(number).normal(brightness + number % 7, 10, (16, 16)).clip(0, 255)
        assert cv2.imwrite(str(folder / f"{number:03}.png"), pixels.astype(np.uint8))
    return folder


def reference_of(folder: Path) -> drift.Reference:
    images = [Micrograph(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)) for path in sorted(folder.iterdir())]
    return drift.reference([drift.statistics(image) for image in images], "frames of a good day")


def test_the_record_says_whether_the_images_drifted_from_those_of_the_bundle(tmp_path: Path) -> None:
    reference = reference_of(frames(tmp_path / "good", 120))
    for name, brightness, is_drift in (("same", 120, False), ("dark", 80, True)):
        run(frames(tmp_path / name, brightness), tmp_path / f"out-{name}", Toy(reference=reference))
        found = record(tmp_path / f"out-{name}")["drift"]
        assert (found["alarm"], found["reference"]) == (is_drift, "frames of a good day")
        assert {row["statistic"] for row in found["statistics"]} >= {"brightness_mean", "contrast_std"}
    run(tmp_path / "same", tmp_path / "out", Toy())
    assert "drift" not in record(tmp_path / "out")


def test_the_journal_has_a_line_for_each_image_of_a_run_and_the_counters_agree(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "in", 12)
    (folder / "bad.png").touch()
    counters = Metrics()
    run(folder, tmp_path / "out", Toy(classes=("fine", "crack")), watchers=[Journal(tmp_path / "log"), counters])
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert (lines[0]["event"], lines[-1]["event"], lines[-1]["state"]) == ("started", "ended", "finished")
    told = {line["image"]: line for line in lines if line["event"] == "image"}
    assert len(told) == len(lines) - 2 == 13
    assert told["bad.png"]["state"] == "quarantined"
    assert all(line["seconds"]["judge"] == 0.25 for name, line in told.items() if name != "bad.png")
    value = counters.registry.get_sample_value
    assert value("micro_images_total", {"state": "done"}) == 12
    assert value("micro_images_total", {"state": "quarantined"}) == 1
    assert value("micro_verdicts_total", {"verdict": "OK"}) == 12
    assert value("micro_stage_seconds_count", {"stage": "store"}) == 12
    assert value("micro_running") == 0


def test_counters_can_be_asked_while_a_run_works(tmp_path: Path) -> None:
    counters = Metrics()
    work = steps(folder_of(tmp_path / "in", 3), tmp_path / "out", Toy(), watchers=[counters])
    with served(counters, "0") as port:
        next(work)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            assert b"micro_running 1.0" in answer.read()
        work.close()


def test_a_log_that_fails_stops_no_image(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "in", 3)
    journal = Journal(tmp_path / "logs" / "log")
    (tmp_path / "logs" / "log").unlink()
    (tmp_path / "logs").rmdir()
    assert run(folder, tmp_path / "out", Toy(), watchers=[journal]).done == 3


def test_the_command_writes_the_log_and_knows_its_share(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = make_bundle(tmp_path / "toy", SMALL_CLASSIFIER, "defects")
    folder = folder_of(tmp_path / "in", 20)
    made.keep_reference(reference_of(folder))
    command = ["predict", str(folder), "--model", str(made.folder), "--device", "cpu", "--metrics", "0", "--log"]
    names = []
    for number in (1, 2):
        out = tmp_path / f"out-{number}"
        shares = ["--out", str(out), "--shard", f"{number}/2"]
        assert cli.run([*command, str(out / "line.jsonl"), *shares]) == 0
        lines = [json.loads(line) for line in (out / "line.jsonl").read_text().splitlines()]
        names += [line["image"] for line in lines if line["event"] == "image"]
        assert record(out)["drift"]["alarm"] is False
    assert sorted(names) == [f"{number:03}.png" for number in range(20)]
    assert cli.run([*command, str(tmp_path), "--out", str(tmp_path / "no")]) == 2
    assert "Give another --log" in capsys.readouterr().err


def test_what_watches_for_ever_is_not_divided(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["predict", str(folder_of(tmp_path / "in", 1)), "--model", "sheet-steel", "--out", str(tmp_path / "out")]
    for flag in (["--shard", "1/2"], ["--cluster", "auto"]):
        assert cli.run([*command, "--watch", *flag]) == 2
        assert "start several runs with one --store" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--marker .done", "Pass --watch too"),
        ("--poll 5", "Pass --watch too"),
        ("--watch --fail-on-ng", "takes no --fail-on-ng"),
        ("--workers 3", "on a --cluster"),
        ("--cluster auto --workers 0", "at least 1"),
        ("--settle -1", "0 or more"),
        ("--give-up-after nan", "0 or more"),
    ],
)
def test_a_flag_that_would_do_nothing_is_refused(
    flags: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["predict", str(folder_of(tmp_path / "in", 1)), "--model", "sheet-steel", "--out", str(tmp_path / "out")]
    assert cli.run([*command, *flags.split()]) == 2
    assert words in capsys.readouterr().err
