"""The verbs of the command line, one module a group; each loads what it needs only when it is called."""

from micro.cli import (  # noqa: F401  each registers its verbs
    anomaly,
    bundles,
    calibrate,
    correct,
    explain,
    fractions,
    gui,
    measure,
    predict,
    profile,
    report,
    scan,
    strip,
    suggest,
    train,
)
from micro.cli.app import main, run

__all__ = ["main", "run"]
