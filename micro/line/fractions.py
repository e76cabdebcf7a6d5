"""The volume fraction of each phase over the images of a run, which are the fields of one specimen."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from micro import formats
from micro.errors import BadSetting, MicroError
from micro.line import tables
from micro.line.record import undone, undone_named
from micro.phase_fraction import PointCount, VolumeFraction, area_fractions, combine, count_points
from micro.regions import Regions


@dataclass(frozen=True)
class PhaseFractions:
    """One phase: its area fraction (ASTM E1245) and its fraction of points (ASTM E562).

    area_of, points_of: what was found on each field, by image.
    """

    phase: str
    areas: VolumeFraction
    points: VolumeFraction
    area_of: dict[str, float]
    points_of: dict[str, PointCount]


def of_run(folder: Path, grid: int = 10) -> tuple[PhaseFractions, ...]:
    """Return the fractions of every phase that a run found, sorted by name.

    Of a file that was written anew, what it last held is the field.

    folder: what `micro predict --out` wrote: tables and labels.
    grid: points across and down on each field.

    Raises MicroError where there is no such run or it goes on, no image in it has regions, or a field has no room for
    the points.
    """
    fields = fields_of(folder)
    undone(folder)
    classes: dict[tuple[str, str], dict[int, str]] = {_image(row): {} for row in fields.values()}
    for region in tables.rows(folder, "regions"):
        if _image(region) in classes:
            classes[_image(region)][region["index"]] = region["class"]
    phases = sorted({phase for field in classes.values() for phase in field.values()})
    if not phases:
        raise MicroError(f"{folder}: no phase was found on any of {len(fields)} images with labels.")
    area_of: dict[str, dict[str, float]] = {phase: {} for phase in phases}
    points_of: dict[str, dict[str, PointCount]] = {phase: {} for phase in phases}
    for image, row in fields.items():
        regions = _regions(folder / row["labels"], classes[_image(row)])
        areas = area_fractions(regions, phases)
        for phase in phases:
            area_of[phase][image] = areas[phase]
            inside = np.array([False, *(name == phase for name in regions.class_names)])[regions.labels]
            points_of[phase][image] = _points(inside, grid, image)
    return tuple(
        PhaseFractions(
            phase,
            areas=combine([*area_of[phase].values()]),
            points=combine([count.fraction for count in points_of[phase].values()]),
            area_of=area_of[phase],
            points_of=points_of[phase],
        )
        for phase in phases
    )


def fields_of(folder: Path) -> dict[str, Mapping[str, Any]]:
    """Return the rows of the images that are fields, by name."""
    last = tables.last_contents(tables.rows(folder, "images"))
    return {name: row for name, row in last.items() if row["labels"]}


def left_out(folder: Path) -> dict[str, str]:
    """Return the images of a run that are no fields, each with the reason; where `of_run` finds fields."""
    return tables.left_out(tables.rows(folder, "images")) | undone_named(folder)


def _image(row: Mapping[str, Any]) -> tuple[str, str]:
    return row["image"], row["sha256"]


def _points(inside: NDArray[np.bool_], grid: int, image: str) -> PointCount:
    try:
        return count_points(inside, grid, grid)
    except ValueError as fault:
        raise BadSetting(f"{image}: {fault}. Pass another --grid.") from fault


def _regions(path: Path, class_of: dict[int, str]) -> Regions:
    labels = formats.read_labels(path)
    strange = np.setdiff1d(labels, [0, *class_of])
    if len(strange):
        raise MicroError(f"{path}: no class is known for the regions {', '.join(map(str, strange[:5]))}.")
    numbers = range(1, max(class_of, default=0) + 1)
    return Regions(labels, tuple(class_of.get(number, "") for number in numbers), np.ones(len(numbers), np.float32))
