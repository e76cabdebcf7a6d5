"""What is unlike normal spindles, learned from clean frames alone: python -m tests.benchmarks.anomaly BSDATA --out OUT.

Clean frames of some positions are remembered; all frames of the others are looked at, in three folds of positions
(those of `tests.benchmarks.pitting`). Two ways: the memory of patches that `micro anomaly` makes, and a small network
that learns to draw clean frames anew and is surprised where it cannot (an autoencoder). Frames after the camera was
moved, the last twelve of each position, neither train nor count; what they come to is printed apart.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from micro import bundle, formats
from micro.anomaly import MOST_PATCHES, Encoder, Memory, some, thinned
from micro.micrograph import Micrograph
from micro.score import interval
from tests.benchmarks.pitting import FOLDS, Frame, auroc, folds, frames, known, positions

MOVED = "_crop_1"
SHAPE_PX = (128, 320)
STEPS, BATCH, CROP_PX = 400, 8, 96
Scores = dict[str, dict[str, float]]
"""Way -> image -> score."""


def normal_frames(of: dict[str, list[Frame]], fold_of: dict[str, int], fold: int) -> list[Frame]:
    """Return the clean frames of the positions that are not of a fold."""
    return [
        frame
        for name, series in of.items()
        for frame in series
        if fold_of[name] != fold and frame.annotation is None and MOVED not in frame.image.name
    ]


def by_patches(encoder: Encoder, normal: Sequence[Frame], others: Sequence[Frame]) -> dict[str, float]:
    """Return the largest smoothed distance of each of the others to what is remembered of normal frames."""
    many = MOST_PATCHES // len(normal) + 1
    patches = [some(encoder.features(formats.read(each.image)), many, seed=i) for i, each in enumerate(normal)]
    memory = Memory(thinned(np.concatenate(patches)), 1.0, encoder.card.name, "", len(normal))
    found = {}
    for each in others:
        found[each.image.name] = float(memory.distances(encoder.features(formats.read(each.image))).max())
    return found


class Autoencoder(nn.Sequential):
    """Grey crops (N, 1, y, x) drawn anew through a grid of cells of 16 px with 16 numbers each."""

    def __init__(self) -> None:
        widths = (1, 16, 32, 64, 16)
        down = [part for a, b in pairwise(widths) for part in (nn.Conv2d(a, b, 4, 2, 1), nn.ReLU())]
        up = [part for a, b in pairwise(widths[::-1]) for part in (nn.ConvTranspose2d(a, b, 4, 2, 1), nn.ReLU())]
        super().__init__(*down[:-1], *up[:-1])


def by_drawing(normal: Sequence[Frame], others: Sequence[Frame]) -> dict[str, float]:
    """Return the largest smoothed difference of each of the others to how the network draws it."""
    torch.manual_seed(0)
    network, random = Autoencoder(), np.random.default_rng(0)
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3)
    pictures = [small(formats.read(each.image)) for each in normal]
    for step in range(STEPS):
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * 0.5 * (1 + np.cos(np.pi * step / STEPS))
        crops = torch.from_numpy(np.stack(list(some_crops(pictures, random))))
        loss = (network(crops) - crops).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    network.eval()
    found = {}
    with torch.inference_mode():
        for each in others:
            picture = small(formats.read(each.image))
            drawn = network(torch.from_numpy(picture)[None, None])[0, 0].numpy()
            found[each.image.name] = float(cv2.GaussianBlur(np.abs(drawn - picture), (0, 0), 2).max())
    return found


def small(image: Micrograph) -> NDArray[np.float32]:
    """Return a grey frame (y, x) of one size, with mean 0 and standard deviation 1."""
    grey = cv2.resize(np.asarray(image.pixels), SHAPE_PX[::-1], interpolation=cv2.INTER_AREA).astype(np.float32)
    grey = grey.reshape(*SHAPE_PX, -1).mean(axis=2)
    return np.asarray((grey - grey.mean()) / grey.std(), np.float32)


def some_crops(pictures: Sequence[NDArray[np.float32]], random: np.random.Generator) -> Iterator[NDArray[np.float32]]:
    for _ in range(BATCH):
        picture = pictures[random.integers(len(pictures))]
        top, left = (int(random.integers(edge - CROP_PX + 1)) for edge in picture.shape)
        yield picture[None, top : top + CROP_PX, left : left + CROP_PX]


def some_frames(bsdata: Path, every: int) -> dict[str, list[Frame]]:
    """Return position -> its frames of which it is known what they show, one in so many."""
    found = positions(frames(bsdata))
    return {name: known(series)[::every] for name, series in found.items() if series[0].is_series}


def look(of: dict[str, list[Frame]], model: str, out: Path) -> Scores:
    """Return what both ways say of the frames of each fold; what an earlier call found is read."""
    fold_of, encoder = folds(sorted(of)), Encoder(bundle.load(model), "cpu")
    scores: Scores = {"patches": {}, "drawing": {}}
    for way in scores:
        for fold in range(FOLDS):
            normal = normal_frames(of, fold_of, fold)
            others = [frame for name, series in of.items() if fold_of[name] == fold for frame in series]
            path = out / f"{way}-{fold}.json"
            if not path.is_file():
                found = by_drawing(normal, others) if way == "drawing" else by_patches(encoder, normal, others)
                path.write_text(json.dumps(found), encoding="utf-8")
                print(f"{way}, fold {fold}: {len(normal)} normal frames", flush=True)
            scores[way] |= json.loads(path.read_text(encoding="utf-8"))
    return scores


def report(of: dict[str, list[Frame]], scores: Scores) -> None:
    """Print the image AUROC of both ways, over all positions, and what the moved camera comes to."""
    names = sorted(of)
    for way, found in scores.items():
        kinds: dict[str, dict[str, list[float]]] = {kind: {} for kind in ("clean", "pitted", "moved, sound", "moved")}
        for name, series in of.items():
            for frame in series:
                kind = "clean" if frame.annotation is None else "pitted"
                if MOVED in frame.image.name:
                    kind = "moved, sound" if frame.annotation is None else "moved"
                kinds[kind].setdefault(name, []).append(found[frame.image.name])

        def area(drawn: Sequence[int], kinds: dict[str, dict[str, list[float]]] = kinds) -> float:
            parts = [[s for i in drawn for s in kinds[kind].get(names[i], [])] for kind in ("clean", "pitted")]
            return auroc(*parts) if all(parts) else 1.0

        within = [auroc(kinds["clean"][n], kinds["pitted"][n]) for n in names if n in kinds["pitted"]]
        clean = [score for each in kinds["clean"].values() for score in each]
        print(f"{way}: image AUROC {interval.bootstrap(area, len(names))}; within one position {np.mean(within):.3f}")
        for kind in ("moved, sound", "moved"):
            moved = [score for each in kinds[kind].values() for score in each]
            print(f"  camera moved, {'no pits' if 'sound' in kind else 'pitted'}: AUROC {auroc(clean, moved):.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bsdata", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="sheet-steel")
    parser.add_argument("--every", type=int, default=3, help="one frame in so many, as neighbours are nearly the same")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    of = some_frames(asked.bsdata, asked.every)
    report(of, look(of, asked.model, asked.out))


if __name__ == "__main__":
    main()
