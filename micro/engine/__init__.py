"""The only place where a network meets an image: one image of any size, or a stream of many."""

from micro.engine.engine import Engine, pick_device, with_channels
from micro.engine.stream import Item, Quarantined

__all__ = ["Engine", "Item", "Quarantined", "pick_device", "with_channels"]
