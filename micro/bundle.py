"""A trained model as a folder: card, weights, and a sample with the answer it must give."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from micro.card import Card
from micro.document import reasons
from micro.drift import Reference
from micro.errors import BadSetting, BrokenBundle, UnknownBundle
from micro.formats.storage import replacing

CARD = "card.json"
WEIGHTS = "weights.safetensors"
GRAPH = "classifier.onnx"
REFERENCE = "reference.json"
MAX_WEIGHTS_BYTES = 2**31

Weights = dict[str, NDArray[np.generic]]
"""Parameter name -> array; names begin with "segmenter." or "classifier."."""


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk whose card has been read; the weights are read and verified by `weights`."""

    folder: Path
    card: Card

    def weights(self) -> Weights:
        """Return the parameters as float32, after comparing the file's SHA-256 with the card.

        Raises BrokenBundle when the file is missing, is not what the card names, or is not safetensors. Nothing in a
        safetensors file can run code, and no other kind of file is opened.
        """
        data = self._verified(WEIGHTS, self.card.weights_sha256)
        try:
            stored = load_safetensors(data)
        except (SafetensorError, ValueError, KeyError) as fault:
            raise BrokenBundle(
                f"{self.folder / WEIGHTS}: not a safetensors file; nothing else is loaded. ({fault})"
            ) from fault
        return {
            name: value.astype(np.float32) if value.dtype == np.float16 else value for name, value in stored.items()
        }

    def graph(self) -> bytes | None:
        """Return the classifier as a graph, where the bundle holds one; raise BrokenBundle where it is another."""
        return None if self.card.graph_sha256 is None else self._verified(GRAPH, self.card.graph_sha256)

    def keep_graph(self, graph: bytes) -> None:
        """Write the classifier as a graph into the bundle, and its hash into the card on disk."""
        _write(self.folder / GRAPH, graph)
        _write_card(self.folder, self.card.model_copy(update={"graph_sha256": hashlib.sha256(graph).hexdigest()}))

    def reference(self) -> Reference | None:
        """Return how this bundle's images and answers were distributed when it was made, if that lies in it.

        Raises BrokenBundle when the file says something else.
        """
        if not (self.folder / REFERENCE).exists():
            return None
        try:
            return Reference.model_validate_json(_read(self.folder, REFERENCE))
        except ValidationError as fault:
            raise BrokenBundle(f"{self.folder / REFERENCE}: not the reference of a bundle. {reasons(fault)}") from fault

    def keep_reference(self, reference: Reference) -> None:
        """Write the reference into the bundle, in the place of an earlier one; `reference` reads it back."""
        _write(self.folder / REFERENCE, (reference.model_dump_json() + "\n").encode())

    def _verified(self, name: str, sha256: str) -> bytes:
        data = _read(self.folder, name)
        digest = hashlib.sha256(data).hexdigest()
        if digest != sha256:
            raise BrokenBundle(
                f"{self.folder / name}: SHA-256 is {digest[:12]}..., and the card says {sha256[:12]}... "
                f"The file was changed or damaged; install the bundle again."
            )
        return data


def places() -> tuple[Path, ...]:
    """Return the folders that are searched for bundles by name, first match wins.

    The folders in $MICRO_BUNDLES, the user's own (~/.local/share/micro/bundles), and those that came with `micro`.
    """
    named = [Path(entry) for entry in os.environ.get("MICRO_BUNDLES", "").split(os.pathsep) if entry]
    package = Path(__file__).resolve().parent
    shipped = package / "weights"
    if not shipped.is_dir():
        shipped = package.parent / "weights"
    return (*named, Path.home() / ".local/share/micro/bundles", shipped)


def installed() -> dict[str, Path]:
    """Return name -> folder of every installed bundle, sorted by name."""
    found: dict[str, Path] = {}
    for place in places():
        if place.is_dir():
            for folder in sorted(place.iterdir()):
                # a hidden folder is what an installation that was killed left behind
                if not folder.name.startswith(".") and (folder / CARD).is_file():
                    found.setdefault(folder.name, folder)
    return dict(sorted(found.items()))


def load(model: str | Path) -> Bundle:
    """Read the card of an installed bundle by name, or of any bundle by its folder.

    Raises UnknownBundle when there is none, and BrokenBundle when its card is not one.
    """
    folder = installed().get(str(model)) or Path(model)
    if not (folder / CARD).is_file():
        raise UnknownBundle(
            f"No bundle {str(model)!r}: it is no folder with a {CARD}, and none of that name is in "
            f"{', '.join(str(place) for place in places())}. Installed: {', '.join(installed()) or 'none'}."
        )
    try:
        card = Card.model_validate_json(_read(folder, CARD))
    except ValidationError as fault:
        raise BrokenBundle(f"{folder / CARD}: not the card of a bundle. {reasons(fault)}") from fault
    if card.segmenter is None and card.classifier is None:
        raise BrokenBundle(f"{folder / CARD}: the card names neither a segmenter nor a classifier.")
    return Bundle(folder, card)


