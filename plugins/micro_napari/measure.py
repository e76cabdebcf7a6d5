"""The dock that shows what came out: the figure of the task, a histogram, colours, and napari's own table."""

from typing import Any

import numpy as np
from qtpy.QtWidgets import QCheckBox, QComboBox, QPushButton, QVBoxLayout

from micro.grain_size import Field
from micro_napari import colours
from micro_napari.aside import Aside, Specimen
from micro_napari.chosen import Chosen
from micro_napari.docks import open_dock, open_table
from micro_napari.errand import Errand, Refusal
from micro_napari.finding import Finding, headline, of
from micro_napari.parts import DockPart, Page, labelled, say, side_by_side, words
from micro_napari.plots import Histogram

HIDDEN = ("index", "edited", "touches_frame", "class")
FIRST_SHOWN = ("equivalent_diameter_um", "area_um2", "equivalent_diameter_px", "area_px")


class MeasureWidget(DockPart):
    """What the active result comes to; follows every edit of its labels."""

    SHORT_NAME = "Measure"

    def __init__(self, napari_viewer: "napari.viewer.Viewer") -> None:  # type: ignore[name-defined]  # noqa: F821
        super().__init__()
        self._viewer = napari_viewer
        self._aside = Aside()
        self._errand = Errand(self, lambda _: None, self._on_page)
        self.chosen = Chosen(napari_viewer, self)
        self.title, self.headline, self.maker = words(), words(), words()
        self.together = QCheckBox("Together with the other open fields")
        self.together.setToolTip("Fields of one specimen have a confidence interval together; one field has none.")
        self.column = QComboBox()
        self.histogram = Histogram(napari_viewer)
        self.colour = QComboBox()
        self.legend = words()
        self.open_table = QPushButton("Open table")
        self.open_correct = QPushButton("Correct…")
        self.assess = QPushButton("All grain size methods")
        self.page = Page(self, "Grain size by every method")
        self._lay_out()
        self.chosen.changed.connect(self._show)
        self.together.toggled.connect(self._show)
        self.column.currentTextChanged.connect(self._draw)
        self.colour.currentTextChanged.connect(self._paint)
        self.open_table.clicked.connect(lambda: open_table(self._viewer))
        self.open_correct.clicked.connect(lambda: open_dock(self._viewer, "Correct"))
        self.assess.clicked.connect(self._on_assess)
        self.destroyed.connect(self._aside.close)
        self._show()

    def let_go(self) -> None:
        """Follow no layer, and stop what is in work and its process."""
        self._errand.let_go()
        self._aside.close()
        self.chosen.let_go()

    def _lay_out(self) -> None:
        layout = QVBoxLayout(self)
        self.headline.setObjectName("headline")
        font = self.headline.font()
        font.setBold(True)
        self.headline.setFont(font)
        self._column_row = labelled("Histogram of", self.column)
        self._colour_row = labelled("Colour by", self.colour)
        self._buttons = side_by_side(self.open_table, self.open_correct)
        for part in (self.title, self.headline, self.together, self._column_row, self.histogram, self._colour_row):
            layout.addWidget(part)
        for part in (self.legend, self._buttons, self.assess, self.maker):
            layout.addWidget(part)
        layout.addStretch()

    def _show(self) -> None:
        finding = self.chosen.finding
        regions = finding is not None and finding.measured is not None
        for part in (self._column_row, self.histogram, self._colour_row, self._buttons):
            part.setVisible(regions)
        if finding is None:
            say(self._viewer, self.title, "No result yet: segment an image, or choose the layer of a result.")
            for part in (self.headline, self.legend, self.maker, self.together, self.assess):
                part.hide()
            return
        others = self.chosen.others()
        is_grains = finding.card.task == "grains" and regions
        self.together.setVisible(is_grains and bool(others))
        self.assess.setVisible(is_grains and finding.prediction.pixel_size_um is not None)
        say(self._viewer, self.title, self.chosen.layer.name)
        fields = [each for each in map(of, others) if each] if self.together.isChecked() else []
        say(self._viewer, self.headline, headline(finding, fields))
        say(self._viewer, self.maker, _made_by(finding))
        if finding.measured is None:
            scores = sorted(finding.prediction.class_scores.items(), key=lambda each: -each[1])
            say(self._viewer, self.legend, "\n".join(f"{score:7.1%}  {name}" for name, score in scores))
            return
        self._offer(finding)
        self._draw()
        self._paint()

    def _offer(self, finding: Finding) -> None:
        """Offer the columns of the table, keeping the choice where it is still there."""
        assert finding.measured is not None
        features = finding.measured.features
        numbers = [name for name, values in features.items() if name not in HIDDEN and values.dtype.kind in "iuf"]
        first = next((name for name in FIRST_SHOWN if name in numbers), "")
        _refill(self.column, numbers, first)
        _refill(self.colour, [colours.BY_NUMBER, "class", *numbers, "edited"], colours.BY_NUMBER)

    def _draw(self, *_: Any) -> None:
        finding, name = self.chosen.finding, self.column.currentText()
        if finding is not None and finding.measured is not None and name in finding.measured.features:
            values = np.asarray(finding.measured.features[name])[finding.measured.alive]
            self.histogram.show_values(f"{name}, {len(values)} regions", values)

    def _paint(self, *_: Any) -> None:
        """Colour the layer by the chosen column, unless it is so already."""
        finding, name = self.chosen.finding, self.colour.currentText()
        if finding is None or finding.measured is None or not name:
            return
        wanted = colours.by(self.chosen.layer.features, name, finding.measured.alive)
        if name != colours.BY_NUMBER or self.legend.text():
            self.chosen.layer.colormap = wanted.colormap
        squares = [f'<span style="color:{colour}">&#9632;</span> {word}' for colour, word in wanted.legend]
        say(self._viewer, self.legend, " &nbsp; ".join(squares))

    def _on_assess(self) -> None:
        finding = self.chosen.finding
        if finding is None or self._errand.is_running:
            return
        layers = [self.chosen.layer, *(self.chosen.others() if self.together.isChecked() else ())]
        fields = tuple(_field(layer) for layer in layers)
        self.assess.setEnabled(False)
        self._errand.start("grain size by every method", self._aside.assess_steps(Specimen(fields)))

    def _on_page(self, page: str | Refusal) -> None:
        self.assess.setEnabled(True)
        self.page.show_text(page)


def _field(layer: Any) -> Field:
    finding = of(layer)
    assert finding is not None
    prediction = finding.prediction
    return Field(np.asarray(layer.data), prediction.pixel_size_um, finding.image.name, prediction.pixel_size_source)


def _refill(box: QComboBox, names: list[str], first: str) -> None:
    if [box.itemText(row) for row in range(box.count())] == names:
        return
    chosen = box.currentText()
    box.blockSignals(True)
    box.clear()
    box.addItems(names)
    box.setCurrentText(chosen if chosen in names else first)
    box.blockSignals(False)


def _made_by(finding: Finding) -> str:
    maker, prediction = finding.prediction.maker, finding.prediction
    scale = (
        f"{prediction.pixel_size_um:g} um a pixel ({prediction.pixel_size_source})"
        if prediction.pixel_size_um is not None
        else "no pixel size"
    )
    edited = f", {finding.measured.edited} regions edited" if finding.measured and finding.measured.edited else ""
    return f"{maker.model} {maker.model_version}, weights {maker.weights_sha256[:8]}; {scale}{edited}"
