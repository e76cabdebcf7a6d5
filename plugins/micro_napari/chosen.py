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
        for event in self._events():
            event.connect(self.look)
        self.look()

    @property
    def finding(self) -> Finding | None:
        """What stands behind the layer."""
        return of(self.layer)

    def others(self) -> list[Any]:
        """Return further layers with results of the same task: other fields, perhaps of one specimen.

        A field counts once, also where several bundles were asked about it or a copy of its layer was made.
        """
        mine = self.finding
        if mine is None:
            return []
        fields, others = {mine.field}, []
        for layer in self._viewer.layers:
            found = of(layer)
            if found is not None and found.card.task == mine.card.task and found.field not in fields:
                fields.add(found.field)
                others.append(layer)
        return others

    def let_go(self) -> None:
        """Follow nothing any more."""
        for event in self._events():
            event.disconnect(self.look)
        self._take(None)

    def look_again(self) -> None:
        """Tell that what stands behind the layer changed."""
        self.changed.emit()

    def look(self, _event: Any = None) -> None:
        """Find out which result is meant."""
        follow.part_copies(self._viewer.layers)
        active = self._viewer.layers.selection.active
        if active is not None and of(active) is not None:
            layer = active
        else:
            layer = self.layer if self.layer in self._viewer.layers else None
        if layer == self.layer:  # not `is`: napari hands out a new proxy of a layer each time
            return
        self._take(layer)
        self.changed.emit()

    def _events(self) -> tuple[Any, ...]:
        layers = self._viewer.layers
        return layers.selection.events.active, layers.events.inserted, layers.events.removed

    def _take(self, layer: Any) -> None:
        for each, connect in ((self.layer, False), (layer, True)):
            follower = follow.of(each)
            if follower is not None:
                (follower.changed.connect if connect else follower.changed.disconnect)(self.look_again)
        self.layer = layer
