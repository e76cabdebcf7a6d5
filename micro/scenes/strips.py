"""Drawn frames of a rolled sheet near its edge, with and without a defect.

Edge cracks of sheet have no openly licensed images; these frames stand in for them in tests and demonstrations, and say
nothing about how well a network does on a real line.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from micro.micrograph import Micrograph
from micro.scenes.scene import Scene
from micro.scenes.waves import noise

KINDS = ("clean", "dent", "edge_crack", "inclusion", "roll_mark", "scale_spot", "scratch", "stain")
PIXEL_SIZE_UM = 500.0
# Lines are drawn this much larger and shrunk, so that widths below one pixel exist.
_FINE = 4
_SMALLEST_PX = 48
# A pixel belongs to a defect that covers so much of it; fewer pixels than this are no region.
_LABELLED, _FEWEST_PX = 0.3, 4
FRAME_PX = 128
FRAME_MM = FRAME_PX * PIXEL_SIZE_UM / 1000
"""Length of strip on one frame of a coil."""
LEAST_PERIOD_MM = FRAME_MM + 6  # a print is at most 10 px long

Shade = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class _Mark:
    """One defect on a frame.

    cover: (Y, X) the share of each pixel that it covers. shade: (Y, X) by which share it changes the brightness.
    """

    cover: Shade
    shade: Shade


def draw(seed: int, *, height_px: int = 128, width_px: int = 128, kind: str | None = None) -> Scene:
    """Draw one frame: the sheet rolled along Y, its edge at one side, and one kind of defect or none.

    kind: one of KINDS; None lets the seed choose. It is the frame's class, and each mark is a region of that class.
    One seed draws the same sheet for each kind, in the same light and with the same noise.
    """
    rng, rng_marks = np.random.default_rng(seed).spawn(2)
    if kind is None:
        kind = KINDS[int(rng_marks.integers(len(KINDS)))]
    if kind not in KINDS:
        raise ValueError(f"no kind {kind!r} of frame; there are {', '.join(KINDS)}")
    if min(height_px, width_px) < _SMALLEST_PX:
        raise ValueError(f"a frame has at least {_SMALLEST_PX} px a side, not {height_px} x {width_px}")
    shape_px = (height_px, width_px)
    edge_px = _edge(shape_px, rng)
    frame, labels = _taken(_marks(kind, edge_px, shape_px, rng_marks), edge_px, shape_px, rng)
    if rng.random() < 0.5:
        frame, labels = frame[:, ::-1], labels[:, ::-1].copy()
    return _scene(frame, labels, kind, f"{kind}-{seed}")


def edge(seed: int, *, height_px: int = 128, width_px: int = 128) -> Scene:
    """Draw a frame whose class is only whether the edge is cracked: "edge_crack" if the seed is even, or "no_crack".

    Half of the frames without a crack are clean, the others show any other defect.
    """
    others = [kind for kind in KINDS if kind not in ("clean", "edge_crack")]
    kind = "edge_crack" if seed % 2 == 0 else "clean" if seed % 4 == 1 else others[seed // 4 % len(others)]
    scene = draw(seed, height_px=height_px, width_px=width_px, kind=kind)
    return scene if kind == "edge_crack" else replace(scene, class_name="no_crack")


def coil(seed: int, count: int, *, period_mm: float = 1570.0, others: float = 0.02) -> Iterator[Scene]:
    """Draw a coil frame by frame, each FRAME_MM of it, on which a damaged roll left its print once a turn.

    A print on the border of two frames is on both. The frames are named by their numbers.

    period_mm: the turn of the roll, so long that a frame shows one print. others: share of the other frames that show
        another defect.
    """
    if not period_mm >= LEAST_PERIOD_MM:
        raise ValueError(f"a roll mark every {period_mm:g} mm is on a frame twice; take {LEAST_PERIOD_MM:g} mm or more")
    rng = np.random.default_rng(seed)
    shape_px = (FRAME_PX, FRAME_PX)
    printed = _Print.drawn(rng)
    across_px, first_mm = rng.uniform(0.45, 0.8) * FRAME_PX, rng.uniform(0.1, 0.9) * period_mm
    for number in range(count):
        of_frame = np.random.default_rng((seed, number))
        edge_px = _edge(shape_px, of_frame)
        turn = round((number * FRAME_MM + FRAME_MM / 2 - first_mm) / period_mm)
        row_px = (first_mm + max(turn, 0) * period_mm - number * FRAME_MM) * 1000 / PIXEL_SIZE_UM
        mark = printed.at(row_px, across_px, shape_px)
        kind = "roll_mark" if _is_visible(mark) else "clean"
        marks = [mark] if kind == "roll_mark" else []
        if not marks and not mark.cover.any() and of_frame.random() < others:
            kind = str(of_frame.choice([each for each in KINDS if each not in ("clean", "roll_mark")]))
            marks = _marks(kind, edge_px, shape_px, of_frame)
        frame, labels = _taken(marks, edge_px, shape_px, of_frame)
        yield _scene(frame, labels, kind, f"{number:06}")


def _scene(frame: Shade, labels: NDArray[np.int32], kind: str, name: str) -> Scene:
    image = Micrograph(
        frame.round().clip(0, 255).astype(np.uint8)[..., np.newaxis],
        name=name,
        pixel_size_um=PIXEL_SIZE_UM,
        pixel_size_source="drawn",
    )
    return Scene(image, labels, (kind,) * int(labels.max()), kind)


def _taken(
    marks: list[_Mark], edge_px: Shade, shape_px: tuple[int, int], rng: Generator
) -> tuple[Shade, NDArray[np.int32]]:
    """Return the grey values (Y, X) of a sheet with marks as a camera takes it, and the number of each pixel's mark."""
    sheet = np.clip(np.arange(shape_px[1]) + 0.5 - edge_px[:, np.newaxis], 0, 1).astype(np.float32)
    brightness = _sheet(shape_px, rng)
    beside = rng.uniform(0.05, 0.3) * brightness.mean()
    for mark in marks:
        brightness *= 1 + mark.shade * sheet
    frame = (beside + sheet * (brightness - beside)) * _light(shape_px, rng)
    frame = cv2.GaussianBlur(frame, (0, 0), rng.uniform(0.3, 0.6))
    frame += rng.normal(0, rng.uniform(1, 3), shape_px)
    labels = np.zeros(shape_px, np.int32)
    for index, mark in enumerate(marks, start=1):
        labels[mark.cover * sheet >= _LABELLED] = index
    return frame, labels


