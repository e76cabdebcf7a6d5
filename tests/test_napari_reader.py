import subprocess
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from zoo import GREY, RGB, make_zoo, pil, tiff

import micro_napari
from micro import formats
from micro.errors import UnreadableImage
from micro_napari import sample
from micro_napari.reader import get_reader

MANIFEST = Path(micro_napari.__file__).parent / "napari.yaml"


@pytest.fixture(scope="module")
def manifest():
    with warnings.catch_warnings():
        # npe2 still names fields the way of pydantic 1
        warnings.simplefilter("ignore")
        from npe2 import PluginManifest

        return PluginManifest.from_file(MANIFEST)


def calibrated(folder):
    path = folder / "calibrated.tif"
    path.write_bytes(tiff(GREY, ome=True, metadata={"axes": "YX", "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25}))
    return path


@pytest.mark.skipif(find_spec("napari") is None, reason="napari is not installed: its docks cannot be imported")
def test_the_manifest_is_valid_and_all_that_it_names_can_be_imported(manifest):
    manifest.validate_imports()


def test_the_plugin_is_called_like_the_distribution(manifest):
    assert manifest.name == "micro"
    assert all(command.id.startswith("micro.") for command in manifest.contributions.commands)


def test_the_manifest_offers_to_read_every_still_image_that_a_folder_scan_takes(manifest):
    patterns = {pattern.lstrip("*") for pattern in manifest.contributions.readers[0].filename_patterns}
    assert patterns == formats.IMAGE_SUFFIXES - {".gif"}


def test_a_layer_has_the_scale_units_and_source_of_the_file(tmp_path):
    path = str(calibrated(tmp_path))
    ((pixels, arguments, kind),) = get_reader(path)(path)
    assert kind == "image"
    assert np.array_equal(pixels, GREY)
    assert arguments["scale"] == (0.25, 0.25)
    assert arguments["units"] == ("um", "um")
    assert arguments["axis_labels"] == ("y", "x")
    assert arguments["metadata"]["pixel_size_source"] == "OME-XML"
    assert not arguments["rgb"]


def test_a_layer_without_a_known_pixel_size_is_measured_in_pixels(tmp_path):
    (tmp_path / "rgb.png").write_bytes(pil(RGB, "PNG"))
    path = str(tmp_path / "rgb.png")
    ((pixels, arguments, _),) = get_reader(path)(path)
    assert np.array_equal(pixels, RGB)
    assert arguments["rgb"]
    assert arguments["units"] == ("pixel", "pixel")
    assert arguments["metadata"]["pixel_size_um"] is None


def test_several_files_become_as_many_layers(tmp_path):
    paths = [str(calibrated(tmp_path)), str(calibrated(tmp_path))]
    assert len(get_reader(paths)(paths)) == 2


@pytest.mark.parametrize(
    "path", ["gone.png", "notes.txt", "", "n" * 9000 + ".png", "nul\0.png", [], ["gone.png"], None, 3]
)
def test_what_is_no_image_file_finds_no_reader_and_raises_nothing(path):
    assert get_reader(path) is None


def test_a_folder_finds_no_reader(tmp_path):
    assert get_reader(str(tmp_path)) is None


def test_asking_for_a_reader_reads_no_file(tmp_path):
    expected = make_zoo(tmp_path)
    for name in set(expected) - {"broken link.png"}:
        assert callable(get_reader(str(tmp_path / name)))


def test_a_bad_file_is_refused_with_the_sentence_of_the_engine(tmp_path):
    (tmp_path / "empty.png").touch()
    path = str(tmp_path / "empty.png")
    with pytest.raises(UnreadableImage, match="empty"):
        get_reader(path)(path)


@pytest.mark.parametrize("name", ["flakes", "grains", "strip"])
def test_a_sample_opens_from_the_first_place_that_has_samples(tmp_path, monkeypatch, name):
    (tmp_path / f"{name}.png").write_bytes(pil(RGB, "PNG"))
    monkeypatch.setattr(sample, "PLACES", (tmp_path / "absent", tmp_path))
    ((pixels, arguments, kind),) = getattr(sample, name)()
    assert (pixels.shape, arguments["name"], kind) == (RGB.shape, name, "image")


def test_a_sample_that_is_not_installed_is_refused_with_those_that_are(tmp_path, monkeypatch):
    (tmp_path / "grains.png").write_bytes(pil(RGB, "PNG"))
    monkeypatch.setattr(sample, "PLACES", (tmp_path,))
    with pytest.raises(UnreadableImage, match="Installed: grains"):
        sample.flakes()


def test_what_is_no_dock_can_be_imported_without_torch_qt_or_napari():
    plain = (
        "aside",
        "commands",
        "edits",
        "finding",
        "fit",
        "keeping",
        "layers",
        "reader",
        "sample",
        "teaching",
        "writer",
    )
    code = f"import sys, {', '.join(f'micro_napari.{name}' for name in plain)}; print(*sys.modules)"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )
    assert not loaded & {"torch", "napari", "qtpy", "PyQt6", "PySide6"}
