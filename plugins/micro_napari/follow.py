"""The table of a labels layer follows the brush: every change is measured again, and kept for the next day."""

from collections.abc import Generator, Iterable
from copy import copy
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from napari.layers import Labels
from numpy.typing import NDArray
from qtpy.QtCore import QCoreApplication, QObject, QTimer, Signal
from superqt.utils import create_worker

from micro.regions import Columns
from micro_napari import keeping
from micro_napari.finding import KEY, Finding, Measured

FOLLOWER_KEY = "micro follower"
"""Where in a layer's metadata its Follower lies."""

PAUSE_MS = 30
"""Strokes that come faster than this are measured together."""


class _Step(NamedTuple):
    finding: Finding
    measured: Measured
    saved: datetime | None = None


class Follower(QObject):
    """Measures a labels layer again after each stroke, erasure, undo or redo, and puts the table on the layer.

    napari tells of strokes by one event and of undo and redo by another that has many causes; so the pixels are
    compared with what the bundle found, and nothing depends on what an event says.
    """

    changed = Signal()
    """The table, the figure above it, or what is kept of the corrections changed."""

    def __init__(self, layer: Any, finding: Finding) -> None:
        super().__init__()
        self.layer, self.finding = layer, finding
        self.saved: datetime | None = None
        self._measuring = self._again = self._is_unkept = False
        self._timer = QTimer(self, singleShot=True, interval=PAUSE_MS)
        self._timer.timeout.connect(self._measure)
        layer.events.paint.connect(self._touch)
        layer.events.set_data.connect(self._touch)
        application = QCoreApplication.instance()
        if application is not None:
            application.aboutToQuit.connect(self.keep)

    def keep(self) -> None:
        """Keep at once what is not kept yet: napari ends, and does not wait for what is measured."""
        if not self._is_unkept:
            return
        self.finding.classes |= self._classes_of_table()
        labels = np.maximum(np.asarray(self.layer.data), 0)
        if self.finding.measure(labels).edited:
            keeping.save(self.finding, labels)
        self._is_unkept = False

    def _touch(self, _event: Any = None) -> None:
        self._is_unkept = True
        if not self._timer.isActive():
            self._timer.start()

    def _measure(self) -> None:
        if self._measuring:
            self._again = True
            return
        self.finding.classes |= self._classes_of_table()
        self._measuring = True
        worker = create_worker(_measure_steps, self.finding, np.asarray(self.layer.data))
        worker.yielded.connect(self._show)
        worker.finished.connect(self._rest)
        worker.start()

    def _classes_of_table(self) -> dict[int, str]:
        """Return the classes that were changed in the table itself."""
        features, measured = self.layer.features, self.finding.measured
        if measured is None or len(features) != len(measured.features["class"]):
            return {}
        shown = map(str, features["class"])
        told = enumerate(zip(shown, measured.features["class"].tolist(), strict=True))
        return {number: name for number, (name, before) in told if name != before and number}

    def _show(self, step: "_Step") -> None:
        if step.finding is not self.finding:
            return  # the image was segmented again meanwhile
        if step.saved is not None:
            self.saved = step.saved
            self._is_unkept = self._again or self._timer.isActive()
        else:
            # classes that were changed in the table while this was measured: the new table must not take them back
            told = self._classes_of_table().items() - self.finding.classes.items()
            self.finding.classes |= dict(told)
            self._again |= bool(told)
            is_new = self.finding.measured is None or step.measured.features is not self.finding.measured.features
            self.finding.measured = step.measured
            if is_new:
                self.layer.features = table(step.measured.features, self.finding.names)
        self.changed.emit()

    def _rest(self) -> None:
        self._measuring = False
        if self._again:
            self._again = False
            self._measure()


def follow(layer: Any, finding: Finding) -> Follower:
    """Attach a finding and its follower to a labels layer; an older follower of the layer takes the new finding."""
    follower = of(layer)
    if follower is None:
        follower = Follower(layer, finding)
    follower.keep()
    follower.finding, follower.saved = finding, None
    layer.metadata = {**layer.metadata, KEY: finding, FOLLOWER_KEY: follower}
    return follower


def part_copies(layers: Iterable[Any]) -> None:
    """Give each copy that napari made of a result a finding and a follower of its own; what is no labels has none."""
    for layer in layers:
        follower = of(layer)
        if follower is None or layer == follower.layer:
            continue
        layer.metadata = {name: each for name, each in layer.metadata.items() if name not in (KEY, FOLLOWER_KEY)}
        if isinstance(layer, Labels):
            finding = copy(follower.finding)
            finding.classes, finding.kept = dict(finding.classes), None
            follow(layer, finding)


def of(layer: Any) -> Follower | None:
    """Return the follower of a layer, if it has one."""
    found = getattr(layer, "metadata", {}).get(FOLLOWER_KEY)
    return found if isinstance(found, Follower) else None


def table(columns: Columns, names: tuple[str, ...]) -> pd.DataFrame:
    """Return columns as napari keeps them; classes are offered for choice where the table is edited."""
    frame = pd.DataFrame(columns)
    known = dict.fromkeys(("background", *names, *columns["class"].tolist()))
    frame["class"] = pd.Categorical(columns["class"], categories=list(known))
    return frame


def _measure_steps(finding: Finding, labels: NDArray[np.int32]) -> Generator[_Step, None, None]:
    """Yield the table, then the table with its figure, then when the labels were kept."""
    before = finding.measured
    # a copy: the brush writes on in the window's thread, and what it does meanwhile is measured next; what it paints
    # with a number below 0 is no region
    labels = np.maximum(labels, 0)
    measured = finding.measure(labels)
    if before is not None and _equal(measured.features, before.features):
        return
    yield _Step(finding, measured)
    measured = replace(measured, grains=finding.count_grains(labels))
    yield _Step(finding, measured)
    if measured.edited:
        keeping.save(finding, labels)
        yield _Step(finding, measured, datetime.now(UTC))
    else:
        keeping.forget(finding)


def _equal(one: Columns, other: Columns) -> bool:
    return one.keys() == other.keys() and all(
        values.shape == other[name].shape and np.array_equal(values, other[name], equal_nan=values.dtype.kind == "f")
        for name, values in one.items()
    )