def gated(folder: Path, gate: Bundle, search: Bundle, *, command: str, ok_classes: Sequence[str] = ()) -> Bundle:
    """Write a bundle that names a frame by one bundle's classifier, and searches it by another's segmenter.

    A frame whose class may ship is not searched. ok_classes: those; the first class of the segmenter if none is named.
    Raises BadSetting where the two do not fit together, a bundle lies in folder, or its name can be none of a bundle.
    """
    if (folder / CARD).exists():
        raise BadSetting(f"{folder}: a bundle lies here. Take another --out.")
    first, second = gate.card, search.card
    for card, kind in ((first, "classifier"), (second, "segmenter")):
        if getattr(card, kind) is None:
            raise BadSetting(f"{card.name} has no {kind}.")
    for what in ("task", "channels", "pixel_size_um"):
        if getattr(first, what) != getattr(second, what):
            raise BadSetting(
                f"{first.name} and {second.name} differ in {what}: {getattr(first, what)} and {getattr(second, what)}."
            )
    assert first.classifier is not None
    assert second.segmenter is not None
    may_ship = tuple(ok_classes) or second.segmenter.outputs[:1]
    if strange := [name for name in may_ship if name not in first.classifier.outputs]:
        raise BadSetting(
            f"{first.name} names no frame {', '.join(strange)}, so it would let none pass. Its classes: "
            f"{', '.join(first.classifier.outputs)}."
        )
    card = second.model_copy(
        update={
            "name": folder.resolve().name,
            "version": "1.0.0",
            "summary": f"{second.summary} Only in frames that are not {' or '.join(may_ship)}: {first.summary}",
            "classifier": first.classifier,
            "temperature": first.temperature,
            "graph_sha256": None,
            "settings": {**first.settings, **second.settings, "ok_classes": ",".join(may_ship)},
            "licence": "; ".join(dict.fromkeys((first.licence, second.licence))),
            "data": first.data + second.data,
            "scores": tuple(
                row.model_copy(update={"on": f"{part.name}: {row.on}"})
                for part in (first, second)
                for row in part.scores
            ),
            "limits": first.limits + second.limits,
            "command": command,
        }
    )
    try:
        card = Card.model_validate(card.model_dump())
    except ValidationError as fault:
        raise BadSetting(f"{folder}: no bundle can be made there. {reasons(fault)}") from fault
    graph = gate.graph()
    parts = {kind: made.weights() for kind, made in (("classifier", gate), ("segmenter", search))}
    weights = {
        name: value for kind, each in parts.items() for name, value in each.items() if name.startswith(f"{kind}.")
    }
    both = save(folder, card, weights)
    if graph is not None:
        both.keep_graph(graph)
    return load(folder)


def save(folder: Path, card: Card, weights: Mapping[str, NDArray[np.generic]]) -> Bundle:
    """Write card and weights into folder, floats in half precision, and return the bundle; `load` reads it back.

    The card's weights_sha256 is set here.
    """
    folder.mkdir(parents=True, exist_ok=True)
    half = {
        name: np.ascontiguousarray(value.astype(np.float16) if value.dtype == np.float32 else value)
        for name, value in weights.items()
    }
    data = save_safetensors(half)
    card = card.model_copy(update={"weights_sha256": hashlib.sha256(data).hexdigest()})
    _write(folder / WEIGHTS, data)
    _write_card(folder, card)
    return Bundle(folder, card)


def _read(folder: Path, name: str) -> bytes:
    path = folder / name
    if not path.is_file() or path.is_symlink():
        raise BrokenBundle(f"{path}: missing, or a link; a bundle's files lie in its own folder.")
    if path.stat().st_size > MAX_WEIGHTS_BYTES:
        raise BrokenBundle(f"{path}: {path.stat().st_size} bytes is more than any bundle holds.")
    return path.read_bytes()


def _write_card(folder: Path, card: Card) -> None:
    _write(folder / CARD, (json.dumps(card.model_dump(), indent=2, ensure_ascii=False) + "\n").encode())


def _write(path: Path, data: bytes) -> None:
    with replacing(path) as part:
        part.write_bytes(data)
