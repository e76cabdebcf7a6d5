"""What a bundle found in an image, what became of it under the user's brush, and the figure that stands above it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from micro import grain_size, tasks, thin_film
from micro.card import Card
from micro.errors import UnreadableImage
from micro.grain_size import planimetric
from micro.micrograph import Micrograph
from micro.recipe import Recipe
from micro.regions import Columns, Prediction, Regions
from micro_napari.layers import fingerprint

KEY = "micro"
"""Where in a layer's metadata its Finding lies."""

RANKED = 5


@dataclass(frozen=True, eq=False)
class Measured:
    """The table of a layer and what it comes to.

    features: one value a label, background first, so that row i is label i; labels that are no more keep their row,
        with an area of 0.
    grains: the grains of this field, counted by the standard; None for another task, or without a pixel size.
    """

    features: Columns
    grains: grain_size.FieldCount | None = None

    @property
    def alive(self) -> NDArray[np.intp]:
        """Rows of regions that have pixels."""
        rows: NDArray[np.intp] = np.flatnonzero(np.asarray(self.features["area_px"], np.int64)[1:]) + 1
        return rows

    @property
    def edited(self) -> int:
        """How many rows differ from what the bundle found."""
        return int(np.count_nonzero(self.features["edited"]))


@dataclass(eq=False)
class Finding:
    """What a bundle said of an image, and the table as it stands now.

    source: file that the image was read from, or None.
    layer_id: what napari tells the image's layer by.
    field: what results of one image have in common.
    kept: folder where its corrections are kept, or None while there are none.
    classes: class of every number that a region has or had; a number never changes its class but by the user's hand.
    """

    card: Card
    recipe: Recipe
    image: Micrograph
    prediction: Prediction
    source: str | None = None

    def __post_init__(self) -> None:
        self.measured: Measured | None = self._first()
        self.layer_id: object = None
        self.field = fingerprint(self.image)
        self.kept: Path | None = None
        found = self.prediction.regions
        self.classes: dict[int, str] = {} if found is None else dict(enumerate(found.class_names, 1))

    @property
    def names(self) -> tuple[str, ...]:
        """Classes that a region may have: those the bundle gave, and those on its card."""
        regions = self.prediction.regions
        given = () if regions is None else tuple(dict.fromkeys(regions.class_names))
        return given or ((thin_film.UNKNOWN,) if self._is_flakes else self.card.classes)

    @property
    def unnamed(self) -> str:
        """Class of a number that nobody named, such as one that was painted with a brush of napari's own.

        A flake of the first flake's layers would be a claim that nobody made.
        """
        return thin_film.UNKNOWN if self._is_flakes else self.names[0]

    @property
    def _is_flakes(self) -> bool:
        return self.card.task == "flakes"

    def free_number(self, labels: NDArray[np.int32]) -> int:
        """Return a number that no region has or had, so that whatever is undone keeps its own."""
        return max(int(labels.max(initial=0)), *self.classes, 0) + 1

    def measure(self, labels: NDArray[np.int32]) -> Measured:
        """Measure labels (Y, X) that were edited, by the measures of the task, which are those of the engine.

        A number without a class is `unnamed`. The count of grains is that of before; see `count_grains`.
        """
        found = self.prediction.regions
        assert found is not None
        present, count = int(labels.max(initial=0)), max(int(labels.max(initial=0)), len(found))
        unnamed = self.unnamed
        names = tuple(self.classes.get(number, unnamed) for number in range(1, count + 1))
        scores = np.full(count, np.nan, np.float32)
        scores[: len(found)] = found.scores
        task = tasks.of(self.card)
        table: Columns = {}
        if task.measure is not None:
            table = task.measure(Regions(labels, names[:present], scores[:present]), self.image)
        edited = _touched(found.labels, labels, count)
        edited[: len(found)] |= np.array([*map(str.__ne__, names, found.class_names)], bool)
        for name in self.prediction.table.keys() - table.keys():
            # what the engine said of regions beside measuring them holds for those that are as they were
            table[name] = _kept(self.prediction.table[name], ~edited)
        table = {name: table[name] for name in dict.fromkeys((*self.prediction.table, *table)) if name in table}
        before = None if self.measured is None else self.measured.grains
        return Measured(_rows(names, scores, table, edited), before)

    def count_grains(self, labels: NDArray[np.int32]) -> grain_size.FieldCount | None:
        """Count the grains of labels (Y, X) by the planimetric rule for rectangles; see `grain_size.planimetric`."""
        um = self.prediction.pixel_size_um
        if self.card.task != "grains" or um is None:
            return None
        try:
            count = planimetric.saltikov(grain_size.section_of(labels))
        except UnreadableImage:  # no grain is left
            return None
        return grain_size.FieldCount(self.image.name, count, um) if count.count > 0 else None

    def _first(self) -> Measured | None:
        found = self.prediction.regions
        if found is None:
            return None
        features = _rows(found.class_names, found.scores, self.prediction.table, np.zeros(len(found), bool))
        return Measured(features, self.count_grains(found.labels))


