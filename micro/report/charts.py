"""Charts as inline SVG: shapes and texts only, coloured by the page's own style sheet."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree as ET

from markupsafe import Markup

WIDTH, HEIGHT = 460, 230
LEFT, RIGHT, TOP, BOTTOM = 48, 10, 12, 42
MOST_TICKS = 6
MOST_DOTS = 20


@dataclass(frozen=True)
class Axis:
    """One edge of a chart: what it counts, and from where to where.

    is_log: equal steps are equal ratios. is_whole: only whole numbers are marked.
    """

    label: str
    low: float
    high: float
    is_log: bool = False
    is_whole: bool = False

    def share(self, value: float) -> float:
        """Return how far along the axis a value lies, 0..1."""
        low, high, value = (math.log(end) if self.is_log else end for end in (self.low, self.high, value))
        return (value - low) / (high - low)

    def ticks(self) -> list[float]:
        """Return round values along the axis, at most seven."""
        if self.is_log:
            return _log_ticks(self.low, self.high)
        return even_ticks(self.low, self.high, least_step=1 if self.is_whole else 0)


@dataclass(frozen=True)
class Series:
    """Counts of one kind in each cell of a histogram; `kind` is the class by which the style sheet colours them."""

    kind: str
    label: str
    counts: Sequence[float]


@dataclass(frozen=True)
class Line:
    """Points of one kind, joined in their order; `kind` is the class by which the style sheet colours them."""

    kind: str
    points: Sequence[tuple[float, float]]


def lines(title: str, across: Axis, up: Axis, drawn: Sequence[Line]) -> Markup:
    """Draw lines over each other, and dots where a line has few points."""
    svg = _canvas(title, across, up)
    for line in drawn:
        places = [(_x(across, x), _y(up, y)) for x, y in line.points]
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        ET.SubElement(svg, "polyline", {"class": f"line line-{line.kind}", "points": points})
        for x, y in places if len(places) <= MOST_DOTS else ():
            ET.SubElement(svg, "circle", {"class": f"fill-{line.kind}", **_written({"cx": x, "cy": y, "r": 3})})
    return _markup(svg)


def histogram(
    title: str,
    across: Axis,
    edges: Sequence[float],
    series: Sequence[Series],
    *,
    up: str = "images",
    curve: Mapping[float, float] | None = None,
) -> Markup:
    """Draw cells stacked over each other, and a fitted curve over them.

    edges: of the cells, one more than there are counts.
    curve: points of a curve in the chart's own units, in order.
    """
    tops = [sum(column) for column in zip(*(each.counts for each in series), strict=True)]
    upward = Axis(up, 0, max([1.0, *tops, *(curve or {}).values()]) * 1.05, is_whole=True)
    svg = _canvas(title, across, upward)
    floors = [0.0] * len(tops)
    for each in series:
        for cell, count in enumerate(each.counts):
            if count:
                left, right = (_x(across, edge) for edge in edges[cell : cell + 2])
                low, high = _y(upward, floors[cell]), _y(upward, floors[cell] + count)
                box = {"x": left + 0.5, "y": high, "width": max(right - left - 1, 0.5), "height": low - high}
                ET.SubElement(svg, "rect", {"class": f"fill-{each.kind}", **_written(box)})
                floors[cell] += count
    if curve:
        points = " ".join(f"{_x(across, x):.1f},{_y(upward, y):.1f}" for x, y in curve.items())
        ET.SubElement(svg, "polyline", {"class": "curve", "points": points})
    return _markup(svg)


def bar(kind: str, share: float) -> Markup:
    """Draw a share, 0..1, as a small bar for a table cell; the number itself stands beside it."""
    svg = ET.Element("svg", {"class": "bar", "viewBox": "0 0 100 8", "aria-hidden": "true"})
    svg.set("preserveAspectRatio", "none")
    ET.SubElement(svg, "rect", {"class": f"fill-{kind}", **_written({"width": 100 * share, "height": 8})})
    return _markup(svg)


def _canvas(title: str, across: Axis, up: Axis) -> ET.Element:
    svg = ET.Element("svg", {"class": "chart", "viewBox": f"0 0 {WIDTH} {HEIGHT}", "role": "img"})
    ET.SubElement(svg, "title").text = title
    for value in up.ticks():
        y = _y(up, value)
        ET.SubElement(svg, "line", {"class": "grid", **_written({"x1": LEFT, "x2": WIDTH - RIGHT, "y1": y, "y2": y})})
        _text(svg, _said(value), LEFT - 6, y + 4, "end")
    floor = HEIGHT - BOTTOM
    ends = {"x1": LEFT, "x2": WIDTH - RIGHT, "y1": floor, "y2": floor}
    ET.SubElement(svg, "line", {"class": "axis", **_written(ends)})
    for value in across.ticks():
        x = _x(across, value)
        ET.SubElement(svg, "line", {"class": "axis", **_written({"x1": x, "x2": x, "y1": floor, "y2": floor + 4})})
        _text(svg, _said(value), x, floor + 17, "middle")
    _text(svg, across.label, (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, "middle", "label")
    _text(svg, up.label, -(TOP + floor) / 2, 11, "middle", "label").set("transform", "rotate(-90)")
    return svg


def _text(svg: ET.Element, words: str, x: float, y: float, anchor: str, kind: str = "tick") -> ET.Element:
    text = ET.SubElement(svg, "text", {"class": kind, "text-anchor": anchor, **_written({"x": x, "y": y})})
    text.text = words
    return text


def _x(axis: Axis, value: float) -> float:
    return LEFT + axis.share(value) * (WIDTH - LEFT - RIGHT)


def _y(axis: Axis, value: float) -> float:
    return HEIGHT - BOTTOM - axis.share(value) * (HEIGHT - TOP - BOTTOM)


def _written(numbers: Mapping[str, float]) -> dict[str, str]:
    return {name: f"{value:.1f}" for name, value in numbers.items()}


def _said(value: float) -> str:
    if value >= 10_000:
        return f"{value / 1e6:g}M" if value >= 1e6 else f"{value / 1e3:g}k"
    return f"{value:g}"


def even_ticks(low: float, high: float, *, most: int = MOST_TICKS, least_step: float = 0) -> list[float]:
    """Return round values from low to high, at most so many and one more."""
    rough = max((high - low) / most, least_step, 1e-10)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(step for step in (power, 2 * power, 5 * power, 10 * power) if step >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [round(index * step, 10) for index in range(first, math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    decades = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    for steps in ((1, 2, 3, 5, 7), (1, 2, 5), (1,)):
        ticks = [step * 10.0**decade for decade in decades for step in steps]
        ticks = [float(f"{tick:.6g}") for tick in ticks if low <= tick <= high]
        if len(ticks) <= MOST_TICKS + 1:
            break
    return ticks


def _markup(svg: ET.Element) -> Markup:
    return Markup(ET.tostring(svg, encoding="unicode"))
