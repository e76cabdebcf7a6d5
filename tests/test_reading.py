import hashlib
import os
import resource
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import tifffile
from toy_line import draw, folder_of, run

from micro.errors import UnreadableImage
from micro.line import reading
from micro.line.reading import Look, Reader
from micro.line.sources import Source, find
from micro.micrograph import Micrograph


def look(path: Path, root: Path | None = None) -> Look:
    return Look(Source(path.name, str(path), str(root or "")))


def made_long_ago(path: Path) -> Path:
    os.utime(path, (1, 1))
    return path


def test_an_image_comes_with_the_hash_of_its_bytes_and_a_stamp_that_changes_with_the_file(tmp_path: Path) -> None:
    draw(tmp_path / "a.png", 2)
    one = look(tmp_path / "a.png")
    image = Reader(0.5).read(one)
    assert (image.height_px, image.width_px, image.name) == (8, 32, "a.png")
    assert one.sha256 == hashlib.sha256((tmp_path / "a.png").read_bytes()).hexdigest()
    assert one.stamp == Reader(0.5).stamp(one.source)
    assert one.sha256 == Reader(0.5).digest(one.source)
    assert one.is_whole
    times = (tmp_path / "a.png").stat()
    time.sleep(0.02)  # the clock of a file system ticks
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes())
    os.utime(tmp_path / "a.png", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert one.stamp != Reader(0.5).stamp(one.source), "a time that was set back hides nothing"


def test_a_file_that_fails_is_whole_only_if_nobody_wrote_to_it_a_moment_ago(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    young = look(tmp_path / "a.png")
    with pytest.raises(UnreadableImage):
        Reader(60).read(young)
    assert not young.is_whole
    old = look(made_long_ago(tmp_path / "a.png"))
    with pytest.raises(UnreadableImage):
        Reader(60).read(old)
    assert old.is_whole
    assert old.sha256 is not None


@pytest.mark.parametrize("whole_bytes", [2**26, 10])
def test_a_file_that_is_cut_while_it_is_read_is_not_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole_bytes: int
) -> None:
    draw(tmp_path / "a.png", 2)
    made_long_ago(tmp_path / "a.png")

    def cutting(decode: Callable[..., Micrograph], first: Any, name: str) -> Micrograph:
        """Decode a file that loses its end after it was hashed."""
        os.truncate(tmp_path / "a.png", 40)
        return decode(first, name)

    for way in ("decode", "read"):
        monkeypatch.setattr(reading.formats, way, partial(cutting, getattr(reading.formats, way)))
    monkeypatch.setattr(reading, "WHOLE_BYTES", whole_bytes)
    one = look(tmp_path / "a.png")
    with pytest.raises(UnreadableImage):
        Reader(0.5).read(one)
    assert not one.is_whole


def test_a_file_replaced_while_it_is_read_is_judged_as_what_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(tmp_path / "a.png", 2)
    draw(tmp_path / "b.png", 3)
    first = (tmp_path / "a.png").read_bytes()
    descriptor = reading.descriptor

    @contextmanager
    def replacing(path: Path, name: str) -> Iterator[tuple[int, os.stat_result]]:
        with descriptor(path, name) as found:
            (tmp_path / "b.png").replace(path)
            yield found

    monkeypatch.setattr(reading, "descriptor", replacing)
    one = look(tmp_path / "a.png")
    Reader(0.5).read(one)
    assert one.sha256 == hashlib.sha256(first).hexdigest()
    assert one.stamp != Reader(0.5).stamp(one.source), "so that the next look finds a new image"


def test_a_large_file_replaced_between_its_hash_and_its_pixels_is_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("a.png", 2), ("b.png", 3)):
        draw(tmp_path / name, value)
        made_long_ago(tmp_path / name)
    monkeypatch.setattr(reading, "WHOLE_BYTES", 10)
    plain = reading.formats.read

    def replaced(address: str, name: str) -> Micrograph:
        (tmp_path / "b.png").replace(address)
        return plain(address, name)

    monkeypatch.setattr(reading.formats, "read", replaced)
    one = look(tmp_path / "a.png")
    with pytest.raises(UnreadableImage, match="changed while it was read"):
        Reader(0.5).read(one)
    assert not one.is_whole


def test_images_of_a_folder_that_is_away_are_looked_at_again(tmp_path: Path) -> None:
    one = look(tmp_path / "drive" / "a.png", tmp_path / "drive")
    with pytest.raises(UnreadableImage, match="does not exist"):
        Reader(0.5).read(one)
    assert not one.is_whole
    (tmp_path / "drive").mkdir()
    two = look(tmp_path / "drive" / "a.png", tmp_path / "drive")
    with pytest.raises(UnreadableImage, match="does not exist"):
        Reader(0.5).read(two)
    assert two.is_whole


