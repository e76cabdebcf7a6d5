"""Many small files: what Engine.stream reaches, and what reading and the bare network together allow on these cores."""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median

import cv2
import numpy as np
import torch

from micro import formats
from micro.card import NetworkSpec
from micro.engine import Engine, Item
from micro.engine.engine import FRAMES
from tests.small_bundles import make_bundle

SPEC = NetworkSpec(
    kind="classifier",
    encoder_name="mobilenet_v3_small",
    in_channels=1,
    outputs=("clean", "crack", "scratch"),
    input_px=224,
)
BATCH = FRAMES  # the bare network is given what the stream gives it
ROUNDS = 3


@dataclass
class Rates:
    """Images a second, each the median of interleaved rounds."""

    files: int
    decode: float
    network: float
    stream: float

    @property
    def allowed(self) -> float:
        return 1 / (1 / self.decode + 1 / self.network)


def draw(folder: Path, count: int) -> list[Path]:
    """Write grey JPEG files of the size that the network was trained on, as training chooses it from its frames."""
    chance = np.random.default_rng(1)
    edge = SPEC.input_px
    assert edge is not None
    paths = []
    for number in range(count):
        frame = chance.normal(130, 25, (edge, edge)) + chance.normal(0, 40, (7, 7)).repeat(32, 0).repeat(32, 1)
        paths.append(folder / f"{number:05}.jpg")
        cv2.imwrite(str(paths[-1]), frame.clip(0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 75])
    return paths


def rate(count: int, work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return count / (time.perf_counter() - began)


def on_all_cores(work: Callable[..., object], pieces: Iterable[object]) -> None:
    with ThreadPoolExecutor(cores(), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        list(pool.map(work, pieces))


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def decode(paths: list[Path]) -> None:
    for path in paths:
        assert cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) is not None


def compare(count: int) -> Rates:
    with tempfile.TemporaryDirectory() as place:
        paths = draw(Path(place), count)
        engine = Engine(make_bundle(Path(place) / "benchmark", SPEC, task="defects"), device="cpu")
        network = engine._namer  # what answers frames
        assert network is not None
        batch = torch.rand(BATCH, 1, SPEC.input_px, SPEC.input_px)

        def forward(_: object) -> None:
            with torch.inference_mode():
                network(batch)

        rounds = []
        for _ in range(ROUNDS + 1):
            lots = [paths[start : start + 64] for start in range(0, count, 64)]
            items = [Item(path.name, partial(formats.read, path)) for path in paths]
            rounds.append(
                (
                    rate(count, lambda lots=lots: on_all_cores(decode, lots)),
                    rate(count // BATCH * BATCH, lambda: on_all_cores(forward, range(count // BATCH))),
                    rate(count, lambda items=items: list(engine.stream(items))),
                )
            )
    return Rates(count, *(median(column) for column in zip(*rounds[1:], strict=True)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, required=True)
    rates = compare(parser.parse_args().count)
    print(json.dumps(asdict(rates) | {"allowed": rates.allowed}))
