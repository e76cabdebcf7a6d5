"""What the values of masks mean: classes of pixels by a table, or instances in one order."""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

from micro.annotations import IGNORE
from micro.document import read_yaml

CLASSES = "classes.yaml"
_COLOUR = re.compile(r"^#([0-9a-fA-F]{6})$")
# What a mask of grey colours holds for each step of grey: red, green and blue alike.
GREY_STEP = 0x010101

Names = Mapping[int, str | None]
"""Value of a mask -> the class it means; None where it means that nothing is known."""


def named_values(path: Path) -> tuple[dict[int, str | None], list[str]]:
    """Return value -> class of a table of classes, nothing where there is none, and what is wrong with it.

    A value is a number or a colour, such as "#ff0000". The class `ignore` means that nothing is known.
    """
    if not path.is_file():
        return {}, []
    try:
        table = read_yaml(path)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as fault:
        return {}, [f"{path}: not YAML. {fault}"]
    if not isinstance(table, dict) or not all(
        _value(value) is not None and (name is None or (isinstance(name, str) and name))
        for value, name in table.items()
    ):
        return {}, [f"{path}: one line `value: name` for each class is expected, such as `0: matrix`."]
    found = {_known(value): None if str(name).lower() == IGNORE else name for value, name in table.items()}
    if len(found) < len(table):
        return {}, [f"{path}: a value has two names. Give each value one line."]
    too_large = [str(value) for value in found if value > np.iinfo(np.int32).max]
    if too_large:
        return {}, [f"{path}: {', '.join(too_large)}: values are from 0 to {np.iinfo(np.int32).max}."]
    names = [name for name in found.values() if name is not None]
    if len(names) < 2 or len(set(names)) < len(names):
        return {}, [f"{path}: two classes or more are expected, each with a name of its own; it has {names}."]
    return found, []


def class_names(names: Names) -> tuple[str, ...]:
    """Return the classes by value."""
    return tuple(name for _, name in sorted(names.items()) if name is not None)


def class_numbers(labels: NDArray[np.int32], names: Names) -> NDArray[np.int32]:
    """Return values (Y, X) as numbers of their classes, -1 for those that mean nothing known or are negative."""
    values = sorted(names)
    named = [value for value in values if names[value] is not None]
    numbers = np.array([named.index(value) if value in named else -1 for value in values], np.int32)
    numbered = numbers[np.searchsorted(values, labels).clip(max=len(values) - 1)]
    return np.where(labels < 0, np.int32(-1), numbered)


def strange_values(labels: NDArray[np.int32], names: Names) -> list[int]:
    """Return the values that a table of classes does not name."""
    values = np.unique(_runs(labels)[1])
    return [int(value) for value in values if value >= 0 and int(value) not in names]


def as_greys(labels: NDArray[np.int32], names: Names) -> NDArray[np.int32]:
    """Return labels (Y, X); those of a mask that was saved in colours of grey as greys, where only those are named."""
    if not strange_values(labels, names) or (labels % GREY_STEP).any():
        return labels
    greys = labels // np.int32(GREY_STEP)
    return labels if strange_values(greys, names) else greys


def numbered(labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return instances (Y, X) numbered from 1 in the order of their first pixels; 0 and below stay."""
    start, value = _runs(labels)
    known, first, part = np.unique(value, return_index=True, return_inverse=True)
    numbers = known.astype(np.int32)
    order = np.argsort(first)
    order = order[known[order] > 0]
    numbers[order] = np.arange(1, len(order) + 1)
    lengths = np.diff(start, append=labels.size)
    return np.repeat(numbers[part], lengths).reshape(labels.shape)


def _runs(labels: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Return where runs of one value begin in the flat array, and their values; there are far fewer than pixels."""
    flat = labels.ravel()
    start = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    return start, flat[start]


def _value(key: object) -> int | None:
    if type(key) is int and key >= 0:
        return key
    colour = _COLOUR.match(key) if isinstance(key, str) else None
    return int(colour.group(1), 16) if colour else None


def _known(key: object) -> int:
    value = _value(key)
    assert value is not None
    return value
