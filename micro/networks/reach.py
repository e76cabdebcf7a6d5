"""How far a network looks, and how much of that a tile needs around what it keeps."""

from bisect import bisect_left
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from micro.card import NetworkSpec
from micro.networks import build
from micro.tiles import Tiling, tiles

TOLERANCE = 1 / 20_000  # of the pixels; a quarter of what is promised for the labels made from the maps
KEEP_PX = 256  # the engine's tiles keep more, so their seams weigh less than those that the halo is chosen on
WIDEST_PX = 384
EDGE_PX = KEEP_PX + 2 * WIDEST_PX  # of an image that has a seam at every halo up to the widest


@dataclass(frozen=True)
class Reach:
    """How far above (and left) and below (and right) of an output pixel the input still changes it."""

    above_px: int
    below_px: int


def measure_reach(spec: NetworkSpec) -> Reach:
    """Return the exact reach of a segmenter's output pixels, the largest over one cell of its coarsest grid.

    One row of the input is lit at a time, and every row of the output that then differs from zero has seen it: weights
    are positive, so that nothing cancels.
    """
    network = build(spec).eval().double()
    for name, weight in network.named_parameters():
        # means, not sums: nothing overflows, nor fades to zero in double precision
        weight.data.fill_(0 if name.endswith("bias") else 1 if weight.ndim == 1 else 1 / weight[0].numel())
    cell = spec.stride_px
    reach = Reach(0, 0)
    edge = 16 * cell  # an even number of cells, and the middle between two
    while max(reach.above_px, reach.below_px) >= edge // 2 - cell or not reach.below_px:
        edge *= 2
        rows = edge // 2 + torch.arange(cell)
        lit = torch.zeros(cell, spec.in_channels, edge, cell, dtype=torch.double)
        lit[torch.arange(cell), :, rows] = 1
        with torch.inference_mode():
            seen = network(lit).amax(dim=(1, 3)) > 0
        distance_px = torch.arange(edge) - rows[:, None]
        reach = Reach(int(distance_px[seen].max()), int(-distance_px[seen].min()))
    return reach


def choose_halo(network: nn.Module, spec: NetworkSpec, images: Tensor, tolerance: float = TOLERANCE) -> int:
    """Return the smallest halo in px with which a trained segmenter answers in tiles as it does on the whole.

    images: (N, C, Y, X) float32, scaled as the network expects them; a few suffice, and no more than EDGE_PX of an edge
        is looked at.
    tolerance: share of pixels and maps that may change sides of a probability of one half.
    """
    images = _squared(images)
    candidates_px = range(0, WIDEST_PX + 1, spec.stride_px)
    with torch.inference_mode():
        whole = _sides(network, images)

        def is_enough(halo_px: int) -> bool:
            return _share_differing(network, images, whole, _tiling(halo_px, spec.stride_px)) < tolerance

        # more halo is never worse, so that halving finds the first that is enough
        return candidates_px[bisect_left(candidates_px, True, hi=len(candidates_px) - 1, key=is_enough)]


def share_differing(network: nn.Module, spec: NetworkSpec, images: Tensor, halo_px: int) -> float:
    """Return the share of pixels and maps that a halo leaves on another side of one half than the whole image has them.

    images: (N, C, Y, X) float32, scaled as the network expects them.
    """
    images = _squared(images)
    with torch.inference_mode():
        return _share_differing(network, images, _sides(network, images), _tiling(halo_px, spec.stride_px))


def _share_differing(network: nn.Module, images: Tensor, whole: Tensor, tiling: Tiling) -> float:
    differing = 0
    for image, sides in zip(images, whole, strict=True):
        for tile in tiles((image.shape[1], image.shape[2]), tiling):
            answer = _sides(network, image[(None, slice(None), *tile.read)])[0]
            differing += int((answer[(slice(None), *tile.keep)] != sides[(slice(None), *tile.write)]).sum())
    return differing / whole.numel()


def _sides(network: nn.Module, images: Tensor) -> Tensor:
    return torch.cat([network(image[None]) > 0 for image in images])


def _tiling(halo_px: int, stride_px: int) -> Tiling:
    return Tiling(size_px=KEEP_PX + 2 * halo_px, halo_px=halo_px, stride_px=stride_px)


def _squared(images: Tensor) -> Tensor:
    """Return images of EDGE_PX x EDGE_PX: small ones are mirrored until they are, of large ones a corner is taken."""
    for axis in (2, 3):
        while images.shape[axis] < EDGE_PX:
            images = torch.cat([images, images.flip(axis)], dim=axis)
    return images[..., :EDGE_PX, :EDGE_PX]
