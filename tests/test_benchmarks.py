import json
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from micro import folder
from micro.micrograph import Micrograph
from tests.benchmarks import defects, grain_boundaries, pitting, suggest, transfer
from tests.benchmarks import grains as grain_size
from tests.benchmarks.disturbances import DISTURBANCES

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


def test_grains_are_joined_where_a_picture_shows_no_boundary_between_them():
    labels = np.repeat(np.repeat(np.array([[1, 2], [3, 4]], np.int32), 40, axis=0), 40, axis=1)
    grey = np.random.default_rng(0).normal(120, 4, labels.shape)
    grey[labels == 2] += 20  # a step around grain 2, a groove above grain 4, nothing left of it
    grey[39:41, 40:] -= 40
    image = Micrograph(grey.clip(0, 255).astype(np.uint8)[..., None], "x", 1.0, "drawn")
    shown = grain_boundaries.seen(image, labels)
    assert len(np.unique(shown)) == 2
    assert (shown[labels == 2] != shown[0, 0]).all()
    assert (shown[labels != 2] == shown[0, 0]).all()


def test_a_mask_of_wide_boundaries_is_closed_to_grains_that_touch():
    mask = np.zeros((40, 60), np.uint8)
    mask[:, 28:33] = 255
    found = grain_size.closed(mask)
    assert np.unique(found).tolist() == [1, 2]
    assert np.count_nonzero(found == 1) == pytest.approx(40 * 30, rel=0.05)


def test_the_benchmark_says_how_to_run_it():
    command = [sys.executable, "-m", "tests.benchmarks.engine", "--help"]
    ended = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert "--size" in ended.stdout


@pytest.fixture
def frames(tmp_path):
    """As many bright frames as dark ones, enough for thresholds."""
    for number in range(144):
        pixels = np.random.default_rng(number).integers(0, 256, (64, 64), np.uint8) // (1 + number % 2)
        path = tmp_path / "frames" / ("dark" if number % 2 else "bright") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), pixels)
    return tmp_path / "frames"


