"""What decides a run's answers."""

import json
from dataclasses import asdict, dataclass
from hashlib import sha256

from micro.recipe import Recipe
from micro.regions import Maker


@dataclass(frozen=True)
class Identity:
    """What decides a run's answers: two runs of one fingerprint say the same of the same image."""

    recipe: Recipe
    maker: Maker
    micro_version: str

    @property
    def fingerprint(self) -> str:
        """Return the hash of everything here but the words by which the user named the bundle."""
        facts = [self.recipe.model_dump(mode="json", exclude={"model"}), asdict(self.maker), self.micro_version]
        return sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
