"""What a network sees in one step: crops and frames, augmented, each batch decided by its number alone."""

import os
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from micro.engine import with_channels
from micro.folder import Annotated, Shelf, annotated
from micro.illumination import Scaling
from micro.micrograph import Micrograph
from micro.tasks import TWIN, Task
from micro.tiles import resize
from micro.training.augmentation import Augmentation
from micro.training.plan import TrainingPlan

# Share of crops that are laid over an annotated region, so that rare regions are seen often enough.
ON_REGION = 0.5
# At most so many annotated pixels of an image are remembered as places for such crops.
PLACES = 4096
CPU = torch.device("cpu")
Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True, eq=False)
class Batch:
    """One step's input and answer, in the layout of the network.

    pixels: (B, C, y, x) float32, scaled.
    target: (B, K, y, x) float32 for maps, or (B,) int64 for classes.
    weight: (B, 1, y, x) float32 for maps, or (B,) ones.
    is_known: whether people said what target and weight hold; else they are empty.
    """

    pixels: Tensor
    target: Tensor
    weight: Tensor
    is_known: bool = True

    def on(self, device: torch.device) -> "Batch":
        """Return the batch on a device, on its way there while the device still works on the one before."""
        if device.type == "cuda":
            pixels, target, weight = (
                part.pin_memory().to(device, non_blocking=True) for part in (self.pixels, self.target, self.weight)
            )
            return Batch(pixels, target, weight, self.is_known)
        return Batch(self.pixels.to(device), self.target.to(device), self.weight.to(device), self.is_known)


