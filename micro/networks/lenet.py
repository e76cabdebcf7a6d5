"""LeNet-5, and LeNet-5 beside AlexNet: the networks with which edge cracks of rolled sheet were first told apart."""

from collections import OrderedDict
from typing import cast

import torch
import torchvision
from torch import Tensor, nn

LENET_PX = 32
LENET_FEATURES, ALEXNET_FEATURES = 84, 4096


def lenet5(in_channels: int, classes: int) -> nn.Module:
    """Return LeNet-5 (Y. LeCun et al., Proc. IEEE 86 (1998) 2278), with ReLU and maxima in place of tanh and means.

    Frames of any size are averaged down to 32 x 32 px first.
    """
    return nn.Sequential(
        OrderedDict(features=_lenet_features(in_channels), head=nn.Linear(LENET_FEATURES, classes)),
    )


class LenetAlexnet(nn.Module):
    """The features of both networks before their last layers side by side, and one linear layer on them."""

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__()
        alexnet = torchvision.models.alexnet(weights=None)
        if in_channels != 3:
            alexnet.features[0] = nn.Conv2d(in_channels, 64, kernel_size=11, stride=4, padding=2)
        alexnet.classifier = cast(nn.Sequential, alexnet.classifier)[:-1]
        self.alexnet = alexnet
        self.lenet = _lenet_features(in_channels)
        self.head = nn.Linear(ALEXNET_FEATURES + LENET_FEATURES, classes)

    def forward(self, frames: Tensor) -> Tensor:
        """Return logits (N, K) of frames (N, C, Y, X)."""
        return cast(Tensor, self.head(torch.cat([self.alexnet(frames), self.lenet(frames)], dim=1)))


def _lenet_features(in_channels: int) -> nn.Sequential:
    """Return the layers up to the 84 values before the last one."""
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(LENET_PX),
        nn.Conv2d(in_channels, 6, 5),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(400, 120),
        nn.ReLU(inplace=True),
        nn.Linear(120, LENET_FEATURES),
        nn.ReLU(inplace=True),
    )
