"""The dock that runs a folder: the same `micro predict` as on the command line, in a process of its own."""

import csv
import shlex
from pathlib import Path
from typing import Any

from qtpy.QtCore import Qt, QUrl
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QHeaderView,
    QLineEdit,
    QProgressBar,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
)

from micro.errors import MicroError
from micro.line import sources
from micro.recipe import Recipe
from micro_napari.cards import answering
from micro_napari.commands import INTERRUPTED, Ended, Heard, predict_line, run_steps
from micro_napari.docks import put_on_clipboard
from micro_napari.errand import Errand, Refusal
from micro_napari.parts import DockPart, labelled, say, side_by_side, words
from micro_napari.scale import LengthBox

AS_IN_SEGMENT, FROM_FILE = "as in the Segment dock", "a recipe file…"
QUEUED, DONE, FAILED = "queued", "done", "failed"
REPORT = "report.html"


class BatchWidget(DockPart):
    """Every image of a folder by one recipe, with the state of each file."""

    SHORT_NAME = "Batch"

    def __init__(self, napari_viewer: "napari.viewer.Viewer") -> None:  # type: ignore[name-defined]  # noqa: F821
        super().__init__()
        self._viewer = napari_viewer
        self._errand = Errand(self, self._on_heard, self._on_end)
        self._rows: dict[str, int] = {}
        self._recipe_file: Path | None = None
        self.folder, self.out = QLineEdit(), QLineEdit()
        self.browse, self.browse_out = QPushButton("Images…"), QPushButton("Results…")
        self.recipe = QComboBox()
        self.recipe.addItems([AS_IN_SEGMENT, *answering(), FROM_FILE])
        self.size_um = LengthBox("Edge of one pixel of every image; 0: what each file, or the recipe file, says.")
        self.size_um.setSuffix(" um")
        self.size_um.setSpecialValueText("as each file says")
        self.run = QPushButton("Run")
        self.copy = QPushButton("Copy as command")
        self.progress = QProgressBar()
        self.files = QTableWidget(0, 3)
        self.files.setHorizontalHeaderLabels(["image", "state", "what"])
        self.files.verticalHeader().hide()
        self.files.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
        self.files.setMinimumHeight(160)
        self.files.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.files.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
        self.files.horizontalHeader().setSectionResizeMode(1, QHeaderView.ResizeMode.ResizeToContents)
        self.scale_said, self.said = words(), words()
        self.show_report = QPushButton("Open results")
        self._lay_out()
        self.browse.clicked.connect(lambda: self._browse(self.folder, "Folder of images"))
        self.browse_out.clicked.connect(lambda: self._browse(self.out, "Folder for results"))
        self.recipe.activated.connect(self._on_recipe)
        self.folder.editingFinished.connect(self._look)
        self.folder.textChanged.connect(self._suggest)
        self.run.clicked.connect(self._on_run)
        self.copy.clicked.connect(self._on_copy)
        self.show_report.clicked.connect(self._on_show)

    def let_go(self) -> None:
        """Stop after the image in work."""
        self._errand.let_go()

    @property
    def is_running(self) -> bool:
        """Whether a folder is being worked through."""
        return self._errand.is_running

    def states(self) -> dict[str, str]:
        """Return the state of each image that the table shows."""
        return {name: self.files.item(row, 1).text() for name, row in self._rows.items()}

    def _lay_out(self) -> None:
        layout = QVBoxLayout(self)
        layout.addWidget(labelled("Images", self.folder))
        layout.addWidget(labelled("Results", self.out))
        layout.addWidget(side_by_side(self.browse, self.browse_out))
        layout.addWidget(labelled("Recipe", self.recipe))
        layout.addWidget(labelled("Pixel size", self.size_um))
        layout.addWidget(self.scale_said)
        layout.addWidget(side_by_side(self.run, self.copy))
        for part in (self.progress, self.files, self.said, self.show_report):
            layout.addWidget(part)
        self.progress.hide()
        self.scale_said.hide()
        self.show_report.hide()

    # --- before -----------------------------------------------------------------------------------------------------

    def _browse(self, line: QLineEdit, title: str) -> None:
        path = QFileDialog.getExistingDirectory(self, title, line.text())
        if path:
            line.setText(path)
            self._look()

    def _suggest(self, text: str) -> None:
        self.out.setText(f"{text.rstrip('/')}-results" if text.strip() else "")

    def _on_recipe(self) -> None:
        if self.recipe.currentText() != FROM_FILE:
            return
        path, _ = QFileDialog.getOpenFileName(self, "Recipe", "", "Recipe (*.yaml *.yml)")
        self._recipe_file = Path(path) if path else None
        if not path:
            self.recipe.setCurrentIndex(0)

    def _look(self) -> bool:
        """List the images; say why there are none."""
        try:
            found = sources.find([self.folder.text().strip()])
        except MicroError as fault:
            self._list([])
            say(self._viewer, self.said, str(fault), fine=False)
            return False
        self._list([source.name for source in found])
        say(self._viewer, self.said, f"{len(found)} images.")
        return True

    def _list(self, names: list[str]) -> None:
        self._rows = {name: row for row, name in enumerate(names)}
        self.files.setRowCount(len(names))
        for name, row in self._rows.items():
            item = QTableWidgetItem(name)
            item.setToolTip(name)
            self.files.setItem(row, 0, item)
            self._mark(row, QUEUED, "")

    def _mark(self, row: int, state: str, what: str) -> None:
        self.files.setItem(row, 1, QTableWidgetItem(state))
        item = QTableWidgetItem(what)
        item.setToolTip(what)
        self.files.setItem(row, 2, item)

    def line(self) -> str:
        """Return the command that is run, word for word; raise MicroError where the form does not say one."""
        chosen, device = self.recipe.currentText(), "auto"
        asked: Recipe | Path
        if chosen == FROM_FILE and self._recipe_file is not None:
            asked = self._recipe_file
        elif chosen == AS_IN_SEGMENT:
            segment: Any = self._viewer.window.dock_widgets.get("Segment (micro)")
            if segment is None:
                raise MicroError("The Segment dock is not open: open it and choose a bundle, or choose one here.")
            asked, device = segment.recipe(), segment.device.currentText()
        else:
            asked = Recipe(model=chosen)
        um = self.size_um.value() or None
        of_open = asked.pixel_size_um if isinstance(asked, Recipe) and um is None else None
        told = f"The pixel size of the image in Segment, {of_open} um, does not count here: give that of the folder."
        say(self._viewer, self.scale_said, told if of_open else "")
        if isinstance(asked, Recipe):
            asked = asked.model_copy(update={"pixel_size_um": None})
        return predict_line([self.folder.text().strip()], asked, device, self.out.text().strip(), um)

    # --- during -----------------------------------------------------------------------------------------------------

    def _on_run(self) -> None:
        if self.is_running:
            self.run.setEnabled(False)
            say(self._viewer, self.said, "Stopping after the image in work…")
            self._errand.stop()
            return
        try:
            line = self.line()
        except MicroError as fault:
            say(self._viewer, self.said, str(fault), fine=False)
            return
        if not self._look():
            return
        self.run.setText("Stop")
        self.progress.setRange(0, 0)
        self.progress.show()
        self.show_report.hide()
        folder = Path(self.folder.text()).name
        self._errand.start(f"segmenting the folder {folder}", run_steps(shlex.split(line)[1:]))

    def _on_heard(self, heard: Heard) -> None:
        facts = heard.facts
        if "total" not in facts:
            return
        self.progress.setRange(0, facts["total"])
        self.progress.setValue(facts["done"])
        note = str(facts["note"])
        say(self._viewer, self.said, f"{facts['done']} of {facts['total']}: {note}")
        name = note if note in self._rows else note.rpartition(": ")[0]
        while name and name not in self._rows:
            name = name.rpartition(": ")[0]
        if name:
            what = note.removeprefix(name).removeprefix(": ")
            self._mark(self._rows[name], FAILED if what.startswith("quarantined") else DONE, what)

    # --- after ------------------------------------------------------------------------------------------------------

    def _on_end(self, ended: Ended | Refusal | None) -> None:
        self.run.setText("Run")
        self.run.setEnabled(True)
        self.progress.hide()
        failed = self._take_over_states()
        if ended is None or (isinstance(ended, Ended) and ended.code == INTERRUPTED):
            say(self._viewer, self.said, "Stopped. Run goes on with the images that are left.")
        elif isinstance(ended, Ended) and (self._out / "run.json").is_file():
            listed = "".join(f"\n{name}: {reason}" for name, reason in failed.items())
            say(self._viewer, self.said, ended.words.strip().splitlines()[-1] + listed, fine=not failed)
            self.show_report.show()
            if (self._out / REPORT).is_file():
                self._on_show()
        else:
            say(self._viewer, self.said, ended.words if isinstance(ended, Ended) else str(ended), fine=False)

    @property
    def _out(self) -> Path:
        return Path(self.out.text().strip()).expanduser()

    def _take_over_states(self) -> dict[str, str]:
        """Take the states from the table of the run, which has the last word; return what failed and why."""
        failed: dict[str, str] = {}
        try:
            with (self._out / "images.csv").open(encoding="utf-8", newline="") as file:
                rows = list(csv.DictReader(file))
        except OSError:
            return failed
        for row in rows:
            if row["image"] not in self._rows or row["state"] not in ("done", "quarantined"):
                continue
            if row["state"] == "quarantined":
                failed[row["image"]] = row["error"]
            what = row["error"] or row["verdict"] or (f"{row['n_regions']} regions" if row["n_regions"] else "")
            self._mark(self._rows[row["image"]], FAILED if row["image"] in failed else DONE, what)
        return failed

    def _on_copy(self) -> None:
        try:
            put_on_clipboard(self.line())
        except MicroError as fault:
            say(self._viewer, self.said, str(fault), fine=False)
            return
        say(self._viewer, self.said, "The command is on the clipboard.")

    def _on_show(self) -> None:
        report = self._out / REPORT
        QDesktopServices.openUrl(QUrl.fromLocalFile(str(report if report.is_file() else self._out)))
