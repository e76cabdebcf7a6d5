from xml.etree import ElementTree as ET

import pytest

from micro.report import charts


def boxes(svg: str, kind: str) -> list[dict[str, float]]:
    found = ET.fromstring(svg).iter("rect")
    names = ("x", "y", "width", "height")
    return [{name: float(box.attrib[name]) for name in names} for box in found if box.get("class") == f"fill-{kind}"]


def texts(svg: str, kind: str = "tick") -> list[str | None]:
    return [text.text for text in ET.fromstring(svg).iter("text") if text.get("class") == kind]


def test_cells_are_as_high_as_their_counts_and_stand_on_each_other() -> None:
    series = [charts.Series("ng", "NG", [1, 0, 4]), charts.Series("ok", "OK", [3, 2, 0])]
    svg = charts.histogram("t", charts.Axis("score", 0, 3), [0, 1, 2, 3], series)
    (first, last), (second, third) = boxes(svg, "ng"), boxes(svg, "ok")
    floor = charts.HEIGHT - charts.BOTTOM
    assert first["y"] + first["height"] == pytest.approx(floor, abs=0.11)
    assert second["y"] + second["height"] == pytest.approx(first["y"], abs=0.11)
    assert third["y"] + third["height"] == pytest.approx(floor, abs=0.11)
    assert last["height"] == pytest.approx(4 * first["height"], abs=0.3)
    assert second["height"] == pytest.approx(3 * first["height"], abs=0.3)
    assert first["x"] < third["x"] < last["x"]


def test_on_a_logarithmic_axis_equal_ratios_are_equally_wide() -> None:
    svg = charts.histogram(
        "t", charts.Axis("d", 1, 8, is_log=True), [1, 2, 4, 8], [charts.Series("found", "", [1, 1, 1])]
    )
    widths = [box["width"] for box in boxes(svg, "found")]
    assert widths == pytest.approx([widths[0]] * 3, abs=0.2)
    assert {"1", "2", "5"} <= set(texts(svg))


def test_a_curve_goes_through_its_points() -> None:
    across = charts.Axis("d", 0, 10)
    svg = charts.histogram("t", across, [0, 10], [charts.Series("found", "", [4])], curve={0: 0.0, 5: 2.0, 10: 4.0})
    (line,) = ET.fromstring(svg).iter("polyline")
    (x0, y0), (x1, y1), (x2, y2) = (map(float, point.split(",")) for point in line.attrib["points"].split())
    (box,) = boxes(svg, "found")
    assert (x0 + x2) / 2 == pytest.approx(x1)
    assert y0 == charts.HEIGHT - charts.BOTTOM
    assert y2 == pytest.approx(box["y"], abs=0.11)
    assert y0 - y1 == pytest.approx(box["height"] / 2, abs=0.11)


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0.9, 1, [0.9, 0.92, 0.94, 0.96, 0.98, 1]),
        (0, 37, [0, 10, 20, 30]),
        (0, 123456, [0, 50000, 100000]),
    ],
)
def test_ticks_are_round_and_few(low: float, high: float, ticks: list[float]) -> None:
    assert charts.Axis("a", low, high).ticks() == ticks


def test_counts_have_whole_ticks_and_large_ones_are_short() -> None:
    few = charts.histogram("t", charts.Axis("a", 0, 1), [0, 1], [charts.Series("ok", "", [2])])
    assert {"0", "1", "2"} <= set(texts(few))
    assert "0.5" not in texts(few)[:3]
    many = charts.histogram("t", charts.Axis("a", 0, 1), [0, 1], [charts.Series("ok", "", [90_000])])
    assert "80k" in texts(many)


def test_words_in_a_chart_are_words() -> None:
    svg = charts.histogram("<script>", charts.Axis("</text><b>", 0, 1), [0, 1], [charts.Series("ok", "", [1])])
    assert "<script>" not in svg
    assert texts(svg, "label")[0] == "</text><b>"
    (title,) = ET.fromstring(svg).iter("title")
    assert title.text == "<script>"


def test_every_chart_has_a_title_for_those_who_do_not_see_it() -> None:
    svg = ET.fromstring(charts.histogram("Scores", charts.Axis("a", 0, 1), [0, 1], [charts.Series("ok", "", [1])]))
    assert svg.get("role") == "img"
    assert svg[0].tag == "title"
    assert ET.fromstring(charts.bar("ok", 0.5)).get("aria-hidden") == "true"


def test_a_line_goes_through_its_points_and_a_short_one_has_dots() -> None:
    short, long = charts.Line("ok", [(0, 0), (10, 1)]), charts.Line("ng", [(x, 0.5) for x in range(50)])
    svg = ET.fromstring(charts.lines("t", charts.Axis("a", 0, 10), charts.Axis("b", 0, 1), [short, long]))
    first, second = (line.attrib["points"].split() for line in svg.iter("polyline"))
    assert first == [
        f"{charts.LEFT:.1f},{charts.HEIGHT - charts.BOTTOM:.1f}",
        f"{charts.WIDTH - charts.RIGHT:.1f},12.0",
    ]
    assert len(second) == 50
    assert [dot.get("class") for dot in svg.iter("circle")] == ["fill-ok"] * 2
