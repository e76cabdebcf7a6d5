"""Labels of napari -> label files and tables like those of `micro predict`."""

import csv
from pathlib import Path
from typing import Any

import numpy as np

from micro import formats
from micro.errors import MicroError
from micro.formats.pixel_size import square, um_per


def write_labels(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write a labels layer as OME-TIFF with its pixel size, and its table beside it as CSV; return both paths.

    The table has a row for each region that has pixels, as that of `micro predict`.
    Raises MicroError when the data is no single plane of labels.
    """
    labels = np.asarray(data)
    if labels.ndim != 2:
        raise MicroError(f"{path}: one plane of labels is written, and this layer has {labels.ndim} axes.")
    file = Path(path)
    formats.write_labels(file, labels.astype(np.int32), _pixel_size_um(attributes))
    features = attributes.get("features")
    if features is None or not len(features):
        return [path]
    table = file.with_suffix(".csv")
    there = set(np.unique(labels).tolist()) - {0}
    with table.open("w", encoding="utf-8", newline="") as lines:
        writer = csv.writer(lines)
        writer.writerow(features.keys())
        columns = [list(features[name]) for name in features.keys()]  # noqa: SIM118 -- a data frame iterates alike
        rows = list(zip(*columns, strict=True))
        numbers = features["index"] if "index" in features else [None] * len(rows)
        writer.writerows(row for number, row in zip(numbers, rows, strict=True) if number is None or number in there)
    return [path, str(table)]


def _pixel_size_um(attributes: dict[str, Any]) -> float | None:
    scale = np.asarray(attributes.get("scale", (1, 1)), np.float64)[-2:]
    factors = [um_per(str(unit)) for unit in tuple(attributes.get("units") or ("pixel", "pixel"))[-2:]]
    if len(factors) < 2 or factors[0] is None or factors[1] is None:
        return None
    return square(float(scale[0] * factors[0]), float(scale[1] * factors[1]), "layer").um
