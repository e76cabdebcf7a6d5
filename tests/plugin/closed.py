"""napari that is closed in the midst of a folder and of an image: `python closed.py IMAGES`, for test_closing."""

import sys

import napari
import napari.settings
from cross import close
from qtpy.QtCore import QTimer

napari.settings.get_settings().application.confirm_close_window = False  # asked of everybody, at work or not
viewer = napari.Viewer()
viewer.open_sample("micro", "grains")
_, segment = viewer.window.add_plugin_dock_widget("micro", "Segment")
_, batch = viewer.window.add_plugin_dock_widget("micro", "Batch", tabify=True)
segment.cards.choose("grains-iron")
segment.run.click()
batch.folder.setText(sys.argv[1])
batch.recipe.setCurrentText("grains-iron")
batch.run.click()
said = []


def look():
    """Wait until some of the folder is done, and the window is closed then."""
    if "done" in batch.states().values():
        said.append(close(batch, "Close"))
    else:
        QTimer.singleShot(50, look)


look()
napari.run()
print(*said[0])
