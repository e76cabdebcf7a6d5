"""Stage scans: images find their places, and a flake that two of them show is counted once."""

import csv

import cv2
import numpy as np
import pytest
import tifffile

from micro import cli, formats, mosaic
from micro.errors import BadSetting
from micro.formats import stage
from micro.line import schema, tables
from tests.run_folder import Run

TILE_PX = (240, 300)
UM = 0.5
FLAKE_COUNT = 14


@pytest.fixture(scope="module")
def specimen():
    """A field (Y, X) with flakes, and their labels; no two touch."""
    rng = np.random.default_rng(5)
    labels = np.zeros((520, 760), np.int32)
    while labels.max() < FLAKE_COUNT:
        mask = np.zeros(labels.shape, np.uint8)
        middle = (int(rng.integers(40, 720)), int(rng.integers(40, 480)))
        axes = (int(rng.integers(8, 34)), int(rng.integers(8, 34)))
        cv2.ellipse(mask, middle, axes, float(rng.uniform(0, 180)), 0, 360, 1, -1)
        if not labels[cv2.dilate(mask, np.ones((9, 9), np.uint8)) > 0].any():
            labels[mask > 0] = labels.max() + 1
    field = np.full((*labels.shape, 3), 140.0)
    field[labels > 0] *= 0.75
    return (field + rng.normal(0, 2, field.shape)).clip(0, 255).astype(np.uint8), labels


def scanned(folder, specimen, corners, names, um=UM):
    """Write the run that saw the specimen through windows at corners (y, x)."""
    field, labels = specimen
    run = Run(folder / "run")
    (run.folder / "labels").mkdir()
    for number, ((y, x), name) in enumerate(zip(corners, names, strict=True), start=1):
        window = slice(y, y + TILE_PX[0]), slice(x, x + TILE_PX[1])
        numbers = np.unique(labels[window])
        numbers = numbers[numbers > 0]
        seen = np.searchsorted(numbers, labels[window]).astype(np.int32) + 1
        seen[labels[window] == 0] = 0
        path = f"labels/{number}.tif"
        formats.write_labels(run.folder / path, seen, um)
        facts = {"height_px": TILE_PX[0], "width_px": TILE_PX[1], "pixel_size_um": um, "n_regions": len(numbers)}
        kinds = [["area_px", "int"], ["touches_frame", "bool"], ["layers", "float"]]
        run.add(name, None, np.ascontiguousarray(field[window][..., ::-1]), labels=path, columns=kinds, **facts)
        for index, label in enumerate(numbers, start=1):
            rows, across = np.nonzero(seen == index)
            cut = not (rows.min() > 0 < across.min() and rows.max() < TILE_PX[0] - 1 and across.max() < TILE_PX[1] - 1)
            # a flake that is cut shows another number of layers, so that the answer says which image was believed
            measures = {"area_px": len(rows), "touches_frame": bool(cut), "layers": 9.0 if cut else float(label)}
            run.regions.append({"image_id": number, "index": index, "class": "1L", "score": 0.9, "columns": measures})
    run.store()
    database = schema.connect(run.folder)
    tables.export(database, run.folder)
    database.dispose()
    return run.folder


