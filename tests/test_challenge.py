import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from small_bundles import SMALL_CLASSIFIER, make_bundle

from micro import bundle, challenge, cli
from micro.errors import BadFolder
from micro.score import regions
from micro.score.paired import difference, mcnemar_p_value
from micro.trial import PixelTrial, RegionTrial, Trial

NAMES = ("clean", "crack")


def named(truth: list[int], answers: list[int]) -> Trial:
    return Trial(class_names=NAMES, truth=np.array(truth), probabilities=np.eye(2)[answers] * 0.8 + 0.1)


def regioned(*counts: tuple[int, int, int]) -> Trial:
    """One image each: matched, only found, only in the truth."""
    none, nobody = regions.Variation(0.0, 0.0), np.zeros(0)
    return Trial(
        regions=tuple(
            RegionTrial(f"{number}", regions.Matches(*three), 1.0, none, nobody, nobody, nobody)
            for number, three in enumerate(counts)
        )
    )


def changes(found: challenge.Challenge) -> dict[str, challenge.Change]:
    return {change.what: change for change in found.changes}


@pytest.mark.parametrize(
    ("won", "lost", "p_value"),
    [(0, 0, 1.0), (1, 0, 1.0), (3, 3, 1.0), (5, 0, 2 / 32), (0, 6, 2 / 64), (9, 1, 2 * 11 / 1024)],
)
def test_mcnemars_p_is_that_of_a_fair_coin(won: int, lost: int, p_value: float) -> None:
    assert mcnemar_p_value(won, lost) == pytest.approx(p_value)


def test_a_paired_difference_of_equal_answers_has_no_width_though_each_figure_has() -> None:
    values = np.random.default_rng(0).random(50)
    gap = difference(lambda drawn: float(values[drawn].mean()), lambda drawn: float(values[drawn].mean()), 50)
    assert (gap.value, gap.low, gap.high) == (0, 0, 0)
    ahead = difference(lambda drawn: float(values[drawn].mean()) + 0.1, lambda drawn: float(values[drawn].mean()), 50)
    assert (ahead.low, ahead.high) == (pytest.approx(0.1), pytest.approx(0.1))


def test_a_challenger_that_gains_in_one_class_and_loses_in_none_may_replace() -> None:
    truth = [0] * 10 + [1] * 10
    champion = named(truth, [0] * 10 + [0] * 4 + [1] * 6)
    found = challenge.compare(named(truth, [0] * 10 + [0] * 2 + [1] * 8), champion)
    assert found.may_replace
    gained = changes(found)["crack, recall"]
    assert (gained.champion, gained.challenger) == (0.6, 0.8)
    assert gained.difference.value == pytest.approx(0.2)
    assert gained.difference.low >= 0
    assert gained.p_value == pytest.approx(0.5)
    assert changes(found)["clean, precision"].challenger == pytest.approx(10 / 12)
    assert changes(found)["clean, precision"].p_value is None
    assert "may replace" in found.describe()


def test_a_challenger_better_in_all_but_one_class_stays_out_and_the_class_is_named() -> None:
    truth = [0] * 90 + [1] * 10
    champion = named(truth, [0] * 60 + [1] * 30 + [1] * 10)
    found = challenge.compare(named(truth, [0] * 90 + [0] + [1] * 9), champion)
    assert not found.may_replace
    assert [change.what for change in found.changes if change.is_worse] == ["clean, precision", "crack, recall"]
    assert "Stay with the champion: worse in clean, precision, crack, recall." in found.describe()


def test_a_tolerated_loss_is_none() -> None:
    truth = [0] * 10 + [1] * 10
    champion, challenger = named(truth, truth), named(truth, [1] + [0] * 9 + [1] * 10)
    assert not challenge.compare(challenger, champion, tolerance=0.09).may_replace
    assert challenge.compare(challenger, champion, tolerance=0.1).may_replace


def test_a_bundle_may_replace_itself() -> None:
    trial = named([0, 0, 1], [0, 1, 1])
    assert challenge.compare(trial, trial).may_replace