def of(layer: Any) -> Finding | None:
    """Return the finding behind a layer, if it has one."""
    found = getattr(layer, "metadata", {}).get(KEY)
    return found if isinstance(found, Finding) else None


def headline(finding: Finding, others: Sequence[Finding] = ()) -> str:
    """Return what the task comes to, in the words of its field.

    others: further fields of the same specimen, for tasks whose figure has an interval only over several fields.
    """
    measured = finding.measured
    if measured is None:
        return _verdict(finding.prediction)
    if finding.card.task == "grains":
        return _grain_size(finding, measured, others)
    if finding.card.task == "flakes":
        return _ranked(measured)
    return f"{len(measured.alive)} regions of {', '.join(finding.names)}"


def _verdict(prediction: Prediction) -> str:
    score = prediction.class_scores.get(prediction.class_name or "", float("nan"))
    said = f"{prediction.class_name} ({score:.1%})"
    return f"{prediction.verdict}: {said}" if prediction.verdict else said


def _grain_size(finding: Finding, measured: Measured, others: Sequence[Finding]) -> str:
    alive = measured.alive
    cut = int(np.count_nonzero(np.asarray(measured.features["touches_frame"])[alive]))
    counted = f"{len(alive)} grains, {cut} cut by the frame"
    if finding.prediction.pixel_size_um is None:
        return f"{counted}. G needs the pixel size."
    counts = [each.measured.grains for each in (finding, *others) if each.measured and each.measured.grains]
    if measured.grains is None or not counts:
        return f"{counted}. G needs a larger field with grains."
    size = grain_size.combine(counts)
    if size.fields == 1:
        return f"G {size.g:.2f}, one field, no interval ({counted})"
    low, high = ("open" if end is None else f"{end:.2f}" for end in (size.g_low, size.g_high))
    return f"G {size.g:.2f}, 95 % CI {low} to {high} over {size.fields} fields ({counted} here)"


def _ranked(measured: Measured) -> str:
    """Return the largest flakes with class and area, largest first."""
    features, alive = measured.features, measured.alive
    unit = "um2" if "area_um2" in features else "px"
    areas = np.asarray(features[f"area_{unit}"], np.float64)
    order = alive[np.argsort(-areas[alive], kind="stable")][:RANKED]
    rows = [
        f"{rank}. {features['class'][row]} {row}: {areas[row]:.4g} {unit}" for rank, row in enumerate(order.tolist(), 1)
    ]
    return "\n".join((f"{len(alive)} flakes" + (", largest first" if len(alive) > 1 else ""), *rows))


def _touched(before: NDArray[np.int32], after: NDArray[np.int32], count: int) -> NDArray[np.bool_]:
    """Return for each label from 1 to count whether it gained or lost a pixel."""
    changed = before != after
    touched = np.zeros(count + 1, bool)
    touched[before[changed]] = True
    touched[after[changed]] = True
    return touched[1:]


def _kept(values: NDArray[np.generic], kept: NDArray[np.bool_]) -> NDArray[np.generic]:
    """Return the values of the rows that are kept, and nothing for the others and for further ones."""
    empty = np.nan if values.dtype.kind == "f" else np.zeros((), values.dtype)
    column = np.full(len(kept), empty, values.dtype)
    count = min(len(values), len(kept))
    column[:count] = np.where(kept[:count], values[:count], column[:count])
    return column


def _rows(names: Sequence[str], scores: NDArray[np.float32], table: Columns, edited: NDArray[np.bool_]) -> Columns:
    """Return the columns with a row for the background in front and rows for labels that are no more at the end."""
    count = len(names)
    columns: Columns = {
        "index": np.arange(count + 1),
        "class": np.array(["background", *names], dtype=object),
        "score": np.concatenate([[np.nan], scores]),
    }
    for name, values in table.items():
        empty = np.nan if values.dtype.kind == "f" else np.zeros((), values.dtype)
        column = np.full(count + 1, empty, values.dtype)
        column[1 : len(values) + 1] = values
        columns[name] = column
    columns["edited"] = np.concatenate([[False], edited])
    return columns
