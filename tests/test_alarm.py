import logging
from pathlib import Path

import numpy as np
import pytest
from line_events import stored

from micro import drift, formats
from micro.line.alarm import IMAGES_A_LOOK, WINDOW, DriftAlarm
from micro.line.watcher import Drift, Event, Looked, Read
from micro.micrograph import Micrograph


def frames(count: int, brightness: float, seed: int) -> list[Micrograph]:
    random = np.random.default_rng(seed)
    levels = random.normal(brightness, 10, count)
    return [Micrograph(np.clip(random.normal(level, 20, (16, 16)), 0, 255).astype(np.uint8)) for level in levels]


REFERENCE = drift.reference(
    [drift.statistics(image) | {"score": 0.9 + 0.1 * (n % 10) / 10} for n, image in enumerate(frames(200, 100, 0))],
    "drawn frames",
)


def pass_by(alarm: DriftAlarm, images: list[Micrograph], score: float | None = None) -> None:
    for number, image in enumerate(images):
        alarm(Read(image, 0.001))
        alarm(stored(score=0.9 + 0.1 * (number % 10) / 10 if score is None else score))


def test_a_line_that_gets_darker_raises_the_alarm_once_and_takes_it_back(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    told: list[Event] = []
    alarm = DriftAlarm(REFERENCE, [told.append], window=50)
    pass_by(alarm, frames(100, 100, 1))
    assert not alarm.facts()["alarm"]
    assert caplog.messages == []
    pass_by(alarm, frames(100, 70, 2))
    assert alarm.facts()["alarm"]
    raised = [event for event in told if isinstance(event, Drift) and event.has_changed]
    assert {shift.statistic for shift in raised[0].shifts if shift.is_drift} == {"brightness_mean"}
    assert "brightness_mean 0.39" in caplog.messages[0]
    pass_by(alarm, frames(100, 100, 3))
    assert not alarm.facts()["alarm"]
    assert [message.split(";")[0] for message in caplog.messages[-1:]] == ["drift: over"]
    assert len(caplog.messages) == 2
    looks = [event for event in told if isinstance(event, Drift)]
    assert len(looks) == (300 - 50) // IMAGES_A_LOOK + 1 + 3, "since the window is full, and for each record"


def test_answers_that_become_unsure_raise_the_alarm_though_the_images_look_alike() -> None:
    alarm = DriftAlarm(REFERENCE, window=50)
    pass_by(alarm, frames(60, 100, 4), score=0.6)
    facts = alarm.facts()
    assert facts["alarm"]
    assert {entry["statistic"] for entry in facts["statistics"] if entry["is_drift"]} == {"score"}
    assert (facts["reference"], facts["window_images"]) == ("drawn frames", 50)


def test_too_few_images_raise_nothing() -> None:
    alarm = DriftAlarm(REFERENCE, window=50)
    pass_by(alarm, frames(drift.LEAST_IMAGES - 1, 30, 5))
    assert alarm.facts()["statistics"] == []
    assert not alarm.facts()["alarm"]


def test_a_list_that_is_sorted_by_class_is_judged_as_a_whole() -> None:
    dark_first = sorted(frames(200, 100, 7), key=lambda image: float(image.pixels.mean()))
    for images, is_drift in ((len(dark_first), False), (None, True)):
        alarm = DriftAlarm.of_run(REFERENCE, (), images)
        pass_by(alarm, dark_first if images else dark_first[:100] * 2)
        assert alarm.facts()["alarm"] == is_drift
    assert DriftAlarm.of_run(REFERENCE, (), 10).facts()["window_images"] == 200
    assert DriftAlarm.of_run(REFERENCE, (), 10**6).facts()["window_images"] == 5000


def test_of_a_long_list_so_many_images_are_measured_spread_evenly_over_the_window() -> None:
    alarm = DriftAlarm.of_run(REFERENCE, (), 10**6)
    image = frames(1, 100, 8)[0]
    for number in range(6000):
        alarm(Read(image, 0.001))
        alarm(stored(score=number / 6000))
    facts = {entry["statistic"]: entry for entry in alarm.facts()["statistics"]}
    assert {entry["images"] for entry in facts.values()} == {WINDOW}
    assert facts["score"]["median_now"] == pytest.approx(3500 / 6000, rel=0.01), "the middle of the last 5000"


def test_a_list_that_is_little_longer_than_the_window_of_a_watched_folder_is_measured_whole() -> None:
    alarm = DriftAlarm.of_run(REFERENCE, (), 250)
    pass_by(alarm, frames(250, 100, 9))
    assert {entry["images"] for entry in alarm.facts()["statistics"]} == {250}


@pytest.mark.parametrize(("cameras", "images"), [(2, 600), (3, 600), (4, 500), (5, 1100), (9, 900)])
def test_each_of_the_cameras_whose_images_come_in_turn_is_seen(cameras: int, images: int) -> None:
    for dark in range(cameras):
        alarm = DriftAlarm.of_run(REFERENCE, (), images)
        for number in range(images):
            alarm(Looked({"brightness_mean": float(number % cameras == dark)}))
            alarm(stored(score=float(number % cameras == dark)))
        shares = [float(np.mean(alarm._recent[name])) for name in ("brightness_mean", "score")]
        assert min(shares) > 0.4 / cameras


@pytest.mark.data
def test_the_alarm_sounds_on_soiling_ball_screws_and_not_on_the_days_it_was_made_on(data: Path) -> None:
    paths = sorted(
        (path for path in (data / "defects/bsdata/images").glob("01_*.jpg")), key=lambda path: path.name.split("_")[1]
    )
    screws = [formats.read(path) for path in paths[:300]]
    random = np.random.default_rng(6)
    clean = [screws[index] for index in random.permutation(120)]
    alarm = DriftAlarm(drift.reference([drift.statistics(image) for image in clean[:60]], "clean screws"), window=50)
    pass_by(alarm, clean[60:])
    assert not alarm.facts()["alarm"]
    pass_by(alarm, screws[200:])
    drifted = {entry["statistic"]: entry for entry in alarm.facts()["statistics"] if entry["is_drift"]}
    assert drifted["brightness_mean"]["median_now"] < drifted["brightness_mean"]["median_then"]
