"""What a line reaches, ledger and all: python -m tests.benchmarks.line [--frames 2000] [--images 100000] [--json FILE].

An idle machine is assumed. Rates that are compared are measured in turn in one process, so that a busy moment meets all
of them; the ratio in processor seconds bears less noise than that in seconds.
"""

import argparse
import csv
import os
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean, median, quantiles

import cv2
import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.progress import track

from micro import bundle, networks, tasks
from micro.engine import Engine
from micro.line.arrivals import Listed, Watched
from micro.line.run import Place, run_steps
from micro.line.sources import Search, find
from micro.line.station import Manners
from micro.line.watcher import Event, RunSummary, Stored
from micro.recipe import Recipe
from micro.regions import Progress
from tests.benchmarks.engine import Figure, keep, table
from tests.benchmarks.small_files import BATCH, on_all_cores

MODEL = "sheet-steel"
EDGE_PX = 128
ROUNDS = 5
SETTLE_S = 0.2


@dataclass(frozen=True)
class Scale:
    """How large the benchmark is: frames for rates, frames for the watched folder, images for memory."""

    frames: int = 2000
    watched: int = 60
    images: int = 100_000


QUICK = Scale(frames=64, watched=3, images=2000)


@dataclass(frozen=True)
class Rate:
    """Images a second, and a second of processor time."""

    wall: float
    processor: float


def draw(folder: Path, count: int) -> list[Path]:
    """Write grey frames, PNG and JPEG in turn; beyond a thousand they are links to the first thousand's bytes."""
    folder.mkdir(parents=True)
    chance = np.random.default_rng(1)
    paths: list[Path] = []
    for number in range(count):
        path = folder / f"{number:06}.{'png' if number % 2 else 'jpg'}"
        if number < 1000:
            marks = chance.normal(0, 40, (4, 4)).repeat(EDGE_PX // 4, 0).repeat(EDGE_PX // 4, 1)
            frame = chance.normal(130, 25, (EDGE_PX, EDGE_PX)) + marks
            assert cv2.imwrite(str(path), frame.clip(0, 255).astype(np.uint8))
        else:
            path.hardlink_to(paths[number % 1000])
        paths.append(path)
    return paths


def rate(count: int, work: Callable[[], object]) -> Rate:
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return Rate(count / (time.perf_counter() - wall), count / (time.process_time() - processor))


def drained(steps: Generator[Progress, None, RunSummary]) -> RunSummary:
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            summary: RunSummary = stop.value
            return summary


def decode(paths: Sequence[Path]) -> None:
    for path in paths:
        assert cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) is not None


def line(engine: Engine, folder: Path, out: Path) -> None:
    summary = drained(run_steps(Listed(find([str(folder)])), engine, engine.recipe, Place(out)))
    assert summary.done == summary.images


def as_trained(loaded: bundle.Bundle) -> torch.nn.Module:
    """Return the classifier of a bundle as training left it."""
    spec = loaded.card.classifier
    assert spec is not None
    network = networks.build(spec).eval()
    network.load_state_dict(
        {name.partition(".")[2]: torch.from_numpy(value) for name, value in loaded.weights().items()}
    )
    return network


