"""What the ledger of a run says, counted in memory that hardly grows with the number of images."""

from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa

from micro.decide import NG, OK, REVIEW
from micro.line.schema import DONE, QUARANTINED, images, regions, runs

FOUND = "found"
"""How an image is counted that the bundle passes no verdict on."""

VERDICTS = (NG, REVIEW, OK, FOUND)
CELLS = 100
MOST_STARTS = 20
MOST_REMARKS, OTHERS = 1000, "others, which are in images.csv"

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Account:
    """Counts over all images of a ledger.

    states: images a state. verdicts: done images a verdict. classes: done images by class and verdict.
    scores: done images a verdict, in CELLS even cells of the score from 0 to 1.
    region_classes: regions a class. regions_an_image: done images by their number of regions; empty without segmenter.
    median_seconds, p95_seconds: of the time that one image took.
    earlier: images with a result of which another one had the name later, as when a file was written anew.
    starts: when, where and by which version the run was started or gone on with, the last ones first.
    """

    states: Counter[str]
    verdicts: Counter[str]
    classes: Counter[tuple[str, str]]
    scores: dict[str, list[int]]
    region_classes: Counter[str]
    regions_an_image: Counter[int]
    median_seconds: float | None
    p95_seconds: float | None
    earlier: int
    starts: tuple[Row, ...]


def count(connection: sa.Connection) -> Account:
    """Go through the ledger once and count."""
    verdicts: Counter[str] = Counter()
    classes: Counter[tuple[str, str]] = Counter()
    scores = {verdict: [0] * CELLS for verdict in VERDICTS}
    regions_an_image: Counter[int] = Counter()
    seconds = array("d")
    columns = (images.c.verdict, images.c["class"], images.c.score, images.c.n_regions, images.c.seconds)
    query = sa.select(*columns).where(images.c.state == DONE).execution_options(yield_per=5000)
    for verdict, class_name, score, n_regions, time_taken in connection.execute(query):
        kind = verdict or FOUND
        verdicts[kind] += 1
        if class_name is not None:
            classes[class_name, kind] += 1
        if score is not None:
            scores[kind][min(int(score * CELLS), CELLS - 1)] += 1
        if n_regions is not None:
            regions_an_image[n_regions] += 1
        if time_taken is not None:
            seconds.append(time_taken)
    median, p95 = np.percentile(seconds, (50, 95)).tolist() if seconds else (None, None)
    others = sa.func.count() - sa.func.count(images.c.name.distinct())
    ended = images.c.state.in_((DONE, QUARANTINED))
    last = sa.select(runs).order_by(runs.c.id.desc()).limit(MOST_STARTS)
    return Account(
        states=_counted(connection, images.c.state),
        verdicts=verdicts,
        classes=classes,
        scores={kind: cells for kind, cells in scores.items() if any(cells)},
        region_classes=_counted(connection, regions.c["class"]),
        regions_an_image=regions_an_image,
        median_seconds=median,
        p95_seconds=p95,
        earlier=connection.scalar(sa.select(others).where(ended)) or 0,
        starts=tuple({**row} for row in connection.execute(last).mappings()),
    )


def images_of(connection: sa.Connection, kind: str, first: int, most: int) -> Iterator[Row]:
    """Yield done images of one verdict: the surest NG first, the least sure of all others first, then by name."""
    order = images.c.score.desc() if kind == NG else images.c.score.asc()
    verdict = images.c.verdict.is_(None) if kind == FOUND else images.c.verdict == kind
    query = sa.select(images).where(images.c.state == DONE, verdict).order_by(order, images.c.name)
    for row in connection.execute(query.offset(first).limit(most)).mappings():
        yield {**row}


def quarantined(connection: sa.Connection, most: int) -> Iterator[Row]:
    """Yield images that could not be judged, with the reason, by name."""
    query = sa.select(images.c.name, images.c.error).where(images.c.state == QUARANTINED)
    for name, reason in connection.execute(query.order_by(images.c.name).limit(most)):
        yield {"name": name, "error": (reason or "").removeprefix(f"{name}: ")}


def remarks(connection: sa.Connection) -> Counter[str]:
    """Return on how many images each remark was made; beyond MOST_REMARKS different ones the rest is not told apart."""
    made: Counter[str] = Counter()
    query = sa.select(images.c.notes).where(images.c.state == DONE, images.c.notes.is_not(None))
    for notes in connection.execute(query.execution_options(yield_per=5000)).scalars():
        made.update(note if note in made or len(made) < MOST_REMARKS else OTHERS for note in notes)
    return made


def _counted(connection: sa.Connection, column: sa.Column[Any]) -> Counter[str]:
    counted: Counter[str] = Counter()
    for value, number in connection.execute(sa.select(column, sa.func.count()).group_by(column)):
        counted[value] = number
    return counted
