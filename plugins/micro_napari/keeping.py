"""What outlives the window: corrections that were not saved yet, and the pixel size of each objective."""

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from micro import formats
from micro_napari.finding import Finding

LABELS, FACTS, OBJECTIVES = "labels.tif", "facts.json", "objectives.json"
MOST_KEPT, MOST_OF_ONE = 100, 10


@dataclass(frozen=True)
class Correction:
    """The file of labels as the user left them, the classes of the numbers, and when that was."""

    path: Path
    classes: dict[int, str]
    saved: datetime

    def labels(self) -> NDArray[np.int32]:
        """Read the labels (Y, X); raise UnreadableImage where the machine went down while they were written."""
        return formats.read_labels(self.path)


def home() -> Path:
    """Return the user's own folder for what is kept."""
    return Path.home() / ".local/share/micro"


def save(finding: Finding, labels: NDArray[np.int32]) -> Path:
    """Keep corrected labels in a folder of this finding's own, and return it; those of earlier runs stay.

    Of one image and weights the newest MOST_OF_ONE are kept, of all together the newest MOST_KEPT.
    """
    saved = datetime.now(UTC)
    if finding.kept is None:
        finding.kept = _place() / f"{_key(finding)}-{saved:%Y%m%dT%H%M%S%f}"
    folder = finding.kept
    folder.mkdir(parents=True, exist_ok=True)
    formats.write_labels(folder / LABELS, labels, finding.prediction.pixel_size_um)
    facts = {
        "image": finding.image.name,
        "model": finding.prediction.maker.model,
        "saved": saved.isoformat(),
        "classes": finding.classes,
    }
    (folder / FACTS).write_text(json.dumps(facts, ensure_ascii=False), encoding="utf-8")
    _forget_oldest(folder.parent.glob(f"{_key(finding)}*"), MOST_OF_ONE)
    _forget_oldest(folder.parent.iterdir(), MOST_KEPT)
    return folder


def load(finding: Finding) -> list[Correction]:
    """Return what was kept of this image and these weights, by this run and earlier ones, the newest first."""
    found = []
    for folder in _place().glob(f"{_key(finding)}*"):
        try:
            facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
            classes = {int(number): str(name) for number, name in facts["classes"].items()}
            found.append(Correction(folder / LABELS, classes, datetime.fromisoformat(facts["saved"])))
        except (OSError, ValueError, KeyError, AttributeError):
            continue  # the machine went down while it was kept
    return sorted(found, key=lambda each: each.saved, reverse=True)


def forget(finding: Finding) -> None:
    """Drop what this finding kept; what earlier runs kept stays."""
    if finding.kept is not None:
        shutil.rmtree(finding.kept, ignore_errors=True)
        finding.kept = None


def objectives() -> dict[str, float]:
    """Return the pixel size in um that was last used with each objective."""
    try:
        known = json.loads((home() / OBJECTIVES).read_text(encoding="utf-8"))
        return {str(name): float(um) for name, um in known.items()}
    except (OSError, ValueError, AttributeError):
        return {}


def remember_objective(name: str, um: float) -> None:
    """Keep the pixel size of an objective for the next image."""
    home().mkdir(parents=True, exist_ok=True)
    known = objectives() | {name: um}
    (home() / OBJECTIVES).write_text(json.dumps(known, indent=2, ensure_ascii=False), encoding="utf-8")


def _place() -> Path:
    return home() / "corrections"


def _key(finding: Finding) -> str:
    return f"{finding.field}-{finding.prediction.maker.weights_sha256[:8]}"


def _forget_oldest(folders: Iterable[Path], most: int) -> None:
    kept = sorted((each for each in folders if each.is_dir()), key=lambda each: each.stat().st_mtime)
    for each in kept[:-most]:
        shutil.rmtree(each, ignore_errors=True)
