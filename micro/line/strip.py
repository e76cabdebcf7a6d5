"""The images of a run as one strip: what lies where on it, what returns, and whether it may ship."""

import bisect
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from micro.decide import NG, OK, REVIEW
from micro.decide.acceptance import Defect, Rules, StripVerdict, Unclear, judge_strip
from micro.errors import BadSetting
from micro.line import tables
from micro.line.corrections import last_words
from micro.line.judging import Judge
from micro.line.record import undone
from micro.strip import Camera, Layout, Period, find_period
from micro.strip.layout import SHORTEST_PERIOD_MM
from micro.strip.periods import LEAST_MARKS

# Regions are looked through for a period in stripes of this width, each overlapping the next by half.
STRIPE_MM = 40.0
SAME_PERIOD = 0.01
# Frames further apart are numbered by something else than frames, such as the time.
LONGEST_STRIP_MM = 1e8
# Cameras that are named because they saw less of the strip than all of it; others are counted.
MOST_NAMED = 3


@dataclass(frozen=True)
class Mark:
    """One defect on the strip: a region, or a whole frame where the bundle only names frames.

    along_mm, across_mm: of its middle, from head and left edge.
    area_mm2: of a region; None for a frame. verdict: of its frame, NG or REVIEW.
    """

    image: str
    camera: str
    side: str
    lane: int
    frame: int
    along_mm: float
    across_mm: float
    area_mm2: float | None
    class_name: str
    score: float | None
    verdict: str


@dataclass(frozen=True)
class Returning:
    """Marks of one class that return, and which roll of the layout turns so."""

    class_name: str
    side: str
    across_mm: float
    period: Period
    roll: str | None


@dataclass(frozen=True)
class StripMap:
    """All of a strip.

    length_mm: from the first row of the first frame to the last row of the last. frames: how many were judged.
    corrected: frames that count as what a person said of them. left_out: images that no camera of the layout took.
    blind: cameras of the layout that took none. seen: which share of the length each camera's frames show, 0 to 1.
    is_falling: whether the encoder's positions fall from each image of a camera to the next by name.
    """

    layout: Layout
    marks: tuple[Mark, ...]
    returning: tuple[Returning, ...]
    first_mm: float
    length_mm: float
    frames: int
    corrected: int
    left_out: int
    blind: tuple[str, ...]
    seen: Mapping[str, float]
    is_falling: bool
    unclear: Unclear
    verdict: StripVerdict

    def describe(self) -> str:
        """Return what was found to print."""
        lines = [
            f"{self.length_mm / 1000:.2f} m of strip, {self.frames} frames, {len(self.marks)} marks",
            *(f"  {each}" for each in map(_words, self.returning)),
            f"  {self.describe_seen()}",
        ]
        if self.corrected:
            lines.append(f"  frames that count as what a person said of them: {self.corrected}")
        if self.left_out:
            lines.append(f"  left out: {self.left_out} images that no camera of the layout took")
        if self.is_falling:
            remedy = "if the encoder counts backwards, give mm_per_count below 0"
            lines.append(f"  positions fall from image to image: {remedy}")
        if self.blind:
            lines.append(f"  cameras of the layout that took no image: {', '.join(self.blind)}")
        return "\n".join((*lines, self.verdict.describe()))

    def describe_seen(self) -> str:
        """Return how much of the strip the cameras saw to print; what is not all of it never reads as 100 %."""
        percents = {name: math.floor(1000 * share + 1e-6) / 10 for name, share in self.seen.items()}
        less = sorted((percent, name) for name, percent in percents.items() if percent < 100)
        if not less:
            return "seen of its length: 100 % by every camera"
        parts = [f"{percent:g} % by {name}" for percent, name in less[:MOST_NAMED]]
        if len(less) > MOST_NAMED:
            parts.append(f"less than 100 % by {len(less) - MOST_NAMED} more")
        if len(less) < len(percents):
            parts.append("100 % by the others")
        return f"seen of its length: {', '.join(parts)}"


class _Frame(NamedTuple):
    row: Mapping[str, Any]
    camera: Camera
    number: int
    along_mm: float