# --- the sheet --------------------------------------------------------------------------------------------------------


def _edge(shape_px: tuple[int, int], rng: Generator) -> Shade:
    """Return where the sheet begins in each row: (Y,) in px, a straight line with a slow wave."""
    rows = np.arange(shape_px[0])
    place = rng.uniform(0.06, 0.2) * shape_px[1]
    tilt = rng.uniform(-0.03, 0.03)
    wave = rng.uniform(0, 1.5) * np.sin(rows / shape_px[0] * rng.uniform(2, 9) + rng.uniform(0, 2 * math.pi))
    return np.maximum(2, place + tilt * (rows - shape_px[0] / 2) + wave).astype(np.float32)


def _sheet(shape_px: tuple[int, int], rng: Generator) -> Shade:
    """Return the brightness of a sound sheet: lines along the rolling direction over a fine grain."""
    lines = noise(shape_px, (rng.uniform(15, 40), rng.uniform(0.5, 1.2)), rng)
    grain = noise(shape_px, (1.5, 0.8), rng)
    level = rng.uniform(100, 170)
    return np.asarray(
        level * (1 + rng.uniform(0.01, 0.03) * lines + rng.uniform(0.005, 0.02) * grain), dtype=np.float32
    )


def _light(shape_px: tuple[int, int], rng: Generator) -> Shade:
    """Return how much light falls where, about 1: a slope, a fall-off from a bright spot, and at times a fault.

    Faults: a lamp that is weak or too bright, a flickering one (bands along the strip), a dirty cover (a dark band).
    """
    y, x = np.meshgrid(np.linspace(-1, 1, shape_px[0]), np.linspace(-1, 1, shape_px[1]), indexing="ij")
    slope_y, slope_x, spot_y, spot_x = rng.uniform(-1, 1, 4)
    fall = (y - spot_y) ** 2 + (x - spot_x) ** 2
    light = 1 + 0.1 * (slope_y * y + slope_x * x) - rng.uniform(0, 0.06) * fall
    fault = rng.random()
    if fault < 0.08:
        light *= rng.choice((rng.uniform(0.5, 0.75), rng.uniform(1.2, 1.4)))
    elif fault < 0.14:
        light *= 1 + rng.uniform(0.02, 0.05) * np.sin(y * rng.uniform(10, 30) + rng.uniform(0, 2 * math.pi))
    elif fault < 0.2:
        light *= 1 - rng.uniform(0.1, 0.25) * np.exp(-(((x - rng.uniform(-0.8, 0.8)) / rng.uniform(0.1, 0.3)) ** 2))
    return np.asarray(light, dtype=np.float32)


