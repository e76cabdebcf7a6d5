"""One bundle and one recipe on one device, and the way of an image through them."""

import logging
import os
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from micro import bundle as bundles
from micro import networks, tasks
from micro.card import Card, NetworkSpec
from micro.decide import OK, together
from micro.engine.stream import Item, Lanes, Result, stream
from micro.errors import BadSetting, MicroError, UnknownPixelSize, UnreadableImage
from micro.formats import MAX_PIXELS
from micro.illumination import Scaling
from micro.micrograph import GIVEN, Micrograph
from micro.networks.allocator import keep_pages
from micro.networks.fast import accelerate, steady
from micro.networks.graph import Graph
from micro.recipe import Decision, Recipe
from micro.regions import Columns, Glimpse, Maker, Prediction, Progress, Regions
from micro.tiles import Tile, Tiling, cut, paste, resize, tiles

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")
Window = tuple[NDArray[np.float32], NDArray[np.float32]]
# A halo of 64 px costs 1.16 network pixels a pixel at 1536 px and 1.27 at 1024 px; a network takes as long for each.
TILE_PX = 1536
UNSEARCHED = "its class lets it pass, so nothing was searched for in it"
# Frames that are judged together in a stream. On two cores 32 are judged 5 to 10 % sooner each than 16, 64 no sooner,
# by three kinds of classifier; images that are segmented on a GPU need its memory.
FRAMES, GROUP = 32, 16


@dataclass(frozen=True, eq=False)
class _Job:
    """One image on its way through the network, on the network's grid.

    pixels: (Y, X, C), with the channels that the card asks for.
    frame, frame_scaling: the same for a classifier, for which no task zooms.
    """

    image: Micrograph
    pixels: NDArray[np.generic]
    scaling: Scaling
    frame: NDArray[np.generic]
    frame_scaling: Scaling
    notes: tuple[str, ...]


