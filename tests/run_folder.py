"""Run folders whose ledgers tests fill, and what a browser would make of their pages."""

import hashlib
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from micro.line import schema

HOSTILE = (
    'a"><script>document.title="owned"</script>.png',
    "b'><img src=x onerror=document.title='owned'>.png",
    "c</title><svg onload=document.title='owned'>.png",
    "d\n<iframe srcdoc='<script>parent.document.title=1</script>'>.png",
    "e \u202egnp.exe.png",
    "f javascript:document.title='owned'.png",
    "g&lt;script&gt;{{ 7*7 }}%3Cscript%3E.png",
    "h" * 251 + ".png",
)
RECORD: dict[str, Any] = {
    "state": "finished",
    "recipe": {"model": "toy", "pixel_size_um": None, "review_below": 0.8, "settings": {"ok_classes": "<b>fine</b>"}},
    "bundle": {"name": "toy", "version": "1.0.0", "weights_sha256": "0" * 64},
    "fingerprint": "f" * 64,
    "versions": {"micro": "0.1.0", "numpy": "2.0"},
    "device": "cpu",
    "started": "2026-03-01T12:00:00+00:00",
    "ended": "2026-03-01T12:00:50+00:00",
    "seconds": 50.0,
    "counts": {"images": 100, "done": 90, "unchanged": 15, "quarantined": 10, "ng": 1},
}


START = {
    "fingerprint": "f" * 64,
    "recipe": RECORD["recipe"],
    "model": "toy",
    "model_version": "1.0.0",
    "weights_sha256": "0" * 64,
    "micro_version": "0.1.0",
}


class Read(HTMLParser):
    """What a browser makes of a page: elements with their attributes, and texts."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("wbr", "b", "i", "a", "bdi", "code"):
            self.texts.append(" ")

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.texts).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


class Run:
    """A run's folder with a ledger that a test fills."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.images = folder.parent / "images"
        for place in (folder, self.images):
            place.mkdir(parents=True)
        self.rows: list[dict[str, Any]] = []
        self.regions: list[dict[str, Any]] = []
        self.started: dict[str, Any] | None = None

    def add(self, name: str, verdict: str | None = "OK", pixels: NDArray[np.uint8] | None = None, **facts: Any) -> None:
        """Note an image, and draw it."""
        file = self.images / f"{len(self.rows)}.png"
        assert cv2.imwrite(str(file), np.full((8, 12), len(self.rows) % 256, np.uint8) if pixels is None else pixels)
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        row = {"name": name, "address": str(file), "state": "done", "attempt": 1, "sha256": digest, "verdict": verdict}
        self.rows.append(row | facts)

    def store(self, **record: Any) -> None:
        """Write the record and the ledger."""
        (self.folder / "run.json").write_text(json.dumps(RECORD | record), encoding="utf-8")
        engine = schema.connect(self.folder, writes=True)
        with engine.begin() as connection:
            schema.create(connection)
            if self.started is not None:
                place = {
                    "host": "h",
                    "place": "p",
                    "pid": 1,
                    "out": "o",
                    "started": RECORD["started"],
                    "alive_until": 0,
                }
                connection.execute(schema.runs.insert().values(**place, **START | self.started))
            for row in self.rows:
                connection.execute(schema.images.insert().values(**row))
            for region in self.regions:
                connection.execute(schema.regions.insert().values(**region))
        engine.dispose()
        self.rows, self.regions = [], []