# --- what can be wrong with it: covers are (Y, X) float32, the share of each pixel that a defect covers ---------------


def _marks(kind: str, edge_px: Shade, shape_px: tuple[int, int], rng: Generator) -> list[_Mark]:
    """Return the marks of a kind, none overlapping another."""
    if kind == "edge_crack":
        return _even(_edge_cracks(edge_px, shape_px, rng), rng.uniform(-0.8, -0.5))
    if kind == "scratch":
        return _even([_scratch(edge_px, shape_px, rng)], rng.choice((-1, 1)) * rng.uniform(0.2, 0.4))
    if kind == "scale_spot":
        spots = _spots(edge_px, shape_px, rng, count=int(rng.integers(1, 9)), half_px=(2.5, 6), stretch=(1, 2.5))
        return _even(spots, rng.uniform(-0.55, -0.25))
    if kind == "inclusion":
        # slivers of slag that rolling drew out: much longer than wide
        slivers = _spots(edge_px, shape_px, rng, count=int(rng.integers(1, 4)), half_px=(1.2, 2.5), stretch=(5, 12))
        return _even(slivers, rng.uniform(-0.6, -0.3))
    if kind == "stain":
        return _stains(edge_px, shape_px, rng)
    if kind == "dent":
        return _dents(edge_px, shape_px, rng)
    if kind == "roll_mark":
        return _roll_marks(edge_px, shape_px, rng)
    return []


def _even(covers: list[Shade], depth: float) -> list[_Mark]:
    """Return marks that change the brightness by the same share wherever they are."""
    return [_Mark(cover, np.asarray(depth * cover, np.float32)) for cover in covers]


def _edge_cracks(edge_px: Shade, shape_px: tuple[int, int], rng: Generator) -> list[Shade]:
    """Cracks that run from the edge into the sheet, each in rows of its own."""
    count = int(rng.integers(1, 3))
    band_px = shape_px[0] / count
    cracks = []
    for i in range(count):
        row = (i + rng.uniform(0.35, 0.65)) * band_px
        canvas = np.zeros((shape_px[0] * _FINE, shape_px[1] * _FINE), np.uint8)
        # it starts beside the sheet, so that it is open at the edge whatever the edge's wave
        start = np.array((edge_px[int(row)] - 1.5, row))
        length_px = rng.uniform(0.15, 0.4) * shape_px[1]
        _crack(canvas, start, rng.normal(0, 0.2), length_px, rng.uniform(1.5, 3.0), rng)
        crack = _shrunk(canvas)
        rows = np.arange(shape_px[0])
        crack[(rows < i * band_px) | (rows >= (i + 1) * band_px)] = 0
        cracks.append(crack * _near_its_label(crack))
    return cracks


