"""Thin crystals on oxidised silicon under the microscope: from layers to colours, and back.

`materials` holds the indices, `stack` the optics, `camera` what a camera shows of one stack. `atlas` tabulates that for
many microscopes at once, `inference` weighs them by how well they explain an image, and `naming` says how many layers
each region has.
"""

from micro.thin_film.camera import Camera, contrast
from micro.thin_film.colours import CONTRASTS, colours_of, picked
from micro.thin_film.materials import MATERIALS, Index, Material, find, refractive_index
from micro.thin_film.naming import (
    CLASSES,
    MOST_LAYERS,
    RESIDUE,
    THICK,
    UNKNOWN,
    Asked,
    Names,
    Recalled,
    Seen,
    name,
    named_by_the_others,
    objections,
    profile_of,
)
from micro.thin_film.profile import Colour, Point, Profile

__all__ = [
    "CLASSES",
    "CONTRASTS",
    "MATERIALS",
    "MOST_LAYERS",
    "RESIDUE",
    "THICK",
    "UNKNOWN",
    "Asked",
    "Camera",
    "Colour",
    "Index",
    "Material",
    "Names",
    "Point",
    "Profile",
    "Recalled",
    "Seen",
    "colours_of",
    "contrast",
    "find",
    "name",
    "named_by_the_others",
    "objections",
    "picked",
    "profile_of",
    "refractive_index",
]
