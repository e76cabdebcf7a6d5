"""`micro report`: what a run or a specimen came to, as one page."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from micro.cli.app import DONE, app
from micro.cli.screen import out
from micro.errors import BadSetting


@app.command
def report(
    folder: Path,
    *,
    operator: str = "",
    out_file: Annotated[Path | None, Parameter(name=["--out", "-o"])] = None,
    store: Annotated[str | None, Parameter(env_var="MICRO_STORE")] = None,
) -> int:
    """Write what a run or a specimen came to as one HTML page that opens anywhere.

    Parameters
    ----------
    folder
        Folder of a run, the --out of `micro predict`, which may still be under way; or of a specimen, the --out of
        `micro measure`, whose page has a place to sign.
    operator
        Who measured the specimen.
    out_file
        File of the page; report.html in the folder if not given.
    store
        Address of the run's ledger, where it is no file in its folder.
    """
    from micro import specimen
    from micro.line import RECORD_NAME, REPORT_NAME

    file = out_file or folder / REPORT_NAME
    if file.suffix.lower() not in (".html", ".htm"):  # what else lies there may be a record or a ledger
        raise BadSetting(f"--out {file}: the report is a page. Give a file that ends in .html.")
    # no specimen is measured into the folder of a run, but a run may have taken the place of one
    if (folder / specimen.RECORD_NAME).exists() and not (folder / RECORD_NAME).exists():
        from micro.report.specimen import write_specimen

        write_specimen(folder, file, operator)
    elif operator:
        raise BadSetting(f"--operator says who measured a specimen, and {folder} is none. Leave it out.")
    else:
        from micro.report.run import write_run

        write_run(folder, file, store)
    out.print(f"Report: {file}")
    return DONE
