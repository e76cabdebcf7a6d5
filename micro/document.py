"""Documents that people write: YAML whose every key stands once, and whose numbers are numbers."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set[str]()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                words = f"{key.value!r} stands twice; leave one out"
                raise yaml.constructor.ConstructorError(None, None, words, key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> Any:
    """Return what a YAML file holds.

    Raises OSError or UnicodeDecodeError where it cannot be read, and yaml.YAMLError where it is no YAML, or a key
    stands twice in one place, of which plain YAML takes the last.
    """
    return _Loader(path.read_text(encoding="utf-8")).get_single_data()


def reasons(fault: Exception) -> str:
    """Return in one line why a document is none: which keys are wrong and how, or what the system or YAML said."""
    if isinstance(fault, ValidationError):
        return "; ".join(_reason(".".join(map(str, error["loc"])), error["msg"]) for error in fault.errors())
    return f"{fault.strerror}." if isinstance(fault, OSError) else str(fault)


def _reason(place: str, message: str) -> str:
    words = message.removeprefix("Value error, ")
    return f"{place}: {words}" if place else words


def no_truth(value: object) -> object:
    """Return a value, or raise ValueError for a truth: pydantic takes true for 1, and YAML yes and on for true."""
    if isinstance(value, bool):
        raise ValueError("a number or a word is needed, and not true or false")
    return value
