"""Events as a run tells them, for tests of those who listen."""

from pathlib import Path

from micro.line.identity import Identity
from micro.line.watcher import Receipt, RunSummary, SetAside, Started, Stored
from micro.recipe import Recipe
from micro.regions import Maker, Prediction

MAKER = Maker("toy", "1.0.0", "0" * 64)


def started(device: str = "cpu") -> Started:
    return Started(Path("out"), "sqlite:///out/ledger.sqlite", Identity(Recipe(model="toy"), MAKER, "0.1.0"), device, 2)


def receipt(sha256: str | None = "1" * 64) -> Receipt:
    return Receipt(1, sha256, None, read_seconds=0.001, judge_seconds=0.03, store_seconds=0.002, latency_seconds=0.04)


def stored(name: str = "a.png", verdict: str = "NG", score: float = 0.75) -> Stored:
    scores = {"crack": score, "clean": 1 - score}
    found = Prediction(name, 8, 8, MAKER, class_name="crack", class_scores=scores, verdict=verdict)
    return Stored(found, receipt())


def set_aside(name: str = "b.png", reason: str = "b.png: empty.") -> SetAside:
    return SetAside(name, reason, receipt(None))


def summary() -> RunSummary:
    return RunSummary(images=2, done=1, unchanged=0, quarantined=1, ng=1, seconds=0.5, failures={"b.png": "empty"})
