"""Speed and memory of the engine beside its rivals: python -m tests.benchmarks.engine [--size 8192] [--json FILE].

Every contestant runs alone in a fresh process, one after the other, so that none inherits another's memory.
An idle machine is assumed; figures that are ratios of interleaved work bear some noise, the others do not.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

FREE_SIZE_PX = 8192


@dataclass(frozen=True)
class Figure:
    """One measured figure and its bar; at_most is False where larger is better, bar None where there is none."""

    what: str
    value: float
    unit: str = ""
    bar: float | None = None
    at_most: bool = True

    @property
    def holds(self) -> bool | None:
        if self.bar is None:
            return None
        return self.value <= self.bar if self.at_most else self.value >= self.bar


@dataclass(frozen=True)
class Scale:
    """How large the benchmark is."""

    size_px: int = 8192
    free_size_px: int = FREE_SIZE_PX
    tile_px: int = 1536  # as the engine's own, which is not imported here: it brings torch
    files: int = 2000
    starts: int = 5


QUICK = Scale(size_px=320, free_size_px=640, tile_px=256, files=32, starts=1)


def contest(name: str, size_px: int, tile_px: int, *flags: str) -> dict[str, Any]:
    return alone("tests.benchmarks.contestants", name, "--size", str(size_px), "--tile", str(tile_px), *flags)


def alone(module: str, *arguments: str) -> dict[str, Any]:
    ended = subprocess.run([sys.executable, "-m", module, *arguments], check=True, capture_output=True, text=True)
    answer: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return answer


def tiled(scale: Scale) -> Iterator[Figure]:
    """Yield what the way through the network costs, ours and others'."""
    micro, monai, loop = (contest(name, scale.size_px, scale.tile_px) for name in ("micro", "monai", "loop"))
    area_px = scale.size_px**2
    yield Figure("(a) tiled / bare network", micro["seconds"] / micro["bare_seconds"], bar=1.10)
    yield Figure("    network pixels a pixel", micro["network_px"] / area_px, bar=1.35)
    yield Figure("(b) seconds / MONAI's", micro["seconds"] / monai["seconds"], bar=0.70)
    yield Figure("    seconds / a Python loop's", micro["seconds"] / loop["seconds"])
    for run in (micro, monai, loop):
        yield Figure(f"    {run['name']}: time", run["seconds"], "s")
        yield Figure(f"    {run['name']}: network pixels a pixel", run["network_px"] / area_px)
        yield Figure(f"(c) {run['name']}: memory beside image and answer", run["beside_mb"], "MB")


def free(scale: Scale) -> Iterator[Figure]:
    """Yield what is left when the network returns its input at no cost."""
    for name, bars in (("micro", (10, 150)), ("monai", (None, None)), ("loop", (None, None))):
        run = contest(name, scale.free_size_px, scale.tile_px, "--free")
        milliseconds = (run["seconds"] - run["network_seconds"]) * 1e3 / (run["network_px"] / 1e6)
        yield Figure(f"    {run['name']}, free network: tiling a Mpx forwarded", milliseconds, "ms", bar=bars[0])
        yield Figure(f"(c) {run['name']}, free network: memory beside", run["beside_mb"], "MB", bar=bars[1])


def loading(scale: Scale) -> Iterator[Figure]:
    """Yield what is won by loading a network as a bundle's."""
    rounds = [
        [contest(name, scale.tile_px, scale.tile_px)["seconds"] for name in ("plain", "loaded")] for _ in range(2)
    ]
    plain, loaded = (min(column) for column in zip(*rounds, strict=True))
    yield Figure("    loaded network / plain eager network, speed", plain / loaded, bar=1.8, at_most=False)
    yield Figure("    loaded network", scale.tile_px**2 / 1e6 / loaded, "Mpx/s")


def small_files(scale: Scale) -> Iterator[Figure]:
    rates = alone("tests.benchmarks.small_files", "--count", str(scale.files))
    yield Figure("(d) stream / what these cores allow", rates["stream"] / rates["allowed"], bar=0.85, at_most=False)
    for name in ("stream", "decode", "network", "allowed"):
        yield Figure(f"    {name}", rates[name], "images/s")


def starting(scale: Scale) -> Iterator[Figure]:
    """Yield how long a user waits before anything happens."""
    help_text = (
        "import sys; sys.argv = ['micro', '--help']; from micro.cli import main\ntry: main()\nexcept SystemExit: pass\n"
    )
    yield Figure("(e) micro --help", fastest(help_text, scale.starts), "s", bar=0.6)
    loads_torch = help_text + "sys.exit('torch' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", loads_torch], capture_output=True, check=False)
    yield Figure("    micro --help loads torch (1: yes)", ended.returncode, bar=0)
    yield Figure("    import micro", fastest("import micro", scale.starts), "s")
    yield Figure("    import micro.engine", fastest("import micro.engine", scale.starts), "s")


def fastest(program: str, starts: int) -> float:
    seconds = []
    for _ in range(starts + 1):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def table(figures: list[Figure]) -> Table:
    rows = Table("", "measured", "bar", "")
    for column in (1, 2):
        rows.columns[column].justify = "right"
    for figure in figures:
        bar = "" if figure.bar is None else f"{'<=' if figure.at_most else '>='} {figure.bar:g}"
        mark = {None: "", True: "[green]holds[/]", False: "[red]missed[/]"}[figure.holds]
        rows.add_row(figure.what, f"{figure.value:.3g} {figure.unit}".strip(), bar, mark)
    return rows


def keep(figures: list[Figure], path: Path) -> None:
    facts = {
        figure.what.strip(): {"value": figure.value, "unit": figure.unit, "holds": figure.holds} for figure in figures
    }
    path.write_text(json.dumps(facts, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.engine", description=__doc__)
    parser.add_argument("--size", type=int, default=Scale.size_px, help="edge of the image in px")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that it runs, measures nothing")
    asked = parser.parse_args()
    scale = QUICK if asked.quick else Scale(size_px=asked.size)
    console = Console()
    figures: list[Figure] = []
    parts = (starting, small_files, loading, free, tiled)
    for part in track(parts, "measuring", console=console, transient=True):
        figures += part(scale)
    console.print(table(figures))
    if asked.json:
        keep(figures, asked.json)


if __name__ == "__main__":
    main()
