"""Thin flakes on oxidised silicon: one region for each connected terrace of one thickness, and how many layers it has.

The network reads contrast against the local substrate. `inside` says where a thin terrace is, `depth` how far from its
outline; where two terraces touch, the depth falls to zero between them, so cores are apart and grow back to the seam.
Physics then names the layers from the contrasts of all regions of an image; see `micro.thin_film`.
"""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError, ValidationInfo, field_validator
from scipy.ndimage import find_objects

from micro import formats, outlines, terraces, thin_film
from micro.errors import BadSetting
from micro.illumination import Scaling, ceiling, substrate, substrate_noise, thumbnail
from micro.measure import columns
from micro.micrograph import Micrograph
from micro.pieces import bands
from micro.regions import Columns, Regions
from micro.tasks import Habits, Identity, Lesson, Targets, Task, TaskSettings
from micro.tiles import Tiling, blocks

DEPTH_PX = 6  # depth is 1 from here inwards
CLASS_NAME = "flake"
MOST_HUE = 0.5
BLOCK_PX = 256
CHANNELS = ("r", "g", "b")
RIM_PX = 3  # the optics blur an edge over so many pixels, which show neither side's contrast
COVER_RIM_PX = 6
SATURATED = 0.98  # of what a pixel can hold
MOST_SATURATED = 0.1  # share of a region that may be saturated before a channel is left out
CONTEXT_PX = 600_000
CONTEXT_LEAST, CONTEXT_MOST = 0.2, 2.0  # of a contrast; thinner patches may be residue, brighter ones glare
CONTEXT_BRIGHTEST = 0.8  # of what a pixel can hold
MARK_PX = 3  # a mark stands for a square that reaches so far
LEAST_POINT_PX = 100  # a smaller terrace is no point of a profile that is made from annotated images,
MOST_POINTS = 6  # which has at most so many of one number of layers
LEAST_NOISE = 0.005  # of a contrast: what a surface cannot show of itself


class Mark(NamedTuple):
    """A place in an image where the number of layers is known, or else the height."""

    x_px: float
    y_px: float
    layers: int | None = None
    height_nm: float | None = None


class FlakeSettings(TaskSettings):
    """How maps of flakes become regions."""

    inside_above: float = Field(
        default=0.25, gt=0, lt=1, description="probability from which a pixel belongs to a flake"
    )
    core_above: float = Field(default=0.3, gt=0, lt=1, description="depth from which touching terraces are told apart")
    min_score: float = Field(default=0.5, ge=0, le=1, description="regions less sure than this are dropped")
    terrace_step: float = Field(
        default=0.05, gt=0, lt=1, description="least difference of contrast between two terraces of one crystal"
    )
    max_unevenness: float = Field(
        default=0.035,
        gt=0,
        description="regions whose contrast strays more, and more than the substrate's grain makes it, are no terraces",
    )
    min_area_px: int = Field(default=300, ge=1, description="smaller regions are dropped; 300 px are 46 um2 at 0.39 um")
    material: Literal["auto", "graphene", "mos2", "ws2", "mose2", "wse2", "hbn"] = Field(
        default="auto", description="the crystal; auto takes the one that explains the colours best"
    )
    oxide_nm: Literal["auto"] | Annotated[float, Field(gt=10, lt=1000)] = Field(
        default="auto", description="thickness of the oxide; auto allows about 90, 285 and 300 nm"
    )
    gamma: Literal["auto"] | Annotated[float, Field(ge=0.5, le=3)] = Field(
        default="auto", description="1.0 for a linear camera, 2.2 for pixels encoded for a screen"
    )
    profile: Literal[""] | thin_film.Profile | None = Field(
        default=None,
        description="YAML file of a microscope setting, made by `micro profile`; empty: not the bundle's own either",
    )
    find: Literal["network", "colour", "auto"] = Field(
        default="network",
        description="network: the thin flakes that the network sees; colour: also whatever else is even in colour and "
        "has an edge, thick crystals too; auto: colour for hBN, which is too pale for the network",
    )
    sure_above: float = Field(
        default=0.8, ge=0, le=1, description="regions named with less probability are flagged for review"
    )

    @field_validator("profile", mode="before")
    @classmethod
    def _read_once(cls, profile: object, info: ValidationInfo) -> object:
        """Return the profile that a file holds, so that a wrong file stops a run before its first image.

        Raises BadSetting where another setting contradicts what the file says.
        """
        if not isinstance(profile, str) or not profile:
            return profile
        read = thin_film.Profile.load(Path(profile))
        for name in ("material", "oxide_nm", "gamma"):
            asked, known = info.data.get(name, "auto"), getattr(read, name)
            if asked != "auto" and known is not None and asked != known:
                raise BadSetting(f"{name}={asked}, but {profile} is of {name} {known}. Leave one of the two out.")
        return read


