"""Labels with a known table, put on an image in the window as if a bundle had found them."""

import numpy as np

from micro import bundle
from micro.micrograph import Micrograph
from micro.recipe import Recipe
from micro.regions import Maker, Prediction, Regions
from micro.tasks import grains as grain_task
from micro_napari.finding import Finding
from micro_napari.segment import show_regions


def shown(viewer, labels, name="field", pixel_size_um=0.5, layer=None):
    """Return the labels layer; layer: of the image, where it is open already."""
    image = Micrograph(np.zeros(labels.shape, np.uint8), name, pixel_size_um, "OME-XML")
    regions = Regions(labels, ("grain",) * int(labels.max()), np.full(int(labels.max()), 0.9, np.float32))
    table = grain_task.measure(regions, image)
    maker = Maker("grains-iron", "1.0.0", "1" * 64)
    prediction = Prediction(name, *labels.shape, maker, pixel_size_um, "OME-XML", regions, table)
    layer = layer or viewer.add_image(image.pixels[..., 0], name=name, scale=(pixel_size_um,) * 2, units=("um", "um"))
    return show_regions(
        viewer, layer, Finding(bundle.load("grains-iron").card, Recipe(model="grains-iron"), image, prediction)
    )


def squares(edge, step):
    """Square grains of step px that fill an image of edge px."""
    place = np.arange(edge) // step
    return (place[:, np.newaxis] * (edge // step + 1) + place + 1).astype(np.int32)


def numbered(labels):
    return np.unique(labels, return_inverse=True)[1].reshape(labels.shape).astype(np.int32) + 1
