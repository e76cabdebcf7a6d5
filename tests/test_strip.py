"""A run whose frames are known becomes a strip whose marks, gaps and period are known."""

import csv
import json
import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image
from toy_line import Toy, run, steps

from micro import cli, formats, measure
from micro.decide.acceptance import Rules
from micro.errors import BadSetting, MicroError
from micro.line.judging import class_names
from micro.line.strip import of_run
from micro.regions import Prediction
from micro.scenes import __main__ as scenes
from micro.strip import Camera, Layout

FRAME_MM, PERIOD_MM = 64.0, 1570.0
LAYOUT = """
width_mm: 128
frame_step_mm: 64
cameras:
  - {name: left, images: "left/*", mm_per_px_along: 8, mm_per_px_across: 8, along_mm: 20}
  - {name: right, images: "right/*", mm_per_px_along: 8, mm_per_px_across: 8, across_mm: 64}
lanes_mm: [64]
rolls_mm: {F4 work roll: 640, F5 work roll: 500}
"""


class Measuring(Toy):
    """Measures what it finds, as the engine does."""

    def judge(self, image):
        found = super().judge(image)
        return replace(found, table=measure.columns(found.regions.labels, None))


def write(path, value):
    write_frame(path, np.full((8, 8), value, np.uint8))


def write_frame(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)