class Engine:
    """One bundle and one recipe on one device.

    device: "auto" (CUDA, else MPS, else CPU), "cpu", "cuda", "cuda:1" or "mps".
    tile_px: edge of the largest square tile; the answer does not depend on it.
    """

    def __init__(
        self, bundle: bundles.Bundle, recipe: Recipe | None = None, device: str = "auto", tile_px: int = TILE_PX
    ) -> None:
        self.card = bundle.card
        self.recipe = recipe or Recipe(model=bundle.card.name)
        self.task = tasks.of(bundle.card)
        self.settings = tasks.settings_of(self.task, bundle.card, self.recipe)
        self.device = pick_device(device)
        self.maker = Maker(bundle.card.name, bundle.card.version, bundle.card.weights_sha256)
        self.reference = bundle.reference()
        if self.device.type == "cpu":
            keep_pages()
        weights = bundle.weights()
        self._segmenter = self._network("segmenter", bundle.card.segmenter, weights)
        self._classifier = self._network("classifier", bundle.card.classifier, weights)
        # frames share batches as they come, and their scores must not tell
        self._namer = self._classifier
        if self._classifier is not None and self.device.type == "cpu":
            graph = bundle.graph()
            self._namer = steady(self._classifier) if graph is None else Graph(graph)
        if bundle.card.segmenter is not None:
            stride = bundle.card.segmenter.stride_px
            self._tiling = Tiling(
                size_px=tile_px - tile_px % stride, halo_px=bundle.card.segmenter.halo_px, stride_px=stride
            )
        # Batching tiles gains nothing on a CPU, and one tile at a time gives the same bits whatever else is in hand.
        self._tile_batch = 1 if self.device.type == "cpu" else 8
        decision = self.recipe.decision
        if decision is not None:
            _refuse_unfit(decision, self.card)
        self._temperature = self.card.temperature if decision is None else decision.temperature
        self._notes: tuple[str, ...] = ()
        self._threads = torch.get_num_threads()

    @classmethod
    def load(cls, model: str, device: str = "auto", pixel_size_um: float | None = None) -> "Engine":
        """Return the engine of an installed bundle, by its name or folder, with the card's own settings.

        pixel_size_um: of all images, whatever they say.
        """
        return cls(bundles.load(model), Recipe(model=model, pixel_size_um=pixel_size_um), device)

    def predict(self, image: Micrograph) -> Prediction:
        """Return what the bundle says about an image of any size."""
        return _drain(self._judge([self._prepare(image)]))[0]

    def steps(self, image: Micrograph) -> Generator[Progress, None, Prediction]:
        """Work through one image, yielding after each batch of tiles; close the generator to cancel.

        Raises UnknownPixelSize when the card states a trained pixel size and nobody knows the image's.
        """
        found = yield from self._judge([self._prepare(image)])
        return found[0]

    def frame(self, image: Micrograph) -> Tensor:
        """Return an image as the classifier takes it: (1, C, y, x) float32, scaled, on the device."""
        return self._frames([self._prepare(image)])

    def chances(self, image: Micrograph) -> NDArray[np.uint8]:
        """Return what the network says of an image before anything is decided, 255 for a probability of 1.

        The segmenter's maps (K, Y, X) on the network's own grid, or the classes (K, 1, 1) where there is no segmenter.
        """
        job = self._prepare(image)
        (maps,) = _drain(self.maps([job.pixels], [job.scaling]))
        if maps is not None:
            return maps
        scores = self._class_scores([job])[0]
        return np.array([round(255 * score) for score in scores.values()], np.uint8)[:, np.newaxis, np.newaxis]

    def stream(self, items: Iterable[Item]) -> Iterator[Result]:
        """Yield one result an item, in their order, while later items are read; memory is bounded.

        An item whose image cannot be read or judged yields Quarantined and stops nothing. Images that are judged
        together are waited for: where the next one is still to be taken, as by a camera, call `predict` on each.
        """
        whole_streams = self.device.type == "cpu" and self._segmenter is None
        if whole_streams:
            # Small frames on a CPU: a core that reads and judges on its own beats a pool that feeds a network.
            threads, lanes = 1, Lanes(workers=_cores(), group=FRAMES, read_ahead=0)
        else:
            group = 1 if self.device.type == "cpu" else GROUP
            threads, lanes = torch.get_num_threads(), Lanes(workers=1, group=group, read_ahead=_cores())
        try:
            yield from stream(items, self._judge_group, lanes, lambda: torch.set_num_threads(threads))
        finally:
            torch.set_num_threads(self._threads)

    def network(self, kind: str) -> nn.Module:
        """Return the network of that kind ("segmenter" or "classifier"), which turns scaled tiles into logits."""
        found = {"segmenter": self._segmenter, "classifier": self._classifier}[kind]
        if found is None:
            raise BadSetting(f"{self.card.name} has no {kind}.")
        return found

    def take_network(self, kind: str, network: nn.Module) -> None:
        """Answer with another implementation of a network from now on, such as an exported one."""
        self.network(kind)
        if kind == "segmenter":
            self._segmenter = network
        else:
            self._classifier = self._namer = network

    # --- one group of images ------------------------------------------------------------------------------------------

    def _judge(self, jobs: Sequence[_Job]) -> Generator[Progress, None, list[Prediction]]:
        """Return one prediction a job; the tiles and frames of all jobs share batches."""
        began = time.perf_counter()
        scores = self._class_scores(jobs)
        searched = [index for index, each in enumerate(scores) if not self._releases(each)]
        answers = yield from self.maps([jobs[i].pixels for i in searched], [jobs[i].scaling for i in searched])
        maps = dict(zip(searched, answers, strict=True))
        shared = (time.perf_counter() - began) / len(jobs)
        return [self._predict_one(job, scores[index], maps.get(index), shared) for index, job in enumerate(jobs)]

    def _judge_group(self, images: Sequence[Micrograph]) -> list[Result]:
        predictions = _drain(self._judge([self._prepare(image) for image in images]))
        return [*predictions]

    def _releases(self, scores: dict[str, float]) -> bool:
        """Whether the class of a frame lets it pass unsearched: where a bundle names frames and finds regions."""
        if not scores or self._segmenter is None or self.task.judge is None:
            return False
        return self.task.judge(scores, self.settings, self.recipe) == OK

    def _predict_one(
        self, job: _Job, scores: dict[str, float], maps: NDArray[np.uint8] | None, shared: float
    ) -> Prediction:
        """Return what is said of an image; shared: its part of the seconds that the networks took for all."""
        began = time.perf_counter()
        regions: Regions | None = None
        table: Columns = {}
        found: tuple[str, ...] = ()
        if self._segmenter is not None and self.task.decode is not None:
            shape_px = (job.image.height_px, job.image.width_px)
            if maps is None:
                regions, found = Regions(np.zeros(shape_px, np.int32), (), np.zeros(0, np.float32)), (UNSEARCHED,)
            else:
                regions = self.task.decode(maps, self.settings)
                if self.task.refine is not None:
                    regions = self.task.refine(regions, job.pixels, job.scaling, self.settings)
                regions = _on_grid(regions, shape_px)
            if self.task.measure is not None:
                table = self.task.measure(regions, job.image)
            if self.task.identify is not None:
                identity = self.task.identify(regions, job.image, table, self.settings)
                regions = replace(regions, class_names=identity.class_names)
                table, found = {**table, **identity.columns}, identity.notes
        named = found_verdict = None
        if scores and self.task.judge is not None:
            named = self.task.judge(scores, self.settings, self.recipe)
        if maps is not None and regions is not None and self.task.judge_regions is not None:
            found_verdict = self.task.judge_regions(regions, self.settings, self.recipe)
        if not scores and maps is not None and self.task.sum_up is not None:
            scores = self.task.sum_up(maps, self.settings)
        best = max(scores, key=scores.__getitem__) if scores else None
        return Prediction(
            image=job.image.name,
            height_px=job.image.height_px,
            width_px=job.image.width_px,
            maker=self.maker,
            pixel_size_um=job.image.pixel_size_um,
            pixel_size_source=job.image.pixel_size_source,
            regions=regions,
            table=table,
            class_name=best,
            class_scores=scores,
            verdict=together(named, found_verdict),
            notes=job.image.notes + job.notes + found + self._notes,
            seconds=shared + time.perf_counter() - began,
        )

    def _prepare(self, image: Micrograph) -> _Job:
        if not isinstance(image, Micrograph):
            raise UnreadableImage(
                f"An image is a micro.Micrograph, and this is {type(image).__name__}. Pass micro.read(path), or "
                f"micro.Micrograph(pixels, pixel_size_um=0.5) for an array."
            )
        if self.recipe.pixel_size_um is not None:
            image = replace(image, pixel_size_um=self.recipe.pixel_size_um, pixel_size_source=GIVEN)
        pixels, notes = with_channels(image.pixels, self.card.channels)
        if self.card.pixel_size_um is not None:
            try:
                factor = image.known_pixel_size_um() / self.card.pixel_size_um
            except UnknownPixelSize as fault:
                raise UnknownPixelSize(
                    f"{self.card.name} was trained at {self.card.pixel_size_um} um a pixel. {fault}"
                ) from fault
            shape = _zoomed(pixels, factor)
            if shape[0] * shape[1] > MAX_PIXELS:
                raise BadSetting(
                    f"{image.name}: {image.pixel_size_um} um a pixel would make it {shape[0]} x {shape[1]} px at the "
                    f"{self.card.pixel_size_um} um of {self.card.name}. Is the pixel size right?"
                )
            pixels = resize(pixels, shape)
        frame = pixels
        if self.task.zoom is not None:
            zoom = self.task.zoom(pixels, self.settings, self._regions_at_own_scale)
            shape = _zoomed(pixels, zoom.factor)
            if shape[0] * shape[1] > MAX_PIXELS:
                raise BadSetting(
                    f"{image.name}: {'; '.join(zoom.notes)}. That makes {shape[0]} x {shape[1]} px: cut the image up."
                )
            pixels, notes = resize(pixels, shape), notes + zoom.notes
        scaling = self.task.scaling(pixels)
        if frame is pixels or self._classifier is None:
            return _Job(image, pixels, scaling, pixels, scaling, notes)
        return _Job(image, pixels, scaling, frame, self.task.scaling(frame), notes)

    def _regions_at_own_scale(self, pixels: NDArray[np.generic], settings: tasks.TaskSettings) -> Regions:
        """Return what the network finds in pixels (Y, X, C) as they are, for a task that asks before it chooses."""
        assert self.task.decode is not None
        maps = _drain(self.maps([pixels], [self.task.scaling(pixels)]))[0]
        assert maps is not None
        return self.task.decode(maps, settings)

    # --- the networks -------------------------------------------------------------------------------------------------

    def maps(
        self, images: Sequence[NDArray[np.generic]], scalings: Sequence[Scaling]
    ) -> Generator[Progress, None, list[NDArray[np.uint8] | None]]:
        """Return the segmenter's maps (K, Y, X) uint8 of each image (Y, X, C), 255 for a probability of 1.

        Only bytes leave the device, and no float map is larger than a batch of tiles. When memory runs out the batch is
        halved, then the tile, and the prediction says so.
        """
        if self._segmenter is None:
            return [None] * len(images)
        while True:
            try:
                return (yield from self._tiled(images, scalings))
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as fault:
                if not _is_out_of_memory(fault):
                    raise
                self._shrink(fault)

    def _tiled(
        self, images: Sequence[NDArray[np.generic]], scalings: Sequence[Scaling]
    ) -> Generator[Progress, None, list[NDArray[np.uint8] | None]]:
        assert self.card.segmenter is not None
        outputs = len(self.card.segmenter.outputs)
        answers = [np.empty((outputs, *_shape(image)), np.uint8) for image in images]
        queue = [(index, tile) for index, image in enumerate(images) for tile in tiles(_shape(image), self._tiling)]
        done = 0
        for batch in _batches(queue, self._tile_batch):
            pixels = np.stack([cut(images[index], tile) for index, tile in batch])
            windows = [scalings[index].window(_shape(images[index]), *tile.read) for index, tile in batch]
            glimpses = []
            for (index, tile), answer in zip(batch, self._segment(pixels, windows), strict=True):
                paste(answers[index], answer, tile)
                corner = (tile.write[0].start, tile.write[1].start)
                glimpses.append(Glimpse(answers[index][(0, *tile.write)], *corner, _shape(images[index])))
            done += len(batch)
            yield Progress(done, len(queue), f"tile {done} of {len(queue)}", tuple(glimpses))
        return list(answers)

    def _segment(self, pixels: NDArray[np.generic], windows: Sequence[Window]) -> NDArray[np.uint8]:
        """Return bytes (B, K, y, x) for tiles (B, y, x, C)."""
        assert self._segmenter is not None
        with torch.inference_mode(), self._precision():
            probabilities = self._segmenter(self._scaled(pixels, windows)).float().sigmoid_()
            answers: NDArray[np.uint8] = probabilities.mul_(255).round_().to(torch.uint8).cpu().numpy()
            return answers

    def _class_scores(self, jobs: Sequence[_Job]) -> list[dict[str, float]]:
        if self._namer is None or self.card.classifier is None:
            return [{} for _ in jobs]
        with torch.inference_mode(), self._precision():
            logits = self._namer(self._frames(jobs)).float() / self._temperature
            probabilities = logits.softmax(1).tolist()
        return [dict(zip(self.card.classifier.outputs, row, strict=True)) for row in probabilities]

    def _frames(self, jobs: Sequence[_Job]) -> Tensor:
        """Return whole frames as the classifier takes them: (B, C, y, x)."""
        assert self.card.classifier is not None
        edge = self.card.classifier.input_px
        assert edge is not None
        frames = np.stack([resize(job.frame, (edge, edge)) for job in jobs])
        return self._scaled(frames, [resized_window(job.frame_scaling, edge) for job in jobs])

    def _scaled(self, pixels: NDArray[np.generic], windows: Sequence[Window]) -> Tensor:
        """Return tiles (B, y, x, C) on the device, scaled there: (B, C, y, x), channels last in memory."""
        moved = torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2).float()
        center, spread = (torch.from_numpy(np.stack(part)).to(self.device) for part in zip(*windows, strict=True))
        return moved.sub_(center).div_(spread)

    def _network(self, kind: str, spec: NetworkSpec | None, weights: bundles.Weights) -> nn.Module | None:
        return None if spec is None else accelerate(networks.trained(self.card, kind, weights)).to(self.device)

    def _precision(self) -> torch.autocast | nullcontext[None]:
        return torch.autocast("cuda", torch.bfloat16) if self.device.type == "cuda" else nullcontext()

    def _shrink(self, fault: BaseException) -> None:
        """Take the next smaller batch or tile, or give up with what is left to try."""
        tiling = self._tiling
        smaller = (tiling.size_px // 2) // tiling.stride_px * tiling.stride_px
        if self._tile_batch > 1:
            self._tile_batch //= 2
        elif smaller > 2 * tiling.halo_px:
            self._tiling = replace(tiling, size_px=smaller)
        else:
            raise MicroError(
                f"{self.device}: out of memory even with tiles of {tiling.size_px} px. Use --device cpu."
            ) from fault
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        note = f"out of memory: went on with {self._tile_batch} tiles of {self._tiling.size_px} px at a time"
        self._notes = (note,)
        log.warning("%s: %s", self.device, note)


def pick_device(name: str) -> torch.device:
    """Return the device of that name; "auto" is the first of CUDA, MPS, CPU. Raise BadSetting if it is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as fault:
        raise BadSetting(f"No device {name!r}. Take auto, cpu, cuda, cuda:N or mps.") from fault
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(device.type, False):
        raise BadSetting(
            f"No {device.type} device on this machine. Take auto or cpu; `micro doctor` says what torch sees."
        )
    return device


def resized_window(scaling: Scaling, edge_px: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return center and spread for a whole frame that was resized to edge_px x edge_px."""
    return scaling.window((edge_px, edge_px), slice(0, edge_px), slice(0, edge_px))


def _refuse_unfit(decision: Decision, card: Card) -> None:
    """Raise BadSetting where the limits of a decision were not found for a bundle: they would judge at random."""
    if card.classifier is None:
        raise BadSetting(f"{card.name} names no frames, which are what the recipe's decision judges. Leave it out.")
    known = card.classifier.outputs
    if strange := [name for name in decision.ok_classes if name not in known]:
        raise BadSetting(
            f"{card.name} knows no class {', '.join(strange)}, which may ship by the recipe's decision. There are: "
            f"{', '.join(known)}."
        )
    if decision.weights_sha256 not in (None, card.weights_sha256):
        raise BadSetting(
            f"{card.name}: the recipe's decision comes from the answers of other weights, and its limits mean nothing "
            f"for these. Calibrate anew, or take the bundle that was calibrated."
        )


def with_channels(pixels: NDArray[np.generic], channels: str) -> tuple[NDArray[np.generic], tuple[str, ...]]:
    """Return pixels (Y, X, C) with the channels of a card ("grey" or "rgb"), and a note if that changed them."""
    wanted = 3 if channels == "rgb" else 1
    if pixels.shape[2] == wanted:
        return pixels, ()
    if wanted == 3:
        return np.repeat(pixels, 3, axis=2), ("grey image read as three equal channels",)
    grey = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY)
    return grey[..., np.newaxis], ("colour image read as grey (luminance)",)


