"""Surface defects of a sheet: which one a frame shows, where each lies, how large it is, and whether it may ship.

A bundle names whole frames, or finds the pixels of defects, or both: then only frames that the names do not release are
searched. The first class of pixels is the sound surface.
"""

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.ndimage import find_objects, median_filter
from scipy.stats import theilslopes

from micro import decide, pieces
from micro.errors import BadSetting
from micro.illumination import Scaling, percentiles
from micro.measure import columns
from micro.micrograph import Micrograph
from micro.recipe import Recipe
from micro.regions import Columns, Regions
from micro.tasks import Habits, Task, TaskSettings, Zoom, class_maps

# Beside a sheet a frame is darker than this share of the sheet, over at least so many columns and this share of rows.
DARK, LEAST_DARK_PX, EDGE_SHARE = 0.5, 3, 0.8
EDGE_ROWS, SMOOTH_PX = 256, 5


class DefectSettings(TaskSettings):
    """What may ship."""

    ok_classes: str = Field(
        default="", description="classes that may ship, separated by commas; none: the sound surface alone"
    )
    defect_above: float = Field(
        default=0.5, gt=0, lt=1, description="probability from which a pixel belongs to a defect"
    )
    min_area_px: int = Field(default=30, ge=1, le=1_000_000, description="smaller defects are dropped")
    scale: float = Field(
        default=1, gt=0, le=4, description="at which images are shown to the network; the bundle knows which it learned"
    )

    @property
    def least_px(self) -> int:
        """Area of the smallest defect in pixels that the network sees."""
        return max(1, round(self.min_area_px * self.scale**2))


def contrast(pixels: NDArray[np.generic]) -> Scaling:
    """Scale to contrast against the sheet, whose brightness is the median: 1 is a quarter of it, brighter or darker.

    How strongly a mark stands out is evidence, so it is kept; exposure and bit depth are not, and go.

    pixels: (Y, X, C). A frame that is mostly black is scaled by its bright part, a blank one by 1.
    """
    brightness = percentiles(pixels, (50, 99)).T.tolist()
    spread = [max(abs(middle), abs(high) / 8) / 4 or 1 for middle, high in brightness]
    grids = np.array([[middle for middle, _ in brightness], spread], np.float32)[..., np.newaxis, np.newaxis]
    return Scaling(*grids)


def zoom(_pixels: NDArray[np.generic], settings: DefectSettings, _find: object) -> Zoom:
    """Return the scale that the settings ask for."""
    return Zoom(settings.scale)


def decode(maps: NDArray[np.uint8], settings: DefectSettings, classes: tuple[str, ...]) -> Regions:
    """Turn maps (K, Y, X) uint8 into connected defects, of the class whose map is largest.

    A pixel is of a defect where that map is above defect_above; `class_maps` goes there.
    """
    level = round(255 * settings.defect_above)
    answer = np.zeros_like(maps[0])
    for rows in pieces.bands(answer.shape[0]):
        part = maps[1:, rows]
        answer[rows] = np.where(part.max(axis=0) > level, part.argmax(axis=0) + 1, 0)
    return pieces.of_classes(answer, maps, classes, settings.least_px)


def judge(scores: Mapping[str, float], settings: DefectSettings, recipe: Recipe, sound: tuple[str, ...] = ()) -> str:
    """Return OK, REVIEW or NG for a frame, by the limits of the recipe's decision, or else by its likeliest class.

    sound: classes that may ship where the settings name none.
    """
    if recipe.decision is not None:
        limits = decide.Thresholds(recipe.decision.ok_below, recipe.decision.ng_from)
        return limits.verdict(sum(score for name, score in scores.items() if name not in recipe.decision.ok_classes))
    best = max(scores, key=scores.__getitem__)
    return decide.verdict(best, scores[best], ok_classes=_may_ship(settings, sound), review_below=recipe.review_below)


def judge_regions(regions: Regions, settings: DefectSettings, recipe: Recipe, sound: tuple[str, ...] = ()) -> str:
    """Return NG where a defect was found that may not ship, REVIEW where none is as sure as asked, OK where none is."""
    may_ship = _may_ship(settings, sound)
    scores = [float(s) for s, name in zip(regions.scores, regions.class_names, strict=True) if name not in may_ship]
    if not scores:
        return decide.OK
    return decide.REVIEW if max(scores) < (recipe.review_below or 0) else decide.NG


def refuse(settings: DefectSettings, outputs: tuple[str, ...]) -> None:
    """Raise BadSetting where a class may ship that the bundle does not know: that it is misspelled would show late."""
    if strange := [name for name in _may_ship(settings, ()) if name not in outputs]:
        raise BadSetting(
            f"ok_classes: the bundle knows no class {', '.join(strange)}. There are: "
            f"{', '.join(dict.fromkeys(outputs))}."
        )


def _may_ship(settings: DefectSettings, sound: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name.strip() for name in settings.ok_classes.split(",") if name.strip()) or sound


