"""Small parts that the docks are laid out from."""

from typing import Any

from napari.utils.theme import get_theme
from qtpy.QtCore import QEvent, Qt
from qtpy.QtGui import QFontDatabase
from qtpy.QtWidgets import QDialog, QDockWidget, QHBoxLayout, QLabel, QPlainTextEdit, QSizePolicy, QVBoxLayout, QWidget
from superqt import QCollapsible

MOST_WIDE = 130


class DockPart(QWidget):
    """What lies in a dock of this plugin; the tab of the dock has its short name, so that five tabs fit."""

    SHORT_NAME = ""

    def showEvent(self, event: Any) -> None:  # noqa: N802 -- Qt's name
        """Give the dock its short name."""
        super().showEvent(event)
        dock = self.parent()
        if isinstance(dock, QDockWidget):
            dock.setWindowTitle(self.SHORT_NAME)

    def changeEvent(self, event: Any) -> None:  # noqa: N802 -- Qt's name
        """Notice that napari took the widget out of its dock, which the cross of a dock does for good."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self.let_go()

    def let_go(self) -> None:
        """Let go of layers: another widget of this kind may take them now."""


def words() -> QLabel:
    """Return a place for sentences, as long as they may be."""
    label = QLabel()
    label.setWordWrap(True)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
    return label


class Page(QDialog):
    """A page of text in a window of its own, as wide as its lines."""

    def __init__(self, parent: QWidget, title: str) -> None:
        super().__init__(parent)
        self.setWindowTitle(title)
        self.text = QPlainTextEdit(readOnly=True)
        self.text.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
        self.text.setFont(QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont))
        QVBoxLayout(self).addWidget(self.text)

    def show_text(self, text: str) -> None:
        """Show the window with this text in it."""
        self.text.setPlainText(text)
        lines, metrics = text.splitlines(), self.text.fontMetrics()
        width_px = metrics.horizontalAdvance("m") * min(max(map(len, lines), default=0), MOST_WIDE) + 60
        self.resize(width_px, min(metrics.lineSpacing() * (len(lines) + 3), 700) + 40)
        self.show()


def say(viewer: Any, label: QLabel, text: str, fine: bool = True) -> None:
    """Write a sentence; one that stands in the user's way has the colour of a warning."""
    label.setText(text)
    label.setVisible(bool(text))
    label.setStyleSheet("" if fine else f"color: {get_theme(viewer.theme).warning.as_hex()}")


def side_by_side(*parts: QWidget) -> QWidget:
    """Return parts in one row, each as wide as the other."""
    row = QWidget()
    layout = QHBoxLayout(row)
    layout.setContentsMargins(0, 0, 0, 0)
    for part in parts:
        layout.addWidget(part, stretch=1)
    return row


def labelled(text: str, part: QWidget) -> QWidget:
    """Return a part with a word before it."""
    row = QWidget()
    layout = QHBoxLayout(row)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.addWidget(QLabel(text))
    layout.addWidget(part, stretch=1)
    return row


class _Fold(QCollapsible):
    """Grows with what appears in it while it is open."""

    def eventFilter(self, watched: Any, event: Any) -> bool:  # noqa: N802 -- Qt's name
        """Take the height anew that a part needs whose own parts came or went."""
        if event.type() == QEvent.Type.LayoutRequest and self.isExpanded():
            self.expand(animate=False)
        return bool(super().eventFilter(watched, event))


def folded(title: str, part: QWidget) -> QCollapsible:
    """Return a part that is folded away until its title is clicked."""
    box = _Fold(title)
    box.setContent(part)
    part.installEventFilter(box)
    box.collapse(animate=False)
    return box
