"""Regions coloured by their class or by what was measured of them, and the legend to it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from napari.utils.colormaps import DirectLabelColormap, ensure_colormap, label_colormap
from numpy.typing import NDArray

BY_NUMBER = "number"
SCALE = "viridis"
# Okabe and Ito, Color Universal Design (2008): told apart by people who see few colours as well.
PALETTE = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7", "#999999")
NOTHING = np.array((0, 0, 0, 0), np.float32)


@dataclass(frozen=True, eq=False)
class Colours:
    """A colormap for a labels layer, and its legend: (colour, word) pairs."""

    colormap: Any
    legend: tuple[tuple[str, str], ...] = ()


def by(features: Any, column: str, alive: NDArray[np.intp]) -> Colours:
    """Colour regions by a column of their features; numbers on a scale, everything else by palette.

    features: a data frame whose row i is label i. alive: labels that have pixels.
    """
    if column == BY_NUMBER or column not in features or not len(alive):
        return Colours(label_colormap())
    values = features[column].to_numpy()[alive]
    if values.dtype.kind in "iuf":
        return _on_scale(np.asarray(values, np.float64), alive)
    names = list(dict.fromkeys(map(str, values)))
    colour_of = {name: PALETTE[number % len(PALETTE)] for number, name in enumerate(names)}
    chosen: dict[int | None, Any] = {
        label: colour_of[str(value)] for label, value in zip(alive.tolist(), values, strict=True)
    }
    return Colours(_direct(chosen), tuple((colour_of[name], name) for name in names))


def _on_scale(values: NDArray[np.float64], alive: NDArray[np.intp]) -> Colours:
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    scale = ensure_colormap(SCALE)
    known = np.isfinite(values)
    shares = (finite - low) / (high - low or 1.0)
    chosen = dict(zip(alive[known].tolist(), scale.map(shares), strict=True))
    stops = [(low, 0.0), ((low + high) / 2, 0.5), (high, 1.0)]
    legend = tuple((_hex(scale.map(np.array([share]))[0]), f"{value:.4g}") for value, share in stops)
    return Colours(_direct(chosen), legend)


def _direct(chosen: dict[int | None, Any]) -> DirectLabelColormap:
    # grey: a region that has no value, or none yet, as it was painted from here on and is measured next
    return DirectLabelColormap(color_dict={None: "#999999", 0: NOTHING} | chosen)


def _hex(colour: NDArray[np.float32]) -> str:
    return "#" + "".join(f"{round(255 * float(part)):02x}" for part in colour[:3])