def _crack(
    canvas: NDArray[np.uint8],
    start: NDArray[np.float64],
    angle: float,
    length_px: float,
    width_px: float,
    rng: Generator,
) -> None:
    """Draw a crack as a wandering line that narrows to its tip, and the branches that leave it."""
    steps = max(4, int(length_px / 2))
    point = start
    for i in range(steps):
        angle = 0.85 * angle + rng.normal(0, 0.3)
        onward = point + length_px / steps * np.array((math.cos(angle), math.sin(angle)))
        here_px = width_px * (1 - 0.75 * i / steps)
        ends = [tuple(round(v * _FINE) for v in p) for p in (point, onward)]
        cv2.line(canvas, ends[0], ends[1], 255, max(1, round(here_px * _FINE)))
        # a branch is shorter than what is left of its stem, so branching ends
        if length_px > 12 and 0.2 < i / steps < 0.8 and rng.random() < 0.12:
            turn = rng.choice((-1, 1)) * rng.uniform(0.5, 1.0)
            _crack(canvas, onward, angle + turn, 0.6 * length_px * (1 - i / steps), 0.7 * here_px, rng)
        point = onward


def _scratch(edge_px: Shade, shape_px: tuple[int, int], rng: Generator) -> Shade:
    """One straight line, nearly along the rolling direction."""
    height_px, width_px = shape_px
    length_px = rng.uniform(0.4, 1.2) * height_px
    angle = rng.normal(0, 0.05)
    x = rng.uniform(edge_px.max() + 0.1 * width_px, 0.9 * width_px)
    y = rng.uniform(0.3, 0.7) * height_px
    reach = length_px / 2 * np.array((math.sin(angle), math.cos(angle)))
    ends = [tuple(round(v * _FINE) for v in (x, y) + sign * reach) for sign in (-1, 1)]
    canvas = np.zeros((height_px * _FINE, width_px * _FINE), np.uint8)
    cv2.line(canvas, ends[0], ends[1], 255, round(rng.uniform(0.8, 2.0) * _FINE))
    return _shrunk(canvas)