def of_run(folder: Path, layout: Layout, rules: Rules | None = None, store: str | None = None) -> StripMap:
    """Return the strip that the images of a run show, each as it was last corrected.

    folder: what `micro predict --out` wrote. store: address of its ledger where that is no file in the folder.
    Raises MicroError where there is no such run or it goes on, or frames were corrected and the bundle that judged them
    is not there to say which classes may ship; BadSetting where the layout does not fit the run.
    """
    images = [*tables.last_contents(tables.rows(folder, "images")).values()]
    regions: dict[tuple[str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for row in tables.rows(folder, "regions"):
        regions[row["image"], row["sha256"]].append(row)
    to_do = undone(folder)
    if rules is not None:
        _refuse_unknown(rules, layout, folder, images, regions.values())
    placed = _placed(images, layout)
    if not placed:
        raise BadSetting(f"{folder}: no camera of the layout took any of its {len(images)} images. See `images:`.")
    done = [frame for frame in placed if frame.row["state"] == "done"]
    words = last_words(folder, store)
    spoken_of = [number for number, frame in enumerate(done) if frame.row["sha256"] in words]
    judge = Judge.of_run(folder) if spoken_of else None
    for number in spoken_of:
        assert judge is not None
        frame = done[number]
        key = frame.row["image"], frame.row["sha256"]
        as_said, regions[key] = judge.corrected(frame.row, regions[key], words[frame.row["sha256"]])
        done[number] = frame._replace(row=as_said)
    marks_of = [_marks(frame, layout, regions[frame.row["image"], frame.row["sha256"]]) for frame in done]
    told = _told_apart(done, marks_of)
    marks = [most for most, *_ in told]
    unclear = Unclear(
        review=sum(frame.row["verdict"] == REVIEW for frame in done),
        unseen=len(placed) - len(done) + max(_missing(placed, layout), to_do),
    )
    defects = [_defect(marks) for marks in told if marks[0].verdict == NG]
    ends = [frame.along_mm + _length_mm(frame) for frame in done]
    first_mm = min((frame.along_mm for frame in done), default=0.0)
    length_mm = max(ends, default=0.0) - first_mm
    return StripMap(
        layout=layout,
        marks=tuple(sorted(marks, key=lambda mark: (mark.along_mm, mark.across_mm))),
        returning=tuple(_returning(marks, layout, max(map(_length_mm, done), default=0.0))),
        first_mm=first_mm,
        length_mm=length_mm,
        frames=len(done),
        corrected=len(spoken_of),
        left_out=len(images) - len(placed),
        blind=tuple(camera.name for camera in layout.cameras if all(frame.camera != camera for frame in placed)),
        seen={camera.name: _seen_mm(done, camera) / (length_mm or 1) for camera in layout.cameras},
        is_falling=layout.frame_step_mm is None and _falls(placed),
        unclear=unclear,
        verdict=judge_strip(defects, unclear, rules),
    )


def _refuse_unknown(
    rules: Rules,
    layout: Layout,
    folder: Path,
    images: Sequence[Mapping[str, Any]],
    regions: Iterable[Sequence[Mapping[str, Any]]],
) -> None:
    """Raise BadSetting where rules limit what nobody looked for: a class that is misspelled would always ship."""
    sides = {camera.side for camera in layout.cameras}
    classes = {name.removeprefix("p_") for row in images[:1] for name in row if name.startswith("p_")}
    classes |= {each["class"] for found in regions for each in found}
    if any(row["n_regions"] is not None for row in images) and not classes.issuperset(_named(rules)):
        classes |= set(Judge.of_run(folder).task.outputs)  # a gate's frames have other classes than its pixels
    for asked, known, what in ((_named(rules), classes, "classes"), (_sides(rules), sides, "sides")):
        if known and (strange := sorted(asked - known)):  # a run of which no image was judged knows no class
            raise BadSetting(
                f"{rules.product}, version {rules.version}: limits {', '.join(strange)}, which nobody looked for. "
                f"The {what} of this run are {', '.join(sorted(known))}."
            )


def _named(rules: Rules) -> set[str]:
    return {name for rule in rules.rules for name in rule.classes}


def _sides(rules: Rules) -> set[str]:
    return {rule.side for rule in rules.rules if rule.side is not None}


def _placed(images: Sequence[Mapping[str, Any]], layout: Layout) -> list[_Frame]:
    """Return the images that the layout's cameras took, along the strip; frames are numbered from each camera's own."""
    encoder_mm = layout.encoder_mm()
    frames = []
    for row in images:
        camera = layout.camera_of(row["image"])
        if camera is None:
            continue
        if layout.frame_step_mm is not None:
            number = layout.frame_of(row["image"])
            along_mm = number * layout.frame_step_mm
        elif row["image"] in encoder_mm:
            number, along_mm = 0, encoder_mm[row["image"]]
        else:
            raise BadSetting(f"{layout.positions}: no position for {row['image']}.")
        frames.append(_Frame(row, camera, number, along_mm + camera.along_mm))
    frames.sort(key=lambda frame: (frame.camera.name, frame.along_mm))
    _refuse_twice(frames, layout)
    _refuse_far(frames, layout)
    if layout.frame_step_mm is not None:
        return frames
    # an encoder counts no frames, so they are numbered in its order
    counts: dict[str, int] = defaultdict(int)
    numbered = []
    for frame in frames:
        numbered.append(frame._replace(number=counts[frame.camera.name]))
        counts[frame.camera.name] += 1
    return numbered


def _falls(frames: Sequence[_Frame]) -> bool:
    """Whether the places of each camera's frames, of which one has three at least, fall by the order of their names."""
    by_name = sorted(frames, key=lambda frame: (frame.camera.name, frame.row["image"]))
    steps = [one.along_mm - other.along_mm for one, other in pairwise(by_name) if one.camera == other.camera]
    return len(steps) >= 2 and min(steps) > 0


def _length_mm(frame: _Frame) -> float:
    return float((frame.row["height_px"] or 0) * frame.camera.mm_per_px_along)


def _seen_mm(frames: Sequence[_Frame], camera: Camera) -> float:
    """Return how much of the strip the frames of a camera show, which are in their order along it; overlaps once."""
    seen_mm, until_mm = 0.0, -math.inf
    for frame in frames:
        if frame.camera == camera:
            end_mm = frame.along_mm + _length_mm(frame)
            seen_mm += max(0.0, end_mm - max(until_mm, frame.along_mm))
            until_mm = max(until_mm, end_mm)
    return seen_mm


def _refuse_twice(frames: Sequence[_Frame], layout: Layout) -> None:
    """Raise BadSetting where two images are one frame: counts would be doubled, and missing frames hidden."""
    for one, other in pairwise(frames):
        if (one.camera, one.number, one.along_mm) != (other.camera, other.number, other.along_mm):
            continue
        both = f"{one.row['image']} and {other.row['image']} are both"
        if layout.frame_step_mm is None:
            raise BadSetting(
                f"{layout.positions}: {both} at one place of {one.camera.name}, and what they show would count twice. "
                f"Correct their positions, or leave one out of `images`; a strip has a run of its own."
            )
        raise BadSetting(
            f"{both} frame {one.number} of {one.camera.name}. Which digits of a path count frames is said by "
            f"`frame_number`, and which images a camera took by `images`; a strip has a run of its own."
        )


def _refuse_far(frames: Sequence[_Frame], layout: Layout) -> None:
    """Raise BadSetting where no strip is as long as the places of frames say."""
    places = sorted(frame.along_mm for frame in frames)
    if frames and places[-1] - places[0] > LONGEST_STRIP_MM:
        by = "`frame_number` and frame_step_mm" if layout.frame_step_mm is not None else "`positions` and mm_per_count"
        far_km = (places[-1] - places[0]) / 1e6
        raise BadSetting(
            f"{len(frames)} frames lie over {far_km:.4g} km by {by}, and no strip is longer than "
            f"{LONGEST_STRIP_MM / 1e6:g} km. Say which digits of a path count frames, or correct the positions."
        )


def _missing(frames: Sequence[_Frame], layout: Layout) -> int:
    """Count the frames that are not there: what each camera lacks of the strip that all cameras together saw.

    An encoder counts no frames: by it, a camera that took none lacks as many as the one that took most, and any other
    the steps that fit between two of its frames.
    """
    taken: dict[str, list[_Frame]] = {camera.name: [] for camera in layout.cameras}
    for frame in frames:
        taken[frame.camera.name].append(frame)
    ends = min(frame.along_mm for frame in frames), max(frame.along_mm for frame in frames)
    if layout.frame_step_mm is not None:
        step_mm = layout.frame_step_mm
        return sum(_lacking([frame.along_mm for frame in mine], ends, step_mm) for mine in taken.values())
    blind = sum(not mine for mine in taken.values()) * max(map(len, taken.values()))
    return blind + sum(_lacking_by_encoder(mine, ends) for mine in taken.values() if mine)


def _lacking(places: Sequence[float], ends: tuple[float, float], step_mm: float) -> int:
    """Return how many frames a camera with frames at these places lacks between the ends."""
    if not places:
        return _steps(ends[1] - ends[0], step_mm) + 1
    first, last = min(places), max(places)
    inside = _steps(last - first, step_mm) + 1 - len(places)
    return inside + _steps(first - ends[0], step_mm) + _steps(ends[1] - last, step_mm)


def _lacking_by_encoder(frames: Sequence[_Frame], ends: tuple[float, float]) -> int:
    """Return how many frames a camera lacks between the ends: it counts none, and they may lie unevenly."""
    places = np.array([frame.along_mm for frame in frames])
    apart_mm = np.diff(places)
    # a line that runs at any speed may overlap its frames, and one may look at parts of the strip only
    step_mm = max(*map(_length_mm, frames), float(np.median(apart_mm)) if len(apart_mm) else 0.0)
    if step_mm == 0:
        return 0
    inside = int((np.round(apart_mm / step_mm) - 1).clip(0).sum())
    return inside + _steps(places[0] - ends[0], step_mm) + _steps(ends[1] - places[-1], step_mm)


def _steps(length_mm: float, step_mm: float) -> int:
    """Return how many whole steps a length has, whatever the last digits of its sums."""
    return int(length_mm / step_mm + 1e-6)


def _marks(frame: _Frame, layout: Layout, regions: Sequence[Mapping[str, Any]]) -> list[Mark]:
    row, camera = frame.row, frame.camera
    verdict = row["verdict"] or (NG if regions else OK)
    if verdict == OK:
        return []

    def mark(y_px: float, x_px: float, area_mm2: float | None, found: Mapping[str, Any]) -> Mark:
        across_mm = camera.across(x_px)
        return Mark(
            image=row["image"],
            camera=camera.name,
            side=camera.side,
            lane=layout.lane(across_mm),
            frame=frame.number,
            along_mm=frame.along_mm + y_px * camera.mm_per_px_along,
            across_mm=across_mm,
            area_mm2=area_mm2,
            class_name=found["class"] or "",
            score=found["score"],
            verdict=verdict,
        )

    pixel_mm2 = camera.mm_per_px_along * camera.mm_per_px_across
    if regions:
        return [
            mark(each["centroid_y_px"] + 0.5, each["centroid_x_px"] + 0.5, each["area_px"] * pixel_mm2, each)
            for each in regions
        ]
    return [mark(row["height_px"] / 2, row["width_px"] / 2, None, row)]


def _told_apart(frames: Sequence[_Frame], marks_of: Sequence[Sequence[Mark]]) -> list[list[Mark]]:
    """Return the defects of a strip, each as the marks that tell of it, what shows most of it first.

    Frames of one side that overlap, of one camera or of several, may show a region twice. What only one of them tells
    of stays: no defect is lost.
    """
    defect_of = {mark: [mark] for marks in marks_of for mark in marks}
    for one, other in _overlapping([number for number, marks in enumerate(marks_of) if marks], frames):
        near = [
            (first, second)
            for first, second in product(marks_of[one], marks_of[other])
            if (_shows(frames[other], first) or _shows(frames[one], second)) and _is_one_defect(first, second)
        ]
        for pair in sorted(near, key=lambda pair: _apart_mm(*pair)):  # of two defects side by side each finds its own
            defect, same = (defect_of[mark] for mark in pair)
            if {mark.image for mark in defect}.isdisjoint(mark.image for mark in same):
                defect_of |= dict.fromkeys(defect + same, defect + same)
    told = {id(defect): sorted(defect, key=_weight, reverse=True) for defect in defect_of.values()}
    return [*told.values()]


def _overlapping(numbers: Sequence[int], frames: Sequence[_Frame]) -> Iterator[tuple[int, int]]:
    """Yield each two of the frames of these numbers that lie on one side and beside each other on the strip."""
    along = sorted(numbers, key=lambda number: frames[number].along_mm)
    for place, one in enumerate(along):
        end_mm = frames[one].along_mm + _length_mm(frames[one])
        until = bisect.bisect_left(along, end_mm, lo=place + 1, key=lambda number: frames[number].along_mm)
        for other in along[place + 1 : until]:
            if frames[one].camera.side == frames[other].camera.side:
                yield one, other


def _shows(frame: _Frame, mark: Mark) -> bool:
    """Whether the middle of a mark lies in what a frame shows."""
    edges_mm = sorted((frame.camera.across(0), frame.camera.across(frame.row["width_px"] or 0)))
    along = frame.along_mm <= mark.along_mm < frame.along_mm + _length_mm(frame)
    return along and edges_mm[0] <= mark.across_mm < edges_mm[1]


def _defect(marks: Sequence[Mark]) -> Defect:
    """Return what marks, of which the first shows most, tell of one defect: where it lies, and on which frames."""
    most = marks[0]
    frames = {mark.camera: mark.frame for mark in reversed(marks) if mark.verdict == NG}
    return Defect(most.class_name, most.side, most.along_mm, most.area_mm2, tuple(frames.items()))


def _weight(mark: Mark) -> tuple[bool, float]:
    return mark.verdict == NG, mark.area_mm2 or 0.0


def _apart_mm(one: Mark, other: Mark) -> float:
    return math.hypot(one.along_mm - other.along_mm, one.across_mm - other.across_mm)


def _is_one_defect(one: Mark, other: Mark) -> bool:
    """Whether two regions have one class, and the middle of one lies in the circle of the other's area."""
    if one.area_mm2 is None or other.area_mm2 is None or one.class_name != other.class_name:
        return False
    return _apart_mm(one, other) <= math.sqrt(max(one.area_mm2, other.area_mm2) / math.pi)


def _returning(marks: Sequence[Mark], layout: Layout, frame_mm: float) -> list[Returning]:
    """Look for a period in the marks of each class and side, stripe by stripe across."""
    groups: dict[tuple[str, str, str, int], list[Mark]] = defaultdict(list)
    for mark in marks:
        if mark.area_mm2 is None:
            groups[mark.class_name, mark.side, mark.camera, 0].append(mark)
            continue
        stripe = int(mark.across_mm // (STRIPE_MM / 2))
        for number in (stripe - 1, stripe):
            groups[mark.class_name, mark.side, "", number].append(mark)
    found: list[Returning] = []
    series = {key: members for key, members in sorted(groups.items()) if len(members) >= LEAST_MARKS}
    for (class_name, side, _, _), members in series.items():
        places = np.array([mark.along_mm for mark in members])
        step_mm = None if members[0].area_mm2 is not None else layout.frame_step_mm or frame_mm
        shortest_mm = max(SHORTEST_PERIOD_MM, 2.5 * (step_mm or 0))
        if shortest_mm >= layout.longest_period_mm:
            continue
        period = find_period(places, shortest_mm, layout.longest_period_mm, step_mm, among=len(series))
        if period is not None:
            across_mm = float(np.median([mark.across_mm for mark in members]))
            found.append(Returning(class_name, side, across_mm, period, layout.roll_of(period.roll_diameter_mm)))
    found.sort(key=lambda each: -each.period.marks)
    kept: list[Returning] = []
    for each in found:  # neighbouring stripes share their marks
        if not any(_same(each, other) for other in kept):
            kept.append(each)
    return kept


def _same(one: Returning, other: Returning) -> bool:
    near = abs(one.across_mm - other.across_mm) < STRIPE_MM
    alike = abs(one.period.period_mm - other.period.period_mm) < SAME_PERIOD * other.period.period_mm
    return near and alike and (one.class_name, one.side) == (other.class_name, other.side)


def _words(each: Returning) -> str:
    period = each.period
    roll = f", {each.roll}" if each.roll else ""
    return (
        f"{each.class_name} returns every {period.period_mm:.1f} mm (standard error {period.standard_error_mm:.2g} mm) "
        f"on the {each.side}, {each.across_mm:.0f} mm from the left edge: {period.marks} marks, {period.missed} turns "
        f"without one. A roll of {period.roll_diameter_mm:.1f} mm diameter{roll}."
    )