def scaling(pixels: NDArray[np.generic]) -> Scaling:
    """Scale to contrast against the local substrate, plus the substrate's own hue: (I - S) / S + hue.

    Contrast of one and the same layer changes with the oxide, and the oxide with the substrate's colour: dark blue is
    thick graphene on a violet substrate and six layers on a grey one. hue is S / (mean of its channels) - 1, one number
    a channel and image, and 0 for a grey substrate.

    pixels: (Y, X, 3).
    """
    light = substrate(pixels)
    level = light.center.mean((1, 2), keepdims=True)
    grey = level.mean()
    hue = (level / grey - 1 if grey else np.zeros_like(level)).clip(-MOST_HUE, MOST_HUE)
    return Scaling((light.center - hue * light.spread).astype(np.float32), light.spread)


def encode(labels: NDArray[np.int32]) -> Targets:
    """Return where terraces are and how deep inside them each pixel lies; negative labels carry no weight."""
    inside = labels > 0
    seam = np.zeros(labels.shape, np.uint8)
    for axis in (0, 1):
        here, there = np.swapaxes(labels, 0, axis)[1:], np.swapaxes(labels, 0, axis)[:-1]
        step = np.swapaxes(seam, 0, axis)
        step[1:] |= here != there
        step[:-1] |= here != there
    distance = cv2.distanceTransform(np.where(inside & (seam == 0), np.uint8(1), np.uint8(0)), cv2.DIST_L2, 5)
    depth = np.where(inside, (distance / DEPTH_PX).clip(0, 1), 0)
    return Targets(np.stack([inside, depth]).astype(np.float32), (labels >= 0).astype(np.float32))


def regions_of(labels: NDArray[np.int32], classes: tuple[str, ...]) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    """Return every connected terrace of one number of layers as an instance, and its class.

    labels: (Y, X) numbers of classes, the first of which is the substrate, whatever its name; the others are 1L to 10L,
    thick and residue, which are no thin flakes, and unknown, where nothing is said. Raises BadSetting for others.
    """
    strange = [name for name in classes[1:] if name not in thin_film.CLASSES]
    if strange or classes[0] in thin_film.CLASSES:
        raise BadSetting(
            f"classes {', '.join(classes)}: the smallest value is the substrate, whatever its name; the others are 1L "
            f"to {thin_film.MOST_LAYERS}L, {thin_film.THICK}, {thin_film.RESIDUE} and {thin_film.UNKNOWN}."
        )
    instances = np.where(labels < 0, np.int32(-1), np.int32(0))
    names: list[str] = []
    for number, name in enumerate(classes):
        if name == thin_film.UNKNOWN:
            instances[labels == number] = -1
        elif number and name not in (thin_film.THICK, thin_film.RESIDUE):
            count, parts = cv2.connectedComponents((labels == number).view(np.uint8), connectivity=4, ltype=cv2.CV_32S)
            inside = parts > 0
            instances[inside] = parts[inside] + len(names)
            names += [name] * (count - 1)
    return instances, tuple(names)


