"""How little an image resembles normal ones, and where: patches far from all that a memory of normal patches holds.

What a bundle's network computes from each patch of normal images is remembered, thinned to patches that lie far apart
(PatchCore: K. Roth et al., CVPR 2022; greedy k-centre: O. Sener, S. Savarese, ICLR 2018). A new patch is as strange as
its distance to the nearest remembered one. No defect is needed, and none of the bundle's answers is used.
"""

import json
from collections.abc import Generator, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor, nn

from micro import networks, tasks
from micro.bundle import Bundle
from micro.engine import pick_device, with_channels
from micro.errors import BadSetting
from micro.micrograph import Micrograph
from micro.regions import Progress
from micro.tiles import resize

# Grids of the network that are remembered, by the pixels that a cell stands for; patches lie on the finer one.
CELLS_PX = (8, 16)
LONGEST_PX = 640
# Patches that are kept before thinning, those left by it, and the dimensions in which it measures.
MOST_PATCHES, MEMORY, PROJECTED = 30_000, 3_000, 64
FEWEST_IMAGES = 10
# One normal image in so many is no part of the memory, and says how strange a normal image may be.
APART = 5
SMOOTH_CELLS = 1.0
Features = NDArray[np.float32]


class Strangeness(NamedTuple):
    """How far one image is from normal.

    score: largest smoothed distance, over that of the strangest normal image kept apart; above 1 it resembles nothing
        that was shown. heat: (Y, X) float32, the same for each pixel.
    """

    image: str
    score: float
    heat: NDArray[np.float32]