@dataclass(frozen=True, eq=False)
class _Source:
    """An image as training draws from it.

    pixels: (Y, X, C) uint8 in the network's channels.
    labels: (Y, X) int32, all zero where the class of the frame is the answer; a twin of region i is i + TWIN.
    places: (N, 2) rows and columns of some annotated pixels.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int32]
    class_number: int
    scaling: Scaling
    places: NDArray[np.int64]


class Sampler:
    """Batches of a plan: batch n is the same in every run, whether or not training was interrupted."""

    def __init__(
        self,
        plan: TrainingPlan,
        task: Task,
        folders: Sequence[Sequence[Annotated]],
        unlabelled: Sequence[Micrograph] = (),
    ) -> None:
        """Take the images of each folder; every folder gives as many crops as the others.

        Images that nobody annotated make every other batch of the second half.
        """
        self._plan = plan
        self._task = task
        shelf = Shelf()
        self._folders = [[_source(plan, task, item, shelf) for item in images] for images in folders]
        self._sources = [source for sources in self._folders for source in sources]
        self._unlabelled = [_source(plan, task, _unknown(image), shelf) for image in unlabelled]
        self._own = threading.local()

    @property
    def _augmentation(self) -> Augmentation:
        """The augmentation of this thread: each holds the generator that it was last given."""
        if not hasattr(self._own, "augmentation"):
            self._own.augmentation = Augmentation(self._task)
        own: Augmentation = self._own.augmentation
        return own

    def batches(self, first: int, last: int, device: torch.device = CPU) -> Iterator[Batch]:
        """Yield the batches first .. last - 1 on a device, the next ones being made while the network works on one.

        Beside a CPU that learns one thread makes the next two; beside a GPU all cores make batches.
        """
        threads = 1 if device.type == "cpu" else os.cpu_count() or 1
        ahead = 2 * threads
        with ThreadPoolExecutor(threads, "micro-sample") as pool:
            coming = deque(pool.submit(self.batch, number) for number in range(first, min(first + ahead, last)))
            for number in range(first, last):
                ready = coming.popleft().result()
                if number + ahead < last:
                    coming.append(pool.submit(self.batch, number + ahead))
                yield ready.on(device)

    def batch(self, number: int) -> Batch:
        """Return batch `number`."""
        random = np.random.default_rng((self._plan.seed, number))
        if self._task.outputs:
            is_known = not self._unlabelled or number < self._plan.steps / 2 or number % 2 == 0
            crops = [self._crop(random, is_known) for _ in range(self._plan.batch)]
            pixels, maps, weights = (np.stack(part) for part in zip(*crops, strict=True))
            weights = weights[:, np.newaxis]
            return Batch(_channels_first(pixels), torch.from_numpy(maps), torch.from_numpy(weights), is_known)
        sources = [self._sources[index] for index in self._next_frames(number)]
        frames = np.stack([self._frame(source, random) for source in sources])
        classes = torch.tensor([source.class_number for source in sources])
        return Batch(_channels_first(frames), classes, torch.ones(len(sources)))

    def whole_images(self, count: int) -> list[Tensor]:
        """Return the first so many images of each folder whole, (1, C, Y, X) each, scaled and not augmented."""
        first = [source for sources in self._folders for source in sources[:count]]
        return [_channels_first(_scaled(source.pixels, source.scaling)[np.newaxis]) for source in first]

    def _next_frames(self, number: int) -> list[int]:
        """Return which frames make batch `number`: every frame once before any comes twice."""
        count, batch = len(self._sources), self._plan.batch
        chosen = []
        for position in range(number * batch, (number + 1) * batch):
            order = np.random.default_rng((self._plan.seed, position // count, 1)).permutation(count)
            chosen.append(int(order[position % count]))
        return chosen

    def _frame(self, source: _Source, random: np.random.Generator) -> NDArray[np.float32]:
        """Return a frame (y, x, C), scaled by what is found in it after augmentation, as the engine will scale it."""
        pixels = self._augmentation.frame(source.pixels, random)
        return _scaled(pixels, self._task.scaling(pixels))

    def _crop(self, random: np.random.Generator, is_known: bool) -> tuple[NDArray[np.float32], ...]:
        """Return scaled pixels (y, x, C), maps (K, y, x) and weight (y, x) of one random crop."""
        sources = self._any_folder(random) if is_known else self._unlabelled
        source = sources[random.integers(len(sources))]
        assert self._task.encode is not None
        rows, columns = self._window(source, random)
        pixels = self._augmentation.optics(source.pixels[rows, columns], random)
        scaled = _scaled(pixels, source.scaling, source.labels.shape, rows, columns)
        scaled, labels = self._augmentation.geometry(scaled, source.labels[rows, columns], random)
        if self._task.spoil is not None:
            scaled = self._task.spoil(scaled, labels, random)
        targets = self._task.encode(_filled(labels, self._plan.crop_px))
        return self._augmentation.light(_filled(scaled, self._plan.crop_px), random), targets.maps, targets.weight

    def _any_folder(self, random: np.random.Generator) -> list[_Source]:
        return self._folders[random.integers(len(self._folders))]

    def _window(self, source: _Source, random: np.random.Generator) -> tuple[slice, slice]:
        height, width = source.labels.shape
        edge = self._plan.crop_px
        last_row, last_column = max(0, height - edge), max(0, width - edge)
        top, left = int(random.integers(last_row + 1)), int(random.integers(last_column + 1))
        if len(source.places) and random.random() < ON_REGION:
            row, column = source.places[random.integers(len(source.places))] - random.integers(edge, size=2)
            top, left = int(np.clip(row, 0, last_row)), int(np.clip(column, 0, last_column))
        return slice(top, min(top + edge, height)), slice(left, min(left + edge, width))


def _source(plan: TrainingPlan, task: Task, item: Annotated, shelf: Shelf) -> _Source:
    pixels, _ = with_channels(item.image.pixels, plan.network.channels)
    class_number = 0
    if item.labels is None:
        assert item.class_name is not None
        class_number = plan.network.outputs.index(item.class_name)
        pixels = resize(pixels, (plan.crop_px, plan.crop_px))
    stored = _as_bytes(pixels)
    labels = np.zeros(stored.shape[:2], np.int32) if item.labels is None else item.labels
    if plan.scale != 1 and item.labels is not None:
        shape_px = round(len(labels) * plan.scale), round(labels[0].size * plan.scale)
        stored = _as_bytes(resize(stored, shape_px))
        labels = shelf.keep(np.asarray(cv2.resize(labels, shape_px[::-1], interpolation=cv2.INTER_NEAREST), np.int32))
    if item.twins is not None:
        labels = shelf.keep(np.where(item.twins & (labels > 0), labels + TWIN, labels))
    places = _places(labels, len(plan.class_weights))
    kept = stored if np.shares_memory(stored, item.image.pixels) else shelf.keep(stored)
    return _Source(kept, labels, class_number, task.scaling(kept), places)


def _unknown(image: Micrograph) -> Annotated:
    """Return an image of which nothing is known."""
    return annotated(image, np.full((image.height_px, image.width_px), -1, np.int32), None)


def _places(labels: NDArray[np.int32], classes: int) -> NDArray[np.int64]:
    """Return rows and columns (N, 2) of some annotated pixels: as many of each class but the first, or of any."""
    if classes:
        of_class = [np.flatnonzero(labels == number) for number in range(1, classes)]
        even = [each[np.linspace(0, len(each) - 1, PLACES // classes).astype(int)] for each in of_class if len(each)]
        some = np.concatenate([*even, np.zeros(0, np.int64)])
    else:
        flat = np.flatnonzero(labels > 0)
        # a copy, or all the places of all images would stay in memory
        some = flat[:: max(1, len(flat) // PLACES)]
    return np.stack(np.unravel_index(some, labels.shape), axis=1)


def _as_bytes(pixels: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Return pixels as uint8, ratios kept, since augmentation works on bytes; the scaling is found again afterwards."""
    if pixels.dtype == np.uint8:
        return pixels  # type: ignore[return-value]
    values = pixels.astype(np.float32)
    values -= min(float(values.min()), 0.0)
    white = float(np.percentile(values, 99.9)) or 1.0
    return (values * (255 / white)).clip(0, 255).astype(np.uint8)


def _scaled(
    pixels: NDArray[np.generic],
    scaling: Scaling,
    shape_px: tuple[int, ...] | None = None,
    rows: slice | None = None,
    columns: slice | None = None,
) -> NDArray[np.float32]:
    """Return pixels (y, x, C) scaled as a window of an image of shape_px, or as the whole image."""
    height, width = shape_px or pixels.shape[:2]
    window = scaling.window((height, width), rows or slice(0, height), columns or slice(0, width))
    center, spread = (part.transpose(1, 2, 0) for part in window)
    return (pixels.astype(np.float32) - center) / spread


def _filled(part: NDArray[Scalar], edge_px: int) -> NDArray[Scalar]:
    """Mirror a crop (y, x) or (y, x, C) from an image smaller than the crop up to edge_px."""
    below, beside = edge_px - part.shape[0], edge_px - part.shape[1]
    if not (below or beside):
        return part
    return np.pad(part, ((0, below), (0, beside), *((0, 0),) * (part.ndim - 2)), mode="symmetric")


def _channels_first(pixels: NDArray[np.float32]) -> Tensor:
    """Return (B, y, x, C) as (B, C, y, x), channels last in memory."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2)
