import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from run_folder import Run

from micro import cli, formats
from micro.errors import MicroError
from micro.line.corrections import correct
from micro.line.fractions import left_out, of_run


def write_run(folder, fields, sha256=None):
    """Write what a run leaves: tables and label files of fields, each labels (Y, X) and the class of each region.

    Fields whose names differ by a ' behind them are images that had one name, one after the other.
    """
    images, regions = [], []
    for name, (labels, classes) in fields.items():
        path = f"labels/{name}.tif"
        (folder / "labels").mkdir(exist_ok=True)
        formats.write_labels(folder / path, np.asarray(labels, np.int32), None)
        image = {"image": name.rstrip("'") + ".png", "sha256": sha256 or f"{name:0<64}"}
        images.append({**image, "labels": path})
        regions += [{**image, "index": i, "class": c} for i, c in enumerate(classes, start=1)]
    images.append({"image": "unreadable.png", "sha256": None, "labels": None})
    write_record(folder, "finished", len(images))
    pa.parquet.write_table(pa.Table.from_pylist(images), folder / "images.parquet")
    schema = pa.schema({"image": pa.string(), "sha256": pa.string(), "index": pa.int64(), "class": pa.string()})
    pa.parquet.write_table(pa.Table.from_pylist(regions, schema), folder / "regions.parquet")


def write_record(folder, state, images, done=None):
    counts = {"images": images, "done": images if done is None else done, "quarantined": 0}
    (folder / "run.json").write_text(json.dumps({"state": state, "recipe": {}, "counts": counts}))


def left(share):
    """A field of 100 x 100 px whose left part is one region, and whose lowest row of 10 px at the right is another."""
    labels = np.zeros((100, 100), np.int32)
    labels[:, : round(100 * share)] = 1
    labels[90:, 95:] = 2
    return labels


def test_each_image_is_a_field_and_each_phase_has_both_figures(tmp_path):
    write_run(tmp_path, {f"f{share}": (left(share / 100), ("carbide", "pore")) for share in (20, 30, 40)})
    carbide, pore = of_run(tmp_path)
    assert (carbide.phase, pore.phase) == ("carbide", "pore")
    # mean 0.3, s 0.1, t(0.975, 2) = 4.303
    assert carbide.areas.mean == pytest.approx(0.3)
    assert carbide.areas.ci95 == pytest.approx(4.303 * 0.1 / np.sqrt(3), rel=1e-3)
    assert carbide.points.mean == pytest.approx(0.3)
    assert pore.areas.mean == pytest.approx(0.005)
    assert pore.areas.ci95 == 0
    assert carbide.area_of == pytest.approx({"f20.png": 0.2, "f30.png": 0.3, "f40.png": 0.4})
    assert carbide.points_of["f20.png"].points == 100


def test_of_a_file_that_was_written_anew_what_it_last_held_is_the_field_and_the_rest_is_named(tmp_path):
    write_run(tmp_path, {"a": (left(0.2), ("carbide", "pore")), "a'": (left(0.4), ("pore", "carbide"))})
    carbide, pore = of_run(tmp_path)
    assert (carbide.areas.fields, pore.areas.fields) == (1, 1)
    assert carbide.area_of == pytest.approx({"a.png": 0.005})
    assert pore.area_of == pytest.approx({"a.png": 0.4})
    missed = left_out(tmp_path)
    assert missed == {
        "a.png (a0000000)": "an earlier image of this name; the last one is the field",
        "unreadable.png": "no labels",
    }


def test_a_field_without_a_phase_counts_as_nothing_of_it(tmp_path):
    write_run(tmp_path, {"with": (left(0.5), ("carbide", "pore")), "without": (np.zeros((50, 80)), ())})
    carbide, _ = of_run(tmp_path)
    assert carbide.areas.mean == pytest.approx(0.25)
    assert carbide.areas.fields == 2


