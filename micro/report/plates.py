"""Fields of view as a laboratory shows them: as taken, with the boundaries, and with the pattern that was counted."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import floor, log10, sqrt
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from micro import grain_size
from micro.grain_size import FieldCount, Pattern
from micro.micrograph import Micrograph
from micro.report import pictures

EDGE_PX = 1000
SMALLEST_EDGE_PX = 240
# Where more grains are in a field, its test pattern is shown on the middle part, which holds so many: dots that touch
# each other show nothing.
LEGIBLE_GRAINS = 250
NEARLY_ALL = 0.85


@dataclass(frozen=True, eq=False)
class Plate:
    """One field with its grains, ready to be drawn.

    labels: (Y, X) integers as they were measured. image: the micrograph; None where nobody knows it.
    """

    labels: NDArray[np.integer[Any]]
    image: Micrograph | None


@dataclass(frozen=True)
class Views:
    """Three pictures of a field; is_part: the last two show its middle part only."""

    whole: Markup
    planimetric: Markup
    intercept: Markup
    is_part: bool


@dataclass(frozen=True)
class _Window:
    """A part of a field, (height, width) in px from (top, left), shown at `scale` picture pixels a pixel."""

    top: int
    left: int
    height: int
    width: int
    scale: float

    @property
    def size_px(self) -> tuple[int, int]:
        """Height and width of the picture."""
        return max(1, round(self.height * self.scale)), max(1, round(self.width * self.scale))

    def cut(self, pixels: NDArray[Any]) -> NDArray[Any]:
        return pixels[self.top : self.top + self.height, self.left : self.left + self.width]

    def placed(self, places_px: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return places (N, 2), y and x with pixel centres at whole numbers, as x and y in the picture."""
        return np.asarray((places_px[:, ::-1] + 0.5 - (self.left, self.top)) * self.scale)

    def holds(self, places_px: NDArray[np.float64]) -> NDArray[np.bool_]:
        low, high = (self.top, self.left), (self.top + self.height, self.left + self.width)
        return np.asarray(((places_px >= low) & (places_px <= high)).all(axis=1))


