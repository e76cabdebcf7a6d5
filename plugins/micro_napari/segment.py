"""The dock that segments: which image, which bundle, whether they fit, and go."""

import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from magicgui.widgets import create_widget
from napari.layers import Labels
from napari.settings import get_plugin_settings
from numpy.typing import NDArray
from qtpy.QtWidgets import QComboBox, QFileDialog, QProgressBar, QPushButton, QVBoxLayout, QWidget

from micro.card import Card
from micro.errors import BadSetting, UnreadableImage
from micro.micrograph import GIVEN
from micro.recipe import Recipe
from micro.regions import Glimpse, Progress
from micro_napari import keeping
from micro_napari.aside import GLIMPSE_PX, Aside, Question
from micro_napari.cards import CardList
from micro_napari.commands import predict_line
from micro_napari.docks import open_dock, open_table, put_on_clipboard
from micro_napari.errand import Errand, Refusal
from micro_napari.finding import KEY, Finding, headline
from micro_napari.fit import Fit, fit
from micro_napari.follow import follow, of, table
from micro_napari.form import SettingsForm
from micro_napari.layers import LAYER_SCALE, Facts, cropped, facts, lay_on, placed_like
from micro_napari.parts import DockPart, folded, labelled, say, side_by_side, words
from micro_napari.scale import PixelSizeForm

DEVICES = ("auto", "cpu", "cuda", "mps")
# A preview on the visible part costs no more than one tile of this edge.
PREVIEW_PX = 512
IN_WORK, PREVIEW = "micro: in work", "micro: preview"


@dataclass(frozen=True, eq=False)
class _Asked:
    """What was asked when Run was pressed; the user may move on, and the answer still goes where it belongs.

    corners: of the part that is asked about, as napari keeps those in view; None for the whole image.
    """

    layer: Any
    known: Facts
    card: Card
    recipe: Recipe
    device: str
    tile_px: int
    source: str | None
    corners: NDArray[Any] | None = None


@dataclass(frozen=True, eq=False)
class _Told:
    """The answer, and where its first pixel lies in the image."""

    finding: Finding
    corner_px: tuple[int, int]