def test_the_command_prints_intervals_and_writes_what_each_field_gave(tmp_path, capsys):
    write_run(tmp_path, {f"f{share}": (left(share / 100), ("carbide", "pore")) for share in (20, 30)})
    assert cli.run(["fractions", str(tmp_path), "--grid", "5", "--json", str(tmp_path / "out.json")]) == 0
    printed = capsys.readouterr().out
    assert "carbide" in printed
    assert "%RA" in printed
    facts = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    (carbide, _) = facts["phases"]
    assert carbide["areas"]["mean"] == pytest.approx(0.25)
    accuracy = carbide["areas"]["relative_accuracy_percent"]
    assert accuracy == pytest.approx(100 * carbide["areas"]["ci95"] / 0.25)
    assert facts["left_out"].keys() == {"unreadable.png"}
    assert carbide["points_of"]["f20.png"]["points"] == 25


def test_an_image_without_labels_is_missed(tmp_path, capsys):
    write_run(tmp_path, {"a": (left(0.2), ("carbide", "pore"))})
    assert cli.run(["fractions", str(tmp_path)]) == 0
    assert "Left out: unreadable.png" in capsys.readouterr().err


def test_a_field_that_was_corrected_is_named_since_its_phases_are_those_that_were_found(tmp_path, capsys):
    made = Run(tmp_path / "run")
    (made.folder / "labels").mkdir()
    labels = left(0.2).astype(np.int32)
    formats.write_labels(tmp_path / "mine.tif", labels)
    pixels = np.asarray(labels * 80, np.uint8)
    made.add("a", None, pixels, labels="labels/a.tif", n_regions=2, height_px=100, width_px=100)
    sha256 = made.rows[0]["sha256"]
    made.store()
    write_run(made.folder, {"a": (labels, ("carbide", "pore"))}, sha256)
    correct(made.folder, made.images / "0.png", "Ada", labels=tmp_path / "mine.tif")
    assert cli.run(["fractions", str(made.folder)]) == 0
    assert "not as it was corrected: a" in " ".join(capsys.readouterr().err.split())
    write_run(made.folder, {"a": (labels, ("carbide", "pore"))})
    assert cli.run(["fractions", str(made.folder)]) == 0
    assert "corrected" not in capsys.readouterr().err, "what the file held before was, and is no field"


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--grid", "0", "a.png: 0 x 0 points do not fit"),
        ("--grid", "100", "100 x 100 points do not fit"),
        ("--json", "images.parquet/f.json", "cannot be written"),
        ("--json", ".", "is a folder"),
    ],
)
def test_a_grid_that_does_not_fit_and_a_file_that_cannot_be_are_answered_with_a_sentence(
    option, value, words, tmp_path, monkeypatch, capsys
):
    write_run(tmp_path, {"a": (left(0.2), ("carbide", "pore"))})
    monkeypatch.chdir(tmp_path)
    assert cli.run(["fractions", ".", option, value]) == 2
    assert words in " ".join(capsys.readouterr().err.split())


def test_what_a_run_left_undone_is_counted_and_one_that_goes_on_is_refused(tmp_path, capsys):
    write_run(tmp_path, {"a": (left(0.2), ("carbide", "pore"))})
    write_record(tmp_path, "interrupted", images=7, done=2)
    assert cli.run(["fractions", str(tmp_path)]) == 0
    assert "Left out: 5 images: no result yet" in capsys.readouterr().err
    write_record(tmp_path, "running", images=7, done=2)
    assert cli.run(["fractions", str(tmp_path)]) == 2
    assert "the run goes on, or was killed" in capsys.readouterr().err


def test_a_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(MicroError, match="micro predict"):
        of_run(tmp_path)


def test_regions_without_a_class_are_named(tmp_path):
    write_run(tmp_path, {"a": (left(0.2), ("carbide",))})
    with pytest.raises(MicroError, match="no class is known for the regions 2"):
        of_run(tmp_path)


def test_a_run_that_found_nothing_says_so(tmp_path):
    write_run(tmp_path, {"a": (np.zeros((50, 50)), ())})
    with pytest.raises(MicroError, match="no phase was found"):
        of_run(tmp_path)
