"""The result that the user works on: that of the active layer, or the one that was active last."""

from typing import Any

from qtpy.QtCore import QObject, Signal

from micro_napari import follow
from micro_napari.finding import Finding, of


class Chosen(QObject):
    """Follows the active layer of a viewer; `changed` comes with another layer and with another table of it."""

    changed = Signal()

    def __init__(self, viewer: Any, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self.layer: Any = None
        viewer.layers.selection.events.active.connect(self.look)
        viewer.layers.events.inserted.connect(self.look)
        viewer.layers.events.removed.connect(self.look)
        self.look()

    @property
    def finding(self) -> Finding | None:
        """What stands behind the layer."""
        return of(self.layer)

    def others(self) -> list[Any]:
        """Return further layers with results of the same task: other fields, perhaps of one specimen."""
        mine = self.finding
        found = [(layer, of(layer)) for layer in self._viewer.layers if layer != self.layer]
        return [layer for layer, each in found if each and mine and each.card.task == mine.card.task]

    def look_again(self) -> None:
        """Tell that what stands behind the layer changed."""
        self.changed.emit()

    def look(self, _event: Any = None) -> None:
        """Find out which result is meant."""
        active = self._viewer.layers.selection.active
        if active is not None and of(active) is not None:
            layer = active
        else:
            layer = self.layer if self.layer in self._viewer.layers else None
        if layer == self.layer:  # not `is`: napari hands out a new proxy of a layer each time
            return
        for each, connect in ((self.layer, False), (layer, True)):
            follower = follow.of(each)
            if follower is not None:
                (follower.changed.connect if connect else follower.changed.disconnect)(self.look_again)
        self.layer = layer
        self.changed.emit()
