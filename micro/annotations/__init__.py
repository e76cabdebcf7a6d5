"""The files of annotation tools, one module a format: what each says of which image, and everything wrong with it."""

from micro.annotations.documents import KINDS, find
from micro.annotations.shapes import ANNOTATED, IGNORE, BadShape, Patch, Region
from micro.annotations.sheet import Document, Sheet

__all__ = ["ANNOTATED", "IGNORE", "KINDS", "BadShape", "Document", "Patch", "Region", "Sheet", "find"]