def _spots(
    edge_px: Shade,
    shape_px: tuple[int, int],
    rng: Generator,
    *,
    count: int,
    half_px: tuple[float, float],
    stretch: tuple[float, float],
) -> list[Shade]:
    """Ragged spots such as pressed-in scale, drawn out along the rolling direction.

    half_px: least and largest half width. stretch: how many times longer than wide, least and largest.
    """
    y, x = np.mgrid[: shape_px[0], : shape_px[1]]
    ragged = noise(shape_px, (2.0, 1.2), rng)
    spots: list[Shade] = []
    taken = np.zeros(shape_px, bool)
    for _ in range(count):
        half_x = min(rng.uniform(*half_px), 0.33 * (shape_px[1] - edge_px.max()))
        half_y = min(half_x * rng.uniform(*stretch), 0.4 * shape_px[0])
        centre_x = rng.uniform(edge_px.max() + 2 * half_x, shape_px[1] - half_x)
        centre_y = rng.uniform(half_y, shape_px[0] - half_y)
        away = np.hypot((x - centre_x) / half_x, (y - centre_y) / half_y)
        spot = np.clip((1 - away + 0.2 * ragged) * half_x, 0, 1) * (away < 1.6)
        spot *= _near_its_label(spot)
        if not (taken & (spot > 0)).any():
            spots.append(spot.astype(np.float32))
            taken |= cv2.dilate((spot > 0).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    return spots


def _stains(edge_px: Shade, shape_px: tuple[int, int], rng: Generator) -> list[_Mark]:
    """A dried drop of coolant: a large pale spot whose rim is darker than its middle."""
    covers = _spots(edge_px, shape_px, rng, count=1, half_px=(9, 16), stretch=(0.8, 1.6))
    depth = rng.uniform(-0.3, -0.15)
    marks = []
    for cover in covers:
        inside = cv2.distanceTransform((cover >= _LABELLED).astype(np.uint8), cv2.DIST_L2, 3)
        rim = np.exp(-inside / rng.uniform(2, 4))
        marks.append(_Mark(cover, np.asarray(depth * cover * (0.6 + 0.8 * rim), np.float32)))
    return marks


def _dents(edge_px: Shade, shape_px: tuple[int, int], rng: Generator) -> list[_Mark]:
    """Shallow pits under light from one side: the slope that faces it is bright, the other one dark."""
    angle, depth = rng.uniform(0, 2 * math.pi), rng.uniform(0.35, 0.6)
    y, x = np.mgrid[: shape_px[0], : shape_px[1]]
    marks = []
    taken = np.zeros(shape_px, bool)
    for _ in range(int(rng.integers(1, 4))):
        half = rng.uniform(4, 9)
        centre_x = rng.uniform(edge_px.max() + half, shape_px[1] - half)
        centre_y = rng.uniform(half, shape_px[0] - half)
        dx, dy = (x - centre_x) / half, (y - centre_y) / half
        cover = np.clip((1 - np.hypot(dx, dy)) * half, 0, 1)
        slope = math.cos(angle) * dx + math.sin(angle) * dy
        near = cv2.dilate((cover > 0).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        if not (taken & near).any():
            marks.append(_Mark(cover.astype(np.float32), np.asarray(depth * slope * cover, np.float32)))
            taken |= near
    return marks


@dataclass(frozen=True)
class _Print:
    """What a damaged roll prints: half widths across and along in px, how it bends, how bright or dark it is."""

    half_x: float
    half_y: float
    bend: float
    depth: float

    @classmethod
    def drawn(cls, rng: Generator) -> "_Print":
        half_x, half_y = rng.uniform(3, 6), rng.uniform(2.5, 5)
        return cls(half_x, half_y, rng.uniform(-0.08, 0.08), rng.choice((-1, 1)) * rng.uniform(0.15, 0.25))

    def at(self, row_px: float, column_px: float, shape_px: tuple[int, int]) -> _Mark:
        """Return the print on a frame; its middle may lie outside."""
        y, x = np.mgrid[: shape_px[0], : shape_px[1]]
        dx, dy = x - column_px, y - row_px
        away = np.hypot((dx - self.bend * dy**2) / self.half_x, dy / self.half_y)
        return _even([np.clip(2 * (1 - away), 0, 1).astype(np.float32)], self.depth)[0]


def _roll_marks(edge_px: Shade, shape_px: tuple[int, int], rng: Generator) -> list[_Mark]:
    """One faint print of a damaged roll, repeated once a turn of a small roll."""
    period_px = rng.uniform(0.25, 0.4) * shape_px[0]
    printed = _Print.drawn(rng)
    centre_x = rng.uniform(edge_px.max() + 2 * printed.half_x, shape_px[1] - 2 * printed.half_x)
    rows = np.arange(rng.uniform(0, period_px), shape_px[0], period_px)
    marks = [printed.at(row, centre_x, shape_px) for row in rows]
    # a print cut off by the frame's border may leave no pixel of it
    return [mark for mark in marks if _is_visible(mark)]


def _is_visible(mark: _Mark) -> bool:
    return bool((mark.cover >= _LABELLED).sum() >= _FEWEST_PX)


def _near_its_label(cover: Shade) -> NDArray[np.uint8]:
    """Return where a cover is labelled, or beside that: faint pixels further off would be a change without a label."""
    return np.asarray(cv2.dilate((cover >= _LABELLED).astype(np.uint8), np.ones((3, 3), np.uint8)), np.uint8)


def _shrunk(canvas: NDArray[np.uint8]) -> Shade:
    """Return the share of each pixel that a drawing _FINE times larger covers."""
    small = cv2.resize(canvas, None, fx=1 / _FINE, fy=1 / _FINE, interpolation=cv2.INTER_AREA)
    return np.asarray(small, dtype=np.float32) / np.float32(255)
