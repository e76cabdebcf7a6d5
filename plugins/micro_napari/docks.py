"""Docks and clipboard of napari, by its public doors."""

from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QDockWidget, QMainWindow, QTableView

# The table measures its columns by so many rows, and not by a thousand, each time that a value changes.
ROWS_FOR_WIDTH = 20


def open_dock(viewer: Any, name: str) -> Any:
    """Open a dock of this plugin behind those that are open, bring it to the front, and return its widget."""
    dock, widget = viewer.window.add_plugin_dock_widget("micro", name, tabify=True)
    dock.show()
    dock.raise_()
    return widget


def open_table(viewer: Any) -> QTableView:
    """Open napari's own table of features below the image, once, and return the table in it."""
    dock, widget = viewer.window.add_plugin_dock_widget("napari", "Features table widget")
    table: QTableView = widget.findChild(QTableView)
    header = table.horizontalHeader()
    if header.resizeContentsPrecision() != ROWS_FOR_WIDTH:
        header.setResizeContentsPrecision(ROWS_FOR_WIDTH)
        window = dock.window()
        if isinstance(window, QMainWindow) and isinstance(dock, QDockWidget):
            window.addDockWidget(Qt.DockWidgetArea.BottomDockWidgetArea, dock)
    dock.show()
    return table


def put_on_clipboard(text: str) -> None:
    """Put words where the user can paste them from."""
    QApplication.clipboard().setText(text)
