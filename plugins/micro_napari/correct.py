"""The dock that corrects: napari's own brush, and tools that merge, split, delete and rename regions."""

from collections.abc import Callable, Generator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtWidgets import QComboBox, QGridLayout, QPushButton, QVBoxLayout

from micro.errors import MicroError
from micro_napari import edits, follow
from micro_napari.chosen import Chosen
from micro_napari.docks import open_dock
from micro_napari.finding import Finding
from micro_napari.layers import placed_like
from micro_napari.parts import DockPart, labelled, say, words

LINE = "micro: line"
HINTS = {
    "Paint": "Paint with napari's brush in the colour of the chosen region; Ctrl-Z undoes.",
    "Erase": "Erase with napari's brush; Ctrl-Z undoes.",
    "New region": "Paint a region that was missed; it gets a number of its own and the class below.",
    "Merge": "Drag from one region into the next: all that you cross become one.",
    "Split": "Drag a line across a region from edge to edge.",
    "Delete": "Click a region to remove it.",
    "Set class": "Click a region to give it the class below.",
}
BRUSHES = {"Paint": "paint", "Erase": "erase", "New region": "paint"}


class CorrectWidget(DockPart):
    """Edits of the active result's labels, all undone and redone by napari; the table follows."""

    SHORT_NAME = "Correct"

    def __init__(self, napari_viewer: "napari.viewer.Viewer") -> None:  # type: ignore[name-defined]  # noqa: F821
        super().__init__()
        self._viewer = napari_viewer
        self.chosen = Chosen(napari_viewer, self)
        self._held: Any = None
        self._held_finding: Finding | None = None
        self._line: Any = None
        self.title, self.hint, self.said, self.kept = words(), words(), words(), words()
        self.tools = {name: QPushButton(name, checkable=True) for name in HINTS}
        self.undo, self.redo = QPushButton("Undo"), QPushButton("Redo")
        self.class_name = QComboBox()
        self.class_name.setEditable(True)
        self.add = QPushButton("Add this image to a training set…")
        self._lay_out()
        for name, button in self.tools.items():
            button.setToolTip(HINTS[name])
            button.toggled.connect(self._switch(name))
        self.undo.clicked.connect(lambda: self.chosen.layer.undo())
        self.redo.clicked.connect(lambda: self.chosen.layer.redo())
        self.add.clicked.connect(lambda: open_dock(self._viewer, "Train").add_chosen())
        self.class_name.currentTextChanged.connect(self._on_class)
        self.chosen.changed.connect(self._show)
        self._show()

    def let_go(self) -> None:
        """Lay the tool down, and follow no layer."""
        self._release()
        self.chosen.let_go()

    def _lay_out(self) -> None:
        layout = QVBoxLayout(self)
        layout.addWidget(self.title)
        grid = QGridLayout()
        for number, button in enumerate((*self.tools.values(), self.undo, self.redo)):
            grid.addWidget(button, number // 3, number % 3)
        layout.addLayout(grid)
        layout.addWidget(self.hint)
        layout.addWidget(labelled("Class", self.class_name))
        for part in (self.said, self.kept, self.add):
            layout.addWidget(part)
        layout.addStretch()

    def _show(self) -> None:
        """Show what can be edited and what was."""
        finding = self.chosen.finding
        can = finding is not None and finding.measured is not None
        for part in (*self.tools.values(), self.undo, self.redo, self.add, self.class_name):
            part.setEnabled(can)
        if self.chosen.layer != self._held or finding is not self._held_finding:  # another layer, or another run
            self._release()
        if finding is None or finding.measured is None:
            say(self._viewer, self.title, "Nothing to correct: segment an image, or choose the layer of its regions.")
            say(self._viewer, self.kept, "")
            return
        follower = follow.of(self.chosen.layer)
        say(self._viewer, self.title, f"{self.chosen.layer.name}: {finding.measured.edited} regions edited")
        saved = follower.saved if follower else None
        say(self._viewer, self.kept, f"Kept {saved.astimezone():%H:%M:%S}, also if napari is closed." if saved else "")
        names = list(dict.fromkeys((*finding.names, *finding.classes.values())))
        if [self.class_name.itemText(row) for row in range(self.class_name.count())] != names:
            chosen = self.class_name.currentText()
            self.class_name.blockSignals(True)
            self.class_name.clear()
            self.class_name.addItems(names)
            self.class_name.setCurrentText(chosen or names[0])
            self.class_name.blockSignals(False)

    # --- tools ------------------------------------------------------------------------------------------------------

    def _switch(self, name: str) -> Callable[[bool], None]:
        def switch(on: bool) -> None:
            if on:
                for other, button in self.tools.items():
                    if other != name:
                        button.setChecked(False)
                self._take(name)
            elif not any(button.isChecked() for button in self.tools.values()):
                self._release()

        return switch

    def _take(self, name: str) -> None:
        """Take a tool into the hand: napari's brush, or a drag over the labels."""
        self._release_layer()
        layer, finding = self.chosen.layer, self.chosen.finding
        if layer is None or finding is None:
            return
        self._held, self._held_finding = layer, finding
        say(self._viewer, self.hint, HINTS[name])
        say(self._viewer, self.said, "")
        if name == "New region":
            number = finding.free_number(np.asarray(layer.data))
            finding.classes[number] = self.class_name.currentText()
            layer.selected_label = number
        if name in BRUSHES:
            layer.mode = BRUSHES[name]
            return
        if name in ("Merge", "Split"):
            self._line = self._viewer.add_shapes(
                name=LINE, ndim=2, edge_color="yellow", edge_width=2, **placed_like(layer)
            )
        self._viewer.layers.selection.active = layer
        layer.mode = "pan_zoom"
        layer.mouse_pan = False
        layer.mouse_drag_callbacks.append(self._drag)

    def _on_class(self, name: str) -> None:
        """Give the region that is to be painted next the class that was chosen meanwhile."""
        layer, finding = self._held, self.chosen.finding
        if layer is None or finding is None or not name or not self.tools["New region"].isChecked():
            return
        if (np.asarray(layer.data) == layer.selected_label).any():
            layer.selected_label = finding.free_number(np.asarray(layer.data))
        finding.classes[layer.selected_label] = name

    def _release(self) -> None:
        for button in self.tools.values():
            button.setChecked(False)
        self._release_layer()
        say(self._viewer, self.hint, "")

    def _release_layer(self) -> None:
        layer, self._held = self._held, None
        if self._line is not None and self._line in self._viewer.layers:
            self._viewer.layers.remove(self._line)
        self._line = None
        if layer is None or layer not in self._viewer.layers:
            return
        if self._drag in layer.mouse_drag_callbacks:
            layer.mouse_drag_callbacks.remove(self._drag)
        layer.mode = "pan_zoom"
        layer.mouse_pan = True

    def _drag(self, layer: Any, event: Any) -> Generator[None, None, None]:
        """Follow the mouse from press to release, and edit what it crossed."""
        path = [np.asarray(layer.world_to_data(event.position))[-2:]]
        yield
        while event.type == "mouse_move":
            path.append(np.asarray(layer.world_to_data(event.position))[-2:])
            if self._line is not None:
                self._line.data = [(np.array(path), "path")]
            yield
        if self._line is not None:
            self._line.data = []
        self._edit(np.array(path))

    def _edit(self, path: NDArray[np.float64]) -> None:
        """Apply the tool in the hand to what the path crossed."""
        finding, layer = self.chosen.finding, self.chosen.layer
        name = next((name for name, button in self.tools.items() if button.isChecked()), "")
        if finding is None:
            return
        try:
            edit = self._edit_of(name, finding, np.asarray(layer.data), path)
        except MicroError as fault:
            say(self._viewer, self.said, str(fault), fine=False)
            return
        layer.data_setitem(edit.pixels, edit.values)
        say(self._viewer, self.said, "")

    def _edit_of(self, name: str, finding: Finding, labels: NDArray[np.int32], path: NDArray[np.float64]) -> edits.Edit:
        crossed = edits.under(labels, path)
        first = int(crossed[0]) if len(crossed) else 0
        free = finding.free_number(labels)
        if name == "Merge":
            return edits.merge(labels, crossed.tolist())
        if name == "Delete":
            return edits.delete(labels, first)
        if name == "Set class":
            edit = edits.renumber(labels, first, free)
            finding.classes[free] = self.class_name.currentText()
            return edit
        edit = edits.split(labels, path, free)
        parent = finding.classes.get(edits.crossed(labels, path), finding.unnamed)
        finding.classes |= dict.fromkeys(range(free, int(np.max(edit.values)) + 1), parent)
        return edit
