"""What a network says of images that nobody annotated, so far as it may be learned from."""

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.func import functional_call

from micro.training.samples import Batch

# Of its first map, which tells background from the rest, a network is sure below 1 - SURE and above SURE.
SURE = 0.9
# Two answers to one place, looked at as it is and mirrored, are the same if no map differs by more.
SAME = 0.1


@torch.no_grad()
def guessed(network: nn.Module, weights: dict[str, Tensor], batch: Batch) -> Batch:
    """Return a batch of maps with a network's own answers by other weights, of weight 0 where these are unsure.

    The network is in training mode before and after; its own weights and statistics stay as they are.
    """
    network.eval()
    plain = functional_call(network, weights, (batch.pixels,)).float().sigmoid()
    mirrored = functional_call(network, weights, (batch.pixels.flip(-1),)).float().sigmoid().flip(-1)
    network.train()
    target = (plain + mirrored) / 2
    is_same = ((plain - mirrored).abs() <= SAME).all(dim=1, keepdim=True)
    is_sure = (target[:, :1] - 0.5).abs() >= SURE - 0.5
    return replace(batch, target=target, weight=(is_same & is_sure).float())
