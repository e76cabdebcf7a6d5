import numpy as np
import screen  # noqa: F401  first: skips without napari
from napari.settings import get_plugin_settings
from npe2 import PluginManager

from micro import formats
from micro.micrograph import Micrograph


def test_an_image_is_opened_with_its_pixel_size_its_unit_and_the_names_of_its_axes(viewer, tmp_path):
    pixels = np.arange(30, dtype=np.uint8).reshape(5, 6)
    formats.write_image(tmp_path / "a.tif", Micrograph(pixels, "a", 0.25, "OME-XML"))
    (layer,) = viewer.open(str(tmp_path / "a.tif"), plugin="micro")
    assert np.array_equal(layer.data, pixels)
    assert tuple(layer.scale) == (0.25, 0.25)
    assert [str(unit) for unit in layer.units] == ["micrometer", "micrometer"]
    assert tuple(layer.axis_labels) == ("y", "x")


def test_every_dock_lies_in_a_menu_and_is_found_by_the_words_of_its_title(viewer):
    plugins = PluginManager.instance()
    menus = ("napari/layers/segment", "micro_segment", "napari/layers/measure", "napari/file/io_utilities")
    there = [item.command for menu in menus for item in plugins.iter_menu(menu) if hasattr(item, "command")]
    docks = {widget.command for widget in plugins.get_manifest("micro").contributions.widgets}
    assert docks <= set(there)
    titles = " ".join(plugins.get_command(name).title for name in docks).lower()
    for word in ("segment", "grain size", "flakes", "defects", "merge", "train", "folder", "histogram", "microscope"):
        assert word in titles


def test_segment_begins_with_the_device_and_the_tile_size_of_the_preferences(viewer, dock, monkeypatch):
    preferred = get_plugin_settings("micro").inference
    monkeypatch.setattr(preferred, "device", "cpu")
    monkeypatch.setattr(preferred, "tile_px", 256)
    segment = dock("Segment")
    assert segment.device.currentText() == "cpu"
    viewer.add_image(np.zeros((600, 600), np.uint8), name="plane")
    segment.cards.choose("grains-iron")
    # a tile of 256 px keeps 128 px between its halos: five along each edge
    assert "25 tiles" in segment.live.text()
