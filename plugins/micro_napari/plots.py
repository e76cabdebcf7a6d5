"""Two small drawings: how a measure is distributed, and how a loss falls."""

from typing import Any

import numpy as np
from napari.utils.theme import get_theme
from numpy.typing import NDArray
from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPaintEvent, QPen, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QWidget

LEAST_BINS, MOST_BINS = 5, 40


class _Plot(QWidget):
    """An area with a frame, the ends of both axes written out, and a line of text for what is shown."""

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._viewer = viewer
        self.title = ""
        self.setMinimumHeight(130)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def sizeHint(self) -> QSize:  # noqa: N802 -- Qt's name
        """Return the size that shows everything without stretching the dock."""
        return QSize(280, 150)

    def _frame(self, painter: QPainter, x: tuple[str, str], y: tuple[str, str]) -> QRectF:
        """Write the ends of the axes and the title, and return the area between them."""
        line_px = painter.fontMetrics().height()
        wide_px = max(painter.fontMetrics().horizontalAdvance(text) for text in y) + 6
        area = QRectF(wide_px, line_px + 2, self.width() - wide_px - 8, self.height() - 3 * line_px)
        painter.setPen(self._colour("text"))
        under = QRectF(area.left(), area.bottom() + 2, area.width(), line_px)
        beside = QRectF(0, area.top(), wide_px - 4, area.height())
        left, right = Qt.AlignmentFlag.AlignLeft, Qt.AlignmentFlag.AlignRight
        painter.drawText(under, left, x[0])
        painter.drawText(under, right, x[1])
        painter.drawText(beside, right | Qt.AlignmentFlag.AlignTop, y[1])
        painter.drawText(beside, right | Qt.AlignmentFlag.AlignBottom, y[0])
        painter.drawText(QRectF(0, 0, self.width(), line_px), Qt.AlignmentFlag.AlignHCenter, self.title)
        painter.setPen(QPen(self._colour("secondary"), 1))
        painter.drawLine(area.bottomLeft(), area.bottomRight())
        painter.drawLine(area.bottomLeft(), area.topLeft())
        return area

    def _colour(self, name: str) -> QColor:
        return QColor(getattr(get_theme(self._viewer.theme), name).as_hex())


class Histogram(_Plot):
    """How the values of one column are distributed over the regions."""

    def __init__(self, viewer: Any) -> None:
        super().__init__(viewer)
        self.counts: NDArray[np.intp] = np.zeros(0, np.intp)
        self.edges: NDArray[np.float64] = np.zeros(0)

    def show_values(self, title: str, values: NDArray[Any]) -> None:
        """Show values (N,); those that are not finite are left out."""
        finite = np.asarray(values, np.float64)
        finite = finite[np.isfinite(finite)]
        self.title = title if len(finite) else f"{title}: no values"
        bins = int(np.clip(np.sqrt(len(finite)), LEAST_BINS, MOST_BINS))
        self.counts, self.edges = np.histogram(finite, bins) if len(finite) else (np.zeros(0, np.intp), np.zeros(0))
        self.update()

    def paintEvent(self, _event: QPaintEvent | None) -> None:  # noqa: N802 -- Qt's name
        """Draw the bars."""
        if not len(self.counts):
            return
        painter = QPainter(self)
        top = int(self.counts.max())
        area = self._frame(painter, (f"{self.edges[0]:.4g}", f"{self.edges[-1]:.4g}"), ("0", str(top)))
        width = area.width() / len(self.counts)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(self._colour("current"))
        for number, count in enumerate(self.counts.tolist()):
            height = area.height() * count / top
            painter.drawRect(QRectF(area.left() + number * width, area.bottom() - height, max(width - 1, 1), height))
        painter.end()


class Curve(_Plot):
    """How the loss of a training falls with its steps."""

    def __init__(self, viewer: Any) -> None:
        super().__init__(viewer)
        self.points: list[tuple[int, float]] = []
        self.total = 1

    def clear(self) -> None:
        """Forget all points."""
        self.points, self.title = [], ""
        self.update()

    def add(self, done: int, total: int, loss: float, title: str) -> None:
        """Add what some steps came to; a new part of the training, which begins again, begins a new line."""
        if self.points and done <= self.points[-1][0]:
            self.points = []
        self.points.append((done, loss))
        self.total, self.title = total, title
        self.update()

    def paintEvent(self, _event: QPaintEvent | None) -> None:  # noqa: N802 -- Qt's name
        """Draw the line from the first step to now."""
        if not self.points:
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        top = max(loss for _, loss in self.points)
        area = self._frame(painter, ("step 0", str(self.total)), ("0", f"{top:.3g}"))
        places = [
            QPointF(area.left() + area.width() * done / self.total, area.bottom() - area.height() * loss / (top or 1))
            for done, loss in self.points
        ]
        painter.setPen(QPen(self._colour("current"), 2))
        painter.drawPolyline(QPolygonF(places))
        for place in places:
            painter.drawEllipse(place, 1.5, 1.5)
        painter.end()
