import csv
from collections.abc import Sequence
from dataclasses import replace
from math import log
from pathlib import Path

import cv2
import numpy as np
import pytest
from small_bundles import SMALL_CLASSIFIER, make_bundle

from micro import bundle, cli, drift, formats
from micro.errors import BrokenBundle
from micro.micrograph import Micrograph
from micro.regions import Maker, Prediction, Regions

MAKER = Maker("toy", "1.0.0", "0" * 64)


def columns(rows: Sequence[drift.Statistics]) -> dict[str, list[float]]:
    return {name: [row[name] for row in rows] for name in rows[0]}


def found(then: Sequence[float], now: Sequence[float]) -> drift.Shift:
    (shift,) = drift.shifts(drift.reference([{"x": value} for value in then], "a test"), {"x": now})
    return shift


def drifted(then: Sequence[drift.Statistics], now: Sequence[drift.Statistics]) -> set[str]:
    shifts = drift.shifts(drift.reference(then, "a test"), columns(now))
    return {shift.statistic for shift in shifts if shift.is_drift}


def test_the_index_of_two_halves_that_became_quarters_is_a_quarter_of_the_logarithm_of_three() -> None:
    assert drift.psi(np.array([0.5, 0.5]), np.array([0.75, 0.25])) == pytest.approx(0.25 * log(3))
    assert drift.psi(np.array([0.2, 0.8]), np.array([0.2, 0.8])) == 0


def test_the_distance_of_two_samples_that_share_half_of_their_values_is_a_half() -> None:
    assert drift.ks(np.array([1.0, 2, 3, 4]), np.array([3.0, 4, 5, 6])) == 0.5
    assert drift.ks(np.array([1.0, 1, 2]), np.array([2.0, 1, 1])) == 0
    assert drift.ks(np.array([1.0]), np.array([2.0])) == 1


@pytest.mark.parametrize(("critical", "share"), [(1.224, 0.10), (1.358, 0.05), (1.628, 0.01)])
def test_the_p_value_is_that_of_smirnovs_table(critical: float, share: float) -> None:
    distance = critical * (1 / 400 + 1 / 100) ** 0.5
    assert drift.ks_p_value(distance, 400, 100) == pytest.approx(share, rel=0.01)


def test_a_distribution_keeps_the_ends_the_middle_and_the_number_of_a_thousand_values() -> None:
    kept = drift.distribution(np.random.default_rng(0).permutation(1001).tolist())
    assert (kept.count, len(kept.values)) == (1001, drift.KEPT)
    assert (kept.values[0], kept.values[100], kept.values[-1]) == (0, 500, 1000)
    assert drift.distribution([3.0, 1.0]).values == (1.0, 3.0)


def test_samples_of_one_population_drift_less_than_once_in_a_hundred_looks() -> None:
    random = np.random.default_rng(1)
    alarms = sum(found(random.normal(size=400), random.normal(size=100)).is_drift for _ in range(300))
    assert alarms <= 3


def test_a_shift_by_one_standard_deviation_is_found_in_fifty_images_and_says_where_it_went() -> None:
    random = np.random.default_rng(2)
    shift = found(random.normal(10, 1, 400), random.normal(11, 1, 50))
    assert shift.is_drift
    assert (shift.median_then, shift.median_now) == (pytest.approx(10, abs=0.2), pytest.approx(11, abs=0.4))
    assert str(shift).startswith("x 10")


def test_a_shift_too_small_to_matter_is_no_drift_however_sure_the_test_is() -> None:
    random = np.random.default_rng(3)
    shift = found(random.normal(0, 1, 50_000), random.normal(0.15, 1, 50_000))
    assert shift.p_value < 1e-9
    assert not shift.is_drift


def test_the_chance_of_a_false_alarm_is_that_of_all_statistics_together() -> None:
    # by chance two such samples lie so far apart 0.9 times in a thousand
    then, now = [float(value) for value in range(100)], [41 + 59 * value / 30 for value in range(30)]
    alone = found(then, now)
    assert 0.5e-3 < alone.p_value < 1e-3
    assert alone.is_drift
    known = drift.reference([{"x": value, "y": value} for value in then], "a test")
    assert not any(shift.is_drift for shift in drift.shifts(known, {"x": now, "y": now}))


def test_a_value_that_most_images_share_drifts_to_both_sides() -> None:
    widths = [128.0] * 100
    assert not found(widths, widths).is_drift
    assert found(widths, [127.0] * 50).is_drift
    assert found(widths, [129.0] * 50).is_drift


