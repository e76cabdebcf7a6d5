"""Ways to put a large image through a network, each run alone in a process: python -m tests.benchmarks.contestants.

Each gets the same uint8 image and the same weights, and returns the same: maps (K, Y, X) uint8 of the whole image.
All but `plain` use the network as `micro` loads it, so that what differs is the way through it.
"""

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from micro import networks
from micro.card import NetworkSpec
from micro.engine import Engine
from micro.networks.allocator import keep_pages
from micro.networks.fast import accelerate
from micro.tasks import phases
from micro.tiles import Tiling, tiles
from tests.small_bundles import make_bundle

SPEC = NetworkSpec(
    kind="unet",
    encoder_name="resnet18",
    in_channels=1,
    outputs=("inside", "depth"),
    decoder_channels=(64, 48, 32, 16),
    halo_px=64,
)
FREE_SPEC = SPEC.model_copy(update={"outputs": ("inside",)})
WINDOW_PX = 512  # of those that blend windows; larger ones were slower for them
OVERLAP = 0.25


@dataclass
class Run:
    """What a contestant needed.

    seconds: for the whole image. network_seconds: of these, inside the network.
    bare_seconds: the same number of tiles through the same network with nothing around it; None if not measured.
    network_px: pixels that went through the network.
    beside_mb: peak of resident memory, less what was there before (the image) and the answer.
    """

    name: str
    size_px: int
    seconds: float
    network_seconds: float
    bare_seconds: float | None
    network_px: int
    beside_mb: float


class Counted(nn.Module):
    """A network that knows how long and how much it worked."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.seconds = 0.0
        self.pixels = 0

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        began = time.perf_counter()
        answer = self.inner(windows)
        self.seconds += time.perf_counter() - began
        self.pixels += windows.shape[0] * windows.shape[2] * windows.shape[3]
        return answer


def drawn(size_px: int) -> np.ndarray:
    """Bright and dark patches with noise: (Y, X, 1) uint8."""
    chance = np.random.default_rng(1)
    patches = chance.integers(40, 200, (size_px // 32, size_px // 32), dtype=np.uint8).repeat(32, 0).repeat(32, 1)
    patches += chance.integers(0, 50, patches.shape, dtype=np.uint8)
    return patches[..., np.newaxis]


def unet(spec: NetworkSpec) -> nn.Module:
    torch.manual_seed(3)
    return networks.build(spec).eval()


def micro(image: np.ndarray, tile_px: int, free: bool) -> Run:
    """Engine.maps; after each of its tiles one goes through the bare network, so that both meet the same weather."""
    with tempfile.TemporaryDirectory() as folder:
        spec = FREE_SPEC if free else SPEC
        engine = Engine(make_bundle(Path(folder) / "benchmark", spec), device="cpu", tile_px=tile_px)
    network = nn.Identity() if free else engine._segmenter
    assert network is not None
    engine._segmenter = counted = Counted(network)
    tile = tiles(image.shape[:2], Tiling(tile_px, spec.halo_px, spec.stride_px))[0].read
    window = torch.rand(1, 1, tile[0].stop, tile[1].stop)
    warm_up(network)
    scaling = phases.scaling(image[::16, ::16])
    bare_seconds = 0.0

    def work() -> np.ndarray:
        nonlocal bare_seconds
        steps = engine.maps([image], [scaling])
        while True:
            try:
                next(steps)
            except StopIteration as stop:
                return stop.value[0]
            if not free:
                began = time.perf_counter()
                with torch.inference_mode():
                    network(window)
                bare_seconds += time.perf_counter() - began

    run = measured("micro", image, counted, work)
    run.seconds -= bare_seconds
    run.bare_seconds = None if free else bare_seconds
    return run


def monai(image: np.ndarray, tile_px: int, free: bool) -> Run:
    """sliding_window_inference with its gaussian blending; its float maps become uint8 at the end."""
    from monai.inferers import sliding_window_inference

    counted = rival(free)
    scaling = phases.scaling(image[::16, ::16])

    def work() -> np.ndarray:
        whole = torch.from_numpy(image).permute(2, 0, 1)[None].float()
        whole = whole.sub_(torch.from_numpy(scaling.center)).div_(torch.from_numpy(scaling.spread))
        logits = sliding_window_inference(whole, window_of(image), 1, counted, overlap=OVERLAP, mode="gaussian")
        return bytes_of(logits[0])

    with torch.inference_mode():
        return measured("MONAI", image, counted, work)


def loop(image: np.ndarray, tile_px: int, free: bool) -> Run:
    """What one writes by hand: cut, forward, add with gaussian weights, divide."""
    counted = rival(free)
    scaling = phases.scaling(image[::16, ::16])
    edge = window_of(image)[0]
    bell = np.exp(-0.5 * ((np.arange(edge) - (edge - 1) / 2) / (edge / 8)) ** 2)
    weight = np.maximum(np.outer(bell, bell), 1e-3).astype(np.float32)

    def work() -> np.ndarray:
        height, width = image.shape[:2]
        total = np.zeros(((1 if free else len(SPEC.outputs)), height, width), np.float32)
        seen = np.zeros((height, width), np.float32)
        for y in starts(height, edge):
            for x in starts(width, edge):
                place = slice(y, y + edge), slice(x, x + edge)
                window = ((image[place].transpose(2, 0, 1) - scaling.center) / scaling.spread)[None]
                logits = counted(torch.from_numpy(window))[0].numpy()
                total[(slice(None), *place)] += logits * weight
                seen[place] += weight
        total /= seen
        return bytes_of(torch.from_numpy(total))

    with torch.inference_mode():
        return measured("Python loop", image, counted, work)


def plain(image: np.ndarray, tile_px: int, free: bool) -> Run:
    """The network as it was trained, eager and NCHW, with the C library's own allocator: tiles only."""
    return bare("plain network", image, tile_px, unet(SPEC))