def measure(regions: Regions, image: Micrograph) -> Columns:
    """Measure area, place, size and direction of each defect, and how far it lies from the edge of the sheet.

    length, width: of the smallest rectangle around it. edge_distance: from its nearest pixel to the nearest edge, which
    is a straight line beside which the frame is dark at its left or right; NaN where the frame shows no edge.
    Lengths are in mm too where the pixel size is known.
    """
    table = columns(regions.labels, image.pixel_size_um)
    count = len(regions)
    length_px, width_px, edge_px = np.full((3, count), np.nan)
    edges = sheet_edges(image.pixels) if count else []
    for index, window in enumerate(find_objects(regions.labels, count)):
        if window is None:
            continue
        y, x = np.nonzero(regions.labels[window] == index + 1)
        y, x = y + window[0].start, x + window[1].start
        # a pixel is a square, and the rectangle goes around its middles
        sides = np.array(cv2.minAreaRect(np.stack([x, y], axis=1).astype(np.float32))[1]) + 1
        length_px[index], width_px[index] = sides.max(), sides.min()
        far = [edge.distance_px(y, x).min() for edge in edges]
        edge_px[index] = max(min(far), 0.0) if far else np.nan
    lengths = {"length": length_px, "width": width_px, "edge_distance": edge_px}
    table |= {f"{name}_px": values for name, values in lengths.items()}
    if image.pixel_size_um is not None:
        pixel_mm = image.pixel_size_um / 1000
        table["area_mm2"] = table["area_px"].astype(np.float64) * pixel_mm**2
        table |= {f"{name}_mm": values * pixel_mm for name, values in lengths.items()}
    return table


class Edge(NamedTuple):
    """One edge of the sheet in a frame: it lies at column first_px + slope * row, and the sheet beyond it.

    inwards: 1 where the sheet lies right of it, -1 where left.
    """

    first_px: float
    slope: float
    inwards: int

    def distance_px(self, y: NDArray[np.intp], x: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return how far inside the sheet pixels at rows y and columns x begin, negative outside."""
        nearest = x + 0.5 - self.inwards * 0.5
        return np.asarray(self.inwards * (nearest - self.first_px - self.slope * y) / np.hypot(1, self.slope))


def sheet_edges(pixels: NDArray[np.generic]) -> list[Edge]:
    """Return the edges of the sheet that a frame (Y, X, C) shows at its left and right, beside which it is dark.

    Rows in which the dark reaches further, as in a crack that is open at the edge, do not move the line (P. K. Sen, J.
    Am. Stat. Assoc. 63 (1968) 1379).
    """
    rows = np.linspace(0, len(pixels) - 1, min(len(pixels), EDGE_ROWS)).astype(int)
    grey = pixels[rows].mean(axis=2, dtype=np.float32)
    dark = median_filter(grey, (1, SMOOTH_PX)) < DARK * np.percentile(grey, 75)
    found = []
    for inwards, seen in ((1, dark), (-1, dark[:, ::-1])):
        width_px = seen.shape[1]
        reach_px = np.where(seen.all(axis=1), width_px, seen.argmin(axis=1))
        if np.mean((reach_px >= LEAST_DARK_PX) & (reach_px < width_px)) < EDGE_SHARE:
            continue
        slope, first_px = (float(part) for part in theilslopes(reach_px, rows)[:2])
        found.append(Edge(first_px, slope, 1) if inwards == 1 else Edge(width_px - first_px, -slope, -1))
    return found


def sum_up(maps: NDArray[np.uint8], settings: DefectSettings, classes: tuple[str, ...]) -> dict[str, float]:
    """Return the probability of each class for the whole frame: of a defect as large as the smallest that is reported.

    That of a class is the highest level above which a connected piece of min_area_px is left of its map.
    """
    chances = np.array([_surest(each, settings.least_px) / 255 for each in maps[1:]])
    shares = chances * (chances.max() / max(float(chances.sum()), 1e-9))
    return {classes[0]: 1 - float(shares.sum()), **dict(zip(classes[1:], map(float, shares), strict=True))}


def _surest(chance: NDArray[np.uint8], area_px: int) -> int:
    """Return the highest level 0..255 that a connected piece of area_px pixels (Y, X) reaches throughout."""
    low, high = 0, int(chance.max(initial=0))
    while low < high:
        level = (low + high + 1) // 2
        stats = cv2.connectedComponentsWithStats((chance >= level).view(np.uint8), connectivity=4)[2]
        if stats[1:, cv2.CC_STAT_AREA].max(initial=0) >= area_px:
            low = level
        else:
            high = level - 1
    return low


FRAMES = Habits(network="mobilenet_v3_small", batch=32, learning_rate=2e-3, weight_decay=0.05, label_smoothing=0.05)
PIXELS = Habits(decoder_channels=(64, 48, 32, 24), crop_px=256, batch=4, learning_rate=2e-3, ema_decay=0.995)


def of_classes(classes: tuple[str, ...]) -> Task:
    """Return the task for these classes of pixels, the sound surface first; none: only whole frames are named."""
    return Task(
        name="defects",
        channels=("grey", "rgb"),
        outputs=classes,
        settings=DefectSettings,
        scaling=contrast,
        zoom=zoom if classes else None,
        encode=partial(class_maps, classes=classes) if classes else None,
        decode=partial(decode, classes=classes) if classes else None,
        measure=measure if classes else None,
        sum_up=partial(sum_up, classes=classes) if classes else None,
        refuse=refuse,
        judge=partial(judge, sound=classes[:1]),
        judge_regions=partial(judge_regions, sound=classes[:1]) if classes else None,
        habits=PIXELS if classes else FRAMES,
        # a scratch runs along the rolling direction and a print of the roll across it; turned, they would look alike
        orientation_is_evidence=True,
        of_classes=of_classes,
    )


TASK = of_classes(())
