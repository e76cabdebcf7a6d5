"""A spec becomes a torch module with random weights; nothing is ever downloaded."""

from collections.abc import Mapping
from typing import cast

import numpy as np
import torch
import torchvision
from numpy.typing import NDArray
from torch import Tensor, nn

from micro.card import Card, NetworkSpec
from micro.errors import BadSetting, BrokenBundle
from micro.networks.lenet import LenetAlexnet, lenet5

SEGMENTERS = ("resnet18", "resnet34", "mobilenet_v2")
"""Encoders of a U-Net. Each has a finite reach, so that a tile with its halo answers as the whole image does."""

CLASSIFIERS = (
    "shufflenet_v2_x0_5",
    "shufflenet_v2_x1_0",
    "mobilenet_v3_small",
    "mobilenet_v3_large",
    "efficientnet_b0",
    "resnet18",
    "resnet34",
    "convnext_tiny",
    "alexnet",
    "lenet5",
    "lenet-alexnet",
)
"""Networks that name a whole frame; those with an AlexNet make bundles of 110 MB and take frames of 64 px or more."""

CHANNELWISE = ("shufflenet", "mobilenet", "efficientnet")
"""How the names of classifiers begin whose convolutions mostly see one channel each."""

LEVELS = range(3, 6)


def build(spec: NetworkSpec) -> nn.Module:
    """Return the network of a spec with random weights, in training mode; seed with torch.manual_seed.

    A segmenter turns (N, C, Y, X) with Y and X multiples of its `stride_px` into logits (N, K, Y, X), a classifier
    into logits (N, K). Raises BadSetting for a network that is not offered.
    """
    refuse_unknown(spec)
    return _segmenter(spec) if spec.kind == "unet" else _classifier(spec)


def trained(card: Card, kind: str, weights: Mapping[str, NDArray[np.generic]]) -> nn.Module:
    """Return the network of a bundle that is its "segmenter" or "classifier", with its weights, in training mode.

    weights: of the whole bundle, by names that begin with the kind. Raises BrokenBundle where they do not fit.
    """
    spec = card.segmenter if kind == "segmenter" else card.classifier
    assert spec is not None
    network = build(spec)
    mine = {name.partition(".")[2]: value for name, value in weights.items() if name.startswith(f"{kind}.")}
    try:
        network.load_state_dict({name: torch.from_numpy(value) for name, value in mine.items()})
    except RuntimeError as fault:
        said = f"{card.name}: its weights do not fit the {kind} that its card describes. {fault}"
        raise BrokenBundle(said) from fault
    return network


def imagenet(spec: NetworkSpec) -> dict[str, Tensor]:
    """Return the weights of a network whose encoder, or all but the last layer, learned ImageNet; they are downloaded.

    Names are those of `build`; the first layer differs in shape where the spec has other channels than red, green and
    blue. Raises BadSetting where the machine cannot download them. Their licence is not that of `micro`.
    """
    refuse_unknown(spec)
    if spec.encoder_name == "lenet5":
        raise BadSetting("Nobody offers weights of lenet5 that learned ImageNet. Leave --from out.")
    try:
        if spec.kind == "classifier":
            if spec.encoder_name == "lenet-alexnet":
                learned = torchvision.models.get_model("alexnet", weights="DEFAULT").state_dict()
                return {f"alexnet.{name}": value for name, value in learned.items()}
            return dict(torchvision.models.get_model(spec.encoder_name, weights="DEFAULT").state_dict())
        import segmentation_models_pytorch as smp

        levels = len(spec.decoder_channels)
        encoder = smp.encoders.get_encoder(spec.encoder_name, depth=levels, weights="imagenet")
    except Exception as fault:  # each library has its own way to say that nothing could be fetched
        raise BadSetting(
            f"ImageNet weights of {spec.encoder_name} cannot be downloaded here ({type(fault).__name__}). "
            f"Leave --from out, or begin from a bundle; neither needs a network connection."
        ) from fault
    return {f"encoder.{name}": value for name, value in encoder.state_dict().items()}


