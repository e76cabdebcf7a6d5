"""A folder of annotated images: what is in it, and everything that is wrong with it, before anything is trained."""

from micro.folder.correction import corrected
from micro.folder.encoding import REENCODE_QUALITY, is_lossless, reencoded
from micro.folder.folder import Annotated, AnnotatedFolder, annotated
from micro.folder.reading import read, read_for, unlabelled
from micro.folder.shelf import Shelf

__all__ = [
    "REENCODE_QUALITY",
    "Annotated",
    "AnnotatedFolder",
    "Shelf",
    "annotated",
    "corrected",
    "is_lossless",
    "read",
    "read_for",
    "reencoded",
    "unlabelled",
]
