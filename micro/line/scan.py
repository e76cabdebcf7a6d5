"""The images of a stage scan become one map, on which a flake that several images show is one flake."""

import csv
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from micro import formats, mosaic
from micro.errors import BadSetting, MicroError, UnreadableImage
from micro.formats import stage
from micro.illumination import substrate, thumbnail
from micro.line import schema, tables
from micro.line.corrections import said_of
from micro.line.reading import Look, Reader
from micro.line.sources import Source, is_address
from micro.micrograph import Micrograph

FLAKES_NAME, TILES_NAME, MAP_NAME = "flakes.csv", "tiles.csv", "map.png"
LOOK_PX = 500_000  # of an image, as it is laid beside its neighbours
MOST_CONTRAST = 0.5  # glare counts no more than this where images are compared
MAP_PX = 24_000_000
MOST_EDGE_PX = 30_000  # of the map, which few programs open beyond that
OUTLINE, INK = (255, 255, 0), (255, 255, 255)  # red, green, blue
KEPT_LABELS = 24
COUNTED_SLACK = 0.05  # of an image
UNSURE = "The overlaps do not look alike."


@dataclass(frozen=True)
class Scan:
    """A map of a scan.

    flakes: one row a flake, the largest first. tiles: one row an image, where it lies.
    matched, compared: how many overlaps agreed with a shift, of those that show anything. notes: what to know.
    """

    flakes: tuple[dict[str, Any], ...]
    tiles: tuple[dict[str, Any], ...]
    matched: int
    compared: int
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Tile:
    """One image of the scan.

    ome: the place in its metadata. plane: its relief, small: its pixels (y, x, 3) for the map, both reduced.
    """

    name: str
    ome: stage.Place | None
    labels: str
    shape_px: tuple[int, int]
    pixel_size_um: float | None
    plane: NDArray[np.float32]
    small: NDArray[np.uint8]


