"""`micro fractions`: how much of a specimen each phase is."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from micro.cli.app import DONE, app, make_room
from micro.cli.screen import err, out
from micro.errors import RunRefused


@app.command
def fractions(
    run: Path,
    *,
    grid: int = 10,
    json_file: Annotated[Path | None, Parameter(name="--json")] = None,
    store: Annotated[str | None, Parameter(env_var="MICRO_STORE")] = None,
) -> int:
    """Print the volume fraction of each phase over the images of a run, with its 95 % interval and %RA.

    Every image is a field of one specimen. By areas as in ASTM E1245, and by points as in ASTM E562.

    Parameters
    ----------
    run
        Folder of the run, its --out.
    grid
        Points across and down on each field.
    json_file
        File for the figures, and for what was found on each field.
    store
        Address of the run's ledger, where it is no file in its folder.
    """
    from micro.line.fractions import left_out, of_run

    if json_file is not None:
        make_room(json_file)
    found = of_run(run, grid)
    for each in found:
        out.print(f"{each.phase}\n  areas (E1245)   {each.areas}\n  points (E562)   {each.points}")
    for name, reason in left_out(run).items():
        err.print(f"Left out: {name}: {reason}")
    for name in _corrected(run, store):
        err.print(f"Counted as it was found, not as it was corrected: {name}. Corrected labels name no phases.")
    if json_file is not None:
        json_file.write_text(json.dumps([asdict(each) for each in found], indent=2) + "\n", encoding="utf-8")
    return DONE


def _corrected(run: Path, store: str | None) -> list[str]:
    """Return the images of a run whose labels a person corrected; none where its ledger is not at hand."""
    from micro.line.corrections import said_of

    try:
        return sorted({said.image for said in said_of(run, store) if said.labels})
    except RunRefused:
        return []
