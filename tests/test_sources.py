import os
from pathlib import Path

import pytest

from micro.errors import MicroError
from micro.line.sources import Search, find, version_of


def names(*sources: Path | str) -> list[str]:
    return [source.name for source in find([str(source) for source in sources])]


def touched(folder: Path, *files: str) -> Path:
    for name in files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def test_a_folder_gives_its_images_at_all_depths_sorted_and_named_from_the_folder(tmp_path: Path) -> None:
    folder = touched(tmp_path / "day", "b.png", "a/z.TIF", "a/b/c.jpg", "notes.md", "B.png")
    assert names(folder) == ["B.png", "a/b/c.jpg", "a/z.TIF", "b.png"]
    assert all(Path(source.address).is_file() for source in find([str(folder)]))


def test_hidden_files_and_folders_are_passed_over(tmp_path: Path) -> None:
    folder = touched(tmp_path, ".a.png", ".cache/b.png", "c.png")
    assert names(folder) == ["c.png"]


def test_one_file_is_taken_whatever_its_suffix_and_bears_its_own_name(tmp_path: Path) -> None:
    touched(tmp_path, "deep/scan.dat")
    assert names(tmp_path / "deep" / "scan.dat") == ["scan.dat"]


def test_a_pattern_is_named_from_its_part_without_wildcards(tmp_path: Path) -> None:
    touched(tmp_path, "x/1/a.png", "x/2/a.png", "x/2/readme.md", "x/2/sub.png/b.tif")
    assert names(f"{tmp_path}/x/*/*") == ["1/a.png", "2/a.png"]
    assert names(f"{tmp_path}/x/**/*.tif") == ["2/sub.png/b.tif"]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path: Path) -> None:
    touched(tmp_path, "a[1].png", "a1.png")
    assert names(tmp_path / "a[1].png") == ["a[1].png"]


def test_a_list_names_images_from_its_own_folder_and_others_by_their_whole_path(tmp_path: Path) -> None:
    touched(tmp_path, "lists/in/a.png", "else/b.png")
    listing = tmp_path / "lists" / "today.txt"
    listing.write_text(f"\ufeffin/a.png\n\n{tmp_path}/else/b.png\r\n../else/c.png\n", encoding="utf-8")
    whole = str(tmp_path / "else").lstrip("/")
    assert names(listing) == ["in/a.png", f"{whole}/b.png", f"{whole}/c.png"]


def test_an_image_named_twice_is_read_once(tmp_path: Path) -> None:
    touched(tmp_path, "d/a.png", "d/b.png")
    assert names(tmp_path / "d", tmp_path / "d" / "a.png", f"{tmp_path}/d/../d/*.png") == ["a.png", "b.png"]
    (tmp_path / "d" / "list.txt").write_text(f"a.png\nfile://{tmp_path}/d/a.png\nfile://{tmp_path}/d/../d/b.png\n")
    assert names(tmp_path / "d" / "list.txt") == ["a.png", "b.png"]
    assert names(tmp_path / "d" / "list.txt", f"file://{tmp_path}/d") == ["a.png", "b.png"]


def test_an_image_that_two_watched_sources_hold_has_one_name(tmp_path: Path) -> None:
    touched(tmp_path, "in/a.png", "in/sub/b.png")
    search = Search([str(tmp_path / "in"), str(tmp_path / "in" / "sub")])
    assert [source.name for source, _ in search.glance()] == [source.name for source in search.find()]
    assert search.source(str(tmp_path / "in" / "sub" / "b.png")) == search.find()[1]
    (tmp_path / "list.txt").write_text("in/a.png\n")
    for named in ("in/sub/b.png", "list.txt"):
        search = Search([str(tmp_path / named), str(tmp_path / "in")])
        assert [search.source(source.address) for source in search.find()] == search.find()


def test_images_of_several_folders_have_the_name_of_their_folder_in_front(tmp_path: Path) -> None:
    touched(tmp_path, "one/a.png", "two/a.png", "two/b.png")
    assert names(tmp_path / "one", tmp_path / "two") == ["one/a.png", "two/a.png", "two/b.png"]


def test_the_name_of_an_image_does_not_depend_on_which_others_are_there(tmp_path: Path) -> None:
    touched(tmp_path, "one/a.png", "two/b.png")
    before = names(tmp_path / "one", tmp_path / "two")
    touched(tmp_path, "two/a.png", "one/b.png")
    assert set(before) < set(names(tmp_path / "one", tmp_path / "two"))