def settings_of(lessons: Sequence[Lesson]) -> dict[str, Any]:
    """Return the profile of the microscope that took images whose layers people named, as a setting for the card.

    The largest terraces of each number of layers are its points, and its material is the one that explains them best.
    """
    terraces_of: dict[int, list[tuple[float, thin_film.Point]]] = {}
    for lesson in lessons:
        there = np.unique(lesson.labels[lesson.labels > 0])  # an image that was cut has lost some of its terraces
        labels = np.where(lesson.labels > 0, np.searchsorted(there, lesson.labels) + 1, 0).astype(np.int32)
        names = tuple(lesson.classes[number - 1] for number in there)
        found = Regions(labels, names, np.ones(len(names), np.float32))
        table = measure(found, lesson.image)
        seen = np.stack([table[name] for name in thin_film.CONTRASTS], axis=1).astype(np.float64)
        usable = ~_saturated(found, lesson.image.pixels).any(1) & np.isfinite(seen).all(1)
        for index in np.flatnonzero(usable & (np.asarray(table["area_px"], np.float64) >= LEAST_POINT_PX)):
            layers = int(names[index].removesuffix("L"))
            red, green, blue = seen[index].tolist()
            point = thin_film.Point(
                image=lesson.image.name, layers=layers, contrast_r=red, contrast_g=green, contrast_b=blue
            )
            terraces_of.setdefault(layers, []).append((float(table["area_px"][index]), point))
    points = []
    for _, known in sorted(terraces_of.items()):
        points += [point for _, point in sorted(known, key=lambda each: -each[0])[:MOST_POINTS]]
    if not points:
        return {}
    return {"profile": thin_film.profile_of(points).model_dump(mode="json")}


def decode(maps: NDArray[np.uint8], settings: FlakeSettings) -> Regions:
    """Return one region for each core of depth, grown to the outline; small and doubtful ones are left out.

    Growth is by single steps of one pixel inside blocks with a halo as wide as the growth, so blocks leave no trace.
    """
    inside, depth = maps
    inside_level, core_level = round(255 * settings.inside_above), round(255 * settings.core_above)
    core = ((depth > core_level) & (inside > inside_level)).view(np.uint8)
    _, labels = cv2.connectedComponents(core, connectivity=4, ltype=cv2.CV_32S)
    _grow(labels, inside, inside_level)
    np.abs(labels, out=labels)
    area_px, inside_sum = _sums(labels, inside)
    score = inside_sum / (255 * np.maximum(area_px, 1))
    keep = (area_px >= settings.min_area_px) & (score >= settings.min_score)
    keep[0] = False
    number = np.where(keep, np.cumsum(keep), 0).astype(np.int32)
    for rows in bands(labels.shape[0]):
        labels[rows] = number[labels[rows]]
    return Regions(labels, (CLASS_NAME,) * int(keep.sum()), score[keep].astype(np.float32))


def refine(regions: Regions, pixels: NDArray[np.generic], scaling: Scaling, settings: FlakeSettings) -> Regions:
    """Split crystals where their colour steps, and drop what is not of one colour or has no edge: residue and shadows.

    Crystals that only their colour tells are added where the settings ask for it, with the score 0.
    """
    by_colour = _finds_by_colour(settings)
    if not (len(regions) or by_colour):
        return regions
    limits = outlines.Limits(settings.terrace_step, settings.max_unevenness, settings.min_area_px)
    chip = outlines.Chip.of(pixels, scaling, limits)
    labels, kept = outlines.split(regions.labels, chip)
    scores = regions.scores[kept]
    if by_colour:
        scores = np.append(scores, np.zeros(outlines.add_by_colour(labels, chip), np.float32))
    return Regions(labels, (CLASS_NAME,) * len(scores), scores)


def _finds_by_colour(settings: FlakeSettings) -> bool:
    if settings.find != "auto":
        return settings.find == "colour"
    asked = _asked(settings)
    return "hbn" in (asked.material, asked.profile.material if asked.profile else None)


