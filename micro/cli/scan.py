"""`micro scan`: the images of a stage scan as one map."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from micro.cli.app import DONE, app
from micro.cli.screen import out

SHOWN = 10


@app.command
def scan(
    run: Path,
    *,
    out_dir: Annotated[Path | None, Parameter(name=["--out", "-o"])] = None,
    positions: Path | None = None,
    unit: Literal["um", "mm", "nm"] | None = None,
    columns: int | None = None,
    overlap: float | None = None,
    mirror: Literal["", "x", "y", "xy"] = "",
    slack_px: int = 40,
) -> int:
    """Lay the overlapping images of a run together, and list each flake once, the largest first, with stage x and y.

    Positions come from --positions, from OME-TIFF, from names such as "X=9.28Y=-10.2", or from rows and columns in the
    names; overlaps that show something correct them. Writes flakes.csv, tiles.csv and map.png.

    Parameters
    ----------
    run
        Folder of the run, the --out of `micro predict`.
    out_dir
        Folder for the map; scan/ in the run's folder if not given.
    positions
        CSV table image,x_um,y_um (or x_mm,y_mm): the stage's position of the middle of each image.
    unit
        Of positions in names that state none.
    columns
        Images a row, where their names count row by row.
    overlap
        Share of an image that neighbours share, for rows and columns; measured if not given.
    mirror
        Axes along which the stage counts against the image: x, y or xy.
    slack_px
        How far positions may be off.
    """
    from micro.line import scan as scans

    folder = out_dir or run / "scan"
    found = scans.of_run(
        run, folder, places=positions, unit=unit, columns=columns, overlap=overlap, mirror=mirror, slack_px=slack_px
    )
    for note in found.notes:
        out.print(note)
    twice = sum(flake["images"] > 1 for flake in found.flakes)
    out.print(
        f"{len(found.tiles)} images, {found.matched} of {found.compared} overlaps agree; "
        f"{len(found.flakes)} flakes, {twice} of them in several images."
    )
    for flake in found.flakes[:SHOWN]:
        size = f"{flake['area_um2']:.1f} um2" if "area_um2" in flake else f"{flake['area_px']} px"
        x, y, length = (
            (flake["stage_x_um"], flake["stage_y_um"], "um")
            if "stage_x_um" in flake
            else (flake["stage_x_px"], flake["stage_y_px"], "px")
        )
        where = f"x {x:.1f} {length}  y {y:.1f} {length}"
        out.print(f"{flake['rank']:4d}. {flake['class']:8} {size:>12}  {where}  {flake['image']}")
    out.print(f"Map: {folder / scans.MAP_NAME}")
    return DONE
