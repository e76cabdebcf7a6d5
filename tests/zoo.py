"""One file of every kind that a folder of images may hold, good and bad, each drawn here."""

import os
import struct
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tifffile
from PIL import Image

Expected = Literal["ok", "bad"]

GREY = (np.add.outer(np.arange(48) * 3, np.arange(64)) % 256).astype(np.uint8)
"""(48, 64) uint8, a slope with a jump: no row or column equals another."""

RGB = np.stack([GREY, GREY[::-1], 255 - GREY], axis=-1)


def make_zoo(folder: Path) -> dict[str, Expected]:
    """Write the zoo into a folder and return, by file name, whether the image can be read."""
    zoo: dict[str, tuple[Expected, bytes]] = {}
    for name, data in _readable().items():
        zoo[name] = ("ok", data)
    for name, data in _unreadable().items():
        zoo[name] = ("bad", data)
    for name, (_, data) in zoo.items():
        (folder / name).write_bytes(data)
    expected = {name: kind for name, (kind, _) in zoo.items()}

    (folder / "broken link.png").symlink_to(folder / "gone.png")
    expected["broken link.png"] = "bad"
    locked = folder / "locked.png"
    locked.write_bytes(pil(GREY, "PNG"))
    locked.chmod(0)
    expected["locked.png"] = "ok" if os.access(locked, os.R_OK) else "bad"  # nothing is locked for root
    return expected


def pil(pixels: Any, kind: str, **options: Any) -> bytes:
    """Return the bytes of a file that Pillow writes."""
    stream = BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(stream, kind, **options)
    return stream.getvalue()


def tiff(pixels: Any, **options: Any) -> bytes:
    """Return the bytes of a file that tifffile writes."""
    stream = BytesIO()
    tifffile.imwrite(stream, pixels, **options)
    return stream.getvalue()


