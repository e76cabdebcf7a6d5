import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from micro.errors import MicroError
from micro.line import arrivals
from micro.line.arrivals import Arrivals, Listed, Watched, is_network, marker_of
from micro.line.sources import Search, Source

SETTLE_S = 0.3
PATIENCE_S = 30.0


def watched(*sources: Path | str, settle_s: float = SETTLE_S, **more: Any) -> Watched:
    return Watched(Search([str(source) for source in sources]), settle_s, **more)


def taken(coming: Arrivals, count: int, patience_s: float = PATIENCE_S) -> list[str]:
    """Take so many sources as they come, and return their names."""
    names: list[str] = []
    ends = time.monotonic() + patience_s
    while len(names) < count and time.monotonic() < ends:
        names += [arrival.source.name for arrival in coming.take(100)]
        if len(names) < count:
            coming.wait()
    return names


def nothing_comes(coming: Arrivals, for_s: float) -> bool:
    return taken(coming, 1, for_s) == []


def write(path: Path, data: bytes = b"data") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def test_a_list_gives_each_source_once_and_then_is_over() -> None:
    coming = Listed([Source(name, f"/{name}") for name in "abcde"])
    assert (coming.total, coming.waiting()) == (5, 5)
    assert [arrival.source.name for arrival in coming.take(3)] == ["a", "b", "c"]
    assert [arrival.source.name for arrival in coming.take(3)] == ["d", "e"]
    assert coming.is_over()
    assert coming.take(3) == []


def test_a_source_that_is_not_whole_is_offered_again_after_the_others_for_a_limited_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(arrivals, "MOST_WAIT_S", 0.3)
    first, second = Source("a", "/a"), Source("b", "/b")
    coming = Listed([first, second], settle_s=0.1)
    coming.take(1)
    assert coming.later(first)
    assert taken(coming, 2) == ["b", "a"]
    assert coming.later(first)
    assert not coming.is_over()
    time.sleep(0.35)
    assert not coming.later(first)
    assert coming.later(first, is_held=True), "for what another worker does there is no limit"


def test_a_watched_folder_gives_what_is_there_and_what_comes(folder: Path) -> None:
    write(folder / "a.png")
    with closing(watched(folder)) as coming:
        assert taken(coming, 1) == ["a.png"]
        write(folder / "b.png")
        write(folder / "notes.txt")
        write(folder / ".hidden.png")
        write(folder / "deep" / "er" / "c.png")
        assert sorted(taken(coming, 2)) == ["b.png", "deep/er/c.png"]
        assert nothing_comes(coming, 0.5)
        assert coming.total is None
        assert not coming.is_over()


def test_a_file_that_grows_counts_when_it_has_stood_still(folder: Path) -> None:
    ended: list[float] = []

    def grow() -> None:
        with (folder / "a.png").open("wb", buffering=0) as file:
            for _ in range(8):
                file.write(b"part")
                time.sleep(SETTLE_S / 3)
            ended.append(time.monotonic())

    with closing(watched(folder)) as coming:
        writer = threading.Thread(target=grow)
        writer.start()
        (arrival,) = list(_until(coming))
        writer.join()
        assert Path(arrival.source.address).stat().st_size == 32
        # the last write was a third of the settling time before the end
        assert arrival.since >= ended[0] + SETTLE_S / 3
        assert nothing_comes(coming, 2 * SETTLE_S)


def _until(coming: Arrivals) -> Iterator[Any]:
    ends = time.monotonic() + PATIENCE_S
    while time.monotonic() < ends:
        found = coming.take(10)
        if found:
            yield from found
            return
        coming.wait()


def test_a_file_that_is_renamed_into_place_need_not_settle(folder: Path) -> None:
    with closing(watched(folder, settle_s=0.0)) as coming:
        time.sleep(0.3)  # until the system listens
        write(folder / ".a.part").rename(folder / "a.png")
        began = time.monotonic()
        assert taken(coming, 1) == ["a.png"]
        assert time.monotonic() - began < 5


def test_with_a_marker_a_file_counts_when_the_marker_is_there(folder: Path) -> None:
    write(folder / "early.png")
    write(folder / "early.png.done")
    write(folder / "late.png")
    with closing(watched(folder, marker=".done")) as coming:
        assert taken(coming, 1) == ["early.png"]
        write(folder / "c.tif")
        assert nothing_comes(coming, 0.7)
        write(folder / "c.done")
        assert taken(coming, 1) == ["c.tif"]
        write(folder / "late.png.done")
        assert taken(coming, 1) == ["late.png"]