def loaded(image: np.ndarray, tile_px: int, free: bool) -> Run:
    """The network as a bundle's loading leaves it: tiles only."""
    keep_pages()
    return bare("loaded network", image, tile_px, accelerate(unet(SPEC)))


def bare(name: str, image: np.ndarray, tile_px: int, network: nn.Module) -> Run:
    """Time the best of a few tiles."""
    counted = Counted(network)
    pixels = torch.from_numpy(image[:tile_px, :tile_px]).permute(2, 0, 1)[None].float() / 255
    best = float("inf")

    def work() -> np.ndarray:
        nonlocal best
        for _ in range(4):
            began = time.perf_counter()
            logits = counted(pixels)
            best = min(best, time.perf_counter() - began)
        return bytes_of(logits[0])

    with torch.inference_mode():
        run = measured(name, image, counted, work)
    run.seconds, run.network_px = best, pixels.shape[2] * pixels.shape[3]
    return run


def rival(free: bool) -> Counted:
    keep_pages()
    network = nn.Identity() if free else accelerate(unet(SPEC))
    warm_up(network)
    return Counted(network)


def warm_up(network: nn.Module) -> None:
    with torch.inference_mode():
        network(torch.zeros(1, 1, 64, 64))


def window_of(image: np.ndarray) -> tuple[int, int]:
    edge = min(WINDOW_PX, image.shape[0] // 2)
    return edge, edge


def starts(length: int, edge: int) -> list[int]:
    step = int(edge * (1 - OVERLAP))
    return [*range(0, length - edge, step), length - edge]


def bytes_of(logits: torch.Tensor) -> np.ndarray:
    return logits.sigmoid_().mul_(255).round_().to(torch.uint8).numpy()


def measured(name: str, image: np.ndarray, counted: Counted, work: Callable[[], np.ndarray]) -> Run:
    forget_peak()
    before = peak_mb()
    began = time.perf_counter()
    answer = work()
    seconds = time.perf_counter() - began
    beside_mb = peak_mb() - before - answer.nbytes / 2**20
    return Run(name, image.shape[0], seconds, counted.seconds, None, counted.pixels, beside_mb)


def forget_peak() -> None:
    """Let `peak_mb` start from what is resident now; Linux only, elsewhere loading counts as well."""
    place = Path("/proc/self/clear_refs")
    if place.exists():
        place.write_text("5")


def peak_mb() -> float:
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) / 2**10


CONTESTANTS = {work.__name__: work for work in (micro, monai, loop, plain, loaded)}

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=CONTESTANTS)
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--tile", type=int, required=True)
    parser.add_argument("--free", action="store_true")
    asked = parser.parse_args()
    run = CONTESTANTS[asked.name](drawn(asked.size), asked.tile, asked.free)
    print(json.dumps(asdict(run)))
