"""Shapes of annotation tools become the mask of an image."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from micro.annotations import BadShape, Patch, Region, Sheet
from micro.folder.values import CLASSES, Names


class Drawn(NamedTuple):
    """A mask (Y, X) int32, what is wrong with its shapes, and what a reader should know of them."""

    labels: NDArray[np.int32]
    problems: list[str]
    remarks: list[str]


@dataclass(frozen=True, eq=False)
class _Shown:
    """A region that lies in the image."""

    region: Region
    patch: Patch


def drawn_instances(sheet: Sheet, shape_px: tuple[int, int]) -> Drawn:
    """Return one number a region, later ones over earlier ones; -1 where nothing is known."""
    shown, problems = _shown(sheet, shape_px)
    labels = np.zeros(shape_px, np.int32)
    regions = [each for each in shown if not (each.region.is_ignored or each.region.is_area)]
    for number, each in enumerate(regions, start=1):
        labels[each.patch.window][each.patch.inside] = number
    hidden = len(regions) - np.count_nonzero(np.bincount(labels.ravel(), minlength=len(regions) + 1)[1:])
    remarks = [f"{hidden} regions are covered by later ones"] if hidden else []
    return Drawn(_with_unknown(labels, shown, 0), problems, remarks)


def drawn_classes(sheet: Sheet, shape_px: tuple[int, int], names: Names) -> Drawn:
    """Return values of a table of classes, later regions over earlier ones; what none covers has the smallest value."""
    shown, problems = _shown(sheet, shape_px)
    value_of = {name: value for value, name in names.items() if name is not None}
    labels = np.full(shape_px, min(names), np.int32)
    strange = set()
    for region, patch in ((each.region, each.patch) for each in shown):
        if region.is_ignored or region.is_area:
            continue
        if region.class_name not in value_of:
            strange.add(region.class_name or "without a class")
            continue
        labels[patch.window][patch.inside] = value_of[region.class_name]
    problems += [f"shapes of a class that {CLASSES} does not name: {name}." for name in sorted(strange)]
    return Drawn(_with_unknown(labels, shown, min(names)), problems, [])


def _shown(sheet: Sheet, shape_px: tuple[int, int]) -> tuple[list[_Shown], list[str]]:
    shown, problems = [], []
    for region in sheet.regions:
        try:
            patch = region.draw(shape_px)
        except BadShape as fault:
            problems.append(f"{region.label} {fault}.")
            continue
        if patch.inside.any():
            shown.append(_Shown(region, patch))
        else:
            problems.append(f"{region.label} encloses no pixel of the image.")
    return shown, problems


def _with_unknown(labels: NDArray[np.int32], shown: list[_Shown], background: int) -> NDArray[np.int32]:
    """Set to -1 what is to be ignored, and the background outside of what was annotated where that is said."""
    areas = [each.patch for each in shown if each.region.is_area]
    if areas:
        outside = np.ones(labels.shape, bool)
        for patch in areas:
            outside[patch.window] &= ~patch.inside
        labels[outside & (labels == background)] = -1
    for each in shown:
        if each.region.is_ignored:
            labels[each.patch.window][each.patch.inside] = -1
    return labels