def of_run(
    folder: Path,
    out: Path,
    *,
    places: Path | None = None,
    unit: str | None = None,
    columns: int | None = None,
    overlap: float | None = None,
    mirror: str = "",
    slack_px: int = 40,
) -> Scan:
    """Join the images of a run to one map, and write flakes.csv, tiles.csv and map.png to out.

    folder: what `micro predict --out` wrote. places: CSV table of positions; without it file names and OME-XML are
    asked, and then rows and columns in the names, or numbers that count row by row in so many columns.
    overlap: share of an image that neighbours share; None measures it. Only for rows and columns.
    mirror: "x", "y" or "xy" where the stage counts against the image, which counts to the right and down.
    slack_px: how far stated positions may be off.

    Raises BadSetting where an image's position is not known, MicroError where there is no such run.
    """
    _refuse_out_of_range(columns, overlap, slack_px)
    tiles, known, anew = _of_ledger(folder)
    corrected = {said.image for said in said_of(folder) if said.labels}.intersection(tile.name for tile in tiles)
    shapes = {tile.shape_px for tile in tiles}
    if len(shapes) > 1:
        raise BadSetting(f"{folder}: the images of a scan have one size, and these have {len(shapes)}.")
    sizes = {"unknown" if tile.pixel_size_um is None else f"{tile.pixel_size_um:.4g} um" for tile in tiles}
    if len(sizes) > 1:
        raise BadSetting(
            f"{folder}: the pixels of a scan have one size, and these have {len(sizes)}: {', '.join(sorted(sizes))}. "
            "Give --pixel-size-um to `micro predict`."
        )
    shape_px = tiles[0].shape_px
    factor = _factor(shape_px)
    stated, origin_um, is_counted, notes = _stated(tiles, factor, places, unit, columns, overlap, mirror)
    if anew:
        notes.append(f"Mapped with the last image of each name that several had: {', '.join(anew)}.")
    if corrected:
        notes.append(f"Mapped as it was found, not as it was corrected: {', '.join(sorted(corrected))}.")
    if is_counted:  # who counts images does not say how far each of them is off
        slack_px = max(slack_px, round(COUNTED_SLACK * max(shape_px)))
    measured = list(mosaic.shifts([tile.plane for tile in tiles], stated / factor, max(2, round(slack_px / factor))))
    matched = sum(shift.likeness >= mosaic.LEAST_LIKENESS for shift in measured)
    if 2 * matched < len(measured):
        notes.append(f"{UNSURE} Is the stage mirrored (--mirror), or are positions off by more than --slack-px?")
    if not (is_counted or measured or mosaic.neighbours(stated, shape_px)):
        notes.append("No two images overlap by their positions. Are their unit and the size of a pixel right?")
    positions = mosaic.settle(stated / factor, measured) * factor
    if is_counted:
        positions -= positions[0]  # no stage says where they lie: places are told from the first image

    @lru_cache(KEPT_LABELS)
    def labels_of(image: int) -> NDArray[np.int32]:
        return formats.read_labels(folder / tiles[image].labels)

    whole = np.rint(positions).astype(np.int64)
    things = mosaic.same_things(labels_of, whole, [tile.shape_px for tile in tiles])
    pixel_size_um = tiles[0].pixel_size_um
    middle = (np.array(shape_px) - 1) / 2
    signs = np.array([-1 if axis in mirror else 1 for axis in "yx"])

    def on_stage(y_px: float, x_px: float) -> dict[str, float]:
        """Return a place on the map by the coordinates of the stage, or in pixels from the middle of the first."""
        away_px = signs * (np.array([y_px, x_px]) - middle)
        if pixel_size_um is None:
            return {"stage_x_px": float(away_px[1]), "stage_y_px": float(away_px[0])}
        y_um, x_um = origin_um + pixel_size_um * away_px
        return {"stage_x_um": float(x_um), "stage_y_um": float(y_um)}

    flakes = []
    outlines = []
    for thing in things:
        mask, start = mosaic.union(thing, labels_of, dict(enumerate(whole)))
        area_px = int(np.count_nonzero(mask))
        y_px, x_px = np.argwhere(mask).mean(0) + start
        rows = [known[tiles[piece.image].name, piece.index] for piece in thing]
        best = max(rows, key=lambda row: (not row.get("touches_frame"), row["area_px"]))
        size: dict[str, float] = {"area_px": area_px}
        if pixel_size_um is not None:
            size["area_um2"] = area_px * pixel_size_um**2
        flakes.append({**_of_its_own(best), **size, **on_stage(y_px, x_px), "images": len({p.image for p in thing})})
        outlines.append((mask, start))
    order = sorted(range(len(flakes)), key=lambda index: (-flakes[index]["area_px"], index))
    ranked = tuple({"rank": rank, **flakes[index]} for rank, index in enumerate(order, start=1))
    placed = tuple(
        {"image": tile.name, **on_stage(*(at + middle)), "map_x_px": at[1], "map_y_px": at[0]}
        for tile, at in zip(tiles, positions, strict=True)
    )
    drawn = _map(tiles, positions, factor, [outlines[index] for index in order])
    try:
        out.mkdir(parents=True, exist_ok=True)
        _write(out / FLAKES_NAME, ranked)
        _write(out / TILES_NAME, placed)
        formats.write_image(out / MAP_NAME, drawn)
    except OSError as fault:
        raise MicroError(f"{out}: the map cannot be written there ({fault.strerror}). Give another --out.") from fault
    return Scan(ranked, placed, matched, len(measured), tuple(notes))


def _refuse_out_of_range(columns: int | None, overlap: float | None, slack_px: int) -> None:
    if columns is not None and columns < 1:
        raise BadSetting(f"--columns {columns}: a row has one image or more.")
    if overlap is not None and not 0 <= overlap < 1:
        raise BadSetting(f"--overlap {overlap:g}: a share of an image is below 1, such as 0.1 for a tenth.")
    if slack_px < 0:
        raise BadSetting(f"--slack-px {slack_px}: positions are off by 0 px or more.")