def draw(plate: Plate, number: int, planimetric: FieldCount, intercept: FieldCount | None, most_bytes: int) -> Views:
    """Draw a field three times.

    number: of the field on the page. most_bytes: that its photographs may take; the more fields, the fewer.
    """
    section = grain_size.section_of(plate.labels)
    share = sqrt(LEGIBLE_GRAINS / len(section))
    is_part = share < NEARLY_ALL
    all_of_it = _window(plate.labels.shape, 1.0)
    part = _window(plate.labels.shape, share) if is_part else all_of_it
    photograph = _photograph(plate, all_of_it, most_bytes // 2 if is_part else most_bytes)

    whole = _canvas(all_of_it, f"Field {number} as taken")
    ET.SubElement(whole, "image", {"id": f"field-{number}", **photograph})
    if is_part:
        box = {"x": part.left, "y": part.top, "width": part.width, "height": part.height}
        ET.SubElement(whole, "rect", {"class": "part", **_scaled(box, all_of_it.scale)})

    grains = _canvas(part, f"Field {number} with its boundaries and what the planimetric method counted")
    if is_part:
        ET.SubElement(grains, "image", {"id": f"part-{number}", **_photograph(plate, part, most_bytes // 2)})
    else:
        ET.SubElement(grains, "use", {"href": f"#field-{number}"})
    edges = pictures.edges(part.cut(section.labels), part.size_px)
    ET.SubElement(grains, "image", {"href": pictures.mask_address(edges), **_whole_of(part)})
    _marks(grains, part, planimetric.counted.pattern)

    hits = _canvas(part, f"Field {number} with the test lines and what they met")
    ET.SubElement(hits, "use", {"href": f"#part-{number}" if is_part else f"#field-{number}"})
    if intercept is not None:
        _lines(hits, part, intercept.counted.pattern)
        _marks(hits, part, intercept.counted.pattern)

    for svg, window in ((whole, all_of_it), (grains, part), (hits, part)):
        _scale_bar(svg, window, planimetric.pixel_size_um)
    first, second, third = (Markup(ET.tostring(svg, encoding="unicode")) for svg in (whole, grains, hits))
    return Views(first, second, third, is_part)


def _window(shape_px: tuple[int, ...], share: float) -> _Window:
    height, width = (max(1, round(edge * share)) for edge in shape_px)
    top, left = (shape_px[0] - height) // 2, (shape_px[1] - width) // 2
    return _Window(top, left, height, width, min(EDGE_PX / max(height, width), 4.0))


def _canvas(window: _Window, title: str) -> ET.Element:
    height, width = window.size_px
    svg = ET.Element("svg", {"class": "plate", "viewBox": f"0 0 {width} {height}", "role": "img"})
    ET.SubElement(svg, "title").text = title
    return svg


def _whole_of(window: _Window) -> dict[str, str]:
    height, width = window.size_px
    return {"width": str(width), "height": str(height)}


def _photograph(plate: Plate, window: _Window, most_bytes: int) -> dict[str, str]:
    """Return the attributes of an image element with the micrograph, as sharp as its bytes allow."""
    if plate.image is None:
        height, width = window.size_px
        return {"href": pictures.as_address(np.full((height, width, 3), 255, np.uint8)), **_whole_of(window)}
    picture = pictures.shown(replace(plate.image, pixels=window.cut(plate.image.pixels)), EDGE_PX)
    while True:
        address = pictures.as_address(picture, 84)
        edge_px = round(0.85 * max(picture.shape))
        if len(address) <= most_bytes or edge_px < SMALLEST_EDGE_PX:
            return {"href": address, **_whole_of(window)}
        picture = pictures.scaled(picture, edge_px)


def _marks(svg: ET.Element, window: _Window, pattern: Pattern) -> None:
    """Draw what was counted as dots, one path a weight."""
    for weight in np.unique(pattern.weights):
        chosen = pattern.marks_px[pattern.weights == weight]
        places = window.placed(chosen[window.holds(chosen)])
        kind = {0.25: "quarter", 0.5: "half", 1.0: "one"}.get(float(weight), "more")
        path = "".join(f"M{x:.0f} {y:.0f}h0" for x, y in places.tolist())
        if path:
            ET.SubElement(svg, "path", {"class": f"mark {kind}", "d": path})


def _lines(svg: ET.Element, window: _Window, pattern: Pattern) -> None:
    begins, ends = window.placed(pattern.lines_px[:, :2]), window.placed(pattern.lines_px[:, 2:])
    path = "".join(
        f"M{x0:.0f} {y0:.0f}L{x1:.0f} {y1:.0f}"
        for (x0, y0), (x1, y1) in zip(begins.tolist(), ends.tolist(), strict=True)
    )
    ET.SubElement(svg, "path", {"class": "test", "d": path})


def _scale_bar(svg: ET.Element, window: _Window, um: float) -> None:
    """Draw a bar of a round length, about a fifth of the picture."""
    height, width = window.size_px
    px_a_um = window.scale / um
    aim_um = width / 5 / px_a_um
    power = 10.0 ** floor(log10(aim_um))
    length_um = max(step * power for step in (1, 2, 5) if step * power <= aim_um)
    length_px = length_um * px_a_um
    size = max(16, round(width / 40))
    back = {"x": width - length_px - 2 * size, "y": height - 2.9 * size, "width": length_px + 2 * size}
    ET.SubElement(svg, "rect", {"class": "scale-back", **_scaled({**back, "height": 2.9 * size})})
    bar = {"x": width - length_px - size, "y": height - size, "width": length_px, "height": size / 4}
    ET.SubElement(svg, "rect", {"class": "scale", **_scaled(bar)})
    place = _scaled({"x": width - size - length_px / 2, "y": height - 1.4 * size, "font-size": size})
    text = ET.SubElement(svg, "text", {"class": "scale", "text-anchor": "middle", **place})
    text.text = f"{length_um / 1000:g} mm" if length_um >= 1000 else f"{length_um:g} \N{MICRO SIGN}m"


def _scaled(numbers: Mapping[str, float], scale: float = 1.0) -> dict[str, str]:
    return {name: f"{value * scale:.1f}" for name, value in numbers.items()}
