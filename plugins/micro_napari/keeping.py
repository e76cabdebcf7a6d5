"""What outlives the window: corrections that were not saved yet, and the pixel size of each objective."""

import json
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from micro import formats
from micro.errors import UnreadableImage
from micro_napari.finding import Finding
from micro_napari.layers import fingerprint

LABELS, FACTS, OBJECTIVES = "labels.tif", "facts.json", "objectives.json"
MOST_KEPT = 100


@dataclass(frozen=True, eq=False)
class Correction:
    """Labels (Y, X) as the user left them, the classes of the numbers, and when that was."""

    labels: NDArray[np.int32]
    classes: dict[int, str]
    saved: datetime


def home() -> Path:
    """Return the user's own folder for what is kept."""
    return Path.home() / ".local/share/micro"


def save(finding: Finding, labels: NDArray[np.int32]) -> Path:
    """Keep corrected labels until the image is segmented by the same weights again; return their folder."""
    folder = _folder(finding)
    folder.mkdir(parents=True, exist_ok=True)
    formats.write_labels(folder / LABELS, labels, finding.prediction.pixel_size_um)
    facts = {
        "image": finding.image.name,
        "model": finding.prediction.maker.model,
        "saved": datetime.now(UTC).isoformat(timespec="seconds"),
        "classes": finding.classes,
    }
    (folder / FACTS).write_text(json.dumps(facts, ensure_ascii=False), encoding="utf-8")
    _forget_oldest(folder.parent)
    return folder


def load(finding: Finding) -> Correction | None:
    """Return what was kept of this image and these weights, if anything."""
    folder = _folder(finding)
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        labels = formats.read_labels(folder / LABELS)
        classes = {int(number): str(name) for number, name in facts["classes"].items()}
        saved = datetime.fromisoformat(facts["saved"])
    except (OSError, ValueError, KeyError, AttributeError, UnreadableImage):
        return None  # nothing was kept, or the machine went down while it was
    found = finding.prediction.regions
    if found is None or labels.shape != found.labels.shape:
        return None
    return Correction(labels, classes, saved)


def forget(finding: Finding) -> None:
    """Drop what was kept of this image and these weights."""
    shutil.rmtree(_folder(finding), ignore_errors=True)


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


def _folder(finding: Finding) -> Path:
    return home() / "corrections" / f"{fingerprint(finding.image)}-{finding.prediction.maker.weights_sha256[:8]}"


def _forget_oldest(folder: Path) -> None:
    kept = sorted((each for each in folder.iterdir() if each.is_dir()), key=lambda each: each.stat().st_mtime)
    for each in kept[:-MOST_KEPT]:
        shutil.rmtree(each, ignore_errors=True)
