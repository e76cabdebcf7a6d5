"""Which images to annotate next: those that a bundle doubts and that resemble none of the others.

The bundle answers each image four times, as it is and mirrored. Doubt is how little these answers settle: for regions
how far they contradict each other, which an edge that is uncertain by nature does not, and for frames how unsure their
mean is. Novelty is how far the image lies, in what the network computes from it, from everything that is annotated or
chosen already (greedy k-centre: O. Sener, S. Savarese, ICLR 2018). The next image is the one with the largest product,
so that no weight has to be set; the same folder and bundle give the same list.
"""

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from micro.engine import Engine
from micro.micrograph import Micrograph
from micro.regions import Progress

Features = NDArray[np.float64]
MIRRORS = ((1, 1), (1, -1), (-1, 1), (-1, -1))


@dataclass(frozen=True)
class Suggestion:
    """An image that could be annotated.

    doubt: 0 where all answers agree, at most 1 bit.
    novelty: distance to the nearest image that is annotated or stands further up, in standard deviations of the folder;
        None for the first one where nothing is annotated.
    """

    image: str
    doubt: float
    novelty: float | None


@dataclass(frozen=True, eq=False)
class Look:
    """What a bundle makes of one image; features: (C,)."""

    image: str
    doubt: float
    features: Features


def rank_steps(
    engine: Engine, images: Iterable[Micrograph], known: Iterable[Micrograph], total: int
) -> Generator[Progress, None, list[Suggestion]]:
    """Look at images, yielding after each, and return them in the order in which they should be annotated.

    known: images that are annotated already. total: how many there are of both, for whoever watches.
    """
    there, looks = [], []
    for image in known:
        there.append(_features(engine, image)[1])
        yield Progress(len(there), total, f"annotated: {image.name}")
    for image in images:
        looks.append(look(engine, image))
        yield Progress(len(there) + len(looks), total, image.name)
    return ranked(looks, there)


def look(engine: Engine, image: Micrograph) -> Look:
    """Return how much a bundle doubts its answer to an image, and what it computes from it."""
    first, features = _features(engine, image)
    answers = [first]
    for down, right in MIRRORS[1:]:
        pixels = np.ascontiguousarray(image.pixels[::down, ::right])
        answers.append(engine.chances(replace(image, pixels=pixels))[:, ::down, ::right])
    return Look(image.name, doubt(answers), features)


def doubt(answers: Sequence[NDArray[np.uint8]]) -> float:
    """Return how little answers (K, Y, X) to one image settle, in bits an output and pixel, 0 to 1.

    Where there are pixels: the entropy of their mean less their mean entropy (Jensen-Shannon divergence; J. Lin, IEEE
    Trans. Inf. Theory 37 (1991) 145). Where there is one answer a frame: the entropy of their mean.
    """
    sums = np.asarray(np.sum(answers, axis=0, dtype=np.uint16))
    unsure = _mean_entropy_bits(sums, 255 * len(answers))
    if sums.shape[1:] == (1, 1):
        return unsure
    return max(0.0, unsure - float(np.mean([_mean_entropy_bits(each, 255) for each in answers])))


def ranked(looks: Sequence[Look], known: Sequence[Features]) -> list[Suggestion]:
    """Return images in the order in which they should be annotated, each the farthest from those before it."""
    if not looks:
        return []
    everything = np.stack([*known, *(each.features for each in looks)])
    spread = everything.std(axis=0)
    scaled = everything / np.where(spread > 0, spread, 1)
    there, mine = scaled[: len(known)], scaled[len(known) :]
    doubts = np.array([each.doubt for each in looks])
    nearest = np.full(len(looks), np.inf)
    for features in there:
        nearest = np.minimum(nearest, _distance(mine, features))
    order: list[Suggestion] = []
    left = np.ones(len(looks), bool)
    while left.any():
        novelty = np.where(np.isinf(nearest), 1.0, nearest)
        chosen = int(np.argmax(np.where(left, doubts * novelty, -1)))
        far = None if np.isinf(nearest[chosen]) else float(nearest[chosen])
        order.append(Suggestion(looks[chosen].image, float(doubts[chosen]), far))
        left[chosen] = False
        nearest = np.minimum(nearest, _distance(mine, mine[chosen]))
    return order


def _distance(mine: Features, features: Features) -> Features:
    """Return the distance of each row to one, per feature: the root of the mean square."""
    return np.asarray(np.sqrt(((mine - features) ** 2).mean(axis=1)))


def _mean_entropy_bits(values: NDArray[np.unsignedinteger], most: int) -> float:
    """Return the mean entropy of chances, given in parts of `most`, of being there or not."""
    chance = np.arange(most + 1) / most
    with np.errstate(divide="ignore", invalid="ignore"):
        bits = -(chance * np.log2(chance) + (1 - chance) * np.log2(1 - chance))
    counts = np.bincount(values.ravel(), minlength=most + 1)
    return float(counts @ np.nan_to_num(bits) / values.size)


def _features(engine: Engine, image: Micrograph) -> tuple[NDArray[np.uint8], Features]:
    """Return the answer to an image, and the mean over it of what the network computes before it answers."""
    with _overheard(engine) as heard:
        answer = engine.chances(image)
        if engine.card.segmenter is None:  # the engine names frames by a copy of this network
            engine.network("classifier")(engine.frame(image))
    areas_px = np.array([area_px for area_px, _ in heard], np.float64)
    return answer, np.average([features for _, features in heard], axis=0, weights=areas_px)


@contextmanager
def _overheard(engine: Engine) -> Iterator[list[tuple[int, Features]]]:
    """Give a list that takes area and mean features of each tile.

    Features are the encoder's deepest, or what a classifier weighs in its last layer, of an area of one pixel.
    """
    heard: list[tuple[int, Features]] = []

    def keep(found: Tensor) -> None:
        maps = found if found.ndim == 4 else found[..., None, None]
        area_px = maps.shape[2] * maps.shape[3]
        heard.extend((area_px, features.numpy()) for features in maps.double().mean((2, 3)).cpu())

    if engine.card.segmenter is not None:
        encoder = engine.network("segmenter").get_submodule("encoder")
        hook = encoder.register_forward_hook(lambda _module, _given, answer: keep(answer[-1]))
    else:
        layers = [each for each in engine.network("classifier").modules() if isinstance(each, nn.Linear)]
        hook = layers[-1].register_forward_pre_hook(lambda _module, given: keep(given[0]))
    try:
        with torch.inference_mode():
            yield heard
    finally:
        hook.remove()