@pytest.fixture(scope="module")
def coil(tmp_path_factory):
    """Two cameras with 240 frames each; the right one sees a mark once a turn, frame 7 of the left one is missing."""
    root = tmp_path_factory.mktemp("coil")
    marked = {int(place // FRAME_MM) for place in np.arange(300, 240 * FRAME_MM, PERIOD_MM)}
    for number in range(240):
        if number != 7:
            write(root / "in" / "left" / f"{number:04}.png", 0)
        write(root / "in" / "right" / f"{number:04}.png", 255 * (number in marked))
    run(root / "in", root / "out", Toy(classes=("fine", "print")))
    (root / "layout.yaml").write_text(LAYOUT)
    return root, marked


def test_frames_become_places_and_a_period_a_roll(coil, capsys):
    root, marked = coil
    arguments = ["strip", str(root / "out"), "--layout", str(root / "layout.yaml"), "--out", str(root / "strip")]
    assert cli.run(arguments) == 0
    assert cli.run([*arguments, "--fail-on-ng"]) == 3
    said = capsys.readouterr().out
    assert "F5 work roll" in said
    with (root / "strip" / "strip.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["frame"]) for row in rows] == sorted(marked)
    for row in rows:
        assert float(row["along_mm"]) == int(row["frame"]) * FRAME_MM + 32
        assert (float(row["across_mm"]), row["lane"], row["camera"], row["side"]) == (96, "2", "right", "top")
        assert (row["class_name"], row["verdict"], row["area_mm2"]) == ("print", "NG", "")
    with (root / "strip" / "periods.csv").open() as file:
        (period,) = csv.DictReader(file)
    assert float(period["period_mm"]) == pytest.approx(PERIOD_MM, rel=0.01)
    assert float(period["roll_diameter_mm"]) == pytest.approx(PERIOD_MM / math.pi, rel=0.01)
    facts = json.loads((root / "strip" / "strip.json").read_text())
    assert facts["verdict"] == "NG"
    assert facts["unclear"] == {"review": 0, "unseen": 1}
    assert facts["length_mm"] == 240 * FRAME_MM + 20, "the left camera looks 20 mm further down"


def test_the_map_has_ink_where_the_marks_are_and_none_between(coil):
    root, marked = coil
    cli.run(["strip", str(root / "out"), "--layout", str(root / "layout.yaml"), "--out", str(root / "strip")])
    picture = np.asarray(Image.open(root / "strip" / "strip.png").convert("RGB")).astype(int)
    blue = (abs(picture - (0, 114, 178)).sum(axis=2) < 30)[80:330]
    columns = np.flatnonzero(blue.any(axis=0))
    groups = 1 + np.count_nonzero(np.diff(columns) > 1)
    assert groups == len(marked)


def test_the_rules_of_a_product_judge_the_strip(coil):
    root, marked = coil
    layout = Layout.load(root / "layout.yaml")
    lenient = Rules.model_validate({"product": "p", "version": 2, "rules": [{"at_most": len(marked)}]})
    strict = Rules.model_validate({"product": "p", "version": 3, "rules": [{"at_most": len(marked) - 1}]})
    assert of_run(root / "out", layout, lenient).verdict.verdict == "REVIEW", "a frame is missing"
    assert of_run(root / "out", layout, strict).verdict.verdict == "NG"
    right = layout.model_copy(update={"cameras": layout.cameras[1:]})
    found = of_run(root / "out", right, lenient)
    assert (found.verdict.verdict, found.left_out, found.frames) == ("OK", 239, 240)


def test_an_encoder_takes_the_place_of_frame_numbers(coil, tmp_path):
    root, marked = coil
    names = [f"right/{number:04}.png" for number in range(240)]
    lines = [f"{name},{10 * number}" for number, name in enumerate(names)]
    (tmp_path / "encoder.csv").write_text("\n".join(("image,position", *lines)))
    text = LAYOUT.replace("frame_step_mm: 64", "positions: encoder.csv\nmm_per_count: 6.4")
    (tmp_path / "layout.yaml").write_text(text)
    layout = Layout.load(tmp_path / "layout.yaml")
    with pytest.raises(BadSetting, match="no position for left/0000"):
        of_run(root / "out", layout)
    found = of_run(root / "out", layout.model_copy(update={"cameras": layout.cameras[1:]}))
    assert [mark.along_mm for mark in found.marks] == pytest.approx([number * 64 + 32 for number in sorted(marked)])
    assert [mark.frame for mark in found.marks] == sorted(marked)


def test_regions_have_places_of_their_own_and_areas(tmp_path):
    frame = np.zeros((8, 32), np.uint8)
    frame[2:6, 4:6] = 200
    path = tmp_path / "in" / "7.png"
    path.parent.mkdir()
    assert cv2.imwrite(str(path), frame)
    run(tmp_path / "in", tmp_path / "out", Measuring())
    camera = Camera(name="c", side="bottom", mm_per_px_along=2, mm_per_px_across=0.5, across_mm=100, is_mirrored=True)
    found = of_run(tmp_path / "out", Layout(width_mm=100, frame_step_mm=16, cameras=(camera,)))
    (mark,) = found.marks
    assert mark.area_mm2 == 8 * 2 * 0.5
    assert (mark.along_mm, mark.across_mm, mark.side) == (7 * 16 + 4 * 2, 100 - 5 * 0.5, "bottom")
    assert (mark.class_name, mark.verdict) == ("bar", "NG")


def test_a_region_in_the_overlap_of_frames_counts_once_and_what_no_frame_shows_is_said(tmp_path, capsys):
    strip = np.zeros((60, 32), np.uint8)
    strip[2:6, 4:6] = strip[21:26, 6:9] = strip[36:42, 20:24] = 200
    for number in range(5):  # 20 mm of strip every 10 mm: the second region is whole in frames 1 and 2
        write_frame(tmp_path / "in" / f"{number}.png", strip[10 * number : 10 * number + 20])
    run(tmp_path / "in", tmp_path / "out", Measuring())
    camera = Camera(name="c", mm_per_px_along=1, mm_per_px_across=1)
    found = of_run(tmp_path / "out", Layout(width_mm=32, frame_step_mm=10, cameras=(camera,)))
    assert [(mark.along_mm, mark.area_mm2) for mark in found.marks] == [(4, 8), (23.5, 15), (39, 24)]
    assert found.seen == {"c": 1}
    assert found.describe_seen() == "seen of its length: 100 % by every camera"
    many = replace(found, seen={name: 0.1 * place for place, name in enumerate("abcdefghijk")})
    said = "0 % by a, 10 % by b, 20 % by c, less than 100 % by 7 more, 100 % by the others"
    assert many.describe_seen() == f"seen of its length: {said}"
    (tmp_path / "apart.yaml").write_text(
        "{width_mm: 32, frame_step_mm: 100, cameras: [{name: c, mm_per_px_along: 1, mm_per_px_across: 1}]}"
    )
    assert cli.run(["strip", str(tmp_path / "out"), "--layout", str(tmp_path / "apart.yaml")]) == 0
    assert "seen of its length: 23.8 % by c\n" in capsys.readouterr().out
    assert json.loads((tmp_path / "out" / "strip" / "strip.json").read_text())["seen"] == {"c": 100 / 420}


def test_of_defects_side_by_side_in_an_overlap_each_counts_and_of_three_frames_one_region(tmp_path):
    strip = np.zeros((50, 32), np.uint8)
    strip[21:26, 6:20] = strip[27:29, 11:15] = 200  # the small one lies in the circle of the large one's area
    for number, begins in enumerate((0, 6, 12, 20)):
        write_frame(tmp_path / "in" / f"{number}.png", strip[begins : begins + 30])
    (tmp_path / "at.csv").write_text("image,position\n0.png,0\n1.png,6\n2.png,12\n3.png,20\n")
    run(tmp_path / "in", tmp_path / "out", Measuring())
    camera = Camera(name="c", mm_per_px_along=1, mm_per_px_across=1)
    found = of_run(tmp_path / "out", Layout(width_mm=32, positions=tmp_path / "at.csv", cameras=(camera,)))
    assert [mark.area_mm2 for mark in found.marks] == [70, 8]


def test_what_two_cameras_of_a_side_show_of_one_place_counts_once_and_breaks_no_row_of_either(tmp_path):
    below = np.zeros((80, 32), np.uint8)
    strip = below.copy()
    below[4:8, 15:18] = 200
    strip[2:6, 15:18] = strip[24:26, 15:18] = strip[44:48, 15:19] = 200  # in the 4 mm that both cameras show
    strip[64:67, 10:13] = 200
    strip[64:67, 19:22] = 200
    for number in range(4):
        rows = slice(20 * number, 20 * number + 20)
        write_frame(tmp_path / "in" / "left" / f"{number}.png", strip[rows, :18])
        write_frame(tmp_path / "in" / "right" / f"{number}.png", strip[rows, 14:])
        write_frame(tmp_path / "in" / "under" / f"{number}.png", below[rows, ::-1])
    run(tmp_path / "in", tmp_path / "out", Measuring())
    pixel = {"mm_per_px_along": 1, "mm_per_px_across": 1}
    cameras = (
        Camera(name="l", images="left/*", **pixel),
        Camera(name="r", images="right/*", across_mm=14, **pixel),
        Camera(name="u", images="under/*", side="bottom", across_mm=32, is_mirrored=True, **pixel),
    )
    three = Rules.model_validate({"product": "p", "version": 1, "rules": [{"in_a_row": 2, "side": "top"}]})
    found = of_run(tmp_path / "out", Layout(width_mm=32, frame_step_mm=20, cameras=cameras), three)
    seen = [(mark.camera, mark.along_mm, mark.across_mm, mark.area_mm2) for mark in found.marks]
    assert seen == [
        *(("l", 4, 16.5, 12), ("u", 6, 16.5, 12), ("l", 25, 16.5, 6)),
        *(("r", 46, 17, 16), ("l", 65.5, 11.5, 9), ("r", 65.5, 20.5, 9)),
    ]
    (reason,) = found.verdict.reasons
    assert "on 4 frames in a row of l, from frame 0 on" in reason


@pytest.mark.parametrize(
    ("was", "becomes", "words"),
    [
        ("frame_step_mm: 64", "mm_per_count: 2", "frame_step_mm or positions"),
        ("lanes_mm: [64]", "lanes_mm: [64, 30]", "rising places"),
        ("name: right", "name: left", "same name"),
        ("width_mm: 128", "width_mm: 128\nframe_number: '\\d+'", "first group"),
        ("width_mm: 128", "width_mm: 128\nframe_number: '('", "no regular expression"),
        ("width_mm: 128", "width_mm: -1", "width_mm"),
        ("frame_step_mm: 64", "frame_step_mm: true", "not true or false"),
        ("frame_step_mm: 64", "positions: at.csv\nmm_per_count: 0", "a count of the encoder is some mm"),
        ("along_mm: 20", "along_mm: yes", "not true or false"),
        ("width_mm: 128", "width_mm: 128\nwidth_mm: 12", "'width_mm' stands twice"),
        ("along_mm: 20", "along_mm: .nan", "finite number"),
    ],
)
def test_a_layout_that_places_nothing_is_refused(was, becomes, words, tmp_path):
    (tmp_path / "layout.yaml").write_text(LAYOUT.replace(was, becomes))
    with pytest.raises(BadSetting, match=words):
        Layout.load(tmp_path / "layout.yaml")


def test_the_number_of_a_frame_stands_where_the_layout_says():
    camera = Camera(name="c", mm_per_px_along=1, mm_per_px_across=1)
    layout = Layout(width_mm=8, frame_step_mm=8, cameras=(camera,), frame_number=r"frame_(\d+)")
    assert layout.frame_of("coil_7/frame_0012_cam_3.png") == 12
    either = layout.model_copy(update={"frame_number": r"frame_(\d+)|shot_(\d+)"})
    with pytest.raises(BadSetting, match=r"shot_3\.png: no frame number"):
        either.frame_of("shot_3.png")


def test_a_place_has_its_lane_and_a_diameter_the_nearest_roll_within_two_percent():
    camera = Camera(name="c", mm_per_px_along=1, mm_per_px_across=1)
    rolls = {"F4": 640, "F5": 500}
    layout = Layout(width_mm=128, frame_step_mm=8, cameras=(camera,), lanes_mm=(32, 64), rolls_mm=rolls)
    assert [layout.lane(across_mm) for across_mm in (0, 31.9, 32, 63.9, 64, 128)] == [1, 1, 2, 2, 3, 3]
    assert [layout.roll_of(mm) for mm in (491, 509, 628, 652)] == ["F5", "F5", "F4", "F4"]
    assert [layout.roll_of(mm) for mm in (489, 512, 570, 626, 654)] == [None] * 5
    assert layout.model_copy(update={"rolls_mm": {}}).roll_of(500) is None


def test_what_is_no_run_or_no_camera_sees_is_refused(coil, tmp_path):
    root, _ = coil
    layout = Layout.load(root / "layout.yaml")
    with pytest.raises(MicroError, match="no tables of a run"):
        of_run(tmp_path, layout)
    elsewhere = layout.cameras[0].model_copy(update={"images": "cam9/*"})
    with pytest.raises(BadSetting, match="no camera of the layout"):
        of_run(root / "out", layout.model_copy(update={"cameras": (elsewhere,)}))
    unnumbered = layout.model_copy(update={"frame_number": "frame_(\\d+)"})
    with pytest.raises(BadSetting, match="no frame number"):
        of_run(root / "out", unnumbered)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"classes": ["prints"], "at_most": 0}, "prints, which nobody looked for. The classes .* fine, print"),
        ({"side": "Top", "at_most": 0}, "Top, which nobody looked for. The sides .* top"),
    ],
)
def test_a_rule_on_what_nobody_looked_for_is_refused_and_ships_nothing(coil, rule, words):
    root, _ = coil
    rules = Rules.model_validate({"product": "p", "version": 2, "rules": [rule]})
    with pytest.raises(BadSetting, match=words):
        of_run(root / "out", Layout.load(root / "layout.yaml"), rules)


