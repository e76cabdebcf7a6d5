"""`micro fractions`: how much of a specimen each phase is."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from micro.cli.app import DONE, app, make_room
from micro.cli.screen import err, out
from micro.errors import RunRefused

if TYPE_CHECKING:
    from micro.line.fractions import PhaseFractions


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
        File for the figures, for what was found on each field, and for what is left out.
    store
        Address of the run's ledger, where it is no file in its folder.
    """
    from micro.line.fractions import left_out, of_run

    if json_file is not None:
        make_room(json_file)
    found = of_run(run, grid)
    for each in found:
        out.print(f"{each.phase}\n  areas (E1245)   {each.areas}\n  points (E562)   {each.points}")
    lacking, corrected = left_out(run), _corrected(run, store)
    for name, reason in lacking.items():
        err.print(f"Left out: {name}: {reason}")
    for name in corrected:
        err.print(f"Counted as it was found, not as it was corrected: {name}. Corrected labels name no phases.")
    if json_file is not None:
        facts = {"phases": [_facts(each) for each in found], "left_out": lacking, "not_as_corrected": corrected}
        json_file.write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return DONE


def _facts(found: "PhaseFractions") -> dict[str, Any]:
    """Return the figures of a phase as they are printed, and its fields."""
    both = {"areas": found.areas, "points": found.points}
    accuracy = {name: {"relative_accuracy_percent": each.relative_accuracy_percent} for name, each in both.items()}
    return {**asdict(found), **{name: {**asdict(each), **accuracy[name]} for name, each in both.items()}}


def _corrected(run: Path, store: str | None) -> list[str]:
    """Return the fields of a run whose labels a person corrected; none where its ledger is not at hand."""
    from micro.line.corrections import said_of
    from micro.line.fractions import fields_of

    counted = {row["sha256"] for row in fields_of(run).values()}
    try:
        return sorted({said.image for said in said_of(run, store) if said.labels and said.sha256 in counted})
    except RunRefused:
        return []
