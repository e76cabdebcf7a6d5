import csv
from pathlib import Path

import numpy as np
import pytest
import tifffile

from micro import formats
from micro.errors import MicroError
from micro.formats import pixel_size
from micro_napari.writer import write_labels

LABELS = np.arange(12, dtype=np.int32).reshape(3, 4)


def test_labels_are_written_with_their_pixel_size_and_their_table(tmp_path):
    features = {"index": np.array([0, 1]), "area_um2": np.array([np.nan, 2.5])}
    attributes = {"scale": (500.0, 500.0), "units": ("nanometer", "nanometer"), "features": features}
    image, table = write_labels(str(tmp_path / "a.tif"), LABELS, attributes)
    assert np.array_equal(formats.read_labels(image), LABELS)
    with tifffile.TiffFile(image) as tif:
        assert pixel_size.of_tiff(tif, tif.series[0]).um == pytest.approx(0.5)
    with Path(table).open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [["index", "area_um2"], ["1", "2.5"]]


def test_labels_without_pixels_and_the_background_have_no_row(tmp_path):
    features = {"area_px": [0, 3, 0, 5], "index": [0, 1, 2, 3]}
    labels = np.array([[1, 1, 3], [0, 3, 3]], np.int32)
    _, table = write_labels(str(tmp_path / "a.tif"), labels, {"features": features})
    assert Path(table).read_text().splitlines() == ["area_px,index", "3,1", "5,3"]


def test_labels_without_a_table_are_one_file(tmp_path):
    assert write_labels(str(tmp_path / "a.tif"), LABELS, {}) == [str(tmp_path / "a.tif")]


def test_a_stack_is_refused(tmp_path):
    with pytest.raises(MicroError, match="3 axes"):
        write_labels(str(tmp_path / "a.tif"), LABELS[np.newaxis], {})