def learns_sooner_in_bfloat16(spec: NetworkSpec) -> bool:
    """Whether this processor trains a network faster in bfloat16 than in float32: one with AMX does, so far as known.

    AVX-512 BF16 alone took 1.3 times the seconds of float32 in a step of a U-Net. With AMX a step of a U-Net or of
    resnet18 took 0.4 of the seconds, and one of a classifier that filters each channel by itself 1.3 to 2.4 times.
    """
    able: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(able.get("amx_bf16")) and not (spec.kind == "classifier" and spec.encoder_name.startswith(CHANNELWISE))


def refuse_unknown(spec: NetworkSpec) -> None:
    """Raise BadSetting when a spec asks for a network that is not offered."""
    if spec.kind == "classifier":
        if spec.encoder_name not in CLASSIFIERS:
            raise BadSetting(f"No classifier {spec.encoder_name!r}. There are: {', '.join(CLASSIFIERS)}.")
        return
    if _looks_at_the_whole_tile(spec.encoder_name):
        raise BadSetting(
            f"{spec.encoder_name!r} averages over everything it is shown (squeeze and excitation), so its answer at a "
            f"pixel depends on how the image is cut into tiles. Take one of: {', '.join(SEGMENTERS)}."
        )
    if spec.encoder_name not in SEGMENTERS:
        raise BadSetting(f"No segmenter encoder {spec.encoder_name!r}. There are: {', '.join(SEGMENTERS)}.")
    if len(spec.decoder_channels) not in LEVELS:
        raise BadSetting(
            f"A U-Net has {LEVELS.start} to {LEVELS.stop - 1} levels, one decoder width a level, "
            f"and decoder_channels is {spec.decoder_channels}."
        )


def _looks_at_the_whole_tile(encoder_name: str) -> bool:
    marks = ("efficientnet", "se_", "senet", "mobilenet_v3", "mobilenetv3", "regnety", "skresnet", "mit_b", "resnest")
    return "lite" not in encoder_name and any(mark in encoder_name for mark in marks)


def _segmenter(spec: NetworkSpec) -> nn.Module:
    import segmentation_models_pytorch as smp  # takes seconds, and a bundle that only classifies does without

    levels = len(spec.decoder_channels)
    network = smp.Unet(
        spec.encoder_name,
        encoder_weights=None,
        encoder_depth=levels,
        decoder_channels=spec.decoder_channels,
        in_channels=spec.in_channels,
        classes=len(spec.outputs),
    )
    _drop_unused_stages(network, levels)
    return cast(nn.Module, network)


def _drop_unused_stages(network: nn.Module, levels: int) -> None:
    """Remove what a shorter U-Net never uses of its encoder: three quarters of a resnet18 of four levels."""
    encoder = cast(nn.Module, network.encoder)
    if isinstance(encoder, torchvision.models.MobileNetV2):
        encoder.features = encoder.features[: cast(list[int], encoder._out_indexes)[levels - 1] + 1]
        return
    for level in range(levels, LEVELS.stop - 1):
        delattr(encoder, f"layer{level}")


def _classifier(spec: NetworkSpec) -> nn.Module:
    if spec.encoder_name == "lenet5":
        return lenet5(spec.in_channels, len(spec.outputs))
    if spec.encoder_name == "lenet-alexnet":
        return LenetAlexnet(spec.in_channels, len(spec.outputs))
    network = cast(
        nn.Module, torchvision.models.get_model(spec.encoder_name, weights=None, num_classes=len(spec.outputs))
    )
    name, first = next((name, part) for name, part in network.named_modules() if isinstance(part, nn.Conv2d))
    if first.in_channels == spec.in_channels:
        return network
    adapted = nn.Conv2d(
        spec.in_channels,
        first.out_channels,
        cast(tuple[int, int], first.kernel_size),
        stride=cast(tuple[int, int], first.stride),
        padding=cast(tuple[int, int], first.padding),
        bias=first.bias is not None,
    )
    nn.init.kaiming_normal_(adapted.weight, mode="fan_out", nonlinearity="relu")
    parent, _, leaf = name.rpartition(".")
    setattr(network.get_submodule(parent), leaf, adapted)
    return network
