"""Image files <-> micrographs and labels, with the size of a pixel and where it is stated."""

from micro.formats.headers import MAX_PIXELS
from micro.formats.image import IMAGE_SUFFIXES, decode, is_image_name, read, write_image
from micro.formats.labels import read_labels, write_labels

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "decode",
    "is_image_name",
    "read",
    "read_labels",
    "write_image",
    "write_labels",
]