def test_images_that_made_a_reference_never_drift_from_it_however_alike_their_values_are() -> None:
    scores = [254 / 255] * 60 + [1 - 1e-9] * 60  # as pixels of 8 bits have them, and a network that is sure
    assert found(scores, scores).ks == 0
    assert not found([0.498_039_215_686] * 100, [0.498_039_215_686] * 100).is_drift


def test_a_statistic_of_fewer_than_thirty_images_is_not_judged() -> None:
    few = [float(value) for value in range(drift.LEAST_IMAGES - 1)]
    many = [float(value) for value in range(100)]
    for then, now in ((few, many), (many, few)):
        assert drift.shifts(drift.reference([{"x": value} for value in then], "a test"), {"x": now}) == ()
    assert drift.shifts(drift.reference([{"x": value} for value in many], "a test"), {"y": many}) == ()


def test_statistics_do_not_depend_on_the_pixel_type_or_on_three_equal_channels() -> None:
    grey = np.random.default_rng(4).integers(0, 256, (60, 80), dtype=np.uint8)
    expected = drift.statistics(Micrograph(grey))
    assert expected["brightness_mean"] == pytest.approx(grey.mean() / 255)
    assert expected["contrast_std"] == pytest.approx(grey.std() / 255)
    assert (expected["height_px"], expected["width_px"]) == (60, 80)
    for pixels in (grey.astype(np.uint16) * 257, (grey / 255).astype(np.float32), np.dstack([grey] * 3)):
        assert drift.statistics(Micrograph(pixels)) == pytest.approx(expected, rel=1e-5)


def test_sharpness_falls_with_the_focus_and_the_brightness_stays() -> None:
    grey = np.random.default_rng(5).integers(0, 256, (60, 80), dtype=np.uint8)
    sharp, soft = drift.statistics(Micrograph(grey)), drift.statistics(Micrograph(cv2.GaussianBlur(grey, (0, 0), 1.5)))
    assert soft["sharpness_laplacian_std"] < sharp["sharpness_laplacian_std"] / 10
    assert soft["brightness_mean"] == pytest.approx(sharp["brightness_mean"], rel=0.01)


def test_a_large_image_is_looked_at_in_its_middle() -> None:
    pixels = np.zeros((3000, 10), np.uint8)
    pixels[476 : 476 + 2048] = 255
    seen = drift.statistics(Micrograph(pixels))
    assert (seen["brightness_mean"], seen["height_px"]) == (1, 3000)


def test_the_score_watched_is_that_of_the_class_or_the_mean_of_the_regions_or_none() -> None:
    frame = Prediction("a", 8, 8, MAKER)
    named = replace(frame, class_name="crack", class_scores={"crack": 0.75, "clean": 0.25})
    labels = np.zeros((8, 8), np.int32)
    labels[0, 0], labels[4, 4] = 1, 2
    marked = replace(frame, regions=Regions(labels, ("a", "b"), np.array([0.5, 1.0], np.float32)))
    empty = replace(frame, regions=Regions(np.zeros((8, 8), np.int32), (), np.zeros(0, np.float32)))
    assert [drift.answer_statistics(each) for each in (named, marked, empty, frame)] == [
        {"score": 0.75},
        {"score": 0.75},
        {},
        {},
    ]


def test_a_bundle_carries_the_reference_that_the_command_made_of_a_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make_bundle(tmp_path / "toy", SMALL_CLASSIFIER, "defects")
    assert made.reference() is None
    (tmp_path / "good").mkdir()
    random = np.random.default_rng(6)
    for number in range(3):
        grey = random.integers(0, 256, (40, 50), dtype=np.uint8)
        formats.write_image(tmp_path / "good" / f"{number}.png", Micrograph(grey))
    (tmp_path / "good" / "torn.png").write_bytes(b"")
    assert cli.run(["models", "reference", str(made.folder), str(tmp_path / "good")]) == 0
    kept = made.reference()
    assert kept is not None
    assert {name: known.count for name, known in kept.statistics.items()} == {
        "brightness_mean": 3,
        "contrast_std": 3,
        "sharpness_laplacian_std": 3,
        "height_px": 3,
        "width_px": 3,
        "score": 3,
    }
    assert kept.statistics["width_px"].values == (50, 50, 50)
    assert kept.made_from == f"3 images of {tmp_path.name}/good", "and not where that lies on this machine"
    assert "By fewer than 30 images the alarm judges nothing" in capsys.readouterr().err
    assert cli.run(["models", "reference", str(made.folder), str(tmp_path / "good"), "--learned-from"]) == 0
    seen = made.reference()
    assert seen is not None
    assert seen.statistics == {name: known for name, known in kept.statistics.items() if name != "score"}
    assert "that trained it" in seen.made_from


