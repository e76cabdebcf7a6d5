"""A drawn image with the answer that made it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from micro.micrograph import Micrograph


@dataclass(frozen=True, eq=False)
class Scene:
    """A drawn image and what it shows, read-only.

    image: the drawn micrograph, uint8, with the pixel size it was drawn at.
    labels: (Y, X) int32; 0 is background and region i has the value i. All zero where the whole frame is the answer.
    class_names: one name a region, in the order of the labels.
    class_name: what the frame as a whole shows; None where regions are the answer.
    classes: where the class of each pixel is the answer, the classes there may be, background first; else empty.
    twins: (Y, X) bool, where a grain is twinned; None where grains cannot be.
    """

    image: Micrograph
    labels: NDArray[np.int32]
    class_names: tuple[str, ...] = ()
    class_name: str | None = None
    classes: tuple[str, ...] = ()
    twins: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        shape_px = self.image.pixels.shape[:2]
        if self.labels.shape != shape_px or self.labels.dtype != np.int32:
            raise ValueError(f"labels are {shape_px} int32, not {self.labels.shape} {self.labels.dtype}")
        if self.labels.max(initial=0) > len(self.class_names):
            raise ValueError(f"label {self.labels.max()} has no name among {len(self.class_names)}")
        if self.classes and not set(self.class_names) <= set(self.classes[1:]):
            raise ValueError(f"regions are of {set(self.class_names)}, and the classes are {self.classes}")
        view = self.labels.view()
        view.flags.writeable = False
        object.__setattr__(self, "labels", view)

    def class_map(self) -> NDArray[np.uint8]:
        """Return the class of each pixel (Y, X) as its index in `classes`."""
        numbers = [0, *map(self.classes.index, self.class_names)]
        return np.array(numbers, np.uint8)[self.labels]
