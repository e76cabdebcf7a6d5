import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.benchmarks import defects, suggest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_the_benchmark_measures_every_figure_that_has_a_bar(tmp_path):
    figures = tmp_path / "figures.json"
    command = [sys.executable, "-m", "tests.benchmarks.engine", "--quick", "--json", str(figures)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    found = json.loads(figures.read_text())
    assert sum(figure["holds"] is not None for figure in found.values()) == 9
    assert all(figure["value"] >= 0 for figure in found.values())


@pytest.mark.slow
@pytest.mark.parametrize("part", [("fields", "--fields", "8"), ("large", "--megapixels", "2")])
def test_the_benchmark_of_grain_size_measures_its_bars(tmp_path, part):
    figures = tmp_path / "figures.json"
    command = [sys.executable, "-m", "tests.benchmarks.grains", *part, "--json", str(figures)]
    ended = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert "holds" in ended.stdout or "missed" in ended.stdout
    found = json.loads(figures.read_text())
    if part[0] == "fields":
        assert {name for name in found if "all" in name and "within" in name} == {
            "G within 0.15, all, planimetric (8 fields)",
            "G within 0.15, all, intercept (8 fields)",
        }
    else:
        assert found["from file to G and table"]["value"] > found["measure"]["value"] > 0


def test_the_benchmark_says_how_to_run_it():
    command = [sys.executable, "-m", "tests.benchmarks.engine", "--help"]
    ended = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert "--size" in ended.stdout


def test_the_table_of_networks_trains_each_row_once(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(defects, "SECONDS", 0.0)
    for number in range(24):
        pixels = np.random.default_rng(number).integers(0, 256, (64, 64), np.uint8) // (1 + number % 2)
        path = tmp_path / "frames" / ("dark" if number % 2 else "bright") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), pixels)
    asked = [str(tmp_path / "frames"), "--out", str(tmp_path / "rows"), "--networks", "lenet5", "--steps", "2"]
    asked += ["--folds", "2", "--seeds"]
    defects.main([*asked, "1"])
    first = capsys.readouterr().out
    assert "fold 2 of 2" in first
    assert "| lenet5 | 1 |" in first
    defects.main([*asked, "2"])
    again = capsys.readouterr().out
    assert "lenet5, seed 0" not in again, "a row that is there is not made again"
    assert "lenet5, seed 1: final" in again
    assert "| lenet5 | 2 |" in again


def test_the_simulation_of_suggestions_keeps_what_is_done_and_says_who_needed_fewer(tmp_path, monkeypatch, capsys):
    asked = []

    def row(source, seed):
        asked.append((source, seed))
        found = {f"random {count}": 0.4 + count / 100 for count in (5, 10, 20, 30)}
        return found | {f"suggest {count}": 0.4 + seed / 10 + count / 100 for count in (5, 10, 20)}

    monkeypatch.setattr(suggest, "row", row)
    monkeypatch.setattr(suggest, "SOURCES", {"one": lambda data: "one"})
    for seeds in ("1", "2", "3"):
        suggest.main(["--json", str(tmp_path / "s.json"), "--sources", "one", "--seeds", seeds])
    assert asked == [("one", 0), ("one", 1), ("one", 2)], "each once"
    said = capsys.readouterr().out
    assert "20 suggested images do not reach 30 random ones" in said
    assert said.endswith("20 suggested images reach 30 random ones\n\n")
    assert "    20  0.700 (0.600 to 0.800)  0.600 (0.600 to 0.600)" in said