class Encoder:
    """The inner layers of a bundle's network."""

    def __init__(self, bundle: Bundle, device: str = "auto") -> None:
        kind = "segmenter" if bundle.card.segmenter is not None else "classifier"
        self.card = bundle.card
        self._task = tasks.find(bundle.card.task)
        self._device = pick_device(device)
        network = networks.trained(bundle.card, kind, bundle.weights()).eval().requires_grad_(False)
        self._network = (network.get_submodule("encoder") if kind == "segmenter" else network).to(self._device)

    def features(self, image: Micrograph) -> Features:
        """Return what is computed from each patch of an image: (y, x, C); an image longer than 640 px is shrunk."""
        pixels, _ = with_channels(image.pixels, self.card.channels)
        factor = min(1.0, LONGEST_PX / max(pixels.shape[:2]))
        edge = CELLS_PX[-1]
        height, width = (max(4, round(length * factor / edge)) * edge for length in pixels.shape[:2])
        pixels = resize(pixels, (height, width))
        window = self._task.scaling(pixels).window((height, width), slice(0, height), slice(0, width))
        scaled = (pixels.astype(np.float32).transpose(2, 0, 1) - window[0]) / window[1]
        seen = self._overheard(torch.from_numpy(np.ascontiguousarray(scaled))[None].to(self._device))
        if missing := [cell for cell in CELLS_PX if (height // cell, width // cell) not in seen]:
            raise BadSetting(f"{self.card.name}: its network has no grid of {missing[0]} px, which patches need.")
        grids = [F.avg_pool2d(seen[height // cell, width // cell], 3, 1, 1) for cell in CELLS_PX]
        coarse = F.interpolate(grids[1], grids[0].shape[2:], mode="bilinear")
        found: Features = torch.cat((grids[0], coarse), 1)[0].permute(1, 2, 0).float().cpu().numpy()
        return found

    def _overheard(self, scaled: Tensor) -> dict[tuple[int, int], Tensor]:
        """Return the last map (1, C, y, x) of each size that the network computes."""
        seen: dict[tuple[int, int], Tensor] = {}

        def keep(_module: nn.Module, _given: object, answer: object) -> None:
            if isinstance(answer, Tensor) and answer.ndim == 4:
                seen[answer.shape[2], answer.shape[3]] = answer.clone()

        hooks = [module.register_forward_hook(keep) for module in self._network.modules()]
        try:
            with torch.inference_mode():
                self._network(scaled)
        finally:
            for hook in hooks:
                hook.remove()
        return seen


@dataclass(frozen=True, eq=False)
class Memory:
    """Patches of normal images, read-only.

    patches: (N, C). limit: largest smoothed distance in normal images that are no part of it.
    model, weights_sha256: the bundle whose network saw them. images: how many there were.
    """

    patches: Features
    limit: float
    model: str
    weights_sha256: str
    images: int

    def distances(self, features: Features) -> NDArray[np.float32]:
        """Return how far each patch (y, x, C) is from the nearest remembered one, smoothed: (y, x)."""
        flat = torch.from_numpy(features.reshape(-1, features.shape[2]))
        nearest = torch.cdist(flat, torch.from_numpy(self.patches)).amin(dim=1).numpy()
        return np.asarray(cv2.GaussianBlur(nearest.reshape(features.shape[:2]), (0, 0), SMOOTH_CELLS), np.float32)

    def look(self, encoder: Encoder, image: Micrograph) -> Strangeness:
        """Return how strange an image is to the memory; raise BadSetting where another network made it."""
        if encoder.card.weights_sha256 != self.weights_sha256:
            raise BadSetting(
                f"This memory was made with other weights than those of {encoder.card.name}: {self.model}."
            )
        heat = self.distances(encoder.features(image)) / self.limit
        shape_px = (image.width_px, image.height_px)
        full = np.asarray(cv2.resize(heat, shape_px, interpolation=cv2.INTER_LINEAR), np.float32)
        return Strangeness(image.name, float(heat.max()), full)

    def save(self, path: Path) -> None:
        """Write it as safetensors; `load` reads it back."""
        facts = {"limit": self.limit, "model": self.model, "weights_sha256": self.weights_sha256, "images": self.images}
        save_file({"patches": self.patches.astype(np.float16)}, path, {"memory": json.dumps(facts)})

    @classmethod
    def load(cls, path: Path) -> "Memory":
        """Read a memory; raise BadSetting where the file is none."""
        try:
            with safe_open(path, "np") as file:
                facts = json.loads(file.metadata()["memory"])
                return cls(file.get_tensor("patches").astype(np.float32), **facts)
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as fault:
            raise BadSetting(
                f"{path}: no memory of normal images, as `micro anomaly learn` writes it. {fault}"
            ) from fault


def learn_steps(encoder: Encoder, images: Iterable[Micrograph | None], total: int) -> Generator[Progress, None, Memory]:
    """Look at normal images, yielding after each, and return the memory of them; it takes no more room for more.

    Every fifth part of the list is kept apart for the limit, as a whole: neighbours in a series are nearly equal.

    images: taken one after the other; None for one that could not be read, which keeps its place in the list.
    total: how many places the list has.

    Raises BadSetting for fewer than ten images, and where the last fifth of the list has none or all before it.
    """
    if total < FEWEST_IMAGES:
        raise _too_few(total)
    first_apart = total - total // APART
    inside: list[Features] = []
    draft: Memory | None = None
    looked, limit = 0, 0.0
    for number, image in enumerate(images):
        if image is not None:
            features = encoder.features(image)
            looked += 1
            if number < first_apart:
                inside.append(some(features, MOST_PATCHES * APART // (total * (APART - 1)) + 1, seed=number))
            else:
                draft = draft or _draft(encoder, inside)
                limit = max(limit, float(draft.distances(features).max()))
        yield Progress(number + 1, total, "left out" if image is None else image.name)
    if looked < FEWEST_IMAGES:
        raise _too_few(looked)
    if draft is None:
        raise BadSetting(
            f"None of the last {total // APART} of {total} images could be read, and they say how strange a normal "
            f"image may be. Leave out those that cannot be read."
        )
    return replace(draft, limit=limit, images=looked)


def _too_few(count: int) -> BadSetting:
    return BadSetting(f"{count} normal images; at least {FEWEST_IMAGES} are needed.")


def _draft(encoder: Encoder, inside: list[Features]) -> Memory:
    """Return the memory of patches (n, C) of many images, its limit still to be found; the list is emptied."""
    if not inside:
        raise BadSetting("Only images of the last fifth could be read, and what is remembered comes from those before.")
    patches = np.concatenate(inside)
    inside.clear()
    # the limit is that of the patches as a file keeps them, or the image that sets it would be strange to the file
    kept = thinned(patches).astype(np.float16).astype(np.float32)
    return Memory(kept, 1.0, encoder.card.name, encoder.card.weights_sha256, 0)


def some(features: Features, count: int, seed: int) -> Features:
    """Return so many random patches (n, C) of an image's features (y, x, C), or all."""
    flat = features.reshape(-1, features.shape[2])
    chosen = np.random.default_rng(seed).permutation(len(flat))[:count]
    return flat[chosen]


def thinned(patches: Features, count: int = MEMORY) -> Features:
    """Return at most so many of the patches (N, C), each the farthest from those chosen before it.

    Distances are taken in a random projection (W. B. Johnson, J. Lindenstrauss, Contemp. Math. 26 (1984) 189).
    """
    if len(patches) <= count:
        return patches
    random = np.random.default_rng(0)
    axes = random.normal(size=(patches.shape[1], PROJECTED)).astype(np.float32)
    points = torch.from_numpy(patches @ axes)
    squares = points.square().sum(dim=1)
    nearest = torch.full((len(points),), torch.inf)
    chosen = [int(random.integers(len(points)))]
    while len(chosen) < count:
        last = chosen[-1]
        nearest = torch.minimum(nearest, squares - 2 * (points @ points[last]) + squares[last])
        chosen.append(int(nearest.argmax()))
    return patches[chosen]
