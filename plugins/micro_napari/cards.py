"""The installed bundles to choose from, each with what its card says."""

from typing import Any

from qtpy.QtCore import QRect, QSize, Qt
from qtpy.QtWidgets import QAbstractItemView, QListWidget, QListWidgetItem

from micro import bundle
from micro.card import START, Card
from micro.errors import MicroError

PADDING_PX = 3


class CardList(QListWidget):
    """One entry a bundle: what it finds, trained at which scale, on which channels, and how well."""

    def __init__(self) -> None:
        super().__init__()
        self.setWordWrap(True)
        self.setTextElideMode(Qt.TextElideMode.ElideNone)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setSpacing(3)
        self.setStyleSheet(f"QListWidget::item {{ padding: {PADDING_PX}px; }}")
        self.setMinimumHeight(210)
        self._cards: dict[str, Card] = {}
        self.refresh()

    def refresh(self) -> None:
        """Look again at what is installed, and keep the choice."""
        chosen = self.chosen()
        self.clear()
        self._cards = {}
        for name, card in answering().items():
            if isinstance(card, MicroError):
                broken = QListWidgetItem(f"{name}\n{card}")
                broken.setFlags(Qt.ItemFlag.NoItemFlags)
                self.addItem(broken)
                continue
            entry = QListWidgetItem(words(card))
            entry.setData(Qt.ItemDataRole.UserRole, name)
            self._cards[name] = card
            entry.setToolTip("\n".join((card.summary, *(f"- {limit}" for limit in card.limits))))
            self.addItem(entry)
        self._fit()
        self.choose(chosen[0] if chosen else "")

    def resizeEvent(self, event: Any) -> None:  # noqa: N802 -- Qt's name
        """Give each card the height that its words take at the new width."""
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        # Qt wraps words at a width that does not leave out the padding, and then cuts the last line off
        wide_px = self.viewport().width() - 2 * (self.spacing() + 2 * PADDING_PX)
        room = QRect(0, 0, max(wide_px, 1), 10_000)
        for row in range(self.count()):
            card = self.item(row)
            words_px = self.fontMetrics().boundingRect(room, Qt.TextFlag.TextWordWrap, card.text())
            card.setSizeHint(QSize(wide_px, words_px.height() + 4 * PADDING_PX))

    def chosen(self) -> tuple[str, Card] | None:
        """Return name and card of the chosen bundle."""
        entry = self.currentItem()
        name = None if entry is None else entry.data(Qt.ItemDataRole.UserRole)
        return None if name is None else (name, self._cards[name])

    def choose(self, name: str) -> None:
        """Choose a bundle by its name, or the first one where there is none of it."""
        names = [self.item(row).data(Qt.ItemDataRole.UserRole) for row in range(self.count())]
        there = [each for each in names if each is not None]
        if there:
            self.setCurrentRow(names.index(name if name in there else there[0]))


def words(card: Card) -> str:
    """Return a card in a few lines."""
    scale = f"{card.pixel_size_um:g} um a pixel" if card.pixel_size_um else "any scale like its training images"
    lines = [f"{card.name} {card.version} ({card.task})", card.summary, f"Trained on {card.channels}, {scale}."]
    if card.scores:
        best = card.scores[0]
        lines.append(f"{best.what} {best.value:.2f} ({best.low:.2f} to {best.high:.2f})")
    return "\n".join(lines)


def answering() -> dict[str, Card | MicroError]:
    """Return the card of every installed bundle that answers images, or what is wrong with it."""
    found: dict[str, Card | MicroError] = {}
    for name in bundle.installed():
        try:
            found[name] = bundle.load(name).card
        except MicroError as fault:
            found[name] = fault
    return {name: card for name, card in found.items() if isinstance(card, MicroError) or card.task != START}