def _of_ledger(folder: Path) -> tuple[list[_Tile], dict[tuple[str, int], dict[str, Any]], list[str]]:
    """Return the images of a run, what it says of each region, by the image's name and the label, and names.

    Several images had each of these names, as when a file was written anew, and the last one counts. The run's tables
    are no source: they lag behind its ledger where it was killed, or goes on.
    """
    database = schema.ledger_of(folder, None)
    columns = schema.images.c
    wanted = (
        sa.select(
            columns.name.label("image"), *(columns[name] for name in ("address", "labels", "pixel_size_um", "sha256"))
        )
        .where(columns.state.in_((schema.DONE, schema.QUARANTINED)))
        .order_by(columns.name, columns.stored, columns.id)
    )
    try:
        with database.connect() as connection:
            images = [{**row} for row in connection.execute(wanted).mappings()]
        rows = {name: row for name, row in tables.last_contents(images).items() if row["labels"] is not None}
        names = ("image", "index", "class", "score", "sha256", *tables.columns(database))
        known = {
            (row["image"], row["index"]): row
            for cells in tables.region_cells(database)
            for row in _rows(cells, names)
            if row["image"] in rows and row["sha256"] == rows[row["image"]]["sha256"]
        }
    except sa.exc.DBAPIError as fault:
        raise MicroError(f"{folder}: its ledger cannot be read ({schema.reason(fault)}).") from fault
    finally:
        database.dispose()
    if len(rows) < 2:
        raise MicroError(f"{folder}: a scan has at least two images. Run `micro predict` on them first.")
    earlier = {row["image"] for row in images if row["labels"] is not None and row is not rows.get(row["image"])}
    return _tiles(rows.values()), known, sorted(earlier.intersection(rows))


