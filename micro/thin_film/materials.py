"""Crystals, oxide and silicon: complex refractive indices from published tables, and the height of one layer.

The tables are the CSV files in `indices/`; each names its paper. They serve for every number of layers: what differs
between one layer and many is smaller than what cameras do to a colour. A table without n_upright and k_upright serves
for all directions of the field.
"""

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from micro.errors import BadSetting

OXIDE, SILICON, RESIDUE = "oxide", "silicon", "residue"


class Index(NamedTuple):
    """n + ik (W,) for light whose field lies in the plane of the layers, and for a field upright to it."""

    plane: NDArray[np.complex128]
    upright: NDArray[np.complex128]


@dataclass(frozen=True)
class Material:
    """A layered crystal.

    layer_nm: height of one layer, half the c axis of the bulk (graphite: the spacing of its sheets).
    """

    name: str
    title: str
    layer_nm: float


_CRYSTALS = (
    Material("graphene", "graphene", 0.335),
    Material("mos2", "MoS2", 0.615),
    Material("ws2", "WS2", 0.618),
    Material("mose2", "MoSe2", 0.646),
    Material("wse2", "WSe2", 0.649),
    Material("hbn", "hBN", 0.333),
)
MATERIALS = tuple(crystal.name for crystal in _CRYSTALS)


def find(name: str) -> Material:
    """Return the crystal of that name, or raise BadSetting with the names there are."""
    for crystal in _CRYSTALS:
        if crystal.name == name:
            return crystal
    raise BadSetting(f"No material {name!r}. There are: {', '.join(MATERIALS)}.")


def refractive_index(name: str, wavelengths_nm: NDArray[np.float64]) -> Index:
    """Return the index of a crystal, "oxide", "silicon" or "residue" at wavelengths (W,) of 400 to 700 nm.

    Between the rows of the table it is interpolated linearly. k is positive where light is absorbed.
    Raises BadSetting for wavelengths outside the tables, which would be a guess.
    """
    table = _table(name)
    if wavelengths_nm.min() < table[0, 0] - 1 or wavelengths_nm.max() > table[-1, 0] + 1:
        raise BadSetting(f"{name}: its indices are known from {table[0, 0]:.0f} to {table[-1, 0]:.0f} nm only.")
    columns = (np.interp(wavelengths_nm, table[:, 0], column) for column in table[:, 1:].T)
    n, k, n_upright, k_upright = columns
    return Index(n + 1j * k, n_upright + 1j * k_upright)


@cache
def _table(name: str) -> NDArray[np.float64]:
    """Return wavelength in nm, n and k in the plane, n and k upright to it (W, 5)."""
    text = files(__package__).joinpath("indices", f"{name}.csv").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    rows = list(csv.DictReader(lines))
    names = ("wavelength_nm", "n", "k", *(("n_upright", "k_upright") if "n_upright" in rows[0] else ("n", "k")))
    table = np.array([[float(row[name]) for name in names] for row in rows])
    table.flags.writeable = False
    return table