def network(scale: Scale, _place: Path) -> Iterator[Figure]:
    """Yield how much sooner the engine's network answers than the one that was trained, each on one core."""
    loaded = bundle.load(MODEL)
    plain, loaded_network = as_trained(loaded), Engine(loaded, device="cpu")._namer
    assert loaded_network is not None
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for batch in (1, BATCH):
            frames = torch.rand(batch, 1, EDGE_PX, EDGE_PX)
            ratios = []
            with torch.inference_mode():
                other = float((plain(frames).softmax(1) - loaded_network(frames).softmax(1)).abs().max())
                for _ in range(max(3, scale.frames // 100)):
                    seconds = []
                    for each in (plain, loaded_network):
                        began = time.process_time()
                        each(frames)
                        seconds.append(time.process_time() - began)
                    ratios.append(seconds[0] / seconds[1])
            yield Figure(f"network / as it was trained, batch {batch}, speed", median(ratios), bar=2, at_most=False)
            yield Figure("    largest difference of a probability", other, bar=1e-5)
    finally:
        torch.set_num_threads(threads)


def loop(paths: Sequence[Path], out: Path) -> None:
    """What one writes by hand: open, scale, forward through the network as it was trained, write a row."""
    loaded = bundle.load(MODEL)
    spec = loaded.card.classifier
    assert spec is not None
    network = as_trained(loaded)
    scaling_of = tasks.find(loaded.card.task).scaling
    with out.open("w", newline="") as file, torch.inference_mode():
        rows = csv.writer(file)
        for path in paths:
            pixels = np.asarray(Image.open(path).convert("L"))[..., np.newaxis]
            scaling = scaling_of(pixels)
            frame = (pixels.transpose(2, 0, 1) - scaling.center) / scaling.spread
            scores = network(torch.from_numpy(frame)[None]).softmax(1)[0].tolist()
            rows.writerow([path.name, spec.outputs[int(np.argmax(scores))], *scores])
            file.flush()


def throughput(scale: Scale, place: Path) -> Iterator[Figure]:
    """Yield what the line reaches of what decoding and the bare network allow, and of what a loop by hand reaches."""
    paths = draw(place / "frames", scale.frames)
    engine = Engine(bundle.load(MODEL), Recipe(model=MODEL), "cpu")
    answering = engine._namer
    assert answering is not None
    batch = torch.rand(BATCH, 1, EDGE_PX, EDGE_PX)

    def forward(_: object) -> None:
        with torch.inference_mode():
            answering(batch)

    lots = [paths[start : start + 64] for start in range(0, scale.frames, 64)]
    by_hand = paths[: max(scale.frames // 8, 8)]
    rounds: list[dict[str, Rate]] = []
    for number in range(ROUNDS + 1):
        works: dict[str, tuple[int, Callable[[], object]]] = {
            "decode": (scale.frames, lambda: on_all_cores(decode, lots)),
            "network": (scale.frames // BATCH * BATCH, lambda: on_all_cores(forward, range(scale.frames // BATCH))),
            "line": (scale.frames, partial(line, engine, place / "frames", place / f"out{number}")),
            "loop": (len(by_hand), partial(loop, by_hand, place / "loop.csv")),
        }
        rounds.append({name: rate(count, work) for name, (count, work) in works.items()})

    def share(found: dict[str, float]) -> float:
        return found["line"] * (1 / found["decode"] + 1 / found["network"])

    def beside(found: dict[str, float]) -> float:
        return 1 / found["line"] - 1 / found["decode"] - 1 / found["network"]

    walls = [{name: one.wall for name, one in found.items()} for found in rounds[1:]]
    processors = [{name: one.processor for name, one in found.items()} for found in rounds[1:]]
    yield Figure("line / what these cores allow", median(map(share, walls)), bar=0.85, at_most=False)
    yield Figure("    the same in processor seconds", median(map(share, processors)))
    yield Figure("    a core beside these two, a frame", 1e6 * median(map(beside, processors)), "us")
    yield Figure("line / a loop by hand", median(one["line"] / one["loop"] for one in walls), bar=6, at_most=False)
    for name in ("line", "decode", "network", "loop"):
        yield Figure(f"    {name}", median(one[name] for one in walls), "images/s")


def watching(scale: Scale, place: Path) -> Iterator[Figure]:
    """Yield how long it takes from the moment a file has settled until its verdict lies in the ledger."""
    folder, drawn = place / "camera", draw(place / "drawn", scale.watched + 1)
    folder.mkdir()
    engine = Engine(bundle.load(MODEL), Recipe(model=MODEL), "cpu")
    seconds: list[float] = []
    heard = threading.Event()

    def listen(event: Event) -> None:
        if isinstance(event, Stored):
            written_at = (folder / event.found.image).stat().st_mtime
            seconds.append(time.time() - written_at - SETTLE_S)
            heard.set()

    stop = threading.Event()

    def work() -> None:
        steps = run_steps(coming, engine, engine.recipe, Place(place / "out"), Manners(), watchers=[listen], stop=stop)
        with suppress(KeyboardInterrupt):
            drained(steps)

    with closing(Watched(Search([str(folder)]), SETTLE_S)) as coming:
        running = threading.Thread(target=work)
        running.start()
        for path in drawn:
            time.sleep(0.3)
            heard.clear()
            (folder / path.name).write_bytes(path.read_bytes())
            heard.wait(60)
        stop.set()
        running.join()
    later = sorted(seconds[1:])  # the first one warms the network up
    yield Figure("settled to stored, p95", 1e3 * (quantiles(later, n=20)[-1]), "ms", bar=150)
    yield Figure("    median", 1e3 * median(later), "ms")


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def memory(scale: Scale, place: Path) -> Iterator[Figure]:
    """Yield how memory and speed at the end of a long run compare with those at its beginning."""
    draw(place / "many", scale.images)
    engine = Engine(bundle.load(MODEL), Recipe(model=MODEL), "cpu")
    part = scale.images // 10
    steps = run_steps(Listed(find([str(place / "many")])), engine, engine.recipe, Place(place / "out"))
    # after each hundredth of the images
    marks = [
        (resident_mb(), time.perf_counter(), time.process_time())
        for step in steps
        if step.done % (scale.images // 100) == 0
    ]
    at_first, at_last = marks[9][0], mean(mark[0] for mark in marks[-10:])
    speeds = [part / (marks[last][kind] - marks[last - 10][kind]) for kind in (1, 2) for last in (19, 99)]
    yield Figure(f"memory of the last {part} / at {part} images", at_last / at_first, bar=1.05)
    yield Figure(f"    at {part}", at_first, "MB")
    yield Figure(f"speed of the last {part} / of the second {part}", speeds[1] / speeds[0], bar=0.9, at_most=False)
    yield Figure("    the same in processor seconds", speeds[3] / speeds[2])
    yield Figure("    speed of the last", speeds[1], "images/s")


PARTS = {part.__name__: part for part in (throughput, network, watching, memory)}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.line", description=__doc__)
    parser.add_argument("--frames", type=int, default=Scale.frames, help="frames for the rates")
    parser.add_argument("--images", type=int, default=Scale.images, help="images for memory")
    parser.add_argument("--only", choices=PARTS, help="one part")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that it runs, measures nothing")
    asked = parser.parse_args()
    scale = QUICK if asked.quick else Scale(frames=asked.frames, images=asked.images)
    console = Console()
    figures: list[Figure] = []
    parts = [PARTS[asked.only]] if asked.only else [*PARTS.values()]
    for part in track(parts, "measuring", console=console, transient=True):
        with tempfile.TemporaryDirectory() as place:
            figures += part(scale, Path(place))
    console.print(table(figures))
    if asked.json:
        keep(figures, asked.json)


if __name__ == "__main__":
    main()
