"""Three ways to give the size of a pixel: a number, a line along the scale bar, or what the objective had last."""

from typing import Any

import numpy as np
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QDoubleSpinBox, QFormLayout, QHBoxLayout, QLabel, QPushButton, QWidget

from micro_napari import keeping
from micro_napari.layers import give_pixel_size, placed_like
from micro_napari.parts import say, words

BAR = "scale bar"


class PixelSizeForm(QWidget):
    """Asks for the size of a pixel of one image layer and sets it; `given` follows."""

    given = Signal()

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._viewer = viewer
        self._layer: Any = None
        self._line: Any = None
        self.size_um = LengthBox("Edge of one pixel in micrometres.")
        self.apply = QPushButton("Set")
        self.objective = QComboBox()
        self.objective.setEditable(True)
        self.objective.setToolTip("Name of the objective, to have its pixel size again next time.")
        self.draw = QPushButton("Draw a line on the scale bar")
        self.bar_um = LengthBox("Length that the scale bar states, in micrometres.")
        self.use_bar = QPushButton("Use the line")
        self._bar_row = QWidget()
        layout = QFormLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addRow("Pixel size", _row(self.size_um, QLabel("um"), self.apply))
        layout.addRow("Objective", self.objective)
        layout.addRow(self.draw)
        bar = QHBoxLayout(self._bar_row)
        bar.setContentsMargins(0, 0, 0, 0)
        for part in (QLabel("It is"), self.bar_um, QLabel("um long"), self.use_bar):
            bar.addWidget(part)
        layout.addRow(self._bar_row)
        self.said = words()
        layout.addRow(self.said)
        self._bar_row.hide()
        self.said.hide()
        self._offer_objectives()
        self.apply.clicked.connect(self._give)
        self.objective.activated.connect(self._recall)
        self.draw.clicked.connect(self._begin_line)
        self.use_bar.clicked.connect(self._measure_line)

    def ask_for(self, layer: Any) -> None:
        """Ask for the pixel size of this layer."""
        self._layer = layer

    def _give(self) -> None:
        um = self.size_um.value()
        if self._layer is None or um <= 0:
            return
        give_pixel_size(self._layer, um)
        self._viewer.reset_view()
        name = self.objective.currentText().strip()
        if name:
            keeping.remember_objective(name, um)
            self._offer_objectives(name)
        self.given.emit()

    def _recall(self) -> None:
        um = keeping.objectives().get(self.objective.currentText().strip())
        if um is not None:
            self.size_um.setValue(um)

    def _offer_objectives(self, chosen: str = "") -> None:
        self.objective.clear()
        self.objective.addItems(["", *keeping.objectives()])
        self.objective.setCurrentText(chosen)

    def _begin_line(self) -> None:
        if self._layer is None:
            return
        if self._line in self._viewer.layers:
            self._viewer.layers.remove(self._line)
        self._line = self._viewer.add_shapes(
            name=BAR, ndim=2, edge_color="yellow", edge_width=2, **placed_like(self._layer)
        )
        self._line.mode = "add_line"
        self._bar_row.show()
        say(self._viewer, self.said, "")

    def _measure_line(self) -> None:
        shapes = self._line if self._line in self._viewer.layers else None
        length_px = 0.0
        if shapes is not None and len(shapes.data):
            ends = np.asarray(shapes.data[-1], np.float64)[:, -2:]
            length_px = float(np.hypot(*(ends[-1] - ends[0])))
        if not (length_px > 0 and self.bar_um.value() > 0):
            what = "Give the length that the bar states" if length_px > 0 else "Draw a line along the scale bar first"
            say(self._viewer, self.said, f"{what}.", fine=False)
            return
        self.size_um.setValue(self.bar_um.value() / length_px)
        self._viewer.layers.remove(shapes)
        self._bar_row.hide()
        say(self._viewer, self.said, "")
        self._viewer.layers.selection.active = self._layer
        self._give()


class LengthBox(QDoubleSpinBox):
    """A length in micrometres with as many decimals as it has: a pixel may be a hundredth of a nanometre."""

    def __init__(self, tip: str) -> None:
        super().__init__()
        self.setDecimals(10)
        self.setRange(0, 100_000)
        self.setToolTip(tip)

    def textFromValue(self, value: float) -> str:  # noqa: N802 -- Qt's name
        """Return the number without the zeros at its end."""
        text: str = super().textFromValue(value)
        return text.rstrip("0").rstrip(self.locale().decimalPoint())


def _row(*parts: QWidget) -> QWidget:
    row = QWidget()
    layout = QHBoxLayout(row)
    layout.setContentsMargins(0, 0, 0, 0)
    for part in parts:
        layout.addWidget(part, stretch=int(isinstance(part, QDoubleSpinBox)))
    return row