def test_a_rule_may_name_a_class_that_the_bundle_knows_and_did_not_find(tmp_path):
    run_folder = tmp_path / "run"
    assert (
        cli.run(["predict", "sample_images/spindle.png", "--model", "spindle-pitting", "--out", str(run_folder)]) == 0
    )
    camera = Camera(name="c", mm_per_px_along=1, mm_per_px_across=1)
    layout = Layout(width_mm=500, positions=tmp_path / "at.csv", cameras=(camera,))
    (tmp_path / "at.csv").write_text("image,position\nspindle.png,0\n")
    rule = {"classes": ["pitting", "sound"], "at_most": 100}
    rules = Rules.model_validate({"product": "p", "version": 2, "rules": [rule]})
    assert of_run(run_folder, layout, rules).verdict.verdict == "OK"


def test_a_camera_that_took_nothing_or_stopped_before_the_others_keeps_the_strip_from_shipping(coil, tmp_path):
    root, marked = coil
    layout = Layout.load(root / "layout.yaml")
    third = layout.cameras[1].model_copy(update={"name": "below", "images": "below/*", "side": "bottom"})
    lenient = Rules.model_validate({"product": "p", "version": 2, "rules": [{"at_most": len(marked)}]})
    blind = of_run(root / "out", layout.model_copy(update={"cameras": (layout.cameras[1], third)}), lenient)
    assert (blind.verdict.verdict, blind.unclear.unseen) == ("REVIEW", 240)
    assert "took no image: below" in blind.describe()
    (tmp_path / "encoder.csv").write_text("\n".join(("image,position", *(f"right/{n:04}.png,{n}" for n in range(240)))))
    by_encoder = {"cameras": (layout.cameras[1], third), "frame_step_mm": None, "positions": tmp_path / "encoder.csv"}
    assert of_run(root / "out", layout.model_copy(update=by_encoder), lenient).unclear.unseen == 240
    for number in range(12):
        write(tmp_path / "in" / "left" / f"{number:04}.png", 0)
        if 2 <= number < 9:
            write(tmp_path / "in" / "right" / f"{number:04}.png", 0)
    run(tmp_path / "in", tmp_path / "out", Toy(classes=("fine", "print")))
    stopped = of_run(tmp_path / "out", layout)
    assert stopped.verdict.verdict == "REVIEW"
    assert stopped.unclear.unseen == 1 + 3, "108 and 212 mm of 64 each: the left camera looks 20 mm further down"


