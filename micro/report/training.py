"""The page of a training: what came of it, where it fails, how it went, and what it learned from."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from micro import challenge
from micro.challenge import Challenge
from micro.folder import AnnotatedFolder
from micro.report import charts, page, pictures
from micro.report.failures import Failure, failure
from micro.score import classes, regions
from micro.score.interval import Interval, bootstrap, proportion
from micro.tasks import Annotation
from micro.training import Curve, Outcome, Scored
from micro.trial import Case, RegionTrial, Trial

PAGE_NAME = "training.html"
IMAGES_LISTED = 60
SHADES = 5
LINES = ("found", "ok", "review", "ng")


@dataclass(frozen=True)
class ClassRow:
    """How well one class was found. count: of its frames or pixels."""

    name: str
    count: int
    figures: tuple[Interval, ...]


@dataclass(frozen=True)
class ConfusionRow:
    """A true class: how often it was answered as each class, and the shade of each cell, 0 to SHADES."""

    name: str
    cells: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Shown:
    """An image that was answered badly, on the page; an address is a `data:` address."""

    case: Case
    failure: Failure
    plain: str
    overlay: str | None
    said: str


@dataclass(frozen=True)
class Section:
    """One set of images that measured the training.

    images: rows of regions, the worst first, at most IMAGES_LISTED of `images_total`.
    compared: with the bundle that training began from, or why not.
    """

    scored: Scored
    class_rows: tuple[ClassRow, ...]
    confusion: tuple[ConfusionRow, ...]
    images: tuple[RegionTrial, ...]
    images_total: int
    total: regions.Matches | None
    worst: Iterator[Shown]
    sureness: tuple[classes.Sureness, ...]
    sureness_chart: Markup | None
    compared: Challenge | str


def write_training(file: Path, outcome: Outcome, folders: Sequence[AnnotatedFolder]) -> None:
    """Write the page of a training that is done.

    folders: those that it learned from, as they were read; the first is the one that measured it.

    Raises MicroError when the page cannot be written.
    """
    card = outcome.bundle.card
    annotation = folders[0].annotation
    page.write(
        file,
        "training.html",
        {
            "title": f"{card.name} {card.version}: training",
            "card": card,
            "plan": outcome.plan,
            "annotation": annotation,
            "class_figures": ("IoU", "recall", "precision") if annotation == "classes" else ("recall", "precision"),
            "sections": [_section(scored, annotation) for scored in outcome.scores],
            "loss_chart": _loss_chart(outcome.curves),
            "curves": list(zip(outcome.curves, _kinds(outcome.curves), strict=True)),
            "folders": folders,
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "micro_version": version("micro"),
        },
    )


def _section(scored: Scored, annotation: Annotation) -> Section:
    trial = scored.trial
    rows = sorted(trial.regions, key=lambda row: row.matches.average_precision)
    compared = scored.start if isinstance(scored.start, str) else challenge.compare(trial, scored.start)
    sureness = trial.sureness()
    return Section(
        scored=scored,
        class_rows=tuple(_class_rows(trial)),
        confusion=tuple(_confusion_rows(trial)),
        images=tuple(rows[:IMAGES_LISTED]),
        images_total=len(rows),
        total=regions.pooled(row.matches for row in rows) if rows else None,
        worst=(_shown(case, annotation) for case in scored.worst),
        sureness=sureness,
        sureness_chart=_sureness_chart(sureness, annotation) if len(sureness) > 1 else None,
        compared=compared,
    )


def _table(trial: Trial) -> NDArray[np.int64] | None:
    """Return how often each class (row) was answered as each (column), in frames or pixels; None for regions."""
    if trial.pixels:
        return np.asarray(np.sum([row.confusion for row in trial.pixels], axis=0))
    return None if trial.regions else trial.class_score().confusion


def _class_rows(trial: Trial) -> Iterator[ClassRow]:
    table = _table(trial)
    if table is None:
        return
    tables = np.stack([row.confusion for row in trial.pixels]) if trial.pixels else None
    for number, name in enumerate(trial.class_names):
        right, there, said = int(table[number, number]), int(table[number].sum()), int(table[:, number].sum())
        if tables is None:
            yield ClassRow(name, there, (proportion(right, there), proportion(right, said)))
        else:
            figures = (partial(_figure, tables, number, what) for what in range(3))
            yield ClassRow(name, there, tuple(bootstrap(figure, len(tables)) for figure in figures))


def _figure(tables: NDArray[np.int64], number: int, what: int, drawn: NDArray[np.intp]) -> float:
    """Return IoU (0), recall (1) or precision (2) of a class over the drawn images."""
    table = tables[drawn].sum(axis=0)
    whole = (table[number].sum() + table[:, number].sum() - table[number, number], table[number].sum(),
             table[:, number].sum())[what]  # fmt: skip
    return float(table[number, number] / whole) if whole else 0.0


def _confusion_rows(trial: Trial) -> Iterator[ConfusionRow]:
    table = _table(trial)
    for name, counts in () if table is None else zip(trial.class_names, table.tolist(), strict=True):
        total = max(sum(counts), 1)
        yield ConfusionRow(name, tuple((count, -(-SHADES * count // total)) for count in counts))


def _shown(case: Case, annotation: Annotation) -> Shown:
    part = failure(case, annotation)
    overlay = None if part.overlay is None else pictures.as_address(part.overlay, 85)
    said = ""
    if case.class_scores:
        ranked = sorted(case.class_scores.items(), key=lambda pair: -pair[1])
        said = ", ".join(f"{name} {score:.2f}" for name, score in ranked[:3])
    return Shown(case, part, pictures.as_address(part.plain, 85), overlay, said)


def _kinds(curves: Sequence[Curve]) -> list[str]:
    """Return by which class of the style sheet each curve is coloured: the final one like what is found."""
    others = LINES[1:]
    return [others[number % len(others)] for number in range(len(curves) - 1)] + [LINES[0]]


def _loss_chart(curves: Sequence[Curve]) -> Markup:
    highest = max(loss for curve in curves for _, loss in curve.points)
    last = max(done for curve in curves for done, _ in curve.points)
    drawn = [
        charts.Line(kind, [(float(done), loss) for done, loss in curve.points])
        for curve, kind in zip(curves, _kinds(curves), strict=True)
    ]
    title = "Loss over the steps: " + ", ".join(f"{each.part} ends at {each.points[-1][1]:.4f}" for each in curves)
    return charts.lines(title, charts.Axis("steps", 0, last, is_whole=True), charts.Axis("loss", 0, highest), drawn)


def _sureness_chart(found: Sequence[classes.Sureness], annotation: Annotation) -> Markup:
    whole = charts.Axis("", 0, 1)
    kind = "frames" if annotation == "frames" else "regions"
    stated = charts.Axis(f"mean score of {kind} about as sure as each other", whole.low, whole.high)
    drawn = [
        charts.Line("even", [(0.0, 0.0), (1.0, 1.0)]),
        charts.Line("found", [(each.stated, each.right.value) for each in found]),
    ]
    title = f"How many {kind} were right, by how sure the network was; an honest one lies on the diagonal"
    return charts.lines(title, stated, charts.Axis("share that was right", 0, 1), drawn)
