"""Runs that are killed at random moments, and what is left of their results."""

import os
import random
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from postgres import server  # noqa: F401 -- a fixture
from toy_line import folder_of, rows, run, same_bytes

from micro import formats

WORKER = Path(__file__).with_name("line_worker.py")
# How long a worker may take until its first result, and from one to the next, on a busy machine.
PATIENCE_S = 120.0


class Worker:
    """A run in a process of its own, killed after so many results or milliseconds."""

    def __init__(self, command: Sequence[str | Path]) -> None:
        self.process = subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert self.process.stdout is not None
        self.output = self.process.stdout
        os.set_blocking(self.output.fileno(), False)
        self.lines = 0

    def lives_until(self, results: int, more_s: float) -> bool:
        """Wait for so many more lines and a little longer; False if the run came to its end before that."""
        ends = time.monotonic() + PATIENCE_S
        wanted = self.lines + results
        while self.lines < wanted and time.monotonic() < ends:
            select.select([self.output], [], [], 1.0)
            said = self.output.read()
            if said == b"":
                return False
            self.lines += (said or b"").count(b"\n")
        time.sleep(more_s)
        return self.process.poll() is None

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.output.close()

    def end(self) -> int:
        """Wait until the run has come to its end, and return its exit code."""
        os.set_blocking(self.output.fileno(), True)
        self.output.read()
        self.output.close()
        return self.process.wait()


def killed_again_and_again(
    command: Sequence[str | Path], kills: int, results_between: int, chance: random.Random
) -> int:
    """Run a command, killing it at random moments, until it ends by itself; return how often it was killed."""
    done = 0
    while done < kills:
        worker = Worker(command)
        # a tenth of the moments lie in the start of the program, the others among its results
        in_start = chance.random() < 0.1
        alive = worker.lives_until(0 if in_start else chance.randint(1, 2 * results_between), chance.uniform(0, 0.05))
        if in_start:
            time.sleep(chance.uniform(0, 1.0))
        worker.kill()
        if not alive:
            break
        done += 1
    assert Worker(command).end() == 0
    return done


def assert_same_end(out: Path, undisturbed: Path, count: int) -> None:
    """Every image has one result, the very one of a run that nobody disturbed, and a label file that can be read."""
    for name in ("images.csv", "regions.csv"):
        assert same_bytes(out / name, undisturbed / name)
    table = rows(out / "images.csv")
    assert len(table) == len({row["image"] for row in table}) == count
    assert {row["state"] for row in table} == {"done"}
    for row in table:
        assert int(formats.read_labels(out / row["labels"]).max()) == int(row["n_regions"])
    files = {str(path.relative_to(out)) for path in (out / "labels").rglob("*") if path.is_file()}
    assert files == {row["labels"] for row in table}, "half-written files are left, or some are missing"


@pytest.mark.parametrize(("images", "kills"), [(60, 2), pytest.param(5000, 100, marks=pytest.mark.slow)])
def test_a_run_killed_at_random_moments_ends_like_an_undisturbed_one(tmp_path: Path, images: int, kills: int) -> None:
    folder = folder_of(tmp_path / "in", images)
    run(folder, tmp_path / "undisturbed")
    command = [sys.executable, WORKER, folder, tmp_path / "out"]
    assert killed_again_and_again(command, kills, images // kills // 2, random.Random(1)) == kills
    assert_same_end(tmp_path / "out", tmp_path / "undisturbed", images)


@pytest.mark.parametrize(("images", "kills"), [(60, 1), pytest.param(5000, 50, marks=pytest.mark.slow)])
def test_two_workers_that_share_a_ledger_and_are_killed_in_turn_end_like_an_undisturbed_run(
    tmp_path: Path,
    server: Any,  # noqa: F811
    images: int,
    kills: int,
) -> None:
    folder = folder_of(tmp_path / "in", images)
    run(folder, tmp_path / "undisturbed")
    chance = random.Random(2)
    command = [sys.executable, WORKER, folder, tmp_path / "out", server.fresh()]
    workers = [Worker(command), Worker(command)]
    for number in range(kills):
        # in turn, so that the one which goes on meanwhile does not come to the end of the images alone
        alive = workers[number % 2].lives_until(chance.randint(1, images // kills // 2), chance.uniform(0, 0.05))
        assert alive, "the run ended before it was killed often enough"
        workers[number % 2].kill()
        workers[number % 2] = Worker(command)
    with ThreadPoolExecutor() as pool:  # both are heard to the end: one that nobody hears stands still
        assert [*pool.map(Worker.end, workers)] == [0, 0]
    assert Worker(command).end() == 0
    assert_same_end(tmp_path / "out", tmp_path / "undisturbed", images)
