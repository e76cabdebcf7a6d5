"""The same network rewritten so that it answers sooner: equal probabilities, less arithmetic, fewer passes over memory.

Done once when a bundle is loaded; training, cards and weights on disk know nothing of it.
"""

from copy import deepcopy
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval


def accelerate(network: nn.Module) -> nn.Module:
    """Return a copy of a network of `build` for inference, whose logits differ by rounding only.

    Batch norms are folded into their convolutions, weights lie channels last, and a U-Net's decoder neither upsamples
    nor concatenates. The copy takes tiles whose edges are multiples of the network's stride, and no gradients.
    """
    plain = deepcopy(network).eval()
    fast = _Unet(plain) if hasattr(plain, "segmentation_head") else _fold(plain)
    return fast.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def steady(network: nn.Module) -> nn.Module:
    """Return a network with the same weights whose answer to a frame is the same, to the last bit, beside any others.

    On a CPU torch chooses by the number of frames and of threads who multiplies, and each rounds in its own way. Here
    oneDNN does all of it, whose sums depend on neither. Where torch has no oneDNN the network itself is returned.
    """
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return network
    steadied = deepcopy(network, {id(weight): weight for weight in (*network.parameters(), *network.buffers())})
    for name, part in list(steadied.named_modules()):
        if isinstance(part, nn.Conv2d):
            steadied.set_submodule(name, _Convolution(part))
        elif isinstance(part, nn.Linear):
            steadied.set_submodule(name, _Linear(part))
    return steadied


class _Convolution(nn.Module):
    """A convolution by oneDNN, also where torch would take another."""

    def __init__(self, plain: nn.Conv2d) -> None:
        super().__init__()
        self.plain = plain

    def forward(self, frames: Tensor) -> Tensor:
        part = self.plain
        padding = cast(tuple[int, int], part.padding)
        return torch.mkldnn_convolution(
            frames, part.weight, part.bias, padding, part.stride, part.dilation, part.groups
        )


class _Linear(nn.Module):
    """A linear layer as a convolution of one pixel by oneDNN."""

    def __init__(self, plain: nn.Linear) -> None:
        super().__init__()
        self.plain = plain

    def forward(self, values: Tensor) -> Tensor:
        pixels = values.reshape(-1, values.shape[-1], 1, 1)
        weight = self.plain.weight[:, :, None, None]
        answer = torch.mkldnn_convolution(pixels, weight, self.plain.bias, (0, 0), (1, 1), (1, 1), 1)
        return answer.reshape(*values.shape[:-1], weight.shape[0])


def _fold(network: nn.Module) -> nn.Module:
    """Return the network with every batch norm folded that reads a convolution nobody else reads."""
    traced = fx.symbolic_trace(network)
    for node in list(traced.graph.nodes):
        if node.op != "call_module" or not isinstance(norm := traced.get_submodule(node.target), nn.BatchNorm2d):
            continue
        source = node.args[0]
        if source.op != "call_module" or len(source.users) > 1:
            continue
        convolution = traced.get_submodule(source.target)
        if isinstance(convolution, nn.Conv2d):
            traced.set_submodule(source.target, fuse_conv_bn_eval(convolution, norm))
            node.replace_all_uses_with(source)
            traced.graph.erase_node(node)
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced


class _Unet(nn.Module):
    """A U-Net of segmentation-models-pytorch with a folded encoder and a decoder of `_Block`."""

    def __init__(self, plain: Any) -> None:
        super().__init__()
        self.encoder = _fold(plain.encoder)
        self.blocks = nn.ModuleList()
        width = plain.encoder.out_channels[-1]
        for block in plain.decoder.blocks:
            self.blocks.append(_Block(block, width))
            width = block.conv2[0].out_channels
        self.head = plain.segmentation_head[0]

    def forward(self, tiles: Tensor) -> Tensor:
        *features, answer = self.encoder(tiles)
        for block in self.blocks:
            answer = block(answer, features.pop())
        return cast(Tensor, self.head(answer))


class _Block(nn.Module):
    """One level up: conv3x3(concat(upsampled(coarse), skip)) as a step of coarse plus a convolution of skip."""

    def __init__(self, plain: Any, coarse_width: int) -> None:
        super().__init__()
        joint = fuse_conv_bn_eval(plain.conv1[0], plain.conv1[1])
        self.coarse = _upsampled(joint.weight[:, :coarse_width], joint.bias)
        self.skip = _narrowed(joint, coarse_width) if joint.in_channels > coarse_width else None
        self.second = fuse_conv_bn_eval(plain.conv2[0], plain.conv2[1])

    def forward(self, coarse: Tensor, skip: Tensor) -> Tensor:
        fine = self.coarse(coarse)
        if self.skip is not None:
            fine += self.skip(skip)
        return F.relu_(self.second(F.relu_(fine)))


def _upsampled(weight: Tensor, bias: Tensor) -> nn.ConvTranspose2d:
    """Return the one step that equals nearest-neighbour upsampling by two and a convolution (out, in, 3, 3).

    Of three neighbours on the fine grid two are copies of one coarse pixel. So a fine pixel sees two coarse ones along
    an axis, and the taps that met the same one add up: [w2, w1 + w2, w0 + w1, w0]. Zeros beyond the edge upsample to
    zeros, so the border is equal as well.
    """
    sums = weight.new_tensor([[0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]])
    step = nn.ConvTranspose2d(weight.shape[1], weight.shape[0], kernel_size=4, stride=2, padding=1)
    step.weight.data = torch.einsum("oiyx,ay,bx->ioab", weight, sums, sums)
    step.bias = nn.Parameter(bias)
    return step


def _narrowed(joint: nn.Conv2d, first: int) -> nn.Conv2d:
    """Return the part of a convolution that meets the channels from `first` on, without its bias."""
    part = nn.Conv2d(joint.in_channels - first, joint.out_channels, kernel_size=3, padding=1, bias=False)
    part.weight.data = joint.weight.data[:, first:]
    return part
