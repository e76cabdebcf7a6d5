import errno
import io
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import tifffile
from zoo import GREY, RGB, make_zoo, pil, png_of_size, tiff

from micro import formats
from micro.errors import UnreadableImage
from micro.formats.headers import header


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("zoo")
    return folder, make_zoo(folder)


def refusal(path):
    with pytest.raises(UnreadableImage) as caught:
        formats.read(path)
    return str(caught.value)


def test_every_good_image_of_the_zoo_is_read_and_every_bad_one_refused(zoo):
    folder, expected = zoo
    found = {}
    for name in expected:
        try:
            formats.read(folder / name)
            found[name] = "ok"
        except UnreadableImage:
            found[name] = "bad"
    assert found == expected


def test_a_refusal_is_one_short_line_that_names_the_file_and_ends_as_a_sentence(zoo):
    folder, expected = zoo
    for name in (name for name, kind in expected.items() if kind == "bad"):
        message = refusal(folder / name)
        assert message.startswith(f"{name}: ")
        assert message.endswith(".")
        assert "\n" not in message
        assert 40 < len(message) < 320


def test_reading_the_zoo_prints_nothing(zoo, capfd):
    folder, expected = zoo
    for name in expected:
        try:
            formats.read(folder / name)
        except UnreadableImage:
            continue
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("empty.png", "empty"),
        ("text.tif", "text"),
        ("cut.jpg", "cut off"),
        ("cut.tif", "cut off"),
        ("nothing by nothing.png", "no pixels"),
        ("nan.tif", "NaN"),
        ("cmyk.jpg", "CMYK"),
        ("cmyk.tif", "CMYK"),
        ("animated.gif", "3 frames"),
        ("animated.webp", "3 frames"),
        ("animated.png", "3 frames"),
        ("stack.tif", "5 pages"),
        ("stack.ome.tif", "4 slices"),
        ("channels.ome.tif", "5 channels"),
        ("bomb.png", "60,000 x 60,000"),
        ("bomb.tif", "60,000 x 60,000"),
        ("broken link.png", "link"),
    ],
)
def test_a_refusal_says_what_is_wrong(zoo, name, words):
    assert words in refusal(zoo[0] / name)


@pytest.mark.parametrize(
    "data",
    [
        pil(RGB, "PNG"),
        pil(RGB, "JPEG"),
        pil(RGB, "JPEG", progressive=True),
        pil(RGB, "BMP"),
        pil(RGB, "WEBP"),
        pil(RGB, "GIF"),
        tiff(RGB, photometric="rgb"),
        tiff(RGB, photometric="rgb", compression="zlib"),
        pil(RGB, "TIFF"),
        pil(RGB, "TIFF", compression="tiff_lzw"),
    ],
    ids=["png", "jpeg", "progressive", "bmp", "webp", "gif", "tiff", "zlib", "libtiff", "lzw"],
)
def test_a_file_cut_anywhere_is_refused(data):
    formats.decode(data, "whole")
    for end in np.linspace(0, len(data) - 2, 97).astype(int):
        with pytest.raises(UnreadableImage):
            formats.decode(data[:end], "cut")


@pytest.mark.parametrize(
    "name", ["rgb.png", "rgb.jpg", "progressive.jpg", "rgb.bmp", "lossy.webp", "ome.ome.tif", "palette.tif"]
)
def test_flipped_bytes_give_an_image_or_a_refusal_and_nothing_else(zoo, name):
    whole = (zoo[0] / name).read_bytes()
    rng = np.random.default_rng(7)
    for _ in range(60):
        data = bytearray(whole)
        for at in rng.integers(0, min(len(data), 700), 3):
            data[at] = rng.integers(256)
        try:
            formats.decode(bytes(data), name)
        except UnreadableImage:
            continue


def test_a_folder_called_like_an_image_is_refused(tmp_path):
    (tmp_path / "folder.png").mkdir()
    assert "folder" in refusal(tmp_path / "folder.png")


def test_a_missing_file_is_refused(tmp_path):
    assert "does not exist" in refusal(tmp_path / "gone.png")


def test_a_name_longer_than_a_disk_allows_is_refused(tmp_path):
    assert "cannot be opened" in refusal(tmp_path / ("n" * 5000 + ".png"))


def test_a_pipe_is_refused_without_waiting_for_it(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    messages = []
    waiting = threading.Thread(target=lambda: messages.append(refusal(tmp_path / "pipe.png")), daemon=True)
    waiting.start()
    waiting.join(5)
    assert "not a regular file" in messages[0]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PermissionError(errno.EACCES, "Permission denied"), "permission"),
        (OSError(errno.EIO, "Input/output error"), "disk"),
    ],
)
def test_a_file_that_cannot_be_opened_is_refused(tmp_path, monkeypatch, error, words):
    path = tmp_path / "locked.png"
    path.write_bytes(pil(GREY, "PNG"))

    def fail(*_):
        raise error

    monkeypatch.setattr(os, "open", fail)
    assert words in refusal(path)


def test_a_name_that_is_no_valid_text_is_read_and_can_be_printed(tmp_path):
    path = os.fsencode(tmp_path) + b"/caf\xe9.png"
    with open(path, "wb") as file:  # noqa: PTH123  (Path writes it as well; bytes say what is on the disk)
        file.write(pil(GREY, "PNG"))
    formats.read(Path(os.fsdecode(path))).name.encode("utf-8")


def test_the_header_of_an_image_of_400_megapixels_is_believed_if_the_file_can_hold_it():
    found = header(png_of_size(20_000, 20_000, packed=bytes(400_000)), "large.png")
    assert (found.width_px, found.height_px) == (20_000, 20_000)
    with pytest.raises(UnreadableImage, match="cut off"):
        header(png_of_size(20_000, 20_000, packed=bytes(300_000)), "large.png")


def test_a_tiff_whose_packed_rows_are_nonsense_is_refused():
    whole = bytearray(tiff(GREY, compression="zlib"))
    with tifffile.TiffFile(io.BytesIO(bytes(whole))) as tif:
        start = tif.pages.first.dataoffsets[0]
    whole[start : start + 40] = bytes(40)
    with pytest.raises(UnreadableImage, match="damaged"):
        formats.decode(bytes(whole), "nonsense.tif")


def test_two_different_images_in_one_tiff_are_refused():
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as writer:
        writer.write(np.zeros((40, 60), np.uint8))
        writer.write(np.zeros((50, 60), np.uint8))
    with pytest.raises(UnreadableImage, match="2 images"):
        formats.decode(stream.getvalue(), "two.tif")