def test_an_encoder_tells_what_no_frame_shows_and_two_images_of_one_place(tmp_path):
    cameras = [Camera(name=name, images=f"{name}/*", mm_per_px_along=8, mm_per_px_across=8) for name in "ab"]
    layout = Layout(width_mm=64, positions=tmp_path / "at.csv", cameras=cameras)
    lines = ["image,position"]
    for number in range(12):
        # 64 mm of strip a frame, at a speed that changes
        lines += [f"{name}/{number}.png,{60 * number + number % 3}" for name in "ab"]
        for name, seen in (("a", number not in (4, 5)), ("b", number < 9)):
            if seen:
                write(tmp_path / "in" / name / f"{number}.png", 0)
    run(tmp_path / "in", tmp_path / "out", Toy(classes=("fine", "print")))
    (tmp_path / "at.csv").write_text("\n".join(lines))
    found = of_run(tmp_path / "out", layout)
    assert (found.verdict.verdict, found.unclear.unseen) == ("REVIEW", 2 + 2), "180 mm at the end are two frames of 64"
    a = layout.model_copy(update={"cameras": layout.cameras[:1], "positions": tmp_path / "twice.csv"})
    (tmp_path / "twice.csv").write_text("\n".join(lines).replace("a/1.png,61", "a/1.png,0"))
    with pytest.raises(BadSetting, match=r"a/0\.png and a/1\.png are both at one place of a"):
        of_run(tmp_path / "out", a)