def _rows(cells: tables.Cells, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    nothing = [None] * len(cells["image"])
    for values in zip(*(cells.get(name, nothing) for name in names), strict=True):
        yield dict(zip(names, values, strict=True))


def _tiles(rows: Iterable[Mapping[str, Any]]) -> list[_Tile]:
    """Read the images of a run, one at a time, and keep what the map needs of each."""
    tiles = []
    reader = Reader(settle_s=0)
    for row in rows:
        try:
            image = reader.read(Look(Source(row["image"], row["address"])))
        except UnreadableImage as fault:
            raise MicroError(f"{fault} The map is made from the images as well as from the run.") from fault
        pixels = image.pixels
        factor = _factor(pixels.shape[:2])
        small = thumbnail(pixels, factor)
        center, spread = substrate(pixels).window(small.shape[:2], slice(0, small.shape[0]), slice(0, small.shape[1]))
        contrast = ((small.transpose(2, 0, 1) - center) / spread).mean(0).clip(-MOST_CONTRAST, MOST_CONTRAST)
        shown = np.broadcast_to(small, (*small.shape[:2], 3))
        scale = 1 if shown.dtype == np.uint8 else 255 / max(float(shown.max()), 1e-9)
        tiles.append(
            _Tile(
                row["image"],
                None if is_address(row["address"]) else stage.place_in_ome(Path(row["address"])),
                row["labels"],
                (image.height_px, image.width_px),
                row["pixel_size_um"],
                mosaic.relief(contrast.astype(np.float32)),
                (shown * scale).astype(np.uint8),
            )
        )
    return tiles


def _factor(shape_px: tuple[int, ...]) -> int:
    return max(1, round(math.sqrt(shape_px[0] * shape_px[1] / LOOK_PX)))


def _stated(
    tiles: Sequence[_Tile],
    factor: int,
    places: Path | None,
    unit: str | None,
    columns: int | None,
    overlap: float | None,
    mirror: str,
) -> tuple[NDArray[np.float64], NDArray[np.float64], bool, list[str]]:
    """Return where images lie (N, 2) in map pixels, the stage's (y, x) in um of the first's middle, and notes.

    Before the notes: whether rows and columns are all that is known.
    """
    names = [tile.name for tile in tiles]
    found = _places(tiles, places, unit)
    signs = np.array([-1 if axis in mirror else 1 for axis in "yx"])
    if found is None:
        cells = signs * np.array([stage.cells_in_names(names, columns)[name] for name in names])
        steps, notes = _steps(tiles, cells, factor, overlap)
        return cells @ steps, np.zeros(2), True, notes
    pixel_size_um = tiles[0].pixel_size_um
    if pixel_size_um is None:
        raise BadSetting("Positions in um need the size of a pixel. Give --pixel-size-um to `micro predict`.")
    at_um = np.array([(found[name].y_um, found[name].x_um) for name in names])
    return signs * (at_um - at_um[0]) / pixel_size_um, at_um[0], False, []


def _places(tiles: Sequence[_Tile], table: Path | None, unit: str | None) -> dict[str, stage.Place] | None:
    """Return the places of images from a table, their metadata or their names; None where these state none."""
    names = [tile.name for tile in tiles]
    if table is not None:
        found = stage.read_places(table)
        missing = [name for name in names if name not in found]
        if missing:
            raise BadSetting(f"{table}: {len(missing)} of {len(names)} images have no position, first {missing[0]}.")
        return found
    for stated in (
        {tile.name: tile.ome for tile in tiles if tile.ome is not None},
        {name: place for name in names if (place := stage.place_in_name(name, unit)) is not None},
    ):
        if len(stated) == len(names):
            return stated
    return None


def _steps(
    tiles: Sequence[_Tile], cells: NDArray[np.int64], factor: int, overlap: float | None
) -> tuple[NDArray[np.float64], list[str]]:
    """Return how far (y, x) the next row lies, and the next column (2, 2), in pixels, as stated or as overlaps show.

    cells: (N, 2) rows and columns, counted down and to the right.
    """
    shape_px = np.array(tiles[0].shape_px, np.float64)
    if overlap is not None:
        return np.diag(shape_px) * (1 - overlap), []
    plane_of = {stage.Cell(row, column): tile.plane for tile, (row, column) in zip(tiles, cells.tolist(), strict=True)}
    steps = []
    notes = []
    for axis, (down, across) in enumerate(((1, 0), (0, 1))):
        pairs = [
            (plane, plane_of[beside])
            for cell, plane in plane_of.items()
            if (beside := stage.Cell(cell.row + down, cell.column + across)) in plane_of
        ]
        step_px = mosaic.pitch(pairs, axis)
        if step_px is None and pairs:
            raise BadSetting(
                "The overlaps show nothing by which images could be laid together. Is the stage mirrored (--mirror)? "
                "Or give --overlap 0.1."
            )
        if step_px is None:
            steps.append(np.eye(2)[axis] * shape_px)
            continue
        steps.append(step_px * factor)
        share = 1 - steps[-1][axis] / shape_px[axis]
        notes.append(f"Neighbours {('down', 'across')[axis]} share {share:.1%} of an image, as their overlaps show.")
    return np.array(steps), notes


def _of_its_own(row: dict[str, Any]) -> dict[str, Any]:
    """Return what a row of the run says of a region, but for what changes on the map."""
    changes = {"area_px", "area_um2", "centroid_x_px", "centroid_y_px", "touches_frame", "sha256", "crystal"}
    return {name: value for name, value in row.items() if name not in changes}


def _map(
    tiles: Sequence[_Tile],
    positions: NDArray[np.float64],
    factor: int,
    flakes: Sequence[tuple[NDArray[np.bool_], NDArray[np.int64]]],
) -> Micrograph:
    """Draw the images where they lie, and each flake's outline with its rank."""
    shape_px = np.array(tiles[0].shape_px)
    start = positions.min(0)
    extent_px = positions.max(0) + shape_px - start
    shrink = max(float(factor), float(np.sqrt(extent_px.prod() / MAP_PX)), float(extent_px.max() / MOST_EDGE_PX))
    canvas = np.zeros((*np.ceil(extent_px / shrink).astype(int), 3), np.uint8)
    size = tuple(int(length) for length in np.maximum(shape_px // shrink, 1)[::-1])
    for tile, at in zip(tiles, positions, strict=True):
        y, x = np.floor((at - start) / shrink).astype(int)
        picture = np.asarray(cv2.resize(tile.small, size, interpolation=cv2.INTER_AREA))
        part = canvas[y : y + size[1], x : x + size[0]]
        part[...] = picture[: part.shape[0], : part.shape[1]]
    for rank, (mask, corner) in enumerate(flakes, start=1):
        outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        moved = [np.rint((line + (corner - start)[::-1]) / shrink).astype(np.int32) for line in outlines]
        cv2.polylines(canvas, moved, True, OUTLINE, 1)
        x, y = moved[0].reshape(-1, 2).max(0)
        cv2.putText(canvas, str(rank), (int(x) + 2, int(y)), cv2.FONT_HERSHEY_SIMPLEX, 0.5, INK, 1, cv2.LINE_AA)
    return Micrograph(canvas, "map")


def _write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0] if rows else ["rank"])
        writer.writeheader()
        writer.writerows(
            {name: round(value, 4) if isinstance(value, float) else value for name, value in row.items()}
            for row in rows
        )
