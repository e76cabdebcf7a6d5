import pytest

from micro.errors import RunRefused
from micro.line.labels import paths


def fresh(*names: str) -> dict[str, str]:
    return paths(dict.fromkeys(names))


def test_the_label_file_bears_the_path_of_the_image_without_its_suffix() -> None:
    assert fresh("day/a.b.png", "c") == {"day/a.b.png": "labels/day/a.b.tif", "c": "labels/c.tif"}


def test_images_that_differ_in_their_suffix_only_keep_it() -> None:
    assert fresh("a.png", "a.jpg", "b.png") == {
        "a.png": "labels/a.png.tif",
        "a.jpg": "labels/a.jpg.tif",
        "b.png": "labels/b.tif",
    }


@pytest.mark.parametrize(
    "names",
    [
        ["a.png", "a.jpg", "a.png.bmp", "a.jpg.png", "a", "a.tif"],
        ["a.png", "a.tif/b.png"],
        ["a.png", "a.tif/b.png", "a.png.tif/c.png"],
        ["x" * 251 + ".png", "x" * 251 + ".jpg", "x" * 252 + ".p"],
        ["é" * 125 + ".png", "é" * 125 + ".jpg"],
        ["d/" * 800 + "a.png", "d/" * 801 + "a.png"],
        ["l" * 1000 + "/a.png", "l" * 1001 + "/a.png"],
    ],
)
def test_no_two_images_share_a_file_that_a_file_system_takes(names: list[str]) -> None:
    files = list(fresh(*names).values())
    assert len(set(files)) == len(names)
    folders = {file.rsplit("/", count)[0] for file in files for count in range(1, file.count("/") + 1)}
    assert not folders & set(files)
    assert all(len(part.encode()) <= 255 for file in files for part in file.split("/"))
    assert all(len(file.encode()) <= 1100 for file in files)
    assert all(file.startswith("labels/") and file.endswith(".tif") for file in files)


def test_an_image_keeps_its_label_file_when_a_namesake_arrives() -> None:
    assert paths({"a.png": "labels/a.tif", "a.jpg": None}) == {"a.png": "labels/a.tif", "a.jpg": "labels/a.jpg.tif"}
    assert len(set(paths({"a.png.bmp": "labels/a.png.tif", "a.png": None, "a.jpg": None}).values())) == 3


@pytest.mark.parametrize("recorded", [{"../a.png": None}, {"/a.png": None}, {"a.png": "labels/../../a.tif"}])
def test_a_label_file_outside_the_folder_is_refused(recorded: dict[str, str | None]) -> None:
    with pytest.raises(RunRefused, match="may not lead out"):
        paths(recorded)