def png_of_size(width_px: int, height_px: int, packed: bytes = b"") -> bytes:
    """Return a PNG whose header and checksums are correct, and whose pixels are a few bytes or those given."""

    def block(code: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + code + body + struct.pack(">I", zlib.crc32(code + body))

    head = struct.pack(">IIBBBBB", width_px, height_px, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + block(b"IHDR", head)
        + block(b"IDAT", packed or zlib.compress(b"\0" * 99))
        + block(b"IEND", b"")
    )


def tiff_of_size(width_px: int, height_px: int) -> bytes:
    """Return a TIFF whose tags are correct and whose only strip has eight bytes."""
    tags = [(256, 4, width_px), (257, 4, height_px), (258, 3, 8), (259, 3, 1), (262, 3, 1)]
    tags += [(273, 4, 8), (277, 3, 1), (278, 4, height_px), (279, 4, 8)]
    body = b"".join(struct.pack("<HHII", code, kind, 1, value) for code, kind, value in tags)
    return struct.pack("<2sHI8x", b"II", 42, 16) + struct.pack("<H", len(tags)) + body + struct.pack("<I", 0)


def tiff_in_a_circle() -> bytes:
    """Return a good TIFF but for its page naming itself as the next page."""
    data = bytearray(tiff(GREY, metadata=None))
    (start,) = struct.unpack_from("<I", data, 4)
    (tags,) = struct.unpack_from("<H", data, start)
    struct.pack_into("<I", data, start + 2 + 12 * tags, start)
    return bytes(data)


def jpeg_of_size(width_px: int, height_px: int) -> bytes:
    """Return a JPEG whose header claims another size than it has."""
    data = bytearray(pil(GREY, "JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height_px, width_px)
    return bytes(data)


def bmp_of_size(width_px: int, height_px: int) -> bytes:
    """Return a BMP whose header claims another size than it has."""
    data = bytearray(pil(GREY, "BMP"))
    data[18:26] = struct.pack("<ii", width_px, height_px)
    return bytes(data)


def _readable() -> dict[str, bytes]:
    alpha = np.dstack([RGB, np.full_like(GREY, 200)])
    upright = Image.Exif()
    upright[274] = 1
    return {
        "grey.png": pil(GREY, "PNG"),
        "rgb.png": pil(RGB, "PNG"),
        "rgba.png": pil(alpha, "PNG"),
        "grey and alpha.png": pil(Image.fromarray(alpha[..., [0, 3]], "LA"), "PNG"),
        "palette.png": pil(Image.fromarray(RGB).quantize(16), "PNG"),
        "one bit.png": pil(GREY > 99, "PNG"),
        "twelve bits.png": pil(GREY.astype(np.uint16) * 16, "PNG"),
        "one by one.png": pil(GREY[:1, :1], "PNG"),
        "grey.jpg": pil(GREY, "JPEG"),
        "rgb.jpg": pil(RGB, "JPEG"),
        "progressive.jpg": pil(RGB, "JPEG", progressive=True),
        "exif.jpg": pil(RGB, "JPEG", exif=upright),
        "one by one.jpg": pil(RGB[:1, :1], "JPEG"),
        "grey.bmp": pil(GREY, "BMP"),
        "rgb.bmp": pil(RGB, "BMP"),
        "rgb.webp": pil(RGB, "WEBP", lossless=True),
        "rgba.webp": pil(alpha, "WEBP", lossless=True),
        "lossy.webp": pil(RGB, "WEBP"),
        "grey.tif": tiff(GREY),
        "rgb.tif": tiff(RGB, photometric="rgb"),
        "rgba.tif": tiff(alpha, photometric="rgb", extrasamples=["unassalpha"]),
        "planar.tif": tiff(np.moveaxis(RGB, -1, 0), photometric="rgb", planarconfig="separate"),
        "twelve bits.tif": tiff(GREY.astype(np.uint16) * 16),
        "float.tif": tiff(GREY.astype(np.float32) / 255),
        "int32.tif": tiff(GREY.astype(np.int32)),
        "bool.tif": tiff(GREY > 99),
        "min is white.tif": tiff(255 - GREY, photometric="miniswhite"),
        "palette.tif": tiff(
            GREY, photometric="palette", colormap=np.tile(np.arange(256, dtype=np.uint16) << 8, (3, 1))
        ),
        "ome.ome.tif": tiff(GREY, ome=True, metadata={"axes": "YX", "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25}),
        "bigtiff.tif": tiff(GREY, bigtiff=True, compression="zlib"),
        "jpeg inside.tif": tiff(RGB, photometric="ycbcr", compression="jpeg", subsampling=(1, 1)),
        "one by one.tif": tiff(GREY[:1, :1]),
        "really a png.tif": pil(GREY, "PNG"),
        "Körner µm 粒 🔬.png": pil(GREY, "PNG"),
        "long " + "n" * 240 + ".png": pil(GREY, "PNG"),
        "CAPITALS.PNG": pil(GREY, "PNG"),
    }


def _unreadable() -> dict[str, bytes]:
    noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    broken = GREY.astype(np.float32)
    not_a_number, infinite = broken.copy(), broken.copy()
    not_a_number[3, 4], infinite[5, 6] = np.nan, np.inf
    frames = [Image.fromarray(np.roll(RGB, step, 0)) for step in range(3)]
    animated: dict[str, Any] = {"save_all": True, "append_images": frames[1:]}
    corrupt = bytearray(pil(noise, "PNG"))
    corrupt[len(corrupt) // 2] ^= 0xFF
    return {
        "empty.png": b"",
        "empty.tif": b"",
        "text.tif": b"Sample 12, 20 kV, remember to export the image\n",
        "random.jpg": bytes(range(1, 255)),
        "start only.png": b"\x89PNG\r\n\x1a\n",
        "start only.jpg": b"\xff\xd8\xff",
        "start only.tif": b"II*\0",
        "start only.webp": b"RIFF\x40\0\0\0WEBP",
        "cut.tif": _half(tiff(noise, photometric="rgb")),
        "cut packed.tif": _half(tiff(noise, photometric="rgb", compression="zlib")),
        "cut.png": _half(pil(noise, "PNG")),
        "cut at the end.png": pil(noise, "PNG")[:-12],
        "cut.jpg": _half(pil(noise, "JPEG")),
        "cut at the end.jpg": pil(noise, "JPEG")[:-2],
        "cut and filled.jpg": _half(pil(noise, "JPEG")) + bytes(5000),
        "cut.bmp": _half(pil(noise, "BMP")),
        "cut.webp": _half(pil(noise, "WEBP")),
        "flipped bits.png": bytes(corrupt),
        "nothing by nothing.png": png_of_size(0, 0),
        "nothing by nothing.tif": tiff_of_size(0, 0),
        "nothing by nothing.bmp": bmp_of_size(0, 0),
        "nan.tif": tiff(not_a_number),
        "infinite.tif": tiff(infinite),
        "complex.tif": tiff(broken.astype(np.complex64)),
        "cmyk.jpg": pil(Image.fromarray(RGB).convert("CMYK"), "JPEG"),
        "cmyk.tif": pil(Image.fromarray(RGB).convert("CMYK"), "TIFF"),
        "animated.gif": pil(frames[0], "GIF", **animated),
        "animated.webp": pil(frames[0], "WEBP", **animated),
        "animated.png": pil(frames[0], "PNG", **animated),
        "stack.tif": tiff(np.stack([GREY] * 5), photometric="minisblack"),
        "stack.ome.tif": tiff(np.stack([GREY] * 4), ome=True, metadata={"axes": "ZYX"}),
        "two values.tif": tiff(
            RGB[..., :2], photometric="minisblack", planarconfig="contig", extrasamples=["unspecified"]
        ),
        "channels.ome.tif": tiff(np.stack([GREY] * 5), ome=True, metadata={"axes": "CYX"}),
        "circle.tif": tiff_in_a_circle(),
        "bomb.png": png_of_size(60_000, 60_000),
        "bomb.tif": tiff_of_size(60_000, 60_000),
        "bomb.jpg": jpeg_of_size(60_000, 60_000),
        "bomb.bmp": bmp_of_size(60_000, 60_000),
        "small bomb.png": png_of_size(30_000, 30_000),
        "small bomb.tif": tiff_of_size(30_000, 30_000),
        "small bomb.jpg": jpeg_of_size(30_000, 30_000),
        "small bomb.bmp": bmp_of_size(30_000, 30_000),
    }


def _half(data: bytes) -> bytes:
    return data[: len(data) // 2]
