"""Annotated images as values, and the page that says what they are."""

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from micro.micrograph import Micrograph
from micro.tasks import Annotation


@dataclass(frozen=True, eq=False)
class Annotated:
    """One annotated image, as read.

    labels: (Y, X) int32 instance ids from 1 in the order of their first pixels, 0 for background; or numbers of
        classes; -1 where nothing is known; or None where the annotation is the class of the whole frame.
    class_name: class of the frame, or None where the annotation is a mask.
    group: images of one group show the same thing and stay on one side of a split: copies, or one specimen.
    digest: what equal pixels have in common.
    lossless: whether the file kept every pixel value as it was taken.
    twins: (Y, X) bool, where an instance is twinned, which parts it within but makes no instances; None: nowhere.
    region_classes: of the instances, in the order of their numbers, where people named them.
    """

    image: Micrograph
    labels: NDArray[np.int32] | None
    class_name: str | None
    group: str
    digest: str
    lossless: bool
    twins: NDArray[np.bool_] | None = None
    region_classes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class AnnotatedFolder:
    """Every annotated image of a folder, in the order of their names.

    classes: names of the classes, sorted where they are of frames, by value where they are of pixels; empty where masks
        number instances.
    values: of pixels in the masks -> their classes, None where a value means that nothing is known; empty where the
        annotation is none of pixels.
    source: in which form the annotations lie there.
    remarks: what a reader should know and what does not prevent training.
    """

    root: Path
    images: tuple[Annotated, ...]
    classes: tuple[str, ...]
    remarks: tuple[str, ...]
    values: tuple[tuple[int, str | None], ...] = ()
    source: str = "masks"

    @property
    def annotation(self) -> Annotation:
        """What the images are annotated with."""
        if any(item.labels is None for item in self.images):
            return "frames"
        return "classes" if self.classes else "instances"

    def describe(self) -> str:
        """Return the page that is printed before a minute is spent."""
        kinds = ", ".join(f"{name} {count}" for name, count in sorted(Counter(self._kinds()).items()))
        count = len(self.images)
        counted = f"{count} annotated image{'s' if count > 1 else ''}"
        lines = [f"{self.root}: {counted} ({kinds})", *described(self.images)]
        if self.annotation != "frames":
            lines.append(f"annotation {self.source}; {self._regions()}")
        return "\n".join((*lines, *self.remarks))

    def _kinds(self) -> list[str]:
        masks = f"with masks of {', '.join(self.classes)}" if self.annotation == "classes" else "with masks"
        return [item.class_name or masks for item in self.images]

    def _regions(self) -> str:
        """Return how many regions there are, or how much each class covers, and how much is unknown."""
        counts = [0] * (len(self.classes) + 1)
        regions, pixels = [], 0
        for item in self.images:
            assert item.labels is not None
            pixels += item.labels.size
            counts[-1] += int(np.count_nonzero(item.labels < 0))
            if self.classes:
                shares = np.bincount(item.labels[item.labels >= 0], minlength=len(self.classes))
                counts[:-1] = [a + int(b) for a, b in zip(counts, shares, strict=False)]
            else:
                regions.append(int(item.labels.max(initial=0)))
        unknown = f"; unknown {counts[-1] / pixels:.1%}" if counts[-1] else ""
        if self.classes:
            shares_said = (
                f"{name} {count / pixels:.1%}" if count else f"{name} no pixel, so that nothing learns it"
                for name, count in zip(self.classes, counts, strict=False)
            )
            return ", ".join(shares_said) + unknown
        least, most = min(regions), max(regions)
        return f"{sum(regions)} regions, {f'{least} to {most}' if least < most else most} an image{unknown}"


def described(items: Iterable[Annotated]) -> list[str]:
    """Return what images are, a line for each kind: size, channels, depth and scale."""
    sizes, kinds, scales, groups = Counter[str](), Counter[str](), Counter[str](), set[str]()
    for item in items:
        image = item.image
        sizes[f"{image.height_px} x {image.width_px} px"] += 1
        kinds[f"{image.pixels.dtype} {'grey' if image.channels == 1 else 'colour'}"] += 1
        size_um = image.pixel_size_um
        scales["no pixel size" if size_um is None else f"{size_um:.4g} um a pixel ({image.pixel_size_source})"] += 1
        groups.add(item.group)
    if not groups:
        return []
    said = "; ".join(", ".join(_counted(counts)) for counts in (sizes, kinds, scales))
    together = f"{len(groups)} groups that stay together" if len(groups) > 1 else "all of one group"
    return [f"images     {said}; {together}"]


def _counted(counts: Counter[str]) -> list[str]:
    most = counts.most_common(4)
    rest = sum(counts.values()) - sum(count for _, count in most)
    said = [name if len(counts) == 1 else f"{count} of {name}" for name, count in most]
    return said + ([f"{rest} others"] if rest else [])


def annotated(
    image: Micrograph, labels: NDArray[np.int32] | None, class_name: str | None, lossless: bool = True
) -> Annotated:
    """Return an image with its annotation, in a group of its own that only copies of it join."""
    digest = hashlib.sha256(np.ascontiguousarray(image.pixels).data).hexdigest()
    return Annotated(image, labels, class_name, digest, digest, lossless)