def _grow(labels: NDArray[np.int32], inside: NDArray[np.uint8], level: int) -> None:
    """Let cores grow in place to the outline, as far as the depth target says they may have to.

    Grown pixels are written as negative labels, so that the next block still tells them from cores.
    """
    steps = DEPTH_PX + 2
    cross, square = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3)), np.ones((3, 3), np.uint8)
    for tile in blocks(labels.shape, Tiling(size_px=BLOCK_PX, halo_px=16, stride_px=16)):
        cores = labels[tile.read].clip(0).astype(np.float64)  # exact for every label, and cv2 dilates it
        free = (inside[tile.read] > level) & (cores == 0)
        if not free.any():
            continue
        grown = cores
        for step in range(steps):
            grown = np.where(free & (grown == 0), cv2.dilate(grown, square if step % 2 else cross), grown)
        labels[tile.write] = np.where(cores > 0, cores, -grown)[tile.keep]


def _sums(labels: NDArray[np.int32], inside: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return area and sum of inside for each label, background first, without a float copy of the image."""
    count = int(labels.max(initial=0)) + 1
    area_px, inside_sum = np.zeros(count, np.int64), np.zeros(count)
    for rows in bands(labels.shape[0]):
        flat = labels[rows].ravel()
        area_px += np.bincount(flat, minlength=count)
        inside_sum += np.bincount(flat, weights=inside[rows].ravel(), minlength=count)
    return area_px, inside_sum


def measure(regions: Regions, image: Micrograph) -> Columns:
    """Return size, shape, crystal and contrast of each terrace.

    contrast_<channel>_mean: (intensity - substrate) / substrate; -0.1 is a tenth darker. The blurred rim of a terrace
    does not count, and the substrate is the surface that the rest of the image shows.
    inscribed_diameter: of the largest circle inside. crystal: terraces that touch have the same number.
    """
    table = columns(regions.labels, image.pixel_size_um)
    light = substrate(image.pixels, _covered(regions))
    diameter_px = np.full(len(regions), np.nan)
    contrast = np.full((len(regions), image.channels), np.nan)
    for index, window in enumerate(find_objects(regions.labels, len(regions))):
        if window is None:
            continue
        inside = regions.labels[window] == index + 1
        depth_px = _depth_px(inside)
        diameter_px[index] = 2 * depth_px.max()
        center, spread = light.window(regions.labels.shape, *window)
        even = depth_px > min(RIM_PX, depth_px.max() / 2)
        pixels = image.pixels[window].astype(np.float32).transpose(2, 0, 1)
        contrast[index] = ((pixels - center) / spread)[:, even].mean(1)
    table["inscribed_diameter_px"] = diameter_px
    if image.pixel_size_um is not None:
        table["inscribed_diameter_um"] = diameter_px * image.pixel_size_um
    table["crystal"] = terraces.crystals(regions.labels)
    names = CHANNELS if image.channels == len(CHANNELS) else ("grey",)
    return table | {f"contrast_{name}_mean": values for name, values in zip(names, contrast.T, strict=True)}


def _depth_px(inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return how far each pixel (y, x) inside lies from the outline."""
    framed = cv2.copyMakeBorder(inside.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    return np.asarray(cv2.distanceTransform(framed, cv2.DIST_L2, 5)[1:-1, 1:-1], np.float32)


def _covered(regions: Regions) -> NDArray[np.bool_]:
    """Return where (Y, X) regions and the blur around them lie."""
    flakes = (regions.labels > 0).view(np.uint8)
    return np.asarray(cv2.dilate(flakes, np.ones((2 * COVER_RIM_PX + 1,) * 2, np.uint8))) > 0


def identify(regions: Regions, image: Micrograph, table: Columns, settings: FlakeSettings) -> Identity:
    """Name the layers of each terrace by the physics of thin films; see `micro.thin_film.naming`.

    layers: NaN where the class is no number of layers. layers_probability: of the class, whatever it is.
    thickness_nm, thickness_low_nm, thickness_high_nm: median and 95 % interval. review: whether to look again.
    saturated: whether a channel was left out, as its contrast is lost.
    """
    count = len(regions)
    if image.channels != len(CHANNELS):
        note = "a grey image has no colours to count layers by"
        return Identity((thin_film.UNKNOWN,) * count, {"review": np.ones(count, bool)}, (note,) if count else ())
    asked = _asked(settings)
    if not count:
        return Identity((), {})
    contrast = np.stack([table[name] for name in thin_film.CONTRASTS], axis=1).astype(np.float64)
    covered = _covered(regions)
    light = substrate(image.pixels, covered)
    usable = ~_saturated(regions, image.pixels)
    seen = thin_film.Seen(
        contrast=np.nan_to_num(contrast),
        usable=usable & np.isfinite(contrast),
        context=_context(image.pixels, light, covered),
        noise=np.hypot(LEAST_NOISE, substrate_noise(image.pixels, light, covered)),
        doubtful=regions.scores == 0,
    )
    names = thin_film.name(seen, asked)
    notes = list(names.remarks)
    if not usable.all():
        notes.append(f"saturated channels were left out in {np.count_nonzero(~usable.all(1))} of {count} regions")
    found: Columns = {
        "layers": names.layers,
        "layers_probability": names.probability,
        "thickness_nm": names.thickness_nm,
        "thickness_low_nm": names.low_nm,
        "thickness_high_nm": names.high_nm,
        "misfit": names.misfit,
        "material": np.full(count, names.material),
        "saturated": np.logical_not(usable.all(1)),
        "review": (names.probability < settings.sure_above)
        | (np.array(names.class_names) == thin_film.UNKNOWN)
        | names.doubted,
    }
    return Identity(names.class_names, found, tuple(notes))


def read_points(path: Path) -> tuple[thin_film.Point, ...]:
    """Return the points of a CSV table, whose images lie beside it; raise BadSetting if it is none.

    Its columns are image, x and y in pixels and, known of each point, layers or height_nm.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
        marks: dict[str, list[Mark]] = {}
        for row in rows:
            marks.setdefault(row["image"], []).append(_mark(row))
    except UnicodeDecodeError as fault:
        raise BadSetting(f"{path}: not a CSV table in UTF-8 ({fault.reason} at byte {fault.start}).") from fault
    except (OSError, csv.Error, KeyError, TypeError, ValueError) as fault:
        raise BadSetting(
            f"{path}: a table with the columns image,x,y and layers or height_nm is needed, in pixels and, for each "
            f"point, whole layers or nm. {fault!r}"
        ) from fault
    if not marks:
        raise BadSetting(f"{path}: there is no point in this table.")
    found = [known_points(formats.read(path.parent / name, name), places) for name, places in marks.items()]
    return tuple(point for points in found for point in points)


def _mark(row: dict[str, str | None]) -> Mark:
    """Return the point of a row; raise KeyError, TypeError or ValueError where it is none."""
    layers, height_nm = row.get("layers"), row.get("height_nm")
    if bool(layers) == bool(height_nm):
        raise ValueError("layers or height_nm")
    known = (int(layers), None) if layers else (None, float(height_nm or ""))
    return Mark(float(row["x"] or ""), float(row["y"] or ""), *known)


def known_points(image: Micrograph, marks: Sequence[Mark]) -> tuple[thin_film.Point, ...]:
    """Return the contrasts of places whose layers or heights are known, for a microscope profile.

    Raises BadSetting for a mark outside the image, on a saturated place, or on an image without colours, and for layers
    or heights that no profile holds.
    """
    if image.channels != len(CHANNELS):
        raise BadSetting(f"{image.name}: a profile needs a colour image, and this one is grey.")
    light = substrate(image.pixels)
    shape_px = image.height_px, image.width_px
    points = []
    for mark in marks:
        where = f"{image.name}: ({mark.x_px:g}, {mark.y_px:g})"
        if not (0 <= mark.y_px < image.height_px and 0 <= mark.x_px < image.width_px):
            raise BadSetting(f"{where} lies outside its {image.width_px} x {image.height_px} px.")
        rows, across = (
            slice(max(int(middle) - MARK_PX, 0), min(int(middle) + MARK_PX + 1, length))
            for middle, length in zip((mark.y_px, mark.x_px), shape_px, strict=True)
        )
        pixels = image.pixels[rows, across].astype(np.float64)
        if np.median(pixels.max(2)) >= SATURATED * ceiling(image.pixels.dtype):
            raise BadSetting(f"{where} is saturated, and its contrast is lost. Expose less.")
        center, spread = light.window(shape_px, rows, across)
        red, green, blue = np.median((pixels.transpose(2, 0, 1) - center) / spread, axis=(1, 2)).tolist()
        seen = {"contrast_r": red, "contrast_g": green, "contrast_b": blue}
        try:
            points.append(thin_film.Point(image=image.name, layers=mark.layers, height_nm=mark.height_nm, **seen))
        except ValidationError as fault:
            raise BadSetting(f"{where}: {fault.errors()[0]['loc'][-1]}: {fault.errors()[0]['msg']}") from fault
    return tuple(points)


def _asked(settings: FlakeSettings) -> thin_film.Asked:
    profile = settings.profile or None
    if profile and settings.material not in ("auto", profile.material):
        profile = None  # the bundle's own is of another crystal than the one that the user names
    return thin_film.Asked(
        material=None if settings.material == "auto" else settings.material,
        oxide_nm=None if settings.oxide_nm == "auto" else settings.oxide_nm,
        gamma=None if settings.gamma == "auto" else settings.gamma,
        profile=profile,
    )


def _saturated(regions: Regions, pixels: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Return for each region and channel (R, C) whether too much of it is as bright as a pixel can be, or black."""
    count, channels = len(regions) + 1, pixels.shape[2]
    full = ceiling(pixels.dtype)
    total, lost = np.zeros(count), np.zeros((count, channels))
    for rows in bands(pixels.shape[0]):
        inside = regions.labels[rows] > 0
        flat = regions.labels[rows][inside]
        total += np.bincount(flat, minlength=count)
        strip = pixels[rows][inside].astype(np.float32)
        ends = (strip >= SATURATED * full) | (strip <= 0)
        for channel in range(channels):
            lost[:, channel] += np.bincount(flat, ends[:, channel], count)
    return np.asarray(lost[1:] > MOST_SATURATED * total[1:, np.newaxis])


def _context(pixels: NDArray[np.generic], light: Scaling, covered: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return contrasts (N, 3) of thick crystals elsewhere: they tell gamma and oxide, since the curve is one."""
    factor = max(2, round((pixels.shape[0] * pixels.shape[1] / CONTEXT_PX) ** 0.5))
    small = thumbnail(pixels, factor)
    shape_px = small.shape[:2]
    center, spread = light.window(shape_px, slice(0, shape_px[0]), slice(0, shape_px[1]))
    contrast = ((small.transpose(2, 0, 1) - center) / spread).astype(np.float32)
    free = thumbnail(covered[..., np.newaxis].astype(np.uint8), factor)[..., 0] == 0
    white = ceiling(pixels.dtype)
    free &= (small < CONTEXT_BRIGHTEST * (white if np.isfinite(white) else float(pixels.max()))).all(2)
    free &= (np.abs(contrast).max(0) > CONTEXT_LEAST) & (contrast.max(0) < CONTEXT_MOST)
    return terraces.even_patches(contrast, free)


TASK = Task(
    "flakes",
    channels=("rgb",),
    outputs=("inside", "depth"),
    settings=FlakeSettings,
    scaling=scaling,
    encode=encode,
    regions_of=regions_of,
    settings_of=settings_of,
    decode=decode,
    refine=refine,
    measure=measure,
    identify=identify,
    habits=Habits(decoder_channels=(64, 48, 32, 16), crop_px=192, batch=4, learning_rate=2e-3, ema_decay=0.995),
    colour_is_evidence=True,
)
