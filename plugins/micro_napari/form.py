"""The settings of a task as a form: one field a setting, with its bounds, its default and its words."""

from typing import Any, Literal, get_origin

from annotated_types import Ge, Gt, Le, Lt
from magicgui.widgets import create_widget
from qtpy.QtWidgets import QFormLayout, QWidget

from micro.card import Card
from micro.recipe import Setting, setting_of
from micro.tasks import find

PLAIN = (bool, int, float, str)


class SettingsForm(QWidget):
    """One field a setting of a card's task; `changes` are those that differ from the card's own."""

    def __init__(self) -> None:
        super().__init__()
        self._layout = QFormLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self.fields: dict[str, Any] = {}
        self._defaults: dict[str, Setting] = {}

    def show_card(self, card: Card) -> None:
        """Show the settings of the card's task, with the values that the card chose."""
        while self._layout.rowCount():
            self._layout.removeRow(0)
        self.fields, self._defaults = {}, {}
        for name, info in find(card.task).settings.model_fields.items():
            value = card.settings.get(name, info.default)
            options: dict[str, Any] = {"tooltip": info.description or ""}
            if info.annotation in PLAIN or get_origin(info.annotation) is Literal:
                options |= _bounds(info.metadata, value)
                field = create_widget(value=value, name=name, annotation=info.annotation, options=options)
            else:  # a number or a word: text, read as the command line reads it
                text = "of the bundle" if isinstance(value, dict) else str(value)
                field = create_widget(value=text, name=name, annotation=str, options=options)
            self._layout.addRow(name, field.native)
            self.fields[name], self._defaults[name] = field, field.value

    def changes(self) -> dict[str, Setting]:
        """Return the settings that the user changed."""
        changed = {name: field.value for name, field in self.fields.items() if field.value != self._defaults[name]}
        return {name: setting_of(value) if isinstance(value, str) else value for name, value in changed.items()}


def _bounds(metadata: list[Any], value: Setting) -> dict[str, Any]:
    """Return what keeps a number field within what the setting takes; the engine refuses a limit that is excluded."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return {}
    bounds: dict[str, Any] = {"min": 0, "max": 10**6}
    if isinstance(value, float):
        bounds["step"] = 0.005 if value < 0.1 else 0.05
    for limit in metadata:
        match limit:
            case Ge(ge=low) | Gt(gt=low):
                bounds["min"] = low
            case Le(le=high) | Lt(lt=high):
                bounds["max"] = high
    return bounds