def test_the_benchmark_of_networks_trains_each_fold_once_and_measures_it_three_ways(
    frames, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(defects, "SECONDS", 0.0)
    asked = [str(frames), "--out", str(tmp_path / "rows"), "--networks", "lenet5", "--steps", "2", "--folds", "2"]
    asked += ["--ok-classes", "bright", "--seeds", "1"]
    defects.main([*asked, "--first", "1"])
    first = capsys.readouterr().out
    assert "lenet5-0, fold-1: final" in first
    assert "| lenet5 | 1 of 2 folds, 1 seed, 2 steps |" in first
    assert "\n72 frames; may ship: bright" in first
    defects.main(asked)
    again = capsys.readouterr().out
    assert "fold-1" not in again, "a fold that is there is not trained again"
    assert "lenet5-0, fold-2: final" in again
    assert "\n144 frames; may ship: bright" in again
    kept = json.loads((tmp_path / "rows" / "lenet5-0" / "fold-2" / "disturbed.json").read_text())
    assert {len(right) for right in kept.values()} == {72}
    for name in DISTURBANCES:
        assert f"| {name} | " in again
    defects.main([*asked, "--speed"])
    rows = capsys.readouterr().out.splitlines()
    parameters, *speeds = rows[2].removeprefix("| lenet5 | ").removesuffix(" |").split(" | ")
    assert parameters == "0.06 M", "as LeCun et al. 1998 count some 60,000"
    assert all(float(speed) > 0 for speed in speeds)


def test_each_disturbance_keeps_the_size_of_a_frame_and_changes_it_as_it_says():
    pixels = np.full((64, 48, 1), 100, np.uint8)
    pixels[32:] = 60
    image = Micrograph(pixels, name="step")
    changed = {name: disturb(image).pixels for name, disturb in DISTURBANCES.items()}
    assert all(each.shape == pixels.shape and each.dtype == np.uint8 for each in changed.values())
    assert changed["gain -20%"][0, 0, 0] == 80
    assert changed["shift by 1 px along Y"][32, 0, 0] == 100
    assert np.array_equal(changed["shift by 1 px along X"], pixels)
    assert changed["motion blur, 3 px along Y"][32, 0, 0] == round((100 + 60 + 60) / 3)
    assert changed["vignette, corners -30%"][0, 0, 0] == 70
    assert changed["noise, 5 grey levels"][:32].std() == pytest.approx(5, rel=0.1)


def test_transfer_is_measured_on_what_was_not_drawn_with_the_same_steps(frames, tmp_path, capsys):
    for number in range(144):
        old = frames / ("dark" if number % 2 else "bright") / f"{number}.png"
        new = frames / f"{old.parent.name}{number // 2 % 2}" / old.name
        new.parent.mkdir(exist_ok=True)
        old.rename(new)
    for empty in ("bright", "dark"):
        (frames / empty).rmdir()
    asked = [str(frames), "--out", str(tmp_path / "t"), "--network", "lenet5", "--images", "3", "--draws", "2"]
    asked += ["--steps", "5", "--steps-before", "10", "--rounds", "2"]
    transfer.main(asked)
    said = capsys.readouterr().out
    assert "before: bright0, dark0" in said
    assert "task: bright1, dark1" in said
    for way in ("transferred", "start"):
        assert re.search(rf"^{way}: 0\.\d{{3}}, [+-]\d+\.\d points \(", said, re.MULTILINE), said
    for place, steps, frozen in (("before", 10, 0), ("scratch-1", 5, 0), ("transferred-1", 5, 1)):
        plan = json.loads((tmp_path / "t" / place / "plan.json").read_text())
        assert (plan["steps"], plan["frozen_steps"]) == (steps, frozen)
    assert len(plan["held_out"]) == 72 - 6
    transfer.main(asked)
    assert "final" not in capsys.readouterr().out, "nothing is trained twice"


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


def bsdata(root):
    """Two positions of 8 frames, the first pitted from frame 3 on with one frame unknown, and one single spindle."""
    for name in ("images", "labels"):
        (root / name).mkdir(parents=True)
    rows = ["image,label,type,group,time_yymmddhhmmss"]
    for group, kind, pitted in (("1_0", "type2", {3, 4, 6, 7}), ("2_0", "type2", set()), ("K", "type1", {0})):
        for number in range(8 if kind == "type2" else 1):
            stem, label = f"{group}_{number}", ""
            cv2.imwrite(str(root / "images" / f"{stem}.jpg"), np.full((40, 60, 3), 50 + 5 * len(rows), np.uint8))
            if number in pitted:
                label = f"labels/{stem}.json"
                shape = {"label": "Pitting", "points": [[10, 10], [19, 10], [19, 19], [10, 19]]}
                (root / label).write_text(json.dumps({"shapes": [shape]}))
            rows.append(f"images/{stem}.jpg,{label},{kind},{group},{number}")
    (root / "index.csv").write_text("\n".join(rows) + "\n")
    return root


def test_bsdata_is_arranged_by_position_without_frames_of_which_nothing_is_known(tmp_path):
    pitting.arrange(bsdata(tmp_path / "bsdata"), tmp_path / "folder")
    read = folder.read(tmp_path / "folder", ["classes"])
    names = {item.image.name: item.group for item in read.images}
    assert names == {
        **{f"1_0_{number}.jpg": "1_0" for number in (0, 3, 4, 6, 7)},  # of clean ones every third; 5 is unknown
        **{f"2_0_{number}.jpg": "2_0" for number in (0, 3, 6)},
        "K_0.jpg": "K",
    }
    pits = {item.image.name: int((item.labels == 1).sum()) for item in read.images}
    assert pits["1_0_3.jpg"] == pits["K_0.jpg"] == 100
    assert pits["1_0_0.jpg"] == pits["2_0_3.jpg"] == 0


def test_an_alarm_is_the_second_frame_in_a_row_above_the_threshold():
    assert pitting.first_alarm([0.1, 0.9, 0.2, 0.8, 0.7, 0.9], 0.5) == 4
    assert pitting.first_alarm([0.1, 0.9, 0.2, 0.8], 0.5) is None
    assert pitting.auroc([0.1, 0.2], [0.3, 0.15]) == 0.75


def test_growth_is_what_pits_gained_over_the_largest_of_a_positions_first_frames():
    frame = pitting.Frame(Path("a.jpg"), "1_0", True, "0", None)
    areas = [(3, 7), (0, 5), (0, 12), (0, 0), (0, 2), (0, 12), (20, 4)]
    series = [(frame, pitting.Seen(0.5, right, false, missed=9)) for right, false in areas]
    assert pitting.growth(series) == [0, 0, 0, 0, 0, 0, 12]


def test_a_threshold_lies_halfway_between_clean_and_pitted_frames():
    clean, pitted = (pitting.Frame(Path("a.jpg"), "1_0", True, "0", label) for label in (None, Path("a.json")))
    seen = pitting.Seen(0.5, 0, 0, 0)
    one = [(clean, seen), (clean, seen), (pitted, seen)], [0.1, 0.2, 0.8]
    other = [(clean, seen), (pitted, seen)], [0.2, 0.8]
    assert pitting.threshold([one, other]) == pytest.approx(0.5)


def test_positions_are_dealt_to_folds_series_and_single_spindles_apart():
    assert pitting.folds(["1_0", "2_0", "3_0", "4_0", "KA", "KB"]) == {
        "1_0": 0,
        "2_0": 1,
        "3_0": 2,
        "4_0": 0,
        "KA": 0,
        "KB": 1,
    }