def test_two_images_of_one_name_are_refused_and_neither_is_lost(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("x/a.png\n/x/a.png\n", encoding="utf-8")
    with pytest.raises(MicroError, match=r"x/a\.png: two images would bear this name"):
        find([str(tmp_path / "list.txt")])


def test_an_image_at_the_top_of_the_machine_has_no_folder_in_front(tmp_path: Path) -> None:
    found = Search(["/", str(tmp_path)]).source("/a.png")
    assert found is not None
    assert found.name == "a.png"


def test_a_remote_file_is_another_version_by_its_size_or_by_what_its_server_says_first() -> None:
    seen = {"size": 3, "ETag": "one", "LastModified": "noon"}
    assert version_of(seen) == version_of(seen | {"LastModified": "later", "name": "b.png"})
    others = ({"size": 4}, {"ETag": "two"}, {"ETag": None}, {"ETag": None, "LastModified": "later"})
    assert len({version_of(seen), *(version_of(seen | other) for other in others)}) == 5


def test_images_of_several_folders_of_one_name_have_their_whole_path(tmp_path: Path) -> None:
    touched(tmp_path, "x/cam/a.png", "y/cam/b.png")
    found = names(tmp_path / "x" / "cam", tmp_path / "y" / "cam")
    assert found == [f"{tmp_path}/x/cam/a.png".lstrip("/"), f"{tmp_path}/y/cam/b.png".lstrip("/")]


def test_files_that_are_named_singly_from_one_folder_have_no_folder_in_front(tmp_path: Path) -> None:
    touched(tmp_path, "d/a.png", "d/b.png")
    assert names(tmp_path / "d" / "b.png", tmp_path / "d" / "a.png") == ["b.png", "a.png"]


def test_no_name_leads_out_of_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touched(tmp_path, "here/x/a.png", "there/b.png")
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "here" / "list.txt").write_text("../there/b.png\n", encoding="utf-8")
    for source in ("../there", "../there/b.png", "x/../../there/*.png", "*/../../there/*.png", "list.txt"):
        found = find([source])
        assert len(found) == 1, source
        assert ".." not in found[0].name.split("/"), source
        assert not found[0].name.startswith("/"), source


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("nowhere", "no such file or folder"),
        ("nowhere/*.png", "no image is in it"),
        ("empty", "no image is in it"),
        ("empty.txt", "no image is in it"),
        ("nosuch://bucket/day", "nosuch addresses cannot be read here"),
        ("", "empty text"),
        ("x" * 5000, "cannot be looked at"),
    ],
)
def test_a_source_without_images_is_refused_with_what_can_be_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, words: str
) -> None:
    touched(tmp_path, "empty/readme.md", "empty.txt", "a.png")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MicroError, match=words) as refusal:
        find(["a.png", source])
    assert "A source is an image file, a folder" in str(refusal.value) or "fsspec" in str(refusal.value)


def test_no_source_at_all_is_refused() -> None:
    with pytest.raises(MicroError, match="No source is given"):
        find([])


def test_a_broken_link_in_a_folder_is_a_source_and_so_is_a_link_to_an_image(tmp_path: Path) -> None:
    touched(tmp_path, "d/a.png")
    (tmp_path / "d" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "d" / "twin.png").symlink_to(tmp_path / "d" / "a.png")
    assert names(tmp_path / "d") == ["a.png", "gone.png", "twin.png"]


def test_links_to_folders_are_not_followed_so_that_a_circle_ends(tmp_path: Path) -> None:
    touched(tmp_path, "d/a.png")
    (tmp_path / "d" / "round").symlink_to(tmp_path / "d")
    assert names(tmp_path / "d") == ["a.png"]


def test_a_folder_that_cannot_be_listed_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touched(tmp_path, "d/a.png", "d/closed/b.png")
    scandir = os.scandir

    def guarded(path: str) -> object:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    assert names(tmp_path / "d") == ["a.png", "closed"]
    with pytest.raises(MicroError, match="cannot be looked into"):
        find([str(tmp_path / "d" / "closed")])


def test_the_label_files_of_an_earlier_run_are_no_images(tmp_path: Path) -> None:
    touched(tmp_path, "a.png", "out/ledger.sqlite", "out/labels/a.tif", "out/labels/x/b.tif", "labels/real.tif")
    assert names(tmp_path) == ["a.png", "labels/real.tif"]
    assert names(f"{tmp_path}/**/*.tif") == ["labels/real.tif"]
    assert names(tmp_path / "out" / "labels") == ["a.tif", "x/b.tif"]


def test_corrections_and_maps_of_a_run_are_no_images(tmp_path: Path) -> None:
    made = ("run.json", "corrections/a.png", "strip/strip.png", "strip/strip.json", "strip/strip.csv")
    made += ("scan/map.png", "scan/tiles.csv", "scan/flakes.csv")
    touched(tmp_path, "a.png", "map.png", "corrections/b.png", *(f"out/{name}" for name in made))
    assert names(tmp_path) == ["a.png", "corrections/b.png", "map.png"]
    assert names(f"{tmp_path}/**/*.png") == ["a.png", "corrections/b.png", "map.png"]


def test_names_that_are_not_utf8_are_shown_as_text_and_open_as_they_are(tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/m\xe4\xdf.png"
    try:
        with open(raw, "wb"):  # noqa: PTH123 -- a path of bytes
            pass
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    (source,) = find([str(tmp_path)])
    assert source.name == r"m\xe4\xdf.png"
    assert Path(source.address).is_file()


def test_names_with_newlines_quotes_and_other_scripts_stay_as_they_are(tmp_path: Path) -> None:
    hostile = ["=1+1.png", 'a"b.png', "a\nb.png", "<script>.png", "Körner_鉄.png"]
    touched(tmp_path, *(name for name in hostile))
    assert sorted(names(tmp_path)) == sorted(hostile)
