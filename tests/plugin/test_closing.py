import contextlib
import csv
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import screen  # noqa: F401  first: skips without napari
from cross import close

from micro import formats
from micro.scenes import grains as scenes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="tells the X server that a window is to be closed")


def test_closing_napari_while_it_segments_asks_and_cancel_lets_the_work_go_on(viewer, dock, until):
    image = viewer.add_image(np.tile(scenes.draw(1, 256, 256).image.pixels[..., 0], (4, 4)), name="large")
    segment = dock("Segment")
    segment.cards.choose("grains-iron")
    segment.run.click()
    said = close(segment, "Cancel")
    until(lambda: said)
    assert "segmenting large" in said[0]
    assert segment.is_running
    assert image in viewer.layers
    segment.run.click()
    assert not segment.is_running


@pytest.mark.slow
def test_closing_napari_stops_what_it_works_on_and_keeps_what_is_done(home, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(200):
        formats.write_image(folder / f"{number:03d}.tif", scenes.draw(number % 5, 192, 192).image)
    napari = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("closed.py"), folder], stdout=subprocess.PIPE, encoding="utf-8"
    )
    begun = set()
    while napari.poll() is None:
        with contextlib.suppress(psutil.NoSuchProcess):
            begun |= set(psutil.Process(napari.pid).children(recursive=True))
        time.sleep(0.05)
    assert napari.returncode == 0
    with napari.stdout as said:
        assert "segmenting the folder images" in said.read()
    _, left = psutil.wait_procs(begun, timeout=10)
    assert begun
    assert not left
    with (tmp_path / "images-results" / "images.csv").open(encoding="utf-8", newline="") as file:
        states = [row["state"] for row in csv.DictReader(file)]
    assert 1 <= states.count("done") < 200
