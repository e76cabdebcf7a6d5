"""A strip as tables and a picture: marks where they lie, and marks that return, turn under turn."""

import csv
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from micro.decide import REVIEW
from micro.line.strip import Mark, Returning, StripMap
from micro.report.charts import even_ticks

MAP_NAME, TABLE_NAME, PERIODS_NAME, RECORD_NAME = "strip.png", "strip.csv", "periods.csv", "strip.json"
WIDTH_PX, LEFT_PX, RIGHT_PX, PANEL_PX, GAP_PX = 1600, 90, 30, 240, 64
TEXT_PX = 17
INK, PAPER, FRAME, PALE = "#1c2430", "#ffffff", "#8a94a3", "#eef1f5"
# Colours that stay apart for most eyes (M. Okabe, K. Ito, Color universal design, 2008).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5c00", "#000000")
DOT_PX = 3


class _Box(NamedTuple):
    """A panel and what its edges mean; the axis across the strip points down."""

    top_px: int
    along: tuple[float, float]
    across: tuple[float, float]

    def x(self, value: float) -> float:
        low, high = self.along
        return LEFT_PX + (value - low) / (high - low) * (WIDTH_PX - LEFT_PX - RIGHT_PX)

    def y(self, value: float) -> float:
        low, high = self.across
        return self.top_px + (value - low) / (high - low) * PANEL_PX