def test_a_folder_without_a_readable_image_leaves_the_reference_as_it_is(tmp_path: Path) -> None:
    made = make_bundle(tmp_path / "toy", SMALL_CLASSIFIER, "defects")
    made.keep_reference(drift.reference([{"x": 1.0}], "a test"))
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "torn.png").write_bytes(b"")
    assert cli.run(["models", "reference", str(made.folder), str(tmp_path / "bad")]) == 2
    assert made.reference() == drift.reference([{"x": 1.0}], "a test")


def test_training_leaves_the_reference_of_images_that_never_trained(tmp_path: Path) -> None:
    for number in range(20):
        path = tmp_path / "frames" / ("dark" if number % 2 else "light") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        grey = np.random.default_rng(number).normal(60 + number, 10, (64, 64)).clip(0, 255)
        assert cv2.imwrite(str(path), grey.astype(np.uint8))
    command = ["train", str(tmp_path / "frames"), "--task", "defects", "--minutes", "0.001", "--out"]
    for folds, measured, words in (("0", 4, "4 whole images"), ("2", 20, "in 2 folds")):
        assert cli.run([*command, str(tmp_path / f"made-{folds}"), "--folds", folds]) == 0
        made = bundle.load(tmp_path / f"made-{folds}")
        kept = made.reference()
        assert kept is not None
        assert {known.count for known in kept.statistics.values()} == {measured}
        assert words in kept.made_from
        assert set(kept.statistics) > {"score", "brightness_mean"}


@pytest.mark.parametrize(
    "text", ["{}", "no json", '{"made_from": "x", "statistics": {"x": {"count": 2, "values": [2, 1]}}}']
)
def test_a_reference_that_is_none_is_refused_by_name(tmp_path: Path, text: str) -> None:
    made = make_bundle(tmp_path / "toy", SMALL_CLASSIFIER, "defects")
    (made.folder / "reference.json").write_text(text, encoding="utf-8")
    with pytest.raises(BrokenBundle, match=r"reference\.json"):
        made.reference()


@pytest.mark.data
def test_halves_of_one_steel_mill_do_not_drift_and_ball_screws_that_soil_do(data: Path) -> None:
    strips = [drift.statistics(formats.read(path)) for path in sorted((data / "defects/xsdd/images").rglob("*.*"))]
    random = np.random.default_rng(7)
    for _ in range(5):
        order = random.permutation(len(strips))
        then, now = ([strips[index] for index in part] for part in np.array_split(order, 2))
        for start in range(0, len(now) - 100, 50):
            assert drifted(then, now[start : start + 100]) == set()

    with (data / "defects/bsdata/index.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["type"] == "type2"]
    rows.sort(key=lambda row: row["time_yymmddhhmmss"])
    screws = [drift.statistics(formats.read(data / "defects/bsdata" / row["image"])) for row in rows[:500]]
    # the first 100 frames are the clean ones; soil darkens the later ones, all of one crop and size
    assert "brightness_mean" in drifted(screws[:100], screws[250:350])
    assert {"brightness_mean", "contrast_std"} <= drifted(screws[:100], screws[350:450])
    assert "width_px" in drifted(strips, screws[:100])


@pytest.mark.data
def test_the_shipped_reference_of_steel_knows_its_own_frames_from_ball_screws(data: Path) -> None:
    shipped = bundle.load("sheet-steel").reference()
    assert shipped is not None
    assert "score" not in shipped.statistics, "these images trained it"
    paths = sorted((data / "defects/xsdd/images").rglob("*.*"))
    own = [formats.read(paths[index]) for index in np.random.default_rng(8).permutation(len(paths))[:100]]
    others = [formats.read(path) for path in sorted((data / "defects/bsdata/images").glob("*.jpg"))[:60]]
    for images, is_drift in ((own, False), (others, True)):
        found = drift.shifts(shipped, columns([drift.statistics(image) for image in images]))
        assert any(shift.is_drift for shift in found) == is_drift
