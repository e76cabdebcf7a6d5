"""The page of a run: what to look at first, how many of what, and who answered."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from markupsafe import Markup

from micro import formats
from micro.decide import NG, OK, REVIEW
from micro.errors import MicroError
from micro.line import RECORD_NAME, REPORT_NAME, record, schema
from micro.line.reading import Look, Reader
from micro.line.sources import Source
from micro.line.watcher import Ended, Event, Watcher
from micro.report import account, charts, page, pictures
from micro.report.account import CELLS, FOUND, VERDICTS, Account, Row

# A page of a hundred thousand images stays a page that a browser opens at once: so many pictures are in it, so many
# more images are listed, and of the others the number and the table that has them.
PICTURES = {NG: 168, REVIEW: 84, OK: 24, FOUND: 84}
LISTED = {NG: 1000, REVIEW: 1000, OK: 0, FOUND: 0}
QUARANTINED_LISTED = 500
CLASSES_LISTED = 40
REMARKS_LISTED = 40
PICTURES_A_PAGE = 42
ROWS_A_PAGE = 250
EDGE_PX = 176

HEADINGS = {
    NG: "Not good",
    REVIEW: "To review",
    OK: "Good, the least sure first",
    FOUND: "What was found",
}
STYLES = {NG: "ng", REVIEW: "review", OK: "ok", FOUND: "found"}


@dataclass(frozen=True)
class Thumb:
    """One image on the page: its row of the ledger, and its picture or why there is none."""

    row: Row
    address: str | None = None
    width_px: int = 0
    height_px: int = 0
    missing: str = ""
    link: str | None = None


@dataclass(frozen=True)
class Part:
    """Some images of one verdict: numbers first to last, shown or listed."""

    first: int
    last: int
    thumbs: Iterator[Thumb] | tuple[()] = ()
    rows: Iterator[Row] | tuple[()] = ()


@dataclass(frozen=True)
class Group:
    """All images of one verdict, of which the parts show and list the first ones."""

    style: str
    heading: str
    total: int
    listed: int
    parts: tuple[Part, ...]


def write_run(folder: Path, file: Path, store: str | None = None) -> None:
    """Write the page of a run, which may still be under way.

    folder: the run's, with its record and its label files. store: address of its ledger; None for the folder's own.

    Raises MicroError when the folder holds no run, or the page cannot be written.
    """
    facts = record.read(folder)
    engine = schema.ledger_of(folder, store)
    try:
        with engine.connect() as connection:
            page.write(file, "run.html", _facts(connection, facts, folder, file))
    except sa.exc.DBAPIError as fault:
        raise MicroError(f"{folder}: its ledger cannot be read ({schema.reason(fault)}).") from fault
    finally:
        engine.dispose()


def at_the_end(folder: Path, store: str | None = None) -> Watcher:
    """Return a watcher that writes the page of a run into its folder as soon as the run is over, however it ends."""

    def watch(event: Event) -> None:
        if isinstance(event, Ended):
            write_run(folder, folder / REPORT_NAME, store)

    return watch


def _facts(connection: sa.Connection, told: dict[str, Any], folder: Path, file: Path) -> dict[str, Any]:
    """Return what the template fills in; pictures and lists are made while it is written."""
    found = account.count(connection)
    name = folder.resolve().name
    return {
        "title": f"{name}: run report",
        "name": name,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "record": told,
        "settings": record.settings_of(told),
        "account": found,
        "verdicts": [verdict for verdict in VERDICTS if verdict in found.verdicts],
        "styles": STYLES,
        "class_totals": _class_totals(found),
        "groups": _groups(connection, found, folder, file),
        "quarantined": account.quarantined(connection, QUARANTINED_LISTED),
        "quarantined_listed": min(found.states[schema.QUARANTINED], QUARANTINED_LISTED),
        "remarks": account.remarks(connection).most_common(REMARKS_LISTED),
        "images_a_second": _images_a_second(told),
        "score_chart": _score_chart(found),
        "regions_chart": _regions_chart(found),
        "bar": charts.bar,
        "tables": _tables(folder, file),
    }


def _groups(connection: sa.Connection, found: Account, folder: Path, file: Path) -> Iterator[Group]:
    for kind in VERDICTS:
        total = found.verdicts[kind]
        if not total:
            continue
        pictured = min(total, PICTURES[kind])
        listed = min(total, pictured + LISTED[kind])
        shown = [
            Part(first + 1, last, thumbs=_thumbs(connection, kind, first, last, folder, file))
            for first, last in _spans(0, pictured, PICTURES_A_PAGE)
        ]
        named = [
            Part(first + 1, last, rows=account.images_of(connection, kind, first, last - first))
            for first, last in _spans(pictured, listed, ROWS_A_PAGE)
        ]
        yield Group(STYLES[kind], HEADINGS[kind], total, listed, (*shown, *named))


def _spans(first: int, last: int, size: int) -> list[tuple[int, int]]:
    return [(start, min(start + size, last)) for start in range(first, last, size)]


def _thumbs(connection: sa.Connection, kind: str, first: int, last: int, folder: Path, file: Path) -> Iterator[Thumb]:
    for row in account.images_of(connection, kind, first, last - first):
        yield _thumb(row, folder, file)


def _thumb(row: Row, folder: Path, file: Path) -> Thumb:
    """Read an image again, if it still is the one that was judged, and draw the outlines of its regions."""
    look = Look(Source(row["name"], row["address"]))
    try:
        image = Reader(settle_s=0).read(look)
        if look.sha256 != row["sha256"]:
            return Thumb(row, missing="The file has changed since it was judged.")
        picture = pictures.shown(image, EDGE_PX)
        if row["labels"] is not None:
            picture = pictures.outlined(picture, formats.read_labels(folder / row["labels"]))
    except MicroError as fault:
        return Thumb(row, missing=str(fault))
    height_px, width_px = picture.shape[:2]
    way = None if look.source.is_remote else link(Path(row["address"]), file)
    return Thumb(row, pictures.as_address(picture), width_px, height_px, link=way)


def link(path: Path, file: Path) -> str | None:
    """Return the address of a file as seen from the page; None where no relative way leads there."""
    try:
        way = Path(os.path.relpath(path, file.resolve().parent)).as_posix()
    except ValueError:  # another drive
        return None
    return quote(os.fsencode(way if way.startswith("..") else f"./{way}"))


def _images_a_second(told: dict[str, Any]) -> float | None:
    """Return the throughput of the last start of the run, from its first image to its end."""
    counts = told["counts"]
    worked = counts.get("done", 0) - counts.get("unchanged", 0) + counts.get("quarantined", 0)
    seconds = told.get("seconds")
    return worked / seconds if worked and seconds else None


def _score_chart(found: Account) -> Markup | None:
    """Draw the scores from the lowest tenth that holds one up to 1, in 10 to 25 cells."""
    if not found.scores:
        return None
    lowest = min(next(cell for cell, number in enumerate(cells) if number) for cells in found.scores.values())
    first = 10 * (lowest // 10)
    width = 1 if first >= 80 else 2 if first >= 50 else 5
    series = [
        charts.Series(STYLES[kind], kind, [sum(cells[cell : cell + width]) for cell in range(first, CELLS, width)])
        for kind, cells in found.scores.items()
    ]
    edges = [cell / CELLS for cell in range(first, CELLS + 1, width)]
    title = "Images by score and verdict: " + ", ".join(f"{each.label} {sum(each.counts)}" for each in series)
    return charts.histogram(title, charts.Axis("score of the class", first / CELLS, 1), edges, series)


def _regions_chart(found: Account) -> Markup | None:
    if not found.regions_an_image:
        return None
    most = max(found.regions_an_image)
    step = max(1, -(-(most + 1) // CELLS))
    cells = [0] * (most // step + 1)
    for number, times in found.regions_an_image.items():
        cells[number // step] += times
    edges = [cell * step - 0.5 for cell in range(len(cells) + 1)]
    title = f"Images by their number of regions, 0 to {most}"
    across = charts.Axis("regions in an image", edges[0], edges[-1], is_whole=True)
    return charts.histogram(title, across, edges, [charts.Series("found", "images", cells)])


def _class_totals(found: Account) -> list[tuple[str, int]]:
    totals: Counter[str] = Counter()
    for (name, _), number in found.classes.items():
        totals[name] += number
    return totals.most_common(CLASSES_LISTED)


def _tables(folder: Path, file: Path) -> list[tuple[str, str]]:
    names: Sequence[str] = ("images.csv", "images.parquet", "regions.csv", "regions.parquet", RECORD_NAME)
    there = [(name, link(folder.resolve() / name, file)) for name in names if (folder / name).exists()]
    return [(name, address) for name, address in there if address]
