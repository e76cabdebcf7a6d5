"""What a run's folder says of the run: its record, and where its ledger is."""

import json
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from micro.errors import MicroError
from micro.line import LEDGER_NAME, RECORD_NAME, schema


def read(folder: Path) -> dict[str, Any]:
    """Return the record of a run; raise MicroError where the folder holds none."""
    try:
        record = json.loads((folder / RECORD_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise MicroError(f"{folder}: holds no run that can be reported ({fault}). Name the --out of a run.") from fault
    if not isinstance(record, dict) or "recipe" not in record:
        raise MicroError(f"{folder / RECORD_NAME}: is not the record of a run. Name the --out of a run.")
    return record


def ledger(folder: Path, store: str | None) -> sa.Engine:
    """Return the way to a run's ledger: in its folder, or at the address that `store` gives.

    Raises MicroError where the folder has none and no address is given.
    """
    if store is None and not (folder / LEDGER_NAME).exists():
        raise MicroError(f"{folder}: its ledger is not in the folder. Pass --store with the address of the database.")
    return schema.connect(store or folder)