def test_a_marker_without_the_suffix_of_its_image_tells_of_one_in_capitals_too(folder: Path) -> None:
    write(folder / "a.TIF")
    with closing(watched(folder, marker=".done")) as coming:
        assert nothing_comes(coming, 0.5)
        write(folder / "a.done")
        assert taken(coming, 1, 5) == ["a.TIF"]


def test_a_file_of_which_the_system_does_not_tell_is_found_by_looking(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Watched, "_listen", lambda _: None)
    with closing(watched(folder, poll_s=0.1)) as coming:
        write(folder / "a.png")
        assert taken(coming, 1) == ["a.png"]
        assert nothing_comes(coming, 0.6), "it was found once already"
        write(folder / "a.png", b"other data")
        assert taken(coming, 1) == ["a.png"]


def test_where_the_system_cannot_tell_the_folder_is_looked_through_more_often(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import watchfiles

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "OS file watch limit reached")

    monkeypatch.setattr(watchfiles, "watch", full)
    monkeypatch.setattr(arrivals, "POLL_S", 0.05)
    monkeypatch.setattr(arrivals, "POLL_REMOTE_S", 0.05)
    with closing(watched(folder)) as coming:
        write(folder / "a.png")
        assert taken(coming, 1) == ["a.png"]


def test_a_file_that_is_gone_before_it_has_settled_is_forgotten(folder: Path) -> None:
    with closing(watched(folder)) as coming:
        time.sleep(0.2)
        write(folder / "a.png")
        time.sleep(0.1)
        (folder / "a.png").unlink()
        assert nothing_comes(coming, 3 * SETTLE_S)
        assert coming.waiting() == 0


def test_a_pattern_is_watched_and_only_what_it_matches_comes(folder: Path) -> None:
    write(folder / "1" / "x.png")
    with closing(watched(f"{folder}/*/*.png")) as coming:
        assert taken(coming, 1) == ["1/x.png"]
        write(folder / "2" / "a.png")
        write(folder / "2" / "deep" / "b.png")
        write(folder / "2" / "c.tif")
        write(folder / "d.png")
        assert taken(coming, 1) == ["2/a.png"]
        assert nothing_comes(coming, 0.5)


def test_label_files_of_a_run_in_a_watched_folder_are_no_images(folder: Path) -> None:
    write(folder / "out" / "run.json")
    with closing(watched(folder)) as coming:
        time.sleep(0.2)
        write(folder / "out" / "labels" / "a.tif")
        write(folder / "out" / "labels" / "day" / "b.tif")
        write(folder / "b.png")
        assert taken(coming, 1) == ["b.png"]
        assert nothing_comes(coming, 0.5)


def test_links_to_folders_are_not_followed_while_watching(folder: Path, tmp_path: Path) -> None:
    write(tmp_path / "elsewhere" / "x.png")
    with closing(watched(folder)) as coming:
        time.sleep(0.2)
        (folder / "link").symlink_to(tmp_path / "elsewhere")
        write(folder / "b.png")
        assert taken(coming, 1) == ["b.png"]
        assert nothing_comes(coming, 0.5)


def test_a_folder_that_goes_away_and_comes_back_is_watched_again(folder: Path) -> None:
    with closing(watched(folder, poll_s=0.1)) as coming:
        folder.rename(folder.with_name("away"))
        time.sleep(0.3)
        folder.mkdir()
        write(folder / "a.png")
        assert taken(coming, 1) == ["a.png"]


def test_the_system_is_not_asked_on_drives_to_which_other_machines_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = f"/dev/sda / ext4 rw 0 0\nserver:/x {tmp_path}/far nfs4 rw 0 0\n//pc/y {tmp_path}/far/near tmpfs rw 0 0\n"
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: mounts)
    assert is_network(str(tmp_path / "far" / "day"))
    assert not is_network(str(tmp_path / "far" / "near" / "day"))
    assert not is_network(str(tmp_path))


@pytest.mark.parametrize("text", ["done", ".", "./x", ""])
def test_a_marker_that_is_no_suffix_is_refused(text: str) -> None:
    with pytest.raises(MicroError, match=r"such as \.done"):
        marker_of(text)
    assert marker_of(".ok") == ".ok"