def test_a_link_that_leads_out_of_the_folder_is_quarantined_and_one_that_stays_inside_is_read(tmp_path: Path) -> None:
    draw(tmp_path / "secret" / "x.png", 4)
    draw(tmp_path / "in" / "deep" / "a.png", 1)
    (tmp_path / "in" / "out.png").symlink_to(tmp_path / "secret" / "x.png")
    (tmp_path / "in" / "twin.png").symlink_to("deep/a.png")
    summary = run(tmp_path / "in", tmp_path / "results")
    assert (summary.done, summary.quarantined) == (2, 1)
    assert "leads out of the folder" in summary.failures["out.png"]
    assert run(tmp_path / "in" / "out.png", tmp_path / "named").done == 1, "whoever names it wants it"


def bomb(path: Path, edge_px: int) -> None:
    """Write a TIFF of some kilobytes that says it has edge_px x edge_px pixels, and nearly has: all of them black."""
    row = zlib.compress(bytes(edge_px * 64), 9)
    strips = -(-edge_px // 64)
    tags = [(256, 4, edge_px), (257, 4, edge_px), (258, 3, 8), (259, 3, 8), (262, 3, 1), (277, 3, 1), (278, 4, 64)]
    start = 8 + 2 + 12 * (len(tags) + 2) + 4
    entries = [struct.pack("<HHII", code, kind, 1, value) for code, kind, value in tags]
    entries.insert(5, struct.pack("<HHII", 273, 4, strips, start))
    entries.append(struct.pack("<HHII", 279, 4, strips, start + 4 * strips))
    data = start + 8 * strips
    body = struct.pack(f"<{strips}I", *[data] * strips) + struct.pack(f"<{strips}I", *[len(row)] * strips) + row
    path.write_bytes(b"II*\0" + struct.pack("<IH", 8, len(entries)) + b"".join(entries) + bytes(4) + body)


def png_bomb(path: Path, edge_px: int) -> None:
    """Write the same as a PNG."""
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(bytes(edge_px + 1)) for _ in range(edge_px)) + packer.flush()
    parts = [(b"IHDR", struct.pack(">IIBBBBB", edge_px, edge_px, 8, 0, 0, 0, 0)), (b"IDAT", data), (b"IEND", b"")]
    blocks = (
        struct.pack(">I", len(body)) + code + body + struct.pack(">I", zlib.crc32(code + body)) for code, body in parts
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(blocks))


def test_a_small_file_that_unpacks_to_a_huge_image_is_quarantined_and_fills_no_memory(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "in", 2)
    bomb(folder / "bomb.tif", 31_000)
    bomb(folder / "larger.tif", 65_000)
    png_bomb(folder / "bomb.png", 20_000)
    assert (folder / "bomb.tif").stat().st_size < 10_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    summary = run(folder, tmp_path / "out")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000, "kilobytes"
    assert (summary.done, summary.quarantined) == (2, 3)
    assert "as no picture does" in summary.failures["bomb.tif"]
    assert "as no picture does" in summary.failures["bomb.png"]


def test_a_blank_image_of_ordinary_size_is_no_bomb(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "blank.tif", np.zeros((4096, 4096), np.uint8), compression="zlib")
    assert Reader(0.5).read(look(tmp_path / "blank.tif")).height_px == 4096


# --- servers ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[str]:
    """A folder in fsspec's own file system in memory, as a stand-in for a server."""
    draw(tmp_path / "a.png", 2)
    system = fsspec.filesystem("memory")
    system.pipe("/bucket/day/a.png", (tmp_path / "a.png").read_bytes())
    system.pipe("/bucket/day/deep/b.png", (tmp_path / "a.png").read_bytes())
    system.pipe("/bucket/day/notes.txt", b"none")
    yield "memory://bucket/day"
    system.rm("/bucket", recursive=True)


def test_addresses_of_folders_patterns_and_files_name_images(bucket: str) -> None:
    assert [source.name for source in find([bucket])] == ["a.png", "deep/b.png"]
    assert [source.name for source in find([f"{bucket}/*/*.png"])] == ["deep/b.png"]
    (source,) = find([f"{bucket}/a.png"])
    assert (source.name, source.is_remote) == ("a.png", True)
    image = Reader(0.5).read(one := Look(source))
    assert image.width_px == 32
    assert one.sha256 == Reader(0.5).digest(source)
    assert one.stamp == Reader(0.5).stamp(source)


def test_a_remote_name_that_leads_elsewhere_is_written_out(bucket: str, tmp_path: Path) -> None:
    system = fsspec.filesystem("memory")
    system.store["/bucket/day/../../x.png"] = system.store["/bucket/day/a.png"]
    system.store["/bucket/day//y.png"] = system.store["/bucket/day/a.png"]
    names = [source.name for source in find([bucket])]
    assert "%2E%2E/%2E%2E/x.png" in names
    assert "%2F/y.png" in names


def test_a_remote_file_that_is_gone_is_quarantined_and_a_server_that_is_away_is_asked_again(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source,) = find([f"{bucket}/a.png"])
    gone = Look(Source("c.png", f"{bucket}/c.png"))
    with pytest.raises(UnreadableImage, match="does not exist"):
        Reader(0.5).read(gone)
    assert gone.is_whole

    def away(*_: object, **__: object) -> bytes:
        raise ConnectionError("connection reset")

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "cat_file", away)
    unheard = Look(source)
    with pytest.raises(UnreadableImage, match="connection reset"):
        Reader(0.5).read(unheard)
    assert not unheard.is_whole
