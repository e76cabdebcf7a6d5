from pathlib import Path

import numpy as np
import pytest

from micro import formats
from micro.scenes import flakes, grains, phases, strips

SAMPLES = Path(__file__).resolve().parents[1] / "sample_images"


@pytest.mark.parametrize(
    ("name", "scene"),
    [
        ("grains.png", lambda: grains.draw(4, 512, 512)),
        ("flakes.png", lambda: flakes.draw(2, 512, 640)),
        ("phases.png", lambda: phases.draw(12, 512, 512)),
        ("strip.png", lambda: strips.draw(5, kind="scratch")),
    ],
)
def test_a_sample_image_is_drawn_as_its_readme_says(name, scene):
    drawn = scene().image.pixels.astype(int)
    stored = formats.read(SAMPLES / name).pixels.astype(int)
    # another processor may round a grey level the other way, and draws no other image
    assert drawn.shape == stored.shape
    assert (np.abs(drawn - stored) > 1).mean() < 0.001
