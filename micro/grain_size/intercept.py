"""Test lines and circles laid over a field, and how often they meet a boundary.

A test line runs between two rows of pixels, and what it meets is read on either side of it. Where the sides agree, a
boundary was crossed. Where they do not, the line hit something that the rules of ASTM E112-13, 13 and 14, settle:

    crossing, or only touching (tangent)    1
    triple point                            1.5 on a line, 2 on a circle
    the end of the line on a boundary       1/2

A line ends where it comes to a place that was not measured; that place is no boundary.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from micro.grain_size.count import INTERCEPT, Count, Method, Pattern
from micro.grain_size.section import Section

ANGLES_DEG = (0, 45, 90, 135)
"""Directions of Heyn lines, counter-clockwise from the x axis as seen on the screen."""

LINES_APART = 0.5
CIRCLES_APART = 1.0
"""Distance of neighbouring lines, and of the middles of neighbouring circles, in mean intercepts."""

HILLIARD_HITS = 35
ABRAMS_HITS = 70
"""Hits on one placement: E112-13, 14.3.2 and 14.3.3, asks for about 35, and for 40 to 100."""

SIDE_PX = 0.25
"""A circle that passes a triple point at this distance or nearer has hit it. Wider, and the rule that counts it 2, half
a hit more than is there on average, would show in G."""

CIRCLE_STEP_PX = 0.5

TOUCH_PX = 3.0
"""A line that meets the same two grains again this soon has touched their boundary, or crossed a staircase of pixels:
one hit."""

HEYN = Method("intercept_heyn", "intercept, lines in four directions (Heyn)", INTERCEPT, "ASTM E112-13, 13", "hits")
HILLIARD = Method("intercept_hilliard", "intercept, one circle (Hilliard)", INTERCEPT, "ASTM E112-13, 14.3.2", "hits")
ABRAMS = Method("intercept_abrams", "intercept, three circles (Abrams)", INTERCEPT, "ASTM E112-13, 14.3.3", "hits")
HEYN_AT = {
    angle: Method(
        f"intercept_{angle}_deg", f"intercept, lines at {angle} degrees", INTERCEPT, "ASTM E112-13, 13 and 16", "hits"
    )
    for angle in ANGLES_DEG
}


@dataclass(frozen=True, eq=False)
class _Paths:
    """Test lines, one behind the other, as steps that are read on either side.

    y, x: (2, P) the pixels left and right of each step.
    line: (P,) which line the step is on, ascending.
    step_px: length of a step.
    """

    y: NDArray[np.intp]
    x: NDArray[np.intp]
    line: NDArray[np.intp]
    step_px: float


@dataclass(frozen=True, eq=False)
class _Hits:
    """What test lines met.

    grains: (3, H) how many grains are at each hit: on one side, on the other, in all.
    is_end: (H,) whether a line ends there.
    places_px: (H, 2) y and x.
    length_px: of all lines, where something was measured.
    """

    grains: NDArray[np.int64]
    is_end: NDArray[np.bool_]
    places_px: NDArray[np.float64]
    length_px: float


def heyn(section: Section) -> Count:
    """Count on straight lines in four directions, equally dense in each (E112-13, 13): l = length / hits."""
    counts = [heyn_at(section, angle) for angle in ANGLES_DEG]
    pattern = _joined([count.pattern for count in counts])
    return Count(HEYN, sum(c.count for c in counts), sum(c.extent_px for c in counts), _summed(counts), pattern)


def heyn_at(section: Section, angle_deg: int) -> Count:
    """Count on straight lines of one direction from frame to frame (E112-13, 13; for anisotropy 16).

    angle_deg: 0, 45, 90 or 135, counter-clockwise from the x axis as seen on the screen.
    """
    ends = _straight(section.labels.shape, angle_deg, max(LINES_APART * section.rough_intercept_px, 1.0))
    toward = np.sign(ends[:, 2:] - ends[:, :2])
    steps = np.abs(ends[:, 2:] - ends[:, :2]).max(axis=1) + 1
    line = np.repeat(np.arange(len(ends)), steps)
    along = np.arange(len(line)) - np.repeat(np.cumsum(steps) - steps, steps)
    y, x = (ends[line, axis] + along * toward[line, axis] for axis in (0, 1))
    beside = (0, 1) if angle_deg == 90 else (1, 0)
    paths = _Paths(
        np.stack([y, y + beside[0]]), np.stack([x, x + beside[1]]), line, 1.0 if angle_deg in (0, 90) else 2**0.5
    )
    found = _meet(section, paths)
    # on a line, what the two sides do not agree on counts their mean
    weights = np.where(found.grains[2] > 2, found.grains[:2].mean(axis=0) - 1, 1.0)
    middle = np.array(beside * 2) / 2
    return _count(HEYN_AT[angle_deg], found, weights, lines_px=ends + middle)


def hilliard(section: Section) -> Count:
    """Count on circles of one size, about 35 hits on each, at many places of the field (E112-13, 14.3.2)."""
    return _circles(section, HILLIARD, HILLIARD_HITS, (1.0,))


def abrams(section: Section) -> Count:
    """Count on three concentric circles whose circumferences are as 3 : 2 : 1, at many places (E112-13, 14.3.3)."""
    return _circles(section, ABRAMS, ABRAMS_HITS, (1.0, 2 / 3, 1 / 3))


def _circles(section: Section, method: Method, hits: int, shares: tuple[float, ...]) -> Count:
    """Count on concentric circles that meet about `hits` boundaries; shares are parts of the largest radius."""
    height, width = section.labels.shape
    intercept_px = section.rough_intercept_px
    largest_px = min(hits * intercept_px / (2 * np.pi * sum(shares)), (min(height, width) - 1) / 2 - SIDE_PX)
    if largest_px < 1:
        return Count(method, 0.0, 0.0, {}, Pattern(np.zeros((0, 2)), np.zeros(0)))
    first = largest_px + SIDE_PX
    rows, columns = (_spread(first, side - 1 - first, CIRCLES_APART * intercept_px) for side in (height, width))
    middles = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2)
    counts = []
    for radius_px in (share * largest_px for share in shares):
        found = _meet(section, _around(section, middles, radius_px))
        # on a circle, the side that sees more grains decides
        weights = np.where(found.grains[2] > 2, found.grains[:2].max(axis=0) - 1.0, 1.0)
        circles = np.column_stack([middles, np.full(len(middles), radius_px)])
        counts.append(_count(method, found, weights, circles_px=circles))
    pattern = _joined([count.pattern for count in counts])
    return Count(method, sum(c.count for c in counts), sum(c.extent_px for c in counts), _summed(counts), pattern)


def _straight(shape_px: tuple[int, ...], angle_deg: int, apart_px: float) -> NDArray[np.intp]:
    """Return the first and last pixel of lines over a field, (L, 4): y, x, y, x; there is a pixel beside each."""
    height, width = shape_px
    if angle_deg == 0:
        y = _evenly(height - 1, apart_px)
        return np.stack([y, np.zeros_like(y), y, np.full_like(y, width - 1)], axis=1)
    if angle_deg == 90:
        x = _evenly(width - 1, apart_px)
        return np.stack([np.zeros_like(x), x, np.full_like(x, height - 1), x], axis=1)
    # a line that falls to the right is at x = y + shift
    shift = _evenly(height + width - 2, apart_px * np.sqrt(2)) - (height - 2)
    y0, y1 = np.maximum(0, -shift), np.minimum(height - 2, width - 1 - shift)
    falling = np.stack([y0, y0 + shift, y1, y1 + shift], axis=1)
    falling = falling[y1 - y0 >= 2]
    return (
        falling
        if angle_deg == 135
        else np.column_stack([falling[:, 0], width - 1 - falling[:, 1], falling[:, 2], width - 1 - falling[:, 3]])
    )


def _evenly(count: int, apart: float) -> NDArray[np.intp]:
    """Return whole numbers from 0 to count - 1, evenly `apart`, with half of that left over at either end."""
    number = max(1, round(count / apart))
    return ((np.arange(number) + 0.5) * count / number).astype(np.intp)


def _spread(first: float, last: float, apart: float) -> NDArray[np.float64]:
    """Return evenly spaced places from first to last, no farther apart than `apart`."""
    return np.linspace(first, max(first, last), 1 + int(np.ceil(max(0.0, last - first) / apart)))


def _around(section: Section, middles: NDArray[np.float64], radius_px: float) -> _Paths:
    """Return circles as paths that begin inside a grain, so that no hit is cut in two."""
    steps = max(8, int(np.ceil(2 * np.pi * radius_px / CIRCLE_STEP_PX)))
    turn = np.arange(steps) * (2 * np.pi / steps)
    radii = np.array([radius_px - SIDE_PX, radius_px + SIDE_PX])[:, np.newaxis, np.newaxis]
    y = np.rint(middles[:, :1] + radii * np.sin(turn)).astype(np.intp)
    x = np.rint(middles[:, 1:] + radii * np.cos(turn)).astype(np.intp)
    sides = section.labels[y, x]
    touch = int(TOUCH_PX / CIRCLE_STEP_PX) + 1
    alone = (sides == np.roll(sides, touch, axis=2)).all(axis=0) & (sides[0] == sides[1])
    first = np.argmax(np.where((sides == 0).any(axis=0), 2, alone), axis=1)
    # one step more than the circle has closes it
    order = np.broadcast_to((np.arange(steps + 1) + first[:, np.newaxis]) % steps, (2, len(middles), steps + 1))
    y, x = (np.take_along_axis(axis, order, axis=2).reshape(2, -1) for axis in (y, x))
    return _Paths(y, x, np.repeat(np.arange(len(middles)), steps + 1), 2 * np.pi * radius_px / steps)


def _meet(section: Section, paths: _Paths) -> _Hits:
    """Find where lines meet boundaries.

    Between two steps lies a joint, with two pixels on either side; where these are not all of one grain there is a
    boundary, and joints in a row are one hit.
    """
    sides = section.labels[paths.y, paths.x]
    known = (sides > 0).all(axis=0)
    joint = known[1:] & known[:-1] & (paths.line[1:] == paths.line[:-1])
    wall = joint & ((sides[:, 1:] != sides[0, :-1]).any(axis=0) | (sides[0, :-1] != sides[1, :-1]))
    at = np.flatnonzero(wall)
    breaks = np.cumsum(~joint)
    begins = np.ones(len(at), bool)
    begins[1:] = np.diff(at) > 1
    hit = np.cumsum(begins) - 1
    first, last = at[begins], at[np.append(begins[1:], True)] if len(at) else at
    follows = np.concatenate([[False], joint, [False]])
    is_end = ~follows[first] | ~follows[last + 2]
    around = [sides[side][[at, at + 1]] for side in (0, 1)]
    keys = [_keys(hit, seen, len(section)) for seen in (*around, np.concatenate(around))]
    grains = np.stack([np.bincount(key // (len(section) + 1), minlength=len(first)) for key in keys])
    near = (breaks[first[1:]] == breaks[last[:-1]]) & ((first[1:] - last[:-1]) * paths.step_px <= TOUCH_PX)
    kept = ~_again(keys[2], grains[2], near, len(section) + 1)
    places_px = np.stack([(axis[:, first] + axis[:, last + 1]).mean(axis=0) / 2 for axis in (paths.y, paths.x)], axis=1)
    # from the first joint to the last
    length_px = paths.step_px * int((joint[1:] & joint[:-1]).sum())
    return _Hits(grains[:, kept], is_end[kept], places_px[kept], length_px)


def _keys(hit: NDArray[np.intp], grains: NDArray[np.int32], most: int) -> NDArray[np.int64]:
    """Return hit * (most + 1) + grain of every grain (S, J) that a hit (J,) has, once each, sorted."""
    return np.unique(hit * (most + 1) + grains).astype(np.int64)


def _again(
    keys: NDArray[np.int64], grains: NDArray[np.int64], near: NDArray[np.bool_], stride: int
) -> NDArray[np.bool_]:
    """Return which hits (H,) are part of the one before or after: near it, and with no grain that it does not have.

    near: (H - 1,) whether a hit is near the one before it.
    """
    again = np.zeros(len(grains), bool)
    hit: NDArray[np.int64] = keys // stride
    inside = [np.bincount(hit[np.isin(keys + turn * stride, keys)], minlength=len(grains)) for turn in (-1, 1)]
    in_earlier, in_later = (np.asarray(number == grains) for number in inside)
    again[1:] = near & in_earlier[1:]
    again[:-1] |= near & in_later[:-1] & (grains[:-1] < grains[1:])
    return again


def _count(
    method: Method,
    found: _Hits,
    weights: NDArray[np.float64],
    *,
    lines_px: NDArray[np.float64] | None = None,
    circles_px: NDArray[np.float64] | None = None,
) -> Count:
    weights = np.where(found.is_end, 0.5, weights)
    parts = {
        "crossing": int((~found.is_end & (found.grains[2] == 2)).sum()),
        "triple": int((~found.is_end & (found.grains[2] > 2)).sum()),
        "end": int(found.is_end.sum()),
    }
    pattern = Pattern(
        found.places_px,
        weights,
        np.zeros((0, 4)) if lines_px is None else lines_px,
        np.zeros((0, 3)) if circles_px is None else circles_px,
    )
    return Count(method, float(weights.sum()), found.length_px, parts, pattern)


def _joined(patterns: list[Pattern]) -> Pattern:
    names = ("marks_px", "weights", "lines_px", "circles_px")
    return Pattern(*(np.concatenate([getattr(pattern, name) for pattern in patterns]) for name in names))


def _summed(counts: list[Count]) -> dict[str, int]:
    return {name: sum(count.parts[name] for count in counts) for name in counts[0].parts}
