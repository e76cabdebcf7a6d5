from itertools import islice

import pytest

from micro.errors import RunRefused
from micro.line.labels import candidates, flat, is_inside

LONG = ["x" * 251 + ".png", "é" * 125 + ".png", "d/" * 800 + "a.png", "l" * 1000 + "/a.png", "l" * 300 + "/a.png"]


def first(name: str, count: int = 4) -> list[str]:
    return list(islice(candidates(name), count))


def test_the_best_label_file_bears_the_path_of_the_image_without_its_suffix() -> None:
    assert first("day/a.b.png", 1) == ["labels/day/a.b.tif"]
    assert first("c", 1) == ["labels/c.tif"]


def test_the_next_best_keeps_the_suffix_and_the_others_end_in_a_hash() -> None:
    _, second, third, fourth = first("day/a.png")
    assert second == "labels/day/a.png.tif"
    assert third.startswith("labels/day/a.png~")
    assert third != fourth


@pytest.mark.parametrize("name", ["a.png", "a", "day/a.tif", *LONG])
def test_every_candidate_is_another_file_that_a_file_system_takes(name: str) -> None:
    files = first(name, 20)
    assert len(set(files)) == 20
    assert all(len(part.encode()) <= 255 for file in files for part in file.split("/"))
    assert all(len(file.encode()) <= 1024 for file in files)
    assert all(file.startswith("labels/") and file.endswith(".tif") for file in files)


def test_images_that_differ_have_hashed_files_that_differ() -> None:
    files = [file for name in (*LONG, "x" * 251 + ".jpg", "x" * 252 + ".p") for file in first(name, 5)[2:]]
    assert len(set(files)) == len(files)
    assert flat("a.png 1") != flat("a.png 2")


@pytest.mark.parametrize("name", ["../a.png", "/a.png", "day/../../a.png"])
def test_a_label_file_outside_the_folder_is_refused(name: str) -> None:
    assert not is_inside(name)
    with pytest.raises(RunRefused, match="may not lead out"):
        first(name)