def rows_of(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


CORNERS = [(y, x) for y in (0, 180) for x in (0, 220, 440)]
JITTER = [(0, 0), (3, -2), (5, 4), (-4, 3), (2, 6), (6, -5)]


def test_every_flake_is_counted_once_with_its_whole_area_and_its_place_on_the_stage(tmp_path, specimen, capsys):
    _, labels = specimen
    taken = [(y + dy + 8, x + dx + 8) for (y, x), (dy, dx) in zip(CORNERS, JITTER, strict=True)]
    names = [f"t{number}.png" for number in range(6)]
    run = scanned(tmp_path, specimen, taken, names)
    table = tmp_path / "positions.csv"
    middle = (np.array(TILE_PX) - 1) / 2
    # the stage says where it wanted to be, which is some pixels off; its y counts upwards
    wanted = [(1000 + UM * (x + middle[1]), 2000 - UM * (y + middle[0])) for y, x in CORNERS]
    table.write_text("image,x_um,y_um\n" + "".join(f"{n},{x},{y}\n" for n, (x, y) in zip(names, wanted, strict=True)))
    assert cli.run(["scan", str(run), "--positions", str(table), "--mirror", "y"]) == 0

    covered = np.zeros(labels.shape, bool)
    for y, x in taken:
        covered[y : y + TILE_PX[0], x : x + TILE_PX[1]] = True
    true_px = np.bincount(labels[covered & (labels > 0)], minlength=FLAKE_COUNT + 1)[1:]
    flakes = rows_of(run / "scan/flakes.csv")
    assert len(flakes) == np.count_nonzero(true_px)
    assert [int(row["rank"]) for row in flakes] == list(range(1, len(flakes) + 1))
    areas = np.array([int(row["area_px"]) for row in flakes])
    assert (np.diff(areas) <= 0).all()
    np.testing.assert_allclose(areas, np.sort(true_px[true_px > 0])[::-1], rtol=0.04)
    assert any(int(row["images"]) > 1 for row in flakes)
    for row in flakes:
        if (label := float(row["layers"])) == 9:  # cut in every image
            continue
        y, x = np.argwhere(covered & (labels == label)).mean(0)
        assert float(row["area_um2"]) == pytest.approx(int(row["area_px"]) * UM**2)
        # the first image lies where the stage says, and all others by their overlaps with it
        shift = np.array(taken[0]) - CORNERS[0]
        assert float(row["stage_x_um"]) == pytest.approx(1000 + UM * (x - shift[1]), abs=3)
        assert float(row["stage_y_um"]) == pytest.approx(2000 - UM * (y - shift[0]), abs=3)
    placed = {row["image"]: (float(row["map_y_px"]), float(row["map_x_px"])) for row in rows_of(run / "scan/tiles.csv")}
    found = np.array([placed[name] for name in names])
    np.testing.assert_allclose(found - found[0], np.array(taken) - taken[0], atol=1)
    assert formats.read(run / "scan/map.png").pixels.shape[2] == 3
    assert "overlaps agree" in capsys.readouterr().out


def test_numbered_images_are_laid_together_by_what_their_overlaps_show(tmp_path, specimen):
    run = scanned(tmp_path, specimen, CORNERS, [f"{number:02}.png" for number in (1, 2, 3, 4, 5, 6)], um=None)
    assert cli.run(["scan", str(run), "--columns", "3", "--out", str(tmp_path / "map")]) == 0
    found = np.array([(float(row["map_y_px"]), float(row["map_x_px"])) for row in rows_of(tmp_path / "map/tiles.csv")])
    np.testing.assert_allclose(found - found[0], CORNERS, atol=1)
    flakes = rows_of(tmp_path / "map/flakes.csv")
    assert len(flakes) == len(np.unique(specimen[1][:420, :740])) - 1
    assert "stage_x_px" in flakes[0]
    assert "area_um2" not in flakes[0]


def test_a_mirrored_stage_is_noticed(tmp_path, specimen, capsys):
    run = scanned(tmp_path, specimen, CORNERS[:2], ["x=0um_y=0um.png", f"x={-UM * 220}um_y=0um.png"])
    assert cli.run(["scan", str(run)]) == 0
    assert "Is the stage mirrored" in capsys.readouterr().out
    assert cli.run(["scan", str(run), "--mirror", "x"]) == 0
    assert "1 of 1 overlaps agree" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "states neither a place on the stage"),
        (["--columns", "1"], "there is no number in its name"),
        (["--positions", "nowhere.csv"], "image,x_um,y_um"),
    ],
)
def test_images_without_positions_are_refused_with_the_ways_to_give_them(
    tmp_path, specimen, arguments, message, capsys
):
    run = scanned(tmp_path, specimen, CORNERS[:2], ["one.png", "two.png"])
    assert cli.run(["scan", str(run), *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--columns", "0"], "a row has one image or more"),
        (["--columns", "2", "--overlap", "1.5"], "a share of an image is below 1"),
        (["--columns", "2", "--overlap", "-1"], "a share of an image is below 1"),
        (["--columns", "2", "--overlap", "nan"], "a share of an image is below 1"),
        (["--columns", "2", "--slack-px", "-5"], "off by 0 px or more"),
        (["--columns", "2", "--out", "run/ledger.sqlite"], "Give another --out"),
    ],
)
def test_options_that_make_no_sense_are_refused_with_a_sentence(
    tmp_path, specimen, arguments, message, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    run = scanned(tmp_path, specimen, CORNERS[:2], ["1.png", "2.png"])
    assert cli.run(["scan", str(run), *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("1.png,nan,0\n2.png,110,0\n", "1.png is no number"),
        ("1.png,0,0\n2.png,110,inf\n", "2.png is no number"),
        ("1.png,0,0\n2.png,110,0\n1.png,5000,0\n", "two positions of 1.png"),
    ],
)
def test_a_table_of_positions_that_cannot_be_true_is_refused(tmp_path, rows, message):
    (tmp_path / "positions.csv").write_text("image,x_um,y_um\n" + rows, encoding="utf-8")
    with pytest.raises(BadSetting, match=message):
        stage.read_places(tmp_path / "positions.csv")


def test_positions_in_a_wrong_unit_by_which_nothing_overlaps_are_said(tmp_path, specimen, capsys):
    run = scanned(tmp_path, specimen, CORNERS[:2], ["x0_y0.png", f"x{UM * 220}_y0.png"])
    assert cli.run(["scan", str(run), "--unit", "um"]) == 0
    assert "No two images overlap" not in capsys.readouterr().out
    assert cli.run(["scan", str(run), "--unit", "mm"]) == 0
    assert "No two images overlap" in capsys.readouterr().out


def test_a_position_that_is_absurdly_far_away_still_makes_a_map_that_opens(tmp_path, specimen, capsys):
    run = scanned(tmp_path, specimen, CORNERS[:2], ["a.png", "b.png"])
    (tmp_path / "stage.csv").write_text("image,x_um,y_um\na.png,0,0\nb.png,1e12,0\n", encoding="utf-8")
    assert cli.run(["scan", str(run), "--positions", str(tmp_path / "stage.csv")]) == 0
    assert "No two images overlap" in capsys.readouterr().out
    assert max(formats.read(run / "scan/map.png").pixels.shape) <= 30_001


@pytest.mark.parametrize("overlap", [[], ["--overlap", "0.26"]], ids=["measured", "given"])
@pytest.mark.parametrize("um", [UM, None])
def test_columns_that_count_to_the_left_are_laid_to_the_left_on_a_mirrored_stage(tmp_path, specimen, overlap, um):
    names = [f"r{row}_c{2 - column}.png" for row in (0, 1) for column in (0, 1, 2)]
    run = scanned(tmp_path, specimen, CORNERS, names, um)
    assert cli.run(["scan", str(run), "--mirror", "x", *overlap]) == 0
    placed = {row["image"]: row for row in rows_of(run / "scan/tiles.csv")}
    found = np.array([(float(placed[name]["map_y_px"]), float(placed[name]["map_x_px"])) for name in names])
    np.testing.assert_allclose(found - found[0], CORNERS, atol=1)
    first, third = placed["r0_c0.png"], placed["r0_c2.png"]
    unit = "px" if um is None else "um"
    # places are told from the middle of the first image, and along the stage
    assert float(first[f"stage_x_{unit}"]) == pytest.approx(0, abs=0.01)
    assert float(third[f"stage_x_{unit}"]) == pytest.approx(440 * (um or 1), abs=1)


def test_marks_that_repeat_do_not_make_neighbours_in_a_row_lie_above_each_other():
    rng = np.random.default_rng(3)
    field = rng.normal(0, 0.05, (320, 520)).astype(np.float32)
    one = field[120:, :260]
    assert mosaic.pitch([(one, field[120:, 160:420])], 1) == pytest.approx([0, 160], abs=1)
    assert mosaic.pitch([(one, field[10:210, 160:420])], 1) is None


def test_a_shift_is_measured_to_a_part_of_a_pixel():
    field = cv2.GaussianBlur(np.random.default_rng(4).normal(0, 1, (260, 360)).astype(np.float32), (0, 0), 4)
    moved = cv2.warpAffine(field, np.float32([[1, 0, -120.3], [0, 1, -3.4]]), (200, 200), flags=cv2.INTER_CUBIC)
    (shift,) = mosaic.shifts([field[:200, :200], moved], np.array([[0.0, 0], [5, 118]]), 6)
    assert (shift.y_px, shift.x_px) == pytest.approx((3.4, 120.3), abs=0.05)


def test_a_shift_that_the_others_contradict_moves_no_image():
    places = np.array([[0.0, 0], [0, 80], [60, 0], [60, 80]])
    stated = places + np.array([[2, -3], [-4, 1], [3, 3], [-1, -1]])
    shifts = [
        mosaic.Shift(one, other, *(places[other] - places[one] + [0, 30 * ((one, other) == (0, 1))]), 0.9)
        for one in range(4)
        for other in range(one + 1, 4)
    ]
    doubtful = [mosaic.Shift(each.one, each.other, 1.05 * each.y_px, 1.05 * each.x_px, 0.3) for each in shifts]
    found = mosaic.settle(stated, [*shifts, *doubtful, *doubtful])
    assert found - found[3] == pytest.approx(places - places[3], abs=1)
    assert found.mean(axis=0) == pytest.approx(stated.mean(axis=0))


def test_two_regions_are_one_where_half_of_the_smaller_lies_in_the_other():
    one, other = np.zeros((2, 20, 20), np.int32)
    one[:10, 10:] = 1
    other[2:4, 2:8], other[8:13, :4], other[15:, 15:] = 1, 2, 3  # within it, by two fifths, and beyond the first image
    things = mosaic.same_things([one, other].__getitem__, np.array([[0, 0], [0, 10]]), [(20, 20)] * 2)
    parts = {tuple((piece.image, piece.index) for piece in thing) for thing in things}
    assert parts == {((0, 1), (1, 1)), ((1, 2),), ((1, 3),)}


def test_a_scan_of_a_run_that_was_killed_before_its_tables_says_what_the_ledger_says(tmp_path, specimen):
    names = [f"{number:02}.png" for number in (1, 2, 3, 4, 5, 6)]
    run = scanned(tmp_path, specimen, CORNERS, names)
    assert cli.run(["scan", str(run), "--columns", "3"]) == 0
    whole = (run / "scan/flakes.csv").read_bytes()
    (run / "regions.parquet").unlink()
    (run / "regions.csv").unlink()
    assert cli.run(["scan", str(run), "--columns", "3"]) == 0
    assert (run / "scan/flakes.csv").read_bytes() == whole


def test_a_file_that_was_written_anew_is_one_image_of_the_map(tmp_path, specimen, capsys):
    run = scanned(tmp_path, specimen, [(100, 100), *CORNERS[:2]], ["r1_c1.png", "r1_c1.png", "r1_c2.png"])
    assert cli.run(["scan", str(run), "--overlap", "0.25"]) == 0
    assert "name that several had: r1_c1.png" in " ".join(capsys.readouterr().out.split())
    assert [row["image"] for row in rows_of(run / "scan" / "tiles.csv")] == ["r1_c1.png", "r1_c2.png"]


def test_a_map_says_that_it_shows_what_was_found_and_not_what_was_corrected(tmp_path, specimen, capsys):
    run = scanned(tmp_path, specimen, CORNERS[:2], ["r0_c0.png", "r0_c1.png"])
    correct = ("correct", run, run.parent / "images" / "1.png", "--labels", run / "labels" / "2.tif", "--author", "Ann")
    assert cli.run([str(word) for word in correct]) == 0
    assert cli.run(["scan", str(run)]) == 0
    assert "not as it was corrected: r0_c1.png." in capsys.readouterr().out


def test_images_whose_pixels_have_two_sizes_are_refused(tmp_path, specimen, capsys):
    run = scanned(tmp_path, specimen, CORNERS[:2], ["1.png", "2.png"])
    database = schema.connect(run, writes=True)
    with database.begin() as connection:
        connection.execute(schema.images.update().where(schema.images.c.name == "2.png").values(pixel_size_um=2 * UM))
    database.dispose()
    assert cli.run(["scan", str(run), "--columns", "2"]) == 2
    assert "0.5 um, 1 um" in capsys.readouterr().err


def test_positions_without_a_pixel_size_are_refused(tmp_path, specimen, capsys):
    run = scanned(tmp_path, specimen, CORNERS[:2], ["x0um_y0um.png", "x110um_y0um.png"], um=None)
    assert cli.run(["scan", str(run)]) == 2
    assert "--pixel-size-um" in capsys.readouterr().err


def test_a_folder_without_a_run_is_refused(tmp_path, capsys):
    assert cli.run(["scan", str(tmp_path)]) == 2
    assert str(tmp_path) in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "unit", "place"),
    [
        ("X=9.2833Y=-10.2041.png", "mm", (9283.3, -10204.1)),
        ("scan/x120um_y-40um.tif", None, (120, -40)),
        ("a_x 1.5mm, y 2mm.jpg", None, (1500, 2000)),
        ("x120um_y0.09mm.tif", None, (120, 90)),
        ("x120_y40um.tif", "mm", (120, 40)),
        ("x120\N{MICRO SIGN}m_y-40\N{GREEK SMALL LETTER MU}m.tif", None, (120, -40)),
        ("max3_by4.png", "um", None),
        ("07.png", "um", None),
    ],
)
def test_names_state_places(name, unit, place):
    found = stage.place_in_name(name, unit)
    assert found == place if place is None else found == pytest.approx(place)


