"""The dock that teaches: images with corrected labels, a plan, a training that can be stopped, and what came of it."""

import shutil
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
from qtpy.QtWidgets import QCheckBox, QComboBox, QFileDialog, QLineEdit, QPlainTextEdit, QPushButton, QVBoxLayout

from micro import bundle, formats, tasks
from micro.card import START
from micro.errors import MicroError
from micro.micrograph import Micrograph
from micro.recipe import Recipe
from micro.regions import Prediction, Progress
from micro_napari import keeping, teaching
from micro_napari.aside import Aside, Lesson, Question
from micro_napari.chosen import Chosen
from micro_napari.commands import INTERRUPTED, Ended, Heard, run_steps
from micro_napari.docks import open_dock
from micro_napari.errand import Errand, Refusal
from micro_napari.layers import placed_like
from micro_napari.parts import DockPart, labelled, say, side_by_side, words
from micro_napari.plots import Curve
from micro_napari.reader import to_layer

PRESETS = {"quick: 5 minutes": 5.0, "normal: 25 minutes": 25.0, "thorough: 90 minutes": 90.0}
NOTHING = "random weights"
BEFORE, AFTER = "before", "after"


class TrainWidget(DockPart):
    """Train a bundle from a folder of corrected images, in a process of its own."""

    SHORT_NAME = "Train"

    def __init__(self, napari_viewer: "napari.viewer.Viewer") -> None:  # type: ignore[name-defined]  # noqa: F821
        super().__init__()
        self._viewer = napari_viewer
        self._aside = Aside()
        self._planning = Errand(self, lambda _: None, self._on_plan)
        self._training = Errand(self, self._on_heard, self._on_trained)
        self._comparing = Errand(self, self._on_compare_step, self._on_compared)
        self.chosen = Chosen(napari_viewer, self)
        self.folder = QLineEdit(str(Path.home() / "micro-training"))
        self.browse = QPushButton("Browse…")
        self.add = QPushButton("Add this image with its labels")
        self.task = QComboBox()
        self.task.addItems(tasks.names())
        self.start_from = QComboBox()
        self.preset = QComboBox()
        self.preset.addItems(PRESETS)
        self.colour = QCheckBox("Learn from colour, not from brightness alone")
        self.name = QLineEdit("my-model")
        self.plan = QPushButton("Plan")
        self.go = QPushButton("Start")
        self.page = QPlainTextEdit(readOnly=True)
        self.curve = Curve(napari_viewer)
        self.count, self.said = words(), words()
        self.compare = QPushButton("Before and after")
        self.use = QPushButton("Use it now")
        self.save = QPushButton("Save bundle…")
        self._lay_out()

        self.browse.clicked.connect(self._on_browse)
        self.add.clicked.connect(self.add_chosen)
        self.plan.clicked.connect(self._on_plan_clicked)
        self.go.clicked.connect(self._on_go)
        self.compare.clicked.connect(self._on_compare)
        self.use.clicked.connect(self._on_use)
        self.save.clicked.connect(self._on_save)
        for changed in (self.folder.textChanged, self.name.textChanged, self.task.currentTextChanged):
            changed.connect(self._look)
        for changed in (self.preset.currentTextChanged, self.start_from.currentTextChanged):
            changed.connect(self._look)
        self.colour.toggled.connect(self._look)
        for changed in (self._offer_starts, self._offer_colour):
            self.task.currentTextChanged.connect(changed)
        self.chosen.changed.connect(self._on_chosen)
        self.destroyed.connect(self._aside.close)
        self._on_chosen()
        self._offer_starts()
        self._offer_colour()

    @property
    def is_running(self) -> bool:
        """Whether a training goes on."""
        return self._training.is_running

    @property
    def out(self) -> Path:
        """Folder of the bundle, where it is installed as soon as it is done."""
        return keeping.home() / "bundles" / str(self.name.text()).strip()

    def let_go(self) -> None:
        """Follow no layer, and stop what is in work and its process; a training can be resumed."""
        for errand in (self._planning, self._training, self._comparing):
            errand.let_go()
        self._aside.close()
        self.chosen.let_go()

    def add_chosen(self) -> None:
        """Add the active result's image with its labels as they are now to the training folder."""
        finding, layer = self.chosen.finding, self.chosen.layer
        if finding is None or finding.measured is None:
            say(self._viewer, self.said, "Choose the layer of an image's regions first.", fine=False)
            return
        try:
            labels = np.maximum(np.asarray(layer.data), 0)
            classes = teaching.pixel_classes(finding, labels)
            path = teaching.add(self._folder, finding.image, labels, classes)
        except (MicroError, OSError) as fault:
            say(self._viewer, self.said, str(fault), fine=False)
            return
        self.task.setCurrentText(finding.card.task)
        self._look()
        counted = Counter(classes.of_number.values()) if classes else {}
        told = ", ".join(f"{count} of {name}" for name, count in sorted(counted.items()))
        say(self._viewer, self.said, f"Added as {path.name}{f', with regions: {told}' if told else ''}.")

    # --- before -----------------------------------------------------------------------------------------------------

    def _lay_out(self) -> None:
        layout = QVBoxLayout(self)
        layout.addWidget(labelled("Folder", self.folder))
        layout.addWidget(side_by_side(self.browse, self.add))
        layout.addWidget(self.count)
        layout.addWidget(labelled("Task", self.task))
        layout.addWidget(labelled("Begin from", self.start_from))
        layout.addWidget(labelled("Time", self.preset))
        layout.addWidget(self.colour)
        layout.addWidget(labelled("Call it", self.name))
        layout.addWidget(side_by_side(self.plan, self.go))
        self.page.setMinimumHeight(120)
        for part in (self.page, self.curve, self.said):
            layout.addWidget(part)
        layout.addWidget(side_by_side(self.compare, self.use, self.save))
        layout.addStretch()
        self.page.hide()
        self.curve.hide()

    @property
    def _folder(self) -> Path:
        return Path(self.folder.text().strip()).expanduser()

    def _on_chosen(self) -> None:
        finding = self.chosen.finding
        self.add.setEnabled(finding is not None and finding.measured is not None)

    def _on_browse(self) -> None:
        path = QFileDialog.getExistingDirectory(self, "Training folder", self.folder.text())
        if path:
            self.folder.setText(path)

    def _offer_starts(self, *_: Any) -> None:
        """Offer the task's bundles and starts; the first is what a corrected image usually came from."""
        self.start_from.clear()
        for name in bundle.installed():
            try:
                if bundle.load(name).card.task in (self.task.currentText(), START):
                    self.start_from.addItem(name)
            except MicroError:
                continue  # the list of bundles in Segment says what is wrong with it
        self.start_from.addItem(NOTHING)

    def _offer_colour(self, *_: Any) -> None:
        """Let the user choose where the task does; flakes are always told apart by their colours."""
        self.colour.setVisible(len(tasks.find(self.task.currentText()).channels) > 1)

    def _look(self, *_: Any) -> None:
        """Say how far things are; a changed form needs a new plan before it may start."""
        images = teaching.count(self._folder)
        held = "a fifth of them" if images >= 10 else "the right quarter of each"
        counted = f"{images} annotated image{'s' if images > 1 else ''}"
        text = f"{counted}; {held} will measure the result." if images else "No annotated image yet."
        say(self._viewer, self.count, text, fine=images > 0)
        if not self.is_running:
            self.go.setEnabled(False)
            self.go.setText("Resume" if (self.out / "training").is_dir() else "Start")
        is_made = (self.out / bundle.CARD).is_file() and not (self.out / "training").is_dir()
        for button in (self.compare, self.use, self.save):
            button.setEnabled(is_made)

    def _lesson(self) -> Lesson:
        start = self.start_from.currentText()
        return Lesson(
            self._folder,
            self.task.currentText(),
            PRESETS[self.preset.currentText()],
            None if start == NOTHING else start,
            self.colour.isChecked() and not self.colour.isHidden(),
        )

    def _on_plan_clicked(self) -> None:
        if self._planning.is_running or self.is_running:
            return
        name = self.name.text().strip()
        if Path(name).name != name or name in ("", ".."):
            say(self._viewer, self.said, f"Call it {name!r}: a bundle needs a name, without slashes.", fine=False)
            return
        lesson = self._lesson()
        self.plan.setEnabled(False)
        say(self._viewer, self.said, "Reading the folder…")
        self._planning.start("planning a training", self._aside.plan_steps(lesson))

    def _on_plan(self, page: str | Refusal) -> None:
        self.plan.setEnabled(True)
        is_fine = not isinstance(page, Refusal)
        say(self._viewer, self.said, "" if is_fine else str(page), fine=is_fine)
        self.page.setPlainText(page if is_fine else "")
        self.page.setVisible(is_fine)
        self.go.setEnabled(is_fine)

    # --- during -----------------------------------------------------------------------------------------------------

    def _on_go(self) -> None:
        if self.is_running:
            self.go.setEnabled(False)
            say(self._viewer, self.said, "Stopping…")
            self._training.stop()
            return
        lesson = self._lesson()
        arguments = ["train", str(lesson.folder), "--task", lesson.task, "--out", str(self.out)]
        arguments += ["--minutes", str(lesson.minutes)]
        arguments += ["--from", lesson.start or "none"]
        arguments += ["--colour"] if lesson.colour else []
        arguments += ["--resume"] if (self.out / "training").is_dir() else []
        self.curve.clear()
        self.curve.show()
        say(self._viewer, self.said, "Training starts…")
        self._training.start(f"training {self.name.text()}", run_steps(arguments))
        self._look()
        self.go.setText("Stop")
        self.go.setEnabled(True)

    def _on_heard(self, heard: Heard) -> None:
        facts = heard.facts
        if "loss" in facts:
            self.curve.add(facts["done"], facts["total"], facts["loss"], f"{facts['part']}: loss {facts['loss']:.4f}")
            say(self._viewer, self.said, f"Step {facts['done']} of {facts['total']}, {facts['note']}.")

    def _on_trained(self, ended: Ended | Refusal | None) -> None:
        self._look()
        if ended is None or (isinstance(ended, Ended) and ended.code == INTERRUPTED):
            text, fine = "Stopped. Plan again and press Resume to go on from the last step that was kept.", True
        elif isinstance(ended, Ended) and ended.code == 0:
            text, fine = f"{self.name.text()} is made and installed. See what it does, or use it.", True
            self.page.setPlainText((self.out / "README.md").read_text(encoding="utf-8"))
        else:
            text, fine = (ended.words if isinstance(ended, Ended) else str(ended))[-1000:], False
        say(self._viewer, self.said, text, fine=fine)

    # --- after ------------------------------------------------------------------------------------------------------

    def _on_compare(self) -> None:
        if self._comparing.is_running:
            return
        start = self._lesson().start
        models = [name for name in (start, str(self.out)) if name]
        folder, aside = self.out, self._aside
        self._comparing.start("before and after", _compare_steps(aside, folder, models))
        say(self._viewer, self.said, "Comparing on an image that never trained…")

    def _on_compare_step(self, step: Progress) -> None:
        say(self._viewer, self.said, f"Comparing on an image that never trained… {step.note}")

    def _on_compared(self, result: tuple[Micrograph, list[Prediction]] | Refusal) -> None:
        if isinstance(result, Refusal):
            say(self._viewer, self.said, str(result), fine=False)
            return
        image, answers = result
        pixels, arguments, _ = to_layer(image)
        held = self._viewer.add_image(pixels, **{**arguments, "name": "held apart"})
        parts = []
        for name, answer in zip((AFTER,) if len(answers) == 1 else (BEFORE, AFTER), answers, strict=True):
            if answer.regions is not None:
                title = f"{name}: {answer.maker.model}"
                self._viewer.add_labels(answer.regions.labels, name=title, visible=name == AFTER, **placed_like(held))
                parts.append(f"{name} {len(answer.regions)} regions")
            else:
                parts.append(f"{name} {answer.class_name}")
        say(self._viewer, self.said, f"On an image that never trained: {', '.join(parts)}.")

    def _on_use(self) -> None:
        segment = open_dock(self._viewer, "Segment")
        segment.cards.refresh()
        segment.cards.choose(self.out.name)

    def _on_save(self) -> None:
        path = QFileDialog.getExistingDirectory(self, "Folder for the bundle")
        if path:
            target = Path(path) / self.out.name
            try:
                shutil.copytree(self.out, target)
            except OSError as fault:
                say(self._viewer, self.said, f"Not saved: {fault}", fine=False)
                return
            say(self._viewer, self.said, f"Saved as {target}.")


def _compare_steps(
    aside: Aside, folder: Path, models: list[str]
) -> Generator[Progress, None, tuple[Micrograph, list[Prediction]]]:
    """Let each model answer for the sample that the bundle carries: the first image that its training held out."""
    (sample,) = folder.glob("sample.*")
    image = formats.read(sample)
    answers: list[Prediction] = []
    for model in models:
        answer = yield from aside.predict_steps(Question(Recipe(model=model), image))
        answers += [answer]
    return image, answers
