import csv

import cv2
import numpy as np
import pytest
import screen  # noqa: F401  first: skips without napari
from qtpy.QtWidgets import QFileDialog

from micro import cli, formats
from micro.scenes import chips
from micro.thin_film import Profile
from micro_napari.profile import ProfileWidget
from micro_napari.reader import to_layer


def middles(scene, layers):
    """The innermost pixel (y, x) of the largest flake of each number of layers."""
    areas = np.bincount(scene.labels.ravel())[1:]
    for count in layers:
        same = [number for number, name in enumerate(scene.class_names, 1) if name == f"{count}L"]
        flake = scene.labels == max(same, key=lambda number: areas[number - 1])
        depth = cv2.distanceTransform(np.pad(flake, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
        yield tuple(int(place) for place in np.unravel_index(depth.argmax(), depth.shape))


@pytest.fixture
def chip():
    return chips.draw(4, 384, 512, material="graphene", oxide_nm=90.0)


@pytest.fixture
def profile(viewer, chip, dock) -> ProfileWidget:
    pixels, arguments, _ = to_layer(chip.image)
    viewer.add_image(pixels, **{**arguments, "name": "chip"})
    return dock("Profile")


def click(viewer, profile, count, place):
    profile.layers.setValue(count)
    profile.click.click()
    # what napari's own tool does where the mouse is pressed
    viewer.layers["chip: known flakes"].add(place)


def test_five_clicks_make_the_profile_that_the_command_makes(
    viewer, profile, chip, dock, until, tmp_path, monkeypatch, capsys
):
    counts = (1, 2, 3, 5, 6)
    places = list(middles(chip, counts))
    assert not profile.save.isEnabled()
    for count, place in zip(counts, places, strict=True):
        click(viewer, profile, count, place)
    points = viewer.layers["chip: known flakes"]
    assert points.mode == "add"
    assert profile.clicked.text() == "5 flakes clicked: 1L, 2L, 3L, 5L, 6L."
    profile.oxide_nm.setText("90")
    saved = tmp_path / "lab.yaml"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(saved), ""))
    profile.save.click()
    until(lambda: not profile.is_running)
    assert "of 5 flakes are named as you say from the others alone." in profile.said.text()

    formats.write_image(tmp_path / "chip.tif", chip.image)
    with (tmp_path / "points.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("image", "x", "y", "layers"))
        writer.writerows(("chip.tif", x, y, count) for count, (y, x) in zip(counts, places, strict=True))
    again = tmp_path / "again.yaml"
    words = ["profile", str(tmp_path / "points.csv"), "--material", "graphene", "--oxide-nm", "90", "--out", str(again)]
    assert cli.run(words) == 0
    one, other = Profile.load(saved), Profile.load(again)
    assert [point.model_copy(update={"image": ""}) for point in one.points] == [
        point.model_copy(update={"image": ""}) for point in other.points
    ]
    assert (one.material, one.oxide_nm, one.gamma) == (other.material, other.oxide_nm, other.gamma)

    segment = dock("Segment")
    segment.cards.choose("flakes-thin")
    profile.use.click()
    assert segment.recipe().settings == {"profile": str(saved)}


def test_flakes_of_measured_height_and_a_single_one_make_a_profile_too(
    viewer, profile, chip, until, tmp_path, monkeypatch
):
    saved = tmp_path / "lab.yaml"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(saved), ""))
    (first, second, third) = middles(chip, (1, 2, 6))
    assert not profile.height_nm.isVisibleTo(profile)
    profile.by.setCurrentText("Height (AFM)")
    assert profile.height_nm.isVisibleTo(profile)
    assert not profile.layers.isVisibleTo(profile)
    profile.height_nm.setValue(0.6)
    profile.click.click()
    points = viewer.layers["chip: known flakes"]
    points.add(second)
    profile.save.click()
    until(lambda: not profile.is_running)
    assert profile.said.text() == "Saved as lab.yaml."
    assert [point.known for point in Profile.load(saved).points] == ["0.6 nm"]
    profile.height_nm.setValue(2.1)
    points.add(third)
    profile.by.setCurrentText("Layers")
    click(viewer, profile, 1, first)
    assert points.features["known"].tolist() == ["0.6 nm", "2.1 nm", "1L"]
    assert profile.clicked.text().startswith("3 flakes clicked: 1L, 0.6 nm, 2.1 nm.")
    profile.save.click()
    until(lambda: not profile.is_running)
    assert "of 3 flakes are named as you say from the others alone." in profile.said.text()
    assert [point.known for point in Profile.load(saved).points] == ["0.6 nm", "2.1 nm", "1L"]


