"""A U-Net that sees more of what is small."""

from typing import Any, cast

from torch import Tensor, nn
from torch.nn import functional as F


class Enlarged(nn.Module):
    """A U-Net of segmentation-models-pytorch on enlarged tiles, whose logits are averaged back; same names of weights.

    The finest features of a U-Net's encoder have half the resolution of what it is shown: here that is all of it.
    """

    def __init__(self, plain: Any, times: int) -> None:
        super().__init__()
        self.encoder = plain.encoder
        self.decoder = plain.decoder
        self.segmentation_head = plain.segmentation_head
        self.times = times

    def forward(self, tiles: Tensor) -> Tensor:
        """Turn tiles (N, C, Y, X) into logits (N, K, Y, X)."""
        features = self.encoder(enlarge(tiles, self.times))
        return reduce(cast(Tensor, self.segmentation_head(self.decoder(features))), self.times)


def enlarge(tiles: Tensor, times: int) -> Tensor:
    """Return (N, C, Y, X) with so many pixels for one along each axis, interpolated bilinearly."""
    return F.interpolate(tiles, scale_factor=times, mode="bilinear") if times > 1 else tiles


def reduce(answer: Tensor, times: int) -> Tensor:
    """Return the means of squares of so many pixels along each axis."""
    return F.avg_pool2d(answer, times) if times > 1 else answer
