"""Draw scenes into a folder that `micro train` reads: `python -m micro.scenes grains OUT --count 100 --seed 0`.

Grains are drawn in all their variety, each seed another kind of section; `--etch contrast` draws that kind alone.
"""

import argparse
import importlib
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from micro.scenes.grains import ETCHES
from micro.scenes.scene import Scene
from micro.scenes.strips import FRAME_MM, FRAME_PX, PIXEL_SIZE_UM, coil

KINDS = ("flakes", "grains", "phases", "spindles", "strips", "edges", "coil")
# Options that belong to one kind.
ONLY = {"etch": "grains", "grain_px": "grains", "lobed": "grains", "period_mm": "coil"}
PERIOD_MM = 1570.0


def main(arguments: list[str] | None = None) -> None:
    """Draw `--count` scenes of one kind, with the seeds from `--seed` on."""
    parser = argparse.ArgumentParser(prog="python -m micro.scenes", description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size-px", type=int, help="edge length; each kind has its own default")
    parser.add_argument(
        "--etch",
        choices=("any", "iron", *ETCHES),
        help="how grains are shown: each seed another way (any, the usual), grooves at the boundaries as in pure iron, "
        "grooves in any metal (boundaries), brightness (contrast), colour or its grey (tint), or a scanned electron "
        "beam (channeling)",
    )
    parser.add_argument("--grain-px", type=float, help="mean diameter of drawn grains; each seed another unless given")
    parser.add_argument("--lobed", type=float, help="largest share of drawn grains that are not convex; not in iron")
    parser.add_argument("--period-mm", type=float, help=f"of the roll mark on a coil; {PERIOD_MM:g} unless given")
    asked = parser.parse_args(arguments)
    for option, kind in ONLY.items():
        if getattr(asked, option) is not None and asked.kind != kind:
            parser.error(f"--{option.replace('_', '-')} says how {kind} are drawn, not {asked.kind}")
    if asked.kind == "coil" and asked.size_px is not None:
        parser.error(f"--size-px: the frames of a coil have {FRAME_PX} px a side")
    if asked.count < 1 or asked.seed < 0:
        parser.error("--count is 1 or more, and --seed 0 or more")
    try:
        _draw(asked)
    except ValueError as fault:
        parser.error(str(fault))
    except OSError as fault:
        parser.error(f"{asked.out}: cannot be written there ({fault.strerror})")


def _draw(asked: argparse.Namespace) -> None:
    if asked.kind == "coil":
        period_mm = PERIOD_MM if asked.period_mm is None else asked.period_mm
        save_coil(asked.out, asked.count, asked.seed, period_mm)
        return
    module, function = ("strips", "edge") if asked.kind == "edges" else (asked.kind, "draw")
    draw = getattr(importlib.import_module(f"micro.scenes.{module}"), function)
    size = {} if asked.size_px is None else {"height_px": asked.size_px, "width_px": asked.size_px}
    grains = {"etch": asked.etch or "any", "grain_px": asked.grain_px, "lobed": asked.lobed or 0.0}
    how = grains if asked.kind == "grains" else {}
    for seed in range(asked.seed, asked.seed + asked.count):
        save(draw(seed, **size, **how), asked.out)


def save(scene: Scene, out: Path) -> None:
    """Write a scene as out/images/NAME.png and out/masks/NAME.png, or as out/CLASS/NAME.png if it has a class.

    Masks are uint16 and hold the number of each region, or of each pixel's class where out/classes.yaml names these.
    Where grains may be twinned, out/twins/NAME.png is bright in the twins.
    """
    name = f"{scene.image.name}.png"
    folder = "images" if scene.class_name is None else scene.class_name
    _write(out / folder / name, np.asarray(scene.image.pixels)[..., ::-1])
    if scene.class_name is None:
        mask = scene.class_map() if scene.classes else scene.labels
        _write(out / "masks" / name, mask.astype(np.uint16))
    if scene.twins is not None:
        _write(out / "twins" / name, scene.twins.astype(np.uint8) * 255)
    if scene.classes:
        lines = [f"{value}: {class_name}\n" for value, class_name in enumerate(scene.classes)]
        (out / "classes.yaml").write_text("".join(lines), encoding="utf-8")


def save_coil(out: Path, count: int, seed: int, period_mm: float) -> None:
    """Write the frames of a coil as out/frames/NUMBER.png, their classes as out/truth.csv, and out/layout.yaml.

    Raises ValueError where frames of a longer coil lie there, which would count as its end.
    """
    left = {path.name for path in (out / "frames").glob("*.png")} - {f"{number:06}.png" for number in range(count)}
    if left:
        raise ValueError(f"{out / 'frames'} holds other frames, such as {min(left)}: name a folder without them")
    lines = ["image,class\n"]
    for scene in coil(seed, count, period_mm=period_mm):
        name = f"{scene.image.name}.png"
        _write(out / "frames" / name, np.asarray(scene.image.pixels))
        lines.append(f"{name},{scene.class_name}\n")
    (out / "truth.csv").write_text("".join(lines), encoding="utf-8")
    mm_per_px = PIXEL_SIZE_UM / 1000
    camera = f"{{name: top, mm_per_px_along: {mm_per_px}, mm_per_px_across: {mm_per_px}}}"
    layout = f"width_mm: {FRAME_MM}\nframe_step_mm: {FRAME_MM}\ncameras:\n  - {camera}\n"
    (out / "layout.yaml").write_text(layout, encoding="utf-8")


def _write(path: Path, pixels: NDArray[np.generic]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    encoded = cv2.imencode(".png", np.ascontiguousarray(pixels))[1]  # imwrite cannot write non-ASCII paths everywhere
    path.write_bytes(encoded.tobytes())


if __name__ == "__main__":
    main()
