import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_the_benchmark_measures_every_figure_that_has_a_bar(tmp_path):
    figures = tmp_path / "figures.json"
    command = [sys.executable, "-m", "tests.benchmarks.engine", "--quick", "--json", str(figures)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    found = json.loads(figures.read_text())
    assert sum(figure["holds"] is not None for figure in found.values()) == 9
    assert all(figure["value"] >= 0 for figure in found.values())


def test_the_benchmark_says_how_to_run_it():
    command = [sys.executable, "-m", "tests.benchmarks.engine", "--help"]
    ended = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert "--size" in ended.stdout