def test_a_strip_of_a_run_that_was_interrupted_or_goes_on_does_not_ship(tmp_path, monkeypatch):
    monkeypatch.setattr("micro.line.station.GROUP", 1)
    for number in range(6):
        write(tmp_path / "in" / f"{number}.png", 0)
    layout = Layout(width_mm=64, frame_step_mm=64, cameras=(Camera(name="c", mm_per_px_along=8, mm_per_px_across=8),))
    running = steps(tmp_path / "in", tmp_path / "out", Toy(classes=("fine", "print")))
    for _ in range(2):
        next(running)
    record = (tmp_path / "out" / "run.json").read_text()
    running.close()
    done = of_run(tmp_path / "out", layout)
    assert (done.verdict.verdict, done.frames + done.unclear.unseen) == ("REVIEW", 6)
    run(tmp_path / "in", tmp_path / "out", Toy(classes=("fine", "print")))
    assert of_run(tmp_path / "out", layout).verdict.verdict == "OK"
    (tmp_path / "out" / "run.json").write_text(record)
    with pytest.raises(MicroError, match="goes on, or was killed"):
        of_run(tmp_path / "out", layout)


def test_two_images_that_are_one_frame_are_refused_and_a_file_written_anew_counts_once(tmp_path):
    toy, layout = (
        Toy(classes=("fine", "print")),
        Layout(width_mm=8, frame_step_mm=8, cameras=(Camera(name="c", mm_per_px_along=1, mm_per_px_across=1),)),
    )
    for value in (0, 255):
        write(tmp_path / "in" / "a" / "0001.png", value)
        run(tmp_path / "in", tmp_path / "out", toy)
    found = of_run(tmp_path / "out", layout)
    assert (found.frames, len(found.marks), found.verdict.verdict) == (1, 1, "NG")
    write(tmp_path / "in" / "a" / "0001.png", 0)
    run(tmp_path / "in", tmp_path / "out", toy)
    again = of_run(tmp_path / "out", layout)
    assert (again.frames, again.marks, again.verdict.verdict) == (1, (), "OK"), "it holds the first bytes again"
    write(tmp_path / "in" / "b" / "0001.png", 0)
    run(tmp_path / "in", tmp_path / "out", toy)
    with pytest.raises(BadSetting, match=r"a/0001\.png and b/0001\.png are both frame 1 of c"):
        of_run(tmp_path / "out", layout)


