"""What a run did, one line of JSON an event, in a file that never grows beyond its share of the disk."""

import json
import logging
from dataclasses import asdict
from datetime import UTC, datetime
from errno import ENOSPC
from pathlib import Path
from typing import Any

from micro.errors import MicroError
from micro.line.watcher import Drift, Ended, Event, Paused, Receipt, Resumed, SetAside, Started, Stored
from micro.regions import Maker

log = logging.getLogger(__name__)

# About 150,000 images a file.
FILE_BYTES = 2**26
OLD_FILES = 8
SECONDS_DIGITS = 6


class Journal:
    """A watcher that writes a line an image, and one whenever a run starts, pauses, goes on, drifts or ends.

    A full file is renamed to FILE.1, that to FILE.2, and the ninth goes. One run writes into one file: two would rename
    it under each other. A disk that fills up costs lines of the journal, and no image.
    """

    def __init__(self, path: Path, file_bytes: int = FILE_BYTES) -> None:
        self._path = path
        self._file_bytes = file_bytes
        self._maker: Maker | None = None
        self._lost = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._append(b"")
        except OSError as fault:
            raise MicroError(
                f"{path}: the journal cannot be written there ({fault.strerror}). Give another --log."
            ) from fault

    def __call__(self, event: Event) -> None:
        """Write what happened."""
        match event:
            case Started():
                self._maker = event.identity.maker
                facts = {"out": str(event.out), "store": event.store, "device": event.device, "images": event.images}
                versions = {"fingerprint": event.identity.fingerprint, "micro_version": event.identity.micro_version}
                self._write("started", facts | asdict(event.identity.maker) | versions)
            case Stored(found, receipt):
                answer = {
                    "verdict": found.verdict,
                    "class": found.class_name,
                    "score": None if found.class_name is None else found.class_scores[found.class_name],
                    "n_regions": None if found.regions is None else len(found.regions),
                }
                self._image(found.image, receipt, {"state": "done", **answer}, found.maker)
            case SetAside(name, reason, receipt):
                self._image(name, receipt, {"state": "quarantined", "error": reason}, self._maker)
            case Paused(reason):
                self._write("paused", {"reason": reason})
            case Resumed(seconds):
                self._write("resumed", {"seconds": round(seconds, SECONDS_DIGITS)})
            case Drift(shifts, has_changed) if has_changed:
                drifted = [asdict(shift) for shift in shifts if shift.is_drift]
                self._write("drift" if drifted else "drift over", {"statistics": drifted})
            case Ended(state, summary):
                self._write("ended", {"state": state, **asdict(summary)})

    def _image(self, name: str, receipt: Receipt, answer: dict[str, Any], maker: Maker | None) -> None:
        seconds = {
            stage: round(getattr(receipt, f"{stage}_seconds"), SECONDS_DIGITS)
            for stage in ("read", "judge", "store", "latency")
        }
        made_by = {} if maker is None else asdict(maker)
        self._write("image", {"image": name, "sha256": receipt.sha256, **answer, "seconds": seconds, **made_by})

    def _write(self, event: str, facts: dict[str, Any]) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        # ASCII, and one line whatever the name of an image holds
        line = json.dumps({"time": now, "event": event, **facts}) + "\n"
        try:
            self._append(line.encode("ascii"))
        except OSError as fault:
            if not self._lost:
                log.warning("%s: the journal loses lines (%s)", self._path, fault.strerror)
            self._lost += 1
            return
        if self._lost:
            log.warning("%s: the journal is written again; %d lines are lost", self._path, self._lost)
        self._lost = 0

    def _append(self, line: bytes) -> None:
        """Write a line whole or not at all; the file is opened each time, since somebody may move it away."""
        with self._path.open("ab", buffering=0) as file:
            before = file.tell()
            if before + len(line) <= self._file_bytes or not before:
                if file.write(line) < len(line):
                    file.truncate(before)
                    raise OSError(ENOSPC, "the disk is full")
                return
        self._rotate()
        self._append(line)

    def _rotate(self) -> None:
        files = [self._path, *(self._path.with_name(f"{self._path.name}.{age}") for age in range(1, OLD_FILES + 1))]
        for younger, older in zip(reversed(files[:-1]), reversed(files[1:]), strict=True):
            if younger.exists():
                younger.replace(older)
