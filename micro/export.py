"""A bundle's networks in the form of other runtimes, and the proof that they decide as the engine does.

What leaves is the network alone: pixels that were scaled as the task scales them become probabilities. A runtime has to
scale, tile and decode as the engine does; here an export takes the place of the network in the engine itself.
"""

import json
import tempfile
import warnings
from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, cast

import numpy as np
import torch
from torch import Tensor, nn

from micro import trial
from micro.bundle import GRAPH, Bundle
from micro.card import NetworkSpec
from micro.engine import Engine
from micro.errors import BadSetting, BrokenBundle
from micro.formats.bioimageio import Tried, write_model
from micro.micrograph import Micrograph
from micro.networks import graph
from micro.regions import Prediction, Progress

Form = Literal["onnx", "torchscript", "bioimageio"]
# A model of the zoo is the TorchScript network in a zip with its description.
SUFFIX: dict[Form, str] = {"onnx": ".onnx", "torchscript": ".pt", "bioimageio": ".pt"}
PARITY = "parity.json"
LEAST_PX, MOST_PX = 64, 384
MOST_OTHER_SCORE = 1e-5


@dataclass(frozen=True)
class Parity:
    """How the exported networks compare with the engine.

    other_probability: the largest difference of any probability, of a pixel or a frame.
    other_decisions: images with another class, verdict or number of regions, or with more than one pixel in
        1 / trial.MAX_OTHER_PIXELS under another label.
    """

    form: str
    images: int
    other_probability: float
    other_decisions: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether the export decides as the engine does."""
        return not self.other_decisions and self.other_probability <= trial.MAX_OTHER_PROBABILITY

    def __str__(self) -> str:
        others = f"; other decisions: {', '.join(self.other_decisions)}" if self.other_decisions else ""
        return (
            f"{self.form}: {self.images} images, {self.images - len(self.other_decisions)} decided alike, largest "
            f"difference of a probability {self.other_probability:.2e}{others}"
        )


class _Probabilities(nn.Module):
    """A network as it leaves: scaled pixels (B, C, y, x) -> probabilities (B, K, y, x), or (B, K) of a whole frame."""

    def __init__(self, network: nn.Module, temperature: float | None) -> None:
        super().__init__()
        self.network = network
        self.temperature = temperature

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.network(pixels)
        return logits.sigmoid() if self.temperature is None else (logits / self.temperature).softmax(1)


class _Stand(nn.Module):
    """An exported network in the engine's place; it remembers how far it was from the engine's own.

    tried: what it was given last, and its answer; None before the first.
    """

    def __init__(self, own: _Probabilities, run: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._own, self._run = own, run
        self.worst = 0.0
        self.tried: Tried | None = None

    def forward(self, pixels: Tensor) -> Tensor:
        found = self._run(pixels)
        self.tried = Tried(pixels.numpy(), found.numpy())
        self.worst = max(self.worst, float((found - self._own(pixels)).abs().max()))
        temperature = self._own.temperature
        # the engine takes logits
        return found.logit() if temperature is None else found.log() * temperature


def export_steps(
    bundle: Bundle, form: Form, out: Path, images: Sequence[Micrograph]
) -> Generator[Progress, None, Parity]:
    """Write the networks of a bundle to out and compare them with the engine on images, yielding after each image.

    The result lies in out/parity.json as well. A model for the BioImage Model Zoo carries the last of these images,
    scaled, and the answer to it. Raises BrokenBundle when the export decides otherwise; its files then
    stay for a look.
    """
    _refuse_none(images)
    engine, other = Engine(bundle, device="cpu"), Engine(bundle, device="cpu")
    out.mkdir(parents=True, exist_ok=True)
    stands, written = [], []
    for kind, spec in (("segmenter", bundle.card.segmenter), ("classifier", bundle.card.classifier)):
        if spec is not None:
            path = out / f"{kind}{SUFFIX[form]}"
            own = _Probabilities(engine.network(kind), bundle.card.temperature if kind == "classifier" else None).eval()
            run = (_onnx if form == "onnx" else _torchscript)(own, spec, path)
            stands.append(_Stand(own, run))
            written.append((spec, path))
            other.take_network(kind, stands[-1])
            yield Progress(0, len(images), f"{path.name} written")
    strange = []
    for done, image in enumerate(images, start=1):
        if not _decided_alike(engine.predict(image), other.predict(image)):
            strange.append(image.name)
        yield Progress(done, len(images), image.name)
    parity = Parity(form, len(images), max(stand.worst for stand in stands), tuple(strange))
    described = {
        "model": bundle.card.name,
        "version": bundle.card.version,
        "weights_sha256": bundle.card.weights_sha256,
    }
    text = json.dumps({**described, **asdict(parity)}, indent=2)
    (out / PARITY).write_text(text + "\n", encoding="utf-8")
    if not parity.holds:
        raise BrokenBundle(f"{out}: the export does not decide as {bundle.card.name} does. {parity}")
    if form == "bioimageio":
        for stand, (spec, path) in zip(stands, written, strict=True):
            assert stand.tried is not None
            write_model(path.with_suffix(".zip"), bundle.card, spec, path, stand.tried)
            path.unlink()
    return parity


def compile_steps(bundle: Bundle, images: Sequence[Micrograph]) -> Generator[Progress, None, Parity]:
    """Put the classifier into its bundle as a graph with which a CPU answers sooner; yield after each image.

    It has to answer the images as the plain network does: the same decisions, and each probability within
    MOST_OTHER_SCORE. Raises BrokenBundle when it does not, and BadSetting without a classifier or an image; the bundle
    then stays as it is.
    """
    spec = bundle.card.classifier
    if spec is None:
        raise BadSetting(f"{bundle.card.name} has no classifier; what finds regions is fast without.")
    _refuse_none(images)
    plain = replace(bundle, card=bundle.card.model_copy(update={"graph_sha256": None}))
    engine, other = Engine(plain, device="cpu"), Engine(plain, device="cpu")
    with tempfile.TemporaryDirectory(prefix="micro-") as place:
        graph.write(engine.network("classifier"), spec, Path(place) / GRAPH, "logits")
        written = (Path(place) / GRAPH).read_bytes()
    other.take_network("classifier", graph.Graph(written))
    strange, worst = [], 0.0
    for done, image in enumerate(images, start=1):
        one, two = engine.predict(image), other.predict(image)
        worst = max(worst, *(abs(score - two.class_scores[name]) for name, score in one.class_scores.items()))
        if not _decided_alike(one, two):
            strange.append(image.name)
        yield Progress(done, len(images), image.name)
    parity = Parity("graph", len(images), worst, tuple(strange))
    if strange or worst > MOST_OTHER_SCORE:
        raise BrokenBundle(f"{bundle.folder}: the graph does not answer as the network does, and is not kept. {parity}")
    bundle.keep_graph(written)
    return parity


def _refuse_none(images: Sequence[Micrograph]) -> None:
    if not images:
        raise BadSetting("There is no image to compare on. Name images, or ask for at least one view.")


def views(images: Sequence[Micrograph], count: int) -> list[Micrograph]:
    """Return so many parts of images, in any place and size, turned, mirrored, darker and brighter; of each in turn."""
    random = np.random.default_rng(0)
    found = []
    for number in range(count):
        image = images[number % len(images)]
        height, width = (
            int(random.integers(min(LEAST_PX, length), min(MOST_PX, length) + 1)) for length in image.pixels.shape[:2]
        )
        top, left = (
            int(random.integers(length - part + 1))
            for length, part in ((image.height_px, height), (image.width_px, width))
        )
        part = np.rot90(image.pixels[top : top + height, left : left + width], int(random.integers(4)))
        part = part[:, ::-1] if random.random() < 0.5 else part
        lit = part.astype(np.float32) * random.uniform(0.7, 1.2)
        if part.dtype != np.float32:
            lit = lit.clip(0, np.iinfo(part.dtype).max)
        pixels = np.ascontiguousarray(lit.astype(part.dtype))
        found.append(
            Micrograph(pixels, f"{image.name}, view {number + 1}", image.pixel_size_um, image.pixel_size_source)
        )
    return found


def _onnx(own: _Probabilities, spec: NetworkSpec, path: Path) -> Callable[[Tensor], Tensor]:
    graph.write(own, spec, path, "probabilities")
    return graph.Graph(path.read_bytes())


def _torchscript(own: _Probabilities, spec: NetworkSpec, path: Path) -> Callable[[Tensor], Tensor]:
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # that torch would rather export otherwise; others still load this
        torch.jit.trace(own, graph.example(spec)).save(str(path))  # type: ignore[no-untyped-call]
        loaded = torch.jit.load(str(path))  # type: ignore[no-untyped-call]
    return lambda pixels: cast(Tensor, loaded(pixels))


def _decided_alike(one: Prediction, other: Prediction) -> bool:
    if (one.class_name, one.verdict) != (other.class_name, other.verdict):
        return False
    if one.regions is None or other.regions is None:
        return one.regions is other.regions
    if one.regions.class_names != other.regions.class_names:
        return False
    return float((one.regions.labels != other.regions.labels).mean()) <= trial.MAX_OTHER_PIXELS