def write_strip(strip: StripMap, folder: Path) -> None:
    """Write the marks and the periods as CSV, the verdict as JSON, and the map as PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    _table(folder / TABLE_NAME, [field.name for field in fields(Mark)], (asdict(mark) for mark in strip.marks))
    names = ("class_name", "side", "across_mm", "period_mm", "standard_error_mm", "first_mm", "marks", "missed")
    rows = [{**asdict(each.period), **asdict(each)} for each in strip.returning]
    for row, each in zip(rows, strip.returning, strict=True):
        row |= {"roll_diameter_mm": each.period.roll_diameter_mm}
    _table(folder / PERIODS_NAME, [*names, "roll_diameter_mm", "roll"], rows)
    facts = {
        "verdict": strip.verdict.verdict,
        "rules": strip.verdict.rules,
        "reasons": strip.verdict.reasons,
        "length_mm": strip.length_mm,
        "frames": strip.frames,
        "corrected": strip.corrected,
        "marks": len(strip.marks),
        "unclear": asdict(strip.unclear),
        "left_out": strip.left_out,
        "blind": strip.blind,
        "seen": strip.seen,
        "layout": strip.layout.model_dump(mode="json"),
    }
    (folder / RECORD_NAME).write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    picture(strip).save(folder / MAP_NAME)


def picture(strip: StripMap) -> Image.Image:
    """Draw a panel a side of the strip, and one for each series of marks that return."""
    sides = list(dict.fromkeys(camera.side for camera in strip.layout.cameras))
    classes = list(dict.fromkeys(mark.class_name for mark in sorted(strip.marks, key=lambda mark: mark.class_name)))
    colour_of = {name: COLOURS[number % len(COLOURS)] for number, name in enumerate(classes)}
    panels = len(sides) + len(strip.returning)
    sheet = Image.new("RGB", (WIDTH_PX, 70 + panels * (PANEL_PX + GAP_PX + TEXT_PX) + 20), PAPER)
    pen = ImageDraw.Draw(sheet)
    length = f"{strip.length_mm / 1000:.2f} m, {strip.describe_seen()}"
    _write(pen, LEFT_PX, 12, f"{strip.verdict.verdict} by {strip.verdict.rules}: {length}")
    _legend(pen, strip.marks, colour_of)
    top_px = 70 + TEXT_PX
    ends = (strip.first_mm / 1000, (strip.first_mm + max(strip.length_mm, 1)) / 1000)
    for side in sides:
        box = _Box(top_px, ends, (0, strip.layout.width_mm))
        _panel(pen, box, f"{side} side", "m from the head", "mm across")
        for edge in strip.layout.lanes_mm:
            pen.line([(LEFT_PX, box.y(edge)), (WIDTH_PX - RIGHT_PX, box.y(edge))], fill=FRAME)
        mine = [mark for mark in strip.marks if mark.side == side]
        _dots(pen, box, [(mark.along_mm / 1000, mark.across_mm, mark) for mark in mine], colour_of)
        top_px += PANEL_PX + GAP_PX + TEXT_PX
    for each in strip.returning:
        _turns(pen, top_px, strip, each, colour_of)
        top_px += PANEL_PX + GAP_PX + TEXT_PX
    return sheet


def _turns(pen: ImageDraw.ImageDraw, top_px: int, strip: StripMap, each: Returning, colour_of: dict[str, str]) -> None:
    """Draw a series folded at its period: each turn of the roll is a line, and its marks stand over each other."""
    period = each.period
    name = f"{each.class_name}, {each.side}: every {period.period_mm:.1f} mm, roll of {period.roll_diameter_mm:.1f} mm"
    mine = [mark for mark in strip.marks if (mark.class_name, mark.side) == (each.class_name, each.side)]
    start_mm = period.first_mm - period.period_mm / 2
    turns = [(mark.along_mm - start_mm) / period.period_mm for mark in mine]
    numbers = [math.floor(turn) for turn in turns]
    box = _Box(top_px, (0, period.period_mm), (min(numbers) - 1, max(numbers) + 1))
    _panel(pen, box, name, "mm from half a turn before the mark", "turn")
    dots = [
        ((turn % 1) * period.period_mm, number, mark) for turn, number, mark in zip(turns, numbers, mine, strict=True)
    ]
    _dots(pen, box, dots, colour_of)


def _panel(pen: ImageDraw.ImageDraw, box: _Box, title: str, along: str, across: str) -> None:
    bottom_px = box.top_px + PANEL_PX
    pen.rectangle((LEFT_PX, box.top_px, WIDTH_PX - RIGHT_PX, bottom_px), fill=PALE, outline=FRAME)
    _write(pen, LEFT_PX, box.top_px - TEXT_PX - 5, title)
    for value in even_ticks(*box.along, most=12):
        pen.line([(box.x(value), bottom_px), (box.x(value), bottom_px + 5)], fill=INK)
        _write(pen, box.x(value), bottom_px + 8, f"{value:g}", anchor="ma")
    for value in even_ticks(*box.across, most=5):
        pen.line([(LEFT_PX - 5, box.y(value)), (LEFT_PX, box.y(value))], fill=INK)
        _write(pen, LEFT_PX - 9, box.y(value), f"{value:g}", anchor="rm")
    _write(pen, WIDTH_PX - RIGHT_PX, bottom_px + 11 + TEXT_PX, along, anchor="ra")
    _write(pen, WIDTH_PX - RIGHT_PX, box.top_px - TEXT_PX - 5, f"down: {across}", anchor="ra")


def _dots(
    pen: ImageDraw.ImageDraw, box: _Box, dots: Sequence[tuple[float, float, Mark]], colour_of: dict[str, str]
) -> None:
    """Draw marks: filled where NG, hollow where REVIEW; one a place, however many there are."""
    drawn: set[tuple[int, int, str, str]] = set()
    for along, across, mark in dots:
        x, y = round(box.x(along)), round(box.y(across))
        if (key := (x, y, mark.class_name, mark.verdict)) in drawn:
            continue
        drawn.add(key)
        _dot(pen, x, y, colour_of[mark.class_name], mark.verdict)


def _dot(pen: ImageDraw.ImageDraw, x: int, y: int, colour: str, verdict: str) -> None:
    box = (x - DOT_PX, y - DOT_PX, x + DOT_PX, y + DOT_PX)
    if verdict == REVIEW:
        pen.ellipse(box, outline=colour)
    else:
        pen.ellipse(box, fill=colour)


def _legend(pen: ImageDraw.ImageDraw, marks: Sequence[Mark], colour_of: dict[str, str]) -> None:
    x = float(LEFT_PX)
    kinds = sorted({(mark.class_name, mark.verdict) for mark in marks})
    for name, verdict in kinds:
        _dot(pen, round(x) + DOT_PX, 44, colour_of[name], verdict)
        count = sum((mark.class_name, mark.verdict) == (name, verdict) for mark in marks)
        words = f"{name} {verdict}: {count}"
        _write(pen, x + 14, 36, words)
        x += 14 + pen.textlength(words, font=_font()) + 26


def _write(pen: ImageDraw.ImageDraw, x: float, y: float, words: str, anchor: str = "la") -> None:
    pen.text((x, y), words, fill=INK, font=_font(), anchor=anchor)


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(TEXT_PX)


def _table(path: Path, names: Sequence[str], rows: Iterable[dict[str, object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, names, extrasaction="ignore", lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
