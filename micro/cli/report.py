"""`micro report`: what a run or a specimen came to, as one page."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from micro.cli.app import DONE, app
from micro.cli.screen import out


@app.command
def report(
    folder: Path,
    *,
    specimen: str | None = None,
    operator: str = "",
    out_file: Annotated[Path | None, Parameter(name=["--out", "-o"])] = None,
    store: Annotated[str | None, Parameter(env_var="MICRO_STORE")] = None,
) -> int:
    """Write what a run came to as one HTML page that opens anywhere.

    Parameters
    ----------
    folder
        Folder of the run, its --out; the run may still be under way.
    specimen
        Name of the specimen whose fields the images are: the page is then that of its grain size, with a place to
        sign, and the record that reproduces the figures lies beside it as .json.
    operator
        Who measured the specimen.
    out_file
        File of the page; report.html in the folder if not given, or specimen.html.
    store
        Address of the ledger, where it is no file in the run's folder.
    """
    from micro.line import REPORT_NAME

    if specimen is None:
        from micro.report.run import write_run

        file = out_file or folder / REPORT_NAME
        write_run(folder, file, store)
    else:
        from micro.report.specimen import write_specimen

        file = out_file or folder / "specimen.html"
        write_specimen(folder, specimen, file, operator=operator, store=store)
    out.print(f"Report: {file}")
    return DONE
