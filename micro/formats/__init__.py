"""Image files <-> micrographs and labels, with the size of a pixel and where it is stated."""

from micro.formats.headers import MAX_PIXELS
from micro.formats.image import IMAGE_SUFFIXES, decode, is_image_name, read, write_image
from micro.formats.labels import LabelFile, read_label_file, read_labels, write_labels
from micro.formats.pixel_size import PixelSize

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "LabelFile",
    "PixelSize",
    "decode",
    "is_image_name",
    "read",
    "read_label_file",
    "read_labels",
    "write_image",
    "write_labels",
]
