"""Places along and across a strip in mm, and marks that return along it."""

from micro.strip.layout import Camera, Layout
from micro.strip.periods import Period, find_period

__all__ = ["Camera", "Layout", "Period", "find_period"]