def test_a_place_without_a_unit_is_never_guessed():
    with pytest.raises(BadSetting, match="--unit"):
        stage.place_in_name("X=9.2833Y=-10.2041.png")


def test_names_state_rows_and_columns_or_count_row_by_row():
    assert stage.cells_in_names(["r2_c5.png", "row3_col5.png"]) == {"r2_c5.png": (0, 0), "row3_col5.png": (1, 0)}
    names = ["01.jpg", "02.jpg", "04.jpg", "05.jpg"]
    assert list(stage.cells_in_names(names, 3).values()) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    with pytest.raises(BadSetting, match="same row and column"):
        stage.cells_in_names(["a/1.png", "b/1.png"], 3)


def test_ome_tiff_states_a_place_in_its_own_unit(tmp_path):
    pixels = np.zeros((8, 9), np.uint8)
    plane = {"PositionX": [1.5], "PositionY": [-2.0], "PositionXUnit": ["mm"], "PositionYUnit": ["mm"]}
    tifffile.imwrite(tmp_path / "a.ome.tif", pixels, metadata={"axes": "YX", "Plane": plane})
    assert stage.place_in_ome(tmp_path / "a.ome.tif") == pytest.approx((1500, -2000))
    tifffile.imwrite(tmp_path / "b.ome.tif", pixels, metadata={"axes": "YX"})
    assert stage.place_in_ome(tmp_path / "b.ome.tif") is None
    (tmp_path / "c.png").write_bytes(b"\x89PNG\r\n")
    assert stage.place_in_ome(tmp_path / "c.png") is None


@pytest.mark.parametrize(
    "plane", ['<Plane PositionX="1.5', '<Plane PositionX="left" PositionXUnit="mm" PositionY="1" PositionYUnit="mm"/>']
)
def test_ome_tiff_whose_place_cannot_be_read_states_none(tmp_path, plane):
    head = '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((8, 9), np.uint8), description=f"{head}{plane}</OME>", metadata=None)
    assert stage.place_in_ome(tmp_path / "a.tif") is None
