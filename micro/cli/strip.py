"""`micro strip`: the images of a run as one strip."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from micro.cli.app import DONE, NOT_GOOD, app
from micro.cli.screen import out


@app.command
def strip(
    run: Path,
    *,
    layout: Path,
    rules: Path | None = None,
    out_dir: Annotated[Path | None, Parameter(name=["--out", "-o"])] = None,
    store: Annotated[str | None, Parameter(env_var="MICRO_STORE")] = None,
    fail_on_ng: bool = False,
) -> int:
    """Map what a run found on the strip in mm, find what returns with the turn of a roll, and judge the whole strip.

    A frame that was corrected (`micro correct`) counts as what was last said of it. Writes strip.csv, periods.csv,
    strip.json and the map strip.png. Exit code: 0 done, 3 the strip is NG with --fail-on-ng.

    Parameters
    ----------
    run
        Folder of the run, the --out of `micro predict`.
    layout
        YAML file: width_mm, the cameras with their mm_per_px_along and _across and offsets, and frame_step_mm or a
        table of encoder positions.
    rules
        YAML file with product, version and rules: how many defects of which classes, areas and side it may carry.
        Without it one defect makes the strip NG.
    out_dir
        Folder for the results; the folder `strip` of the run if not given.
    store
        Address of the ledger, where it is no file in the run's folder.
    fail_on_ng
        Exit with 3 when the strip is NG.
    """
    from micro.decide import NG
    from micro.decide.acceptance import Rules
    from micro.line.strip import of_run
    from micro.report.strip import write_strip
    from micro.strip import Layout

    found = of_run(run, Layout.load(layout), None if rules is None else Rules.load(rules), store)
    place = out_dir or run / "strip"
    write_strip(found, place)
    out.print(f"{found.describe()}\nResults: {place}")
    return NOT_GOOD if fail_on_ng and found.verdict.verdict == NG else DONE