class SegmentWidget(DockPart):
    """Segment the chosen image with the chosen bundle; Run becomes Cancel, and tiles appear as they come."""

    SHORT_NAME = "Segment"

    def __init__(self, napari_viewer: "napari.viewer.Viewer") -> None:  # type: ignore[name-defined]  # noqa: F821
        super().__init__()
        self._viewer = napari_viewer
        self._aside = Aside()
        self._errand = Errand(self, self._on_progress, self._on_end)
        self._asked: _Asked | None = None
        self._first_tile = 0.0
        self._in_work: Any = None
        self._fit = Fit(False, "")
        self._kept: list[keeping.Correction] = []
        self._restores_into: Any = None
        preferred = get_plugin_settings("micro").inference

        self.image = create_widget(annotation="napari.layers.Image", name="image")
        self.cards = CardList()
        self.live = words()
        self.scale = PixelSizeForm(napari_viewer)
        self.settings = SettingsForm()
        self.device = QComboBox()
        self.device.addItems(DEVICES)
        self.device.setCurrentText(preferred.device)
        self._tile_px = int(preferred.tile_px)
        self.run = QPushButton("Run")
        self.preview = QPushButton("Preview on view")
        self.preview.setToolTip(f"Try it on the middle {PREVIEW_PX} px of what is in view.")
        self.progress = QProgressBar()
        self.said = words()
        self.restore = QPushButton("Restore corrections")
        self.copy = QPushButton("Copy as command")
        self.save = QPushButton("Save recipe…")
        self._lay_out()

        self.image.changed.connect(self._look)
        self.cards.currentItemChanged.connect(self._on_card)
        self.device.currentTextChanged.connect(self._look)
        self.scale.given.connect(self._look)
        self.run.clicked.connect(self._on_run)
        self.preview.clicked.connect(self._on_preview)
        self.restore.clicked.connect(self._on_restore)
        self.copy.clicked.connect(self._on_copy)
        self.save.clicked.connect(self._on_save)
        self.destroyed.connect(self._aside.close)
        self._on_card()

    def reset_choices(self, _event: Any = None) -> None:
        """Look again at which layers there are; napari calls this when they change."""
        self.image.reset_choices()
        self._look()

    def showEvent(self, event: Any) -> None:  # noqa: N802 -- Qt's name
        """Look again at layers and bundles when the dock comes to the front."""
        super().showEvent(event)
        self.reset_choices()

    def let_go(self) -> None:
        """Stop what is in work and its process."""
        self._errand.let_go()
        self._clear("")
        self._aside.close()

    @property
    def is_running(self) -> bool:
        """Whether an answer is awaited."""
        return self._errand.is_running

    def recipe(self) -> Recipe:
        """Return what is asked, as `--recipe` takes it; raise BadSetting where no bundle is chosen."""
        chosen = self.cards.chosen()
        if chosen is None:
            raise BadSetting("No bundle is installed. `micro models` lists the places that are looked in.")
        um = None
        if self.image.value is not None:
            known = facts(self.image.value)
            if known.pixel_size_source in (GIVEN, LAYER_SCALE):
                um = known.pixel_size_um  # the file does not say it, so the recipe must
        return Recipe(model=chosen[0], pixel_size_um=um, settings=self.settings.changes())

    # --- before ---------------------------------------------------------------------------------------------------

    def _lay_out(self) -> None:
        layout = QVBoxLayout(self)
        layout.addWidget(labelled("Image", self.image.native))
        layout.addWidget(self.cards)
        layout.addWidget(self.live)
        self._scale_box = folded("Pixel size", self.scale)
        layout.addWidget(self._scale_box)
        advanced = QWidget()
        inner = QVBoxLayout(advanced)
        inner.setContentsMargins(0, 0, 0, 0)
        inner.addWidget(self.settings)
        inner.addWidget(labelled("Device", self.device))
        layout.addWidget(folded("Advanced", advanced))
        layout.addWidget(side_by_side(self.run, self.preview))
        layout.addWidget(self.progress)
        layout.addWidget(self.said)
        layout.addWidget(self.restore)
        layout.addWidget(side_by_side(self.copy, self.save))
        layout.addStretch()
        self.progress.hide()
        self.restore.hide()

    def _on_card(self, *_: Any) -> None:
        chosen = self.cards.chosen()
        if chosen is not None:
            self.settings.show_card(chosen[1])
        self._look()

    def _look(self, *_: Any) -> None:
        """Say whether this image fits this bundle, and why Run cannot be pressed where it does not."""
        layer, chosen = self.image.value, self.cards.chosen()
        if chosen is None:
            self._fit = Fit(False, "No bundle is installed.")
        elif layer is None:
            self._fit = Fit(False, "Open an image: drop a file here, or File > Open Sample > micro.")
        else:
            self._watch(layer)
            self._fit = fit(chosen[1], facts(layer), self.device.currentText(), self._tile_px)
        self.scale.ask_for(layer)
        if self._fit.needs_pixel_size and not self._scale_box.isExpanded():
            self._scale_box.expand(animate=False)
        say(self._viewer, self.live, self._fit.says, fine=self._fit.fine)
        running = self._errand.is_running
        self.run.setEnabled(running or self._fit.fine)
        self.run.setToolTip("" if self._fit.fine else self._fit.says)
        self.preview.setEnabled(self._fit.fine and not running)

    def _watch(self, layer: Any) -> None:
        for event in (layer.events.scale, layer.events.units, layer.events.name):
            event.disconnect(self._look)
            event.connect(self._look)

    # --- during ---------------------------------------------------------------------------------------------------

    def _on_run(self) -> None:
        if self._errand.is_running:
            self._errand.drop()
            self._clear("Cancelled.")
        else:
            self._start(None)

    def _on_preview(self) -> None:
        self._start(np.asarray(self.image.value.corner_pixels))

    def _start(self, corners: NDArray[Any] | None) -> None:
        layer, chosen = self.image.value, self.cards.chosen()
        if layer is None or chosen is None or not self._fit.fine:
            return
        asked = _Asked(
            layer=layer,
            known=facts(layer),
            card=chosen[1],
            recipe=self.recipe(),
            device=self.device.currentText(),
            tile_px=self._tile_px,
            source=_source(layer),
            corners=corners,
        )
        self._asked, self._first_tile = asked, 0.0
        if corners is None:
            self._offer([])
        self.run.setText("Cancel")
        self.progress.setRange(0, 0)
        self.progress.show()
        say(self._viewer, self.said, "")
        if corners is None and self._fit.tiles > 1:
            self._in_work = self._show_canvas(layer, asked.known.shape_px, self._fit.grid_px)
        self._errand.start(f"segmenting {layer.name}", _steps(self._aside, asked))
        self._look()

    def _show_canvas(self, layer: Any, shape_px: tuple[int, int], grid_px: tuple[int, int]) -> Any:
        """Add a layer on which tiles appear as they come."""
        step = -(-max(grid_px) // GLIMPSE_PX)
        small = np.zeros([-(-length // step) for length in grid_px], np.uint8)
        steps = [step * length / over for length, over in zip(shape_px, grid_px, strict=True)]
        return self._viewer.add_image(
            small,
            name=IN_WORK,
            colormap="cyan",
            blending="additive",
            opacity=0.4,
            contrast_limits=(0, 255),
            **placed_like(layer, step_px=steps),
        )

    def _on_progress(self, step: Progress) -> None:
        text = step.note
        if step.total:
            self.progress.setRange(0, step.total)
            self.progress.setValue(step.done)
            now = time.monotonic()
            if not self._first_tile:
                self._first_tile = now
            elif 1 < step.done < step.total:
                left = (now - self._first_tile) / (step.done - 1) * (step.total - step.done)
                text += f", {left:.0f} s left"
        say(self._viewer, self.said, text)
        for glimpse in step.glimpses:
            self._paint(glimpse)

    def _paint(self, glimpse: Glimpse) -> None:
        if self._in_work is None or self._in_work not in self._viewer.layers:
            return
        height, width = glimpse.chance.shape
        rows = slice(glimpse.top_px, glimpse.top_px + height)
        self._in_work.data[rows, glimpse.left_px : glimpse.left_px + width] = glimpse.chance
        self._in_work.refresh()

    def _clear(self, text: str, fine: bool = True) -> None:
        """Take away what is only there while work goes on."""
        if self._in_work is not None and self._in_work in self._viewer.layers:
            self._viewer.layers.remove(self._in_work)
        self._in_work = None
        self.progress.hide()
        self.run.setText("Run")
        say(self._viewer, self.said, text, fine=fine)
        self._look()

    # --- after ----------------------------------------------------------------------------------------------------

    def _on_end(self, result: _Told | Refusal) -> None:
        asked = self._asked
        assert asked is not None
        if isinstance(result, Refusal):
            self._clear(str(result), fine=False)
            return
        finding = result.finding
        seconds = f"{finding.prediction.seconds:.1f} s"
        self._clear("\n".join((headline(finding), *finding.prediction.notes, seconds)))
        if asked.corners is not None:
            self._show_preview(asked, result)
            return
        moved_on = self._viewer.layers.selection.active not in (asked.layer, None)
        before = self._viewer.layers.selection.active
        if finding.prediction.regions is None:
            show_verdict(asked.layer, finding)
        else:
            self._restores_into = show_regions(self._viewer, asked.layer, finding)
            open_table(self._viewer)
            self._offer(keeping.load(finding))
        if moved_on:
            self._viewer.layers.selection.active = before
        else:
            open_dock(self._viewer, "Measure").chosen.look()

    def _offer(self, kept: list[keeping.Correction]) -> None:
        """Offer the newest of what was kept of the same image by the same weights; older ones come after it."""
        self._kept = kept
        self.restore.setVisible(bool(kept))
        if kept:
            self.restore.setText(f"Restore corrections of {_when(kept[0])}")

    def _show_preview(self, asked: _Asked, told: _Told) -> None:
        regions = told.finding.prediction.regions
        if regions is None or asked.layer not in self._viewer.layers:
            return
        if PREVIEW in self._viewer.layers:
            self._viewer.layers.remove(PREVIEW)
        self._viewer.add_labels(
            regions.labels.copy(), name=PREVIEW, **placed_like(asked.layer, corner_px=told.corner_px)
        )
        self._viewer.layers.selection.active = asked.layer

    def _on_restore(self) -> None:
        kept, layer = self._kept[0], self._restores_into
        self._offer(self._kept[1:])
        follower = of(layer)
        if follower is None or layer not in self._viewer.layers:
            say(self._viewer, self.said, "The layer of these regions is gone. Run again.", fine=False)
            return
        try:
            labels = kept.labels()
        except UnreadableImage as fault:
            say(self._viewer, self.said, f"Not restored: {fault}", fine=False)
            return
        follower.keep()
        follower.finding.kept = None  # what was corrected since the run stays where it was kept
        follower.finding.classes |= kept.classes
        changed = np.nonzero(labels != layer.data)
        layer.data_setitem(changed, labels[changed])
        say(self._viewer, self.said, f"Corrections of {_when(kept)} are restored. Ctrl-Z takes them back.")

    def _on_copy(self) -> None:
        asked = self.recipe()
        source = None if self.image.value is None else _source(self.image.value)
        name = source or f"{self.image.value.name if self.image.value else 'image'}.tif"
        put_on_clipboard(predict_line([name], asked, self.device.currentText(), "results"))
        text = "The command is on the clipboard."
        say(self._viewer, self.said, text if source else f"{text} The image is in no file yet: save it as {name}.")

    def _on_save(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Save recipe", "recipe.yaml", "Recipe (*.yaml)")
        if path:
            asked = self.recipe()
            asked.save(Path(path))
            um = asked.pixel_size_um
            text = "" if um is None else f" It takes {um} um for the pixels of every image, whatever its file says."
            say(self._viewer, self.said, f"micro predict IMAGES --recipe {path} --out results does the same.{text}")


def show_verdict(layer: Any, finding: Finding) -> None:
    """Put what was said of a whole frame on the image layer itself."""
    layer.metadata = {**layer.metadata, KEY: finding}


def result_of(viewer: Any, layer: Any, model: str) -> Any:
    """Return the labels layer in which a bundle's regions of this image lie, or None."""
    for each in viewer.layers:
        follower = of(each)
        if follower is None:
            continue
        finding = follower.finding
        if finding.layer_id == layer.unique_id and finding.prediction.maker.model == model:
            return each
    return None


def show_regions(viewer: Any, layer: Any, finding: Finding) -> Any:
    """Put regions on the image layer they were found in: into the layer of an earlier run, or into a new one."""
    regions, measured = finding.prediction.regions, finding.measured
    assert regions is not None
    assert measured is not None
    finding.layer_id = layer.unique_id
    features = table(measured.features, finding.names)
    labels = result_of(viewer, layer, finding.prediction.maker.model)
    if labels is None:
        name = f"{layer.name} {finding.card.name}"
        labels = Labels(regions.labels.copy(), name=name, features=features, **placed_like(layer))
        follow(labels, finding)  # before the window hears of the layer, so that every dock finds all in place
        viewer.add_layer(labels)
    else:
        follower = follow(labels, finding)
        lay_on(labels, layer)
        mode = labels.mode
        labels.editable = False  # napari forgets its history then, which is of other labels and must not be undone here
        labels.data = regions.labels.copy()
        labels.editable, labels.mode = True, mode
        labels.features = features
        follower.changed.emit()
    return labels


def _steps(aside: Aside, asked: _Asked) -> Generator[Progress, None, _Told]:
    """Find what is asked; in a thread, so that the layer is not touched, but what was known of it."""
    image, corner_px = asked.known.image(), (0, 0)
    if asked.corners is not None:
        image, corner_px = cropped(image, asked.corners, PREVIEW_PX)
    prediction = yield from aside.predict_steps(Question(asked.recipe, image, asked.device, asked.tile_px))
    finding = Finding(asked.card, asked.recipe, image, prediction, asked.source)
    return _Told(finding, corner_px)


def _when(kept: keeping.Correction) -> str:
    return f"{kept.saved.astimezone():%d %b, %H:%M:%S}"


def _source(layer: Any) -> str | None:
    path = layer.metadata.get("path") or layer.source.path
    return str(path) if path and Path(path).is_file() else None
