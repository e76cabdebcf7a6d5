"""The dock, the command line and the library say the same of the same image, to the last bit."""

from dataclasses import replace

import numpy as np
import pyarrow.parquet
import pytest
import screen  # noqa: F401  first: skips without napari

import micro
from micro import cli, formats
from micro.engine import Engine
from micro.scenes import flakes, grains, phases, strips
from micro_napari.finding import of

SHIPPED = {
    "grains": "grains-iron",
    "flakes": "flakes-thin",
    "defects": "sheet-steel",
    "phases": "phases-superalloy",
}
COUNT = 10


def drawn(task, seed):
    """A small image of a task, no two of one size."""
    high, wide = 112 + 8 * seed, 136 + 4 * seed
    draw = {"grains": grains.draw, "flakes": flakes.draw, "phases": phases.draw}
    return strips.draw(seed).image if task == "defects" else draw[task](seed, high, wide).image


def photographed(data, task):
    """Real images: whole where they are small, and parts of larger ones."""
    folder, pattern = {
        "grains": ("grains/pure-iron-serial/images", "*.tif"),
        "defects": ("defects/xsdd/images", "*/*.jpg"),
        "flakes": ("flakes/maskterial/GrapheneH/images", "*"),
        "phases": ("grains/nasa-superalloy/train/images", "*"),
    }[task]
    paths = sorted((data / folder).glob(pattern))
    for number in range(COUNT):
        image = formats.read(paths[number * len(paths) // COUNT])
        step = 8 * number
        yield replace(image, pixels=image.pixels[step : step + 320, step : step + 384])


@pytest.fixture
def compare(viewer, segmented, tmp_path):
    """Ask for the same images in three ways and compare everything that is said of them."""

    def compared(model, images):
        folder, out = tmp_path / "images", tmp_path / "out"
        folder.mkdir()
        for number, image in enumerate(images):
            formats.write_image(folder / f"{number}.tif", image)
        assert cli.run(["predict", str(folder), "--model", model, "--out", str(out)]) == 0
        told = {row["image"]: row for row in pyarrow.parquet.read_table(out / "images.parquet").to_pylist()}
        rows = pyarrow.parquet.read_table(out / "regions.parquet").to_pylist()
        engine, paths = Engine.load(model), sorted(folder.iterdir())
        assert len(paths) == COUNT
        found = 0
        for path in paths:
            by_library = engine.predict(micro.read(path))
            (layer,) = viewer.open(path, plugin="micro")
            segmented(layer, model)
            result = next((each for each in viewer.layers if each.name.startswith(f"{path.stem} ")), layer)
            finding = of(result)
            by_dock = finding.prediction
            assert by_dock.maker == by_library.maker
            facts = told[path.name]
            for name in ("class_name", "verdict"):
                assert getattr(by_dock, name) == getattr(by_library, name)
            assert facts["verdict"] == by_library.verdict
            assert by_dock.class_scores == by_library.class_scores
            assert {f"p_{name}": value for name, value in by_library.class_scores.items()} == {
                name: value for name, value in facts.items() if name.startswith("p_")
            }
            if by_library.regions is not None:
                labels = by_library.regions.labels
                assert np.array_equal(result.data, labels)
                assert np.array_equal(formats.read_labels(out / "labels" / f"{path.stem}.tif"), labels)
                same_tables(by_library, result.features, [row for row in rows if row["image"] == path.name])
                found += len(by_library.regions)
            viewer.layers.clear()
        return found

    return compared


def same_tables(prediction, features, rows):
    """Compare the columns of the library with napari's table, background left out, and the rows of the run."""
    regions = prediction.regions
    assert len(features) - 1 == len(rows) == len(regions)
    given = {"index": np.arange(1, len(regions) + 1), "class": np.array(regions.class_names), "score": regions.scores}
    for name, values in (given | prediction.table).items():
        shown = features[name].to_numpy()[1:]
        written = np.array([np.nan if row[name] is None else row[name] for row in rows], values.dtype)
        exact = {"equal_nan": True} if values.dtype.kind == "f" else {}
        assert np.array_equal(shown.astype(values.dtype), values, **exact), name
        assert np.array_equal(written, values, **exact), name


@pytest.mark.slow
@pytest.mark.parametrize("task", SHIPPED)
def test_dock_command_and_library_say_the_same_of_drawn_images(compare, task):
    found = compare(SHIPPED[task], [drawn(task, seed) for seed in range(COUNT)])
    assert found or task == "defects"


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("task", SHIPPED)
def test_dock_command_and_library_say_the_same_of_photographs(compare, data, task):
    compare(SHIPPED[task], photographed(data, task))
