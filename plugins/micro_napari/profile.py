"""The dock that learns a microscope setting from flakes that are clicked and known, and from those that were found."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
from magicgui.widgets import create_widget
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QLineEdit,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
)

from micro import thin_film
from micro.errors import BadSetting
from micro.tasks.flakes import Mark
from micro.thin_film import Colour
from micro.thin_film.profile import MOST_POINT_LAYERS, MOST_POINT_NM
from micro_napari import keeping
from micro_napari.aside import Aside, Calibrated, Calibration
from micro_napari.docks import open_dock
from micro_napari.errand import Errand, Refusal, Steps
from micro_napari.follow import of
from micro_napari.layers import facts, lay_on, placed_like
from micro_napari.parts import DockPart, labelled, say, side_by_side, words

KEY = "micro: flakes of"
"""Where in a points layer's metadata stands which image layer its flakes lie on."""

ENOUGH = 5
COLUMN = "known"
"""The feature of a clicked point that says what is known of it: "3L" or "24.4 nm"."""

LAYERS, HEIGHT = "Layers", "Height (AFM)"
NOT_KNOWN = "not known"
GAMMAS: dict[str, float | None] = {NOT_KNOWN: None, "1.0: linear camera": 1.0, "2.2: encoded for a screen": 2.2}


class ProfileWidget(DockPart):
    """Flakes whose layers were counted or whose heights were measured become a profile of the microscope."""

    SHORT_NAME = "Profile"

    def __init__(self, napari_viewer: "napari.viewer.Viewer") -> None:  # type: ignore[name-defined]  # noqa: F821
        super().__init__()
        self._viewer = napari_viewer
        self._aside = Aside()
        self._errand = Errand(self, lambda _: None, self._on_end)
        self._path = Path()
        self.image = create_widget(annotation="napari.layers.Image", name="image")
        self.material = QComboBox()
        self.material.addItems(get_args(thin_film.Profile.model_fields["material"].annotation))
        self.oxide_nm = QLineEdit()
        self.oxide_nm.setPlaceholderText(f"nm; empty: {NOT_KNOWN}")
        self.gamma = QComboBox()
        self.gamma.addItems(GAMMAS)
        self.layers = QSpinBox()
        self.layers.setRange(1, MOST_POINT_LAYERS)
        self.height_nm = QDoubleSpinBox()
        self.height_nm.setRange(0.1, MOST_POINT_NM)
        self.height_nm.setSuffix(" nm")
        self.height_nm.setValue(10)
        self.by = QComboBox()
        self.by.addItems((LAYERS, HEIGHT))
        for part in (self.layers, self.height_nm, self.by):
            part.setToolTip("What is known of the flakes that are clicked next, or of the points that are selected.")
        self.found = QCheckBox("With all flakes that Segment found in the open images")
        self.found.setToolTip(
            "Nobody needs to know their layers: the terraces of one image name the lone flake of another. All images "
            "must be taken with one objective, lamp, camera and exposure, on one oxide."
        )
        self.click = QPushButton("Click flakes")
        self.select = QPushButton("Change or move")
        self.clicked, self.said = words(), words()
        self.save = QPushButton("Save profile…")
        self.use = QPushButton("Use it in Segment")
        self._lay_out()
        self.click.clicked.connect(lambda: self._take("add"))
        self.select.clicked.connect(lambda: self._take("select"))
        self.layers.valueChanged.connect(self._on_known)
        self.height_nm.valueChanged.connect(self._on_known)
        self.by.currentTextChanged.connect(self._on_known)
        self.save.clicked.connect(self._on_save)
        self.use.clicked.connect(self._on_use)
        self.found.toggled.connect(self._look)
        self.image.changed.connect(self._look)
        napari_viewer.layers.events.removed.connect(self._look)
        self.destroyed.connect(self._aside.close)
        self._look()

    def let_go(self) -> None:
        """Stop what is in work and its process."""
        self._errand.let_go()
        self._aside.close()

    @property
    def is_running(self) -> bool:
        """Whether a profile is being made."""
        return self._errand.is_running

    def reset_choices(self, _event: Any = None) -> None:
        """Look again at which layers there are; napari calls this when they change."""
        self.image.reset_choices()

    def _lay_out(self) -> None:
        layout = QVBoxLayout(self)
        layout.addWidget(labelled("Image", self.image.native))
        layout.addWidget(labelled("Material", self.material))
        layout.addWidget(labelled("Oxide", self.oxide_nm))
        layout.addWidget(labelled("Gamma", self.gamma))
        layout.addWidget(labelled("Known", side_by_side(self.by, self.layers, self.height_nm)))
        layout.addWidget(side_by_side(self.click, self.select))
        layout.addWidget(self.clicked)
        layout.addWidget(self.found)
        layout.addWidget(side_by_side(self.save, self.use))
        layout.addWidget(self.said)
        layout.addStretch()
        self.use.setEnabled(False)
        self.said.hide()
        self.height_nm.hide()

    @property
    def known(self) -> str:
        """What is known of the flakes that are clicked next."""
        return f"{self.layers.value()}L" if self.by.currentText() == LAYERS else f"{self.height_nm.value():g} nm"

    # --- clicking ---------------------------------------------------------------------------------------------------

    def _marked(self) -> Iterator[tuple[Any, Any]]:
        """Yield each image layer with the points layer of its flakes."""
        images = {layer.unique_id: layer for layer in self._viewer.layers}
        for layer in self._viewer.layers:
            image = images.get(layer.metadata.get(KEY))
            if image is not None:
                yield image, layer

    def _points(self, image: Any) -> Any:
        """Return the points layer of an image's flakes; make it where there is none."""
        for marked, points in self._marked():
            if marked == image:
                return points
        points = self._viewer.add_points(
            np.zeros((0, 2)),
            name=f"{image.name}: known flakes",
            features=pd.DataFrame({COLUMN: np.zeros(0, str)}),
            feature_defaults={COLUMN: self.known},
            text={"string": f"{{{COLUMN}}}", "size": 12, "color": "yellow", "anchor": "upper_left"},
            size=9,
            face_color="transparent",
            border_color="yellow",
            metadata={KEY: image.unique_id},
            **placed_like(image),
        )
        points.events.data.connect(self._look)
        for event in (image.events.scale, image.events.translate, image.events.units):
            event.connect(self._lay)
        return points

    def _lay(self, _event: Any = None) -> None:
        """Keep the flakes on their images when these get a pixel size or another place."""
        for image, points in self._marked():
            lay_on(points, image)

    def _take(self, mode: str) -> None:
        image = self.image.value
        if image is None:
            say(self._viewer, self.said, "Open a colour image of flakes first.", fine=False)
            return
        points = self._points(image)
        points.feature_defaults = {COLUMN: self.known}
        self._viewer.layers.selection.active = points
        points.mode = mode

    def _on_known(self, *_: Any) -> None:
        self.layers.setVisible(self.by.currentText() == LAYERS)
        self.height_nm.setVisible(self.by.currentText() == HEIGHT)
        for _, points in self._marked():
            points.feature_defaults = {COLUMN: self.known}
            chosen = sorted(points.selected_data)
            if points.mode == "select" and chosen:
                features = points.features.copy()
                features.loc[chosen, COLUMN] = self.known
                points.features = features
        self._look()

    def marks(self) -> tuple[tuple[Any, tuple[Mark, ...]], ...]:
        """Return each image layer with the flakes that were clicked on it."""
        return tuple(
            (
                image,
                tuple(
                    _mark(x, y, known)
                    for (y, x), known in zip(np.asarray(points.data), points.features[COLUMN], strict=True)
                ),
            )
            for image, points in self._marked()
            if len(points.data)
        )

    def _look(self, *_: Any) -> None:
        """Say which flakes were clicked."""
        marks = [mark for _, each in self.marks() for mark in each]
        counted = [f"{count}L" for count in sorted(mark.layers for mark in marks if mark.layers)]
        measured = [f"{nm:g} nm" for nm in sorted(mark.height_nm for mark in marks if mark.height_nm)]
        told = ", ".join((*counted, *measured))
        wanted = "" if len({*counted, *measured}) >= ENOUGH else f" {ENOUGH} of different layers or heights are enough."
        text = (
            f"{len(marks)} flake{'s' if len(marks) > 1 else ''} clicked: {told}." if marks else "No flake clicked yet."
        )
        say(self._viewer, self.clicked, text + wanted)
        self.save.setEnabled((bool(marks) or self.found.isChecked()) and not self.is_running)

    def seen(self) -> tuple[Colour, ...]:
        """Return the colours of the flakes that Segment found; raise BadSetting where there are none."""
        images: list[str] = []
        tables = []
        for layer in self._viewer.layers:
            follower = of(layer)
            if follower is None or follower.finding.card.task != "flakes" or follower.finding.measured is None:
                continue
            measured = follower.finding.measured
            if not measured.features.keys() >= {*thin_film.CONTRASTS}:
                continue  # a grey image has no colours
            tables.append({name: values[measured.alive] for name, values in measured.features.items()})
            images += [follower.finding.image.name] * len(measured.alive)
        if not images:
            raise BadSetting("Segment has found no flakes in the open images yet.")
        shared = set.intersection(*(set(table) for table in tables))
        return thin_film.colours_of(images, {name: np.concatenate([each[name] for each in tables]) for name in shared})

    # --- saving -----------------------------------------------------------------------------------------------------

    def _calibrate(self) -> Steps:
        """Return the work that what is clicked, known and found asks for.

        Raises BadSetting where the oxide is no number, or flakes that were found are asked for and there are none.
        """
        oxide = self.oxide_nm.text().strip()
        try:
            oxide_nm = float(oxide) if oxide else None
        except ValueError as fault:
            raise BadSetting(f"Oxide: {oxide!r} is no number of nm. Leave it empty if it is not known.") from fault
        known = [(facts(image), marks) for image, marks in self.marks()]
        seen = self.seen() if self.found.isChecked() else ()
        material, gamma, aside = self.material.currentText(), GAMMAS[self.gamma.currentText()], self._aside

        def steps() -> Steps:  # in a thread: reading an image may take a while
            fields = tuple((fact.image(), marks) for fact, marks in known)
            return (yield from aside.calibrate_steps(Calibration(fields, material, oxide_nm, gamma, seen)))

        return steps()

    def _on_save(self) -> None:
        try:
            steps = self._calibrate()
        except BadSetting as fault:
            say(self._viewer, self.said, str(fault), fine=False)
            return
        path, _ = QFileDialog.getSaveFileName(
            self, "Save profile", str(keeping.home() / "microscope.yaml"), "Profile (*.yaml)"
        )
        if not path:
            return
        self._path = Path(path)
        self.save.setEnabled(False)
        say(self._viewer, self.said, "Naming each flake by the others…")
        self._errand.start("making a microscope profile", steps)

    def _on_end(self, result: Calibrated | Refusal) -> None:
        self._look()
        if isinstance(result, Refusal):
            say(self._viewer, self.said, str(result), fine=False)
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            result.profile.save(self._path)
        except OSError as fault:
            say(self._viewer, self.said, f"Not saved: {fault}", fine=False)
            return
        points = result.profile.points
        wrong = [
            f"{point.image}: {point.known} by you, {answer} by the other flakes."
            for point, (answer, agrees) in zip(points, result.answers, strict=False)
            if not agrees
        ]
        told = f"Saved as {self._path.name}."
        if result.profile.seen:
            told += f" It holds the colours of {len(result.profile.seen)} flakes that were found."
        if result.answers:
            told += f" {len(points) - len(wrong)} of {len(points)} flakes are named as you say from the others alone."
        against = (*wrong, *result.objections)
        say(self._viewer, self.said, "\n".join((told, *against)), fine=not against)
        self.use.setEnabled(True)

    def _on_use(self) -> None:
        segment = open_dock(self._viewer, "Segment")
        if "profile" not in segment.settings.fields:
            say(self._viewer, self.said, "Choose a bundle of flakes in Segment, and press this again.", fine=False)
            return
        segment.settings.fields["profile"].value = str(self._path)
        say(self._viewer, self.said, f"Segment names layers by {self._path.name} from now on (Advanced, profile).")


def _mark(x: float, y: float, known: str) -> Mark:
    """Return the mark of a clicked point, by its feature COLUMN."""
    if known.endswith("L"):
        return Mark(round(float(x)), round(float(y)), layers=int(known[:-1]))
    return Mark(round(float(x)), round(float(y)), height_nm=float(known.removesuffix(" nm")))
