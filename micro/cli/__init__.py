"""The verbs of the command line, one module a group; each loads what it needs only when it is called."""

from micro.cli import bundles, correct, fractions, measure, predict, report, train  # noqa: F401  each registers its verbs
from micro.cli.app import main, run

__all__ = ["main", "run"]