def test_frames_that_are_named_by_the_time_are_no_strip_of_a_million_kilometres(tmp_path):
    for number in range(6):
        write(tmp_path / "frames" / f"{1700000000123456789 + 10**8 * number}.png", 255)
    run(tmp_path / "frames", tmp_path / "run", Toy(classes=("fine", "print")))
    camera = Camera(name="c", mm_per_px_along=1, mm_per_px_across=1)
    layout = Layout(width_mm=64, frame_step_mm=64, cameras=(camera,))
    with pytest.raises(BadSetting, match=r"6 frames lie over 3\.2e\+04 km by `frame_number`"):
        of_run(tmp_path / "run", layout)


@pytest.mark.parametrize("position", ["nan", "inf", "-1e400"])
def test_a_position_that_is_no_number_is_refused_and_a_table_from_a_spreadsheet_is_read(position, tmp_path):
    camera = Camera(name="c", mm_per_px_along=1, mm_per_px_across=1)
    layout = Layout(width_mm=8, positions=tmp_path / "at.csv", mm_per_count=2, cameras=(camera,))
    (tmp_path / "at.csv").write_bytes(b"\xef\xbb\xbfimage,position\r\na.png,3\r\n")
    assert layout.encoder_mm() == {"a.png": 6}
    (tmp_path / "at.csv").write_text(f"image,position\na.png,{position}\n")
    with pytest.raises(BadSetting, match=r"the position of a\.png is no number"):
        layout.encoder_mm()
    (tmp_path / "at.csv").write_text("image,position\na.png,1\nb.png,2\na.png,3\n")
    with pytest.raises(BadSetting, match=r"a\.png has two positions"):
        layout.encoder_mm()


def test_an_encoder_may_count_from_tail_to_head_and_one_that_seems_to_is_named(tmp_path):
    pixels = np.zeros((8, 8), np.uint8)
    pixels[1:3, 2:4] = 200
    for number in range(4):
        write_frame(tmp_path / "in" / f"{number}.png", pixels * (number in (0, 3)))
        pixels = pixels[::-1]  # at row 1.5 of the first, and at row 5.5 of the last
    run(tmp_path / "in", tmp_path / "out", Measuring())
    (tmp_path / "at.csv").write_text("image,position\n" + "".join(f"{n}.png,{100 - 8 * n}\n" for n in range(4)))
    camera = Camera(name="c", mm_per_px_along=1, mm_per_px_across=1)
    falling = of_run(tmp_path / "out", Layout(width_mm=8, positions=tmp_path / "at.csv", cameras=(camera,)))
    assert "positions fall from image to image" in falling.describe()
    layout = Layout(width_mm=8, positions=tmp_path / "at.csv", mm_per_count=-1, cameras=(camera,))
    first, last = of_run(tmp_path / "out", layout).marks
    assert (first.image, last.along_mm - first.along_mm) == ("0.png", 24 + 4)
    assert "positions fall" not in of_run(tmp_path / "out", layout).describe()


class Told(Toy):
    """Names frames by what was drawn on them."""

    truth: dict[str, str]

    def judge(self, image):
        name = self.truth[image.name]
        verdict = "OK" if name == "clean" else "NG"
        found = Prediction(image.name, image.height_px, image.width_px, self.maker)
        return replace(found, class_name=name, class_scores={name: 1.0}, verdict=verdict)