def test_a_class_that_the_images_do_not_show_is_not_judged() -> None:
    assert set(changes(challenge.compare(named([0, 0], [0, 0]), named([0, 0], [0, 1])))) == {
        "clean, recall",
        "clean, precision",
    }


def test_regions_are_pooled_over_images_before_they_are_compared() -> None:
    found = challenge.compare(regioned((8, 1, 1), (9, 0, 0)), regioned((6, 2, 2), (9, 0, 0)))
    f1 = changes(found)["F1 at IoU 0.5"]
    assert (f1.champion, f1.challenger) == (pytest.approx(30 / 34), pytest.approx(34 / 36))
    assert changes(found)["AP at IoU 0.5"].champion == pytest.approx(15 / 19)
    assert found.may_replace
    assert not challenge.compare(regioned((6, 2, 2)), regioned((8, 1, 1))).may_replace


def test_pixels_are_compared_by_the_iou_of_each_class() -> None:
    def trial(*tables: list[list[int]]) -> Trial:
        rows = tuple(PixelTrial(f"{number}", np.array(table)) for number, table in enumerate(tables))
        return Trial(pixels=rows, class_names=NAMES)

    found = challenge.compare(
        trial([[50, 0], [10, 40]], [[9, 1], [0, 0]]), trial([[50, 0], [20, 30]], [[9, 1], [0, 0]])
    )
    crack = changes(found)["crack, IoU"]
    assert (crack.champion, crack.challenger) == (pytest.approx(30 / 51), pytest.approx(40 / 51))
    assert found.may_replace


@pytest.fixture
def stubborn(tmp_path: Path) -> dict[str, str]:
    """Bundles that answer the same whatever they see: clean, or crack."""
    made = make_bundle(tmp_path / "random", SMALL_CLASSIFIER, "defects")
    weights = made.weights()
    last = [name for name, value in weights.items() if len(value) == len(SMALL_CLASSIFIER.outputs)]
    for number, name in enumerate(("clean", "crack")):
        fixed = {key: np.zeros_like(value) if key in last else value for key, value in weights.items()}
        (bias,) = (key for key in last if fixed[key].ndim == 1)
        fixed[bias] = np.eye(3, dtype=np.float32)[number]
        bundle.save(tmp_path / name, made.card.model_copy(update={"name": name}), fixed)
    random = np.random.default_rng(1)
    for number in range(6):
        path = tmp_path / "frozen" / ("clean" if number < 4 else "crack") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), random.integers(0, 256, (32, 32), dtype=np.uint8))
    return {name: str(tmp_path / name) for name in ("clean", "crack", "frozen")}


def test_the_exit_code_says_whether_the_challenger_may_replace_the_bundle_in_use(
    stubborn: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["score", stubborn["frozen"], "--json", str(tmp_path / "changes.json"), "--model"]
    assert cli.run([*command, stubborn["clean"], "--against", stubborn["clean"]]) == 0
    assert "may replace the champion: nothing got worse on these 6 images" in capsys.readouterr().out
    assert cli.run([*command, stubborn["clean"], "--against", stubborn["crack"]]) == 1
    assert "worse in crack, recall, crack, precision" in capsys.readouterr().out
    recall = {change["what"]: change for change in json.loads((tmp_path / "changes.json").read_text())}["clean, recall"]
    assert (recall["champion"], recall["challenger"], recall["is_worse"]) == (0, 1, False)
    assert recall["p_value"] == 2 / 16
    tolerant = ["--tolerance", "1"]
    assert cli.run([*command, stubborn["clean"], "--against", stubborn["crack"], *tolerant]) == 0


def test_bundles_of_other_classes_or_images_are_not_compared() -> None:
    trial = named([0, 1], [0, 1])
    with pytest.raises(BadFolder, match="clean, crack"):
        challenge.compare(trial, replace(trial, class_names=("clean", "scratch")))
    with pytest.raises(BadFolder, match="different images"):
        challenge.compare(trial, named([0, 1, 1], [0, 1, 1]))