def _on_grid(regions: Regions, shape_px: tuple[int, int]) -> Regions:
    """Bring regions back to the image's own grid; a region too small to survive there is dropped."""
    if regions.labels.shape == shape_px:
        return regions
    labels = cv2.resize(regions.labels, shape_px[::-1], interpolation=cv2.INTER_NEAREST)
    kept = np.flatnonzero(np.bincount(labels.ravel(), minlength=len(regions) + 1)[1:])
    numbers = np.zeros(len(regions) + 1, np.int32)
    numbers[kept + 1] = np.arange(1, len(kept) + 1)
    return Regions(numbers[labels], tuple(regions.class_names[index] for index in kept), regions.scores[kept])


def _is_out_of_memory(fault: BaseException) -> bool:
    # on a CPU torch raises a plain RuntimeError
    return not isinstance(fault, RuntimeError) or isinstance(fault, torch.OutOfMemoryError) or "memory" in str(fault)


def _zoomed(image: NDArray[np.generic], factor: float) -> tuple[int, int]:
    """Return the height and width in px of an image (Y, X, C) at another scale."""
    return max(1, round(image.shape[0] * factor)), max(1, round(image.shape[1] * factor))


def _shape(image: NDArray[np.generic]) -> tuple[int, int]:
    return image.shape[0], image.shape[1]


def _batches(queue: Sequence[tuple[int, Tile]], count: int) -> Iterator[list[tuple[int, Tile]]]:
    """Cut the queue into runs of at most count tiles of one size."""
    batch: list[tuple[int, Tile]] = []
    for entry in queue:
        if batch and (len(batch) == count or _extent(entry[1]) != _extent(batch[0][1])):
            yield batch
            batch = []
        batch.append(entry)
    if batch:
        yield batch


def _extent(tile: Tile) -> tuple[int, int]:
    rows, columns = tile.read
    return rows.stop - rows.start, columns.stop - columns.start


def _drain(steps: Generator[Progress, None, list[Answer]]) -> list[Answer]:
    """Run a generator to its end and return its result."""
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            found: list[Answer] = stop.value
            return found


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