@pytest.mark.parametrize("frames", [300, pytest.param(2000, marks=pytest.mark.slow)])
def test_a_drawn_coil_tells_the_roll_that_damaged_it_among_other_defects(frames, tmp_path):
    scenes.main(["coil", str(tmp_path), "--count", str(frames), "--seed", "1", "--period-mm", "1570"])
    told = Told()
    with (tmp_path / "truth.csv").open() as file:
        told.truth = {row["image"]: row["class"] for row in csv.DictReader(file)}
    run(tmp_path / "frames", tmp_path / "run", told)
    found = of_run(tmp_path / "run", Layout.load(tmp_path / "layout.yaml"))
    (returning,) = found.returning
    assert returning.class_name == "roll_mark"
    assert returning.period.period_mm == pytest.approx(1570, rel=0.01)
    assert returning.period.roll_diameter_mm == pytest.approx(1570 / math.pi, rel=0.01)
    assert found.length_mm == frames * FRAME_MM
    assert len({mark.class_name for mark in found.marks}) > 2


def corrected(run, *image_and_word):
    assert cli.run(["correct", str(run), *map(str, image_and_word), "--author", "Ann"]) == 0


def test_a_frame_counts_as_the_class_that_a_person_last_gave_it(tmp_path):
    frames = tmp_path / "frames"
    for scene in scenes.coil(1, 4):
        write_frame(frames / f"{scene.image.name}.png", scene.image.pixels)
    run_folder = tmp_path / "run"
    ships = ["--set", "ok_classes=red_iron"]
    assert cli.run(["predict", str(frames), "--model", "sheet-steel", "--out", str(run_folder), *ships]) == 0
    camera = Camera(name="c", mm_per_px_along=0.5, mm_per_px_across=0.5)
    layout = Layout(width_mm=64, frame_step_mm=64, cameras=(camera,))
    first, second, *_ = sorted(frames.iterdir())
    corrected(run_folder, first, "--class", "red_iron")
    corrected(run_folder, second, "--class", "red_iron")
    corrected(run_folder, second, "--class", "surface_scratch")
    found = of_run(run_folder, layout)
    marks = {mark.image: (mark.class_name, mark.verdict, mark.score) for mark in found.marks}
    assert found.corrected == 2
    assert first.name not in marks
    assert marks[second.name] == ("surface_scratch", "NG", None)
    assert "a person said of them: 2" in found.describe()


def test_a_frame_shows_the_defects_that_a_person_drew(tmp_path):
    run_folder = tmp_path / "run"
    sample = "sample_images/spindle.png"
    assert cli.run(["predict", sample, "--model", "spindle-pitting", "--out", str(run_folder)]) == 0
    camera = Camera(name="c", mm_per_px_along=1, mm_per_px_across=1)
    layout = Layout(width_mm=500, positions=tmp_path / "at.csv", mm_per_count=1, cameras=(camera,))
    (tmp_path / "at.csv").write_text("image,position\nspindle.png,0\n")
    before = of_run(run_folder, layout)
    labels = formats.read_labels(next((run_folder / "labels").glob("*.tif")))
    drawn = np.zeros_like(labels)
    drawn[10:14, 20:30] = 1
    formats.write_labels(tmp_path / "drawn.tif", drawn, None)
    corrected(run_folder, sample, "--labels", tmp_path / "drawn.tif")
    (mark,) = of_run(run_folder, layout).marks
    assert (mark.along_mm, mark.across_mm, mark.area_mm2) == (12, 25, 40)
    assert (mark.class_name, mark.verdict) == ("pitting", "NG")
    formats.write_labels(tmp_path / "none.tif", np.zeros_like(labels), None)
    corrected(run_folder, sample, "--labels", tmp_path / "none.tif")
    after = of_run(run_folder, layout)
    assert before.verdict.verdict == "NG"
    assert (after.verdict.verdict, after.marks) == ("OK", ())


def test_what_a_person_drew_has_the_class_of_what_it_covers_or_the_usual_one():
    found, drawn = np.zeros((2, 4, 8), np.int32)
    found[:2, :3], found[:2, 5:] = 1, 2
    drawn[:2, :4], drawn[:2, 4:], drawn[3] = 1, 2, 3
    rows = [{"index": 1, "class": "dent"}, {"index": 2, "class": "scale"}, {"index": 3, "class": "scale"}]
    assert class_names(drawn, found, rows) == ("dent", "scale", "scale")
    assert class_names(drawn, np.zeros_like(found), []) == ("", "", "")
