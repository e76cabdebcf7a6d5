"""The record of a run, `run.json`: what was asked, who answered, how far it came."""

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from micro.errors import MicroError
from micro.formats.storage import replacing
from micro.line import RECORD_NAME
from micro.line.identity import Identity
from micro.line.watcher import RunSummary
from micro.tasks import TaskSettings

LIBRARIES = (
    *("torch", "torchvision", "segmentation-models-pytorch", "numpy", "scipy", "scikit-image"),
    *("opencv-python-headless", "tifffile", "imagecodecs"),
)


class Record:
    """The record in a run's folder; a run that was killed leaves the state "running" there.

    settings: what the task goes by, of which the recipe names only what differs from the bundle.
    """

    def __init__(self, out: Path, identity: Identity, settings: TaskSettings, device: str, store: str) -> None:
        self._out = out
        by = settings.model_dump(mode="json")
        self._facts = {**_asked(identity), "settings": by, "device": device, "store": store}
        self._started = datetime.now(UTC)

    def write(self, state: str, summary: RunSummary, drift: Mapping[str, Any] | None) -> None:
        """Write how far the run is; raise OSError where that cannot be written.

        drift: what the alarm found; None where the bundle has no reference.
        """
        counts = asdict(summary)
        del counts["failures"]
        times = {
            "started": self._started.isoformat(timespec="seconds"),
            "ended": None if state == "running" else datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(counts.pop("seconds"), 3),
        }
        facts = {"state": state, **self._facts, **times, "counts": counts}
        if drift is not None:
            facts["drift"] = drift
        with replacing(self._out / RECORD_NAME) as draft:
            draft.write_text(json.dumps(facts, indent=2, ensure_ascii=False), encoding="utf-8")


def read(folder: Path) -> dict[str, Any]:
    """Return the record in a run's folder; raise MicroError where there is none."""
    try:
        facts: dict[str, Any] = json.loads((folder / RECORD_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise MicroError(f"{folder}: holds no record of a run ({fault}). Name the --out of `micro predict`.") from fault
    if not isinstance(facts, dict) or not {"state", "recipe", "counts"}.issubset(facts):
        raise MicroError(f"{folder / RECORD_NAME}: is not the record of a run. Name the --out of `micro predict`.")
    return facts


def settings_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the task of a run went by, where its record says that, else what its recipe names.

    What is no number or word, as the profile of a microscope, is left out.
    """
    settings: dict[str, Any] = record.get("settings", record["recipe"]["settings"])
    return {name: value for name, value in settings.items() if isinstance(value, str | int | float)}


def undone(folder: Path) -> int:
    """Return how many of its images a run left without a result: none where it came to its end.

    Raises MicroError where the folder holds no record of a run, or the run goes on or was killed: its tables lag.
    """
    facts = read(folder)
    if facts["state"] == "running":
        raise MicroError(
            f"{folder}: the run goes on, or was killed, and its tables lack what it found. End it, or let the same "
            f"command come to its end, first."
        )
    counts = facts["counts"]
    return int(counts["images"] - counts["done"] - counts["quarantined"])


def undone_named(folder: Path) -> dict[str, str]:
    """Return what `undone` counts as what is left out, and why; nothing where nothing is."""
    count = undone(folder)
    return (
        {f"{count} image{'s' * (count > 1)}": "no result yet. The same command goes on with the run"} if count else {}
    )


def _asked(identity: Identity) -> dict[str, Any]:
    """Return what was asked and who answers."""
    return {
        "recipe": identity.recipe.model_dump(mode="json"),
        "files_sha256": dict(identity.files),
        "bundle": {
            "name": identity.maker.model,
            "version": identity.maker.model_version,
            "weights_sha256": identity.maker.weights_sha256,
        },
        "fingerprint": identity.fingerprint,
        "versions": {"micro": identity.micro_version, "python": platform.python_version(), **_library_versions()},
    }


def _library_versions() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # OpenCV comes under several names
            continue
    return found
