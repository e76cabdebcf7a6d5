"""What decides a run's answers."""

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Self

from micro.recipe import Recipe
from micro.regions import Maker


@dataclass(frozen=True)
class Identity:
    """What decides a run's answers: two runs of one fingerprint say the same of the same image.

    files: the hash of each file that the recipe's settings name, by the setting: its path does not say what is in it.
    """

    recipe: Recipe
    maker: Maker
    micro_version: str
    files: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, recipe: Recipe, maker: Maker, micro_version: str) -> Self:
        """Return the identity of a run that begins now."""
        return cls(recipe, maker, micro_version, files_of(recipe))

    @property
    def fingerprint(self) -> str:
        """Return the hash of everything here but the words by which the user named the bundle."""
        facts = [self.recipe.model_dump(mode="json", exclude={"model"}), asdict(self.maker), self.micro_version]
        facts += [dict(self.files)] if self.files else []
        return sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def files_of(recipe: Recipe) -> tuple[tuple[str, str], ...]:
    """Return the settings that name a file, each with the hash of what is in it now."""
    hashes = []
    texts = {name: value for name, value in sorted(recipe.settings.items()) if isinstance(value, str)}
    for name, value in texts.items():
        with suppress(OSError, ValueError):  # most texts name no file, and some could not
            hashes.append((name, sha256(Path(value).read_bytes()).hexdigest()))
    return tuple(hashes)
