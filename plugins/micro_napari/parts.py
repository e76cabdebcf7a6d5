"""Small parts that the docks are laid out from."""

from typing import Any

from napari.utils.theme import get_theme
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QHBoxLayout, QLabel, QSizePolicy, QWidget
from superqt import QCollapsible


def words() -> QLabel:
    """Return a place for sentences, as long as they may be."""
    label = QLabel()
    label.setWordWrap(True)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
    return label


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


def folded(title: str, part: QWidget) -> QCollapsible:
    """Return a part that is folded away until its title is clicked."""
    box = QCollapsible(title)
    box.setContent(part)
    box.collapse(animate=False)
    return box