def test_flakes_that_segment_found_make_a_profile_that_nobody_counted_for(
    viewer, profile, chip, dock, until, tmp_path, monkeypatch
):
    saved = tmp_path / "lab.yaml"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(saved), ""))
    profile.found.setChecked(True)
    profile.save.click()
    assert profile.said.text() == "Segment has found no flakes in the open images yet."
    segment = dock("Segment")
    segment.cards.choose("flakes-thin")
    segment.settings.fields["material"].value = "graphene"
    segment.run.click()
    until(lambda: not segment.is_running)
    grey = viewer.add_image(chip.image.pixels[..., 1], name="grey")
    segment.image.value = grey
    segment.run.click()
    until(lambda: not segment.is_running)
    assert len(viewer.layers) == 4, "regions on both"
    profile.save.click()
    until(lambda: not profile.is_running)
    made = Profile.load(saved)
    assert made.points == ()
    assert profile.said.text() == f"Saved as lab.yaml. It holds the colours of {len(made.seen)} flakes that were found."
    images = tmp_path / "images"
    images.mkdir()
    formats.write_image(images / "chip.tif", chip.image)
    words = ["predict", str(images), "--model", "flakes-thin", "--set", "material=graphene"]
    assert cli.run([*words, "--out", str(tmp_path / "run")]) == 0
    again = tmp_path / "again.yaml"
    assert cli.run(["profile", str(tmp_path / "run"), "--material", "graphene", "--out", str(again)]) == 0
    for one, other in zip(made.seen, Profile.load(again).seen, strict=True):
        assert one.contrast == pytest.approx(other.contrast)


def test_layers_of_a_clicked_flake_can_be_changed_and_a_point_taken_away(viewer, profile):
    click(viewer, profile, 1, (40, 50))
    click(viewer, profile, 2, (80, 90))
    points = viewer.layers["chip: known flakes"]
    assert points.features["known"].tolist() == ["1L", "2L"]
    profile.select.click()
    points.selected_data = {0}
    profile.layers.setValue(4)
    assert points.features["known"].tolist() == ["4L", "2L"]
    assert "2 flakes clicked: 2L, 4L. 5 of different layers or heights are enough." in profile.clicked.text()
    points.remove_selected()
    assert "1 flake clicked: 2L." in profile.clicked.text()
    viewer.layers.remove(points)
    assert profile.clicked.text().startswith("No flake clicked yet.")


def test_flakes_stay_on_an_image_that_gets_its_pixel_size_or_is_moved(viewer, profile):
    click(viewer, profile, 1, (40, 50))
    image, points = viewer.layers["chip"], viewer.layers["chip: known flakes"]
    image.scale, image.units, image.translate = (0.39, 0.39), ("um", "um"), (10, 20)
    assert np.allclose(points.data_to_world((40, 50)), image.data_to_world((40, 50)))
    points.add(points.world_to_data(image.data_to_world((80, 90))))
    assert [(mark.y_px, mark.x_px) for _, marks in profile.marks() for mark in marks] == [(40, 50), (80, 90)]


def test_what_makes_no_profile_is_said_and_nothing_is_saved(viewer, profile, until, tmp_path, monkeypatch):
    saved = tmp_path / "lab.yaml"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(saved), ""))
    click(viewer, profile, 1, (40, 50))
    profile.oxide_nm.setText("thick")
    profile.save.click()
    assert "no number of nm" in profile.said.text()
    for oxide, place, said in (("5000", (40, 50), "oxide_nm"), ("90", (4000, 50), "lies outside")):
        click(viewer, profile, 1, place)
        profile.oxide_nm.setText(oxide)
        profile.save.click()
        until(lambda: not profile.is_running)
        assert said in profile.said.text()
    assert not saved.exists()
