"""The whole round: a bundle errs, people correct it, training learns, and a comparison lets the better one in."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from toy_line import rows

from micro import cli

pytestmark = pytest.mark.slow


def frame(path: Path, seed: int, disc: int) -> Path:
    """Write a frame of noise with a disc: 0 none, below 0 a dark one, which is a dent, above 0 a bright one: chalk."""
    random = np.random.default_rng(seed)
    pixels = random.normal(120, 12, (64, 64)).astype(np.float32)
    if disc:
        centre = tuple(int(place) for place in random.integers(16, 48, 2))
        cv2.circle(pixels, centre, 9, 120.0 + disc, -1)
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels.clip(0, 255).astype(np.uint8))
    return path


def test_a_bundle_that_people_corrected_gets_better_and_only_then_replaces_the_old_one(tmp_path: Path) -> None:
    for number in range(40):  # what is known at first: nobody thought of chalk
        frame(tmp_path / "known" / "clean" / f"{number:02}.png", number, 0)
        frame(tmp_path / "known" / "dent" / f"{number:02}.png", 100 + number, -80)
    for number in range(12):  # what nobody trains on
        frame(tmp_path / "frozen" / "clean" / f"bare{number:02}.png", 200 + number, 0)
        frame(tmp_path / "frozen" / "clean" / f"chalk{number:02}.png", 300 + number, 80)
        frame(tmp_path / "frozen" / "dent" / f"{number:02}.png", 400 + number, -80)
    chalk = [frame(tmp_path / "today" / f"{number:02}.png", 500 + number, 80) for number in range(24)]

    train = ["train", str(tmp_path / "known"), "--task", "defects", "--minutes", "0.15", "--out"]
    champion, challenger, fooled = (str(tmp_path / name) for name in ("champion", "challenger", "fooled"))
    assert cli.run([*train, champion]) == 0
    run = tmp_path / "run"
    assert cli.run(["predict", str(tmp_path / "today"), "--model", champion, "--out", str(run), "--device", "cpu"]) == 0
    wrong = [path for path, row in zip(chalk, rows(run / "images.csv"), strict=True) if row["class"] != "clean"]
    assert len(wrong) > 12, "who knows dents by their edges takes chalk for one"

    for path in wrong:
        assert cli.run(["correct", str(run), str(path), "--class", "clean", "--author", "Ann"]) == 0
    more = ["--from", champion, "--corrections", str(run)]
    assert cli.run([*train, challenger, *more]) == 0
    score = ["score", str(tmp_path / "frozen"), "--device", "cpu", "--model"]
    assert cli.run([*score, challenger, "--against", champion]) == 0

    for path in wrong:  # somebody who calls all chalk a dent
        assert cli.run(["correct", str(run), str(path), "--class", "dent", "--author", "Mallory"]) == 0
    assert cli.run([*train, fooled, *more]) == 0
    assert cli.run([*score, fooled, "--against", challenger]) == 1
