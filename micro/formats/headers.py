"""What the first bytes of a PNG, JPEG, BMP, WebP or GIF promise, and whether the rest of the file can keep it.

Decoders trust headers: they allocate what a header announces and fill with grey what a cut file no longer holds. So
both are checked here, before a decoder sees the file.
"""

import struct
import zlib
from dataclasses import dataclass

from micro.errors import UnreadableImage

HEAD_BYTES = 32
"""So many bytes tell the kind of a file."""

MAX_PIXELS = 2**30
"""Images with more pixels are refused: one side of 32,768, five times the largest stitched scan we know of."""

# what stands before and after a block of a PNG, and before a segment of a JPEG
_BLOCK, _CRC, _SEGMENT = struct.Struct(">I4s"), struct.Struct(">I"), struct.Struct(">BBH")

# A picture of something compresses 50 : 1 at most; what claims to be large and packs more is made to fill memory.
LARGE_BYTES, MOST_PACKED = 2**28, 200


@dataclass(frozen=True)
class Header:
    """What an image file says of itself.

    grey: one value a pixel (a palette of greys counts), else red, green, blue.
    palette: pixels are indices into a table of colours.
    bits: per value as stored; fewer than 8 are stretched to 0..255 by the decoder.
    per_m: pixels a metre along x and y, as the file states them.
    """

    kind: str
    width_px: int
    height_px: int
    frames: int = 1
    grey: bool = False
    alpha: bool = False
    palette: bool = False
    bits: int = 8
    per_m: tuple[float, float] | None = None


def kind_of(head: bytes) -> str | None:
    """Return "TIFF", "PNG", "JPEG", "BMP", "WebP" or "GIF" by the first HEAD_BYTES, whatever the file is called."""
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "TIFF"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"BM") and head[14:18] in {struct.pack("<I", n) for n in (12, 16, 40, 52, 56, 64, 108, 124)}:
        return "BMP"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WebP"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    return None


def header(data: bytes, name: str) -> Header:
    """Return the header of an image file that is not a TIFF, or raise UnreadableImage if the file cannot keep it."""
    try:
        found = _PARSERS[kind_of(data) or ""](data, name)
    except (struct.error, IndexError):
        raise truncated(name) from None
    if found.frames != 1:
        raise many_planes(name, f"{found.frames} frames ({found.kind} animation)")
    check_size(found.width_px, found.height_px, name)
    return found


def check_size(width_px: int, height_px: int, name: str) -> None:
    """Raise UnreadableImage for an image without pixels or with more than can be meant."""
    if width_px < 1 or height_px < 1:
        raise UnreadableImage(f"{name}: the image has no pixels ({width_px} x {height_px}). Save it again.")
    if width_px * height_px > MAX_PIXELS:
        raise UnreadableImage(
            f"{name}: the header announces {width_px:,} x {height_px:,} pixels, more than the {MAX_PIXELS:,} that are "
            f"read at once. If the image is real, cut it into parts."
        )


def check_packing(pixel_bytes: int, stored_bytes: int, name: str) -> None:
    """Raise UnreadableImage for a file that unpacks to a large image out of next to nothing."""
    if pixel_bytes > LARGE_BYTES and pixel_bytes > MOST_PACKED * stored_bytes:
        raise UnreadableImage(
            f"{name}: {stored_bytes:,} bytes would unpack to {pixel_bytes:,}, as no picture does. If the image is "
            f"real, save it without compression."
        )


def truncated(name: str) -> UnreadableImage:
    """Return the refusal of a file that ends too early."""
    return UnreadableImage(f"{name}: the file is cut off, a part of the image is missing. Copy or save it again.")


def damaged(name: str, reason: str = "") -> UnreadableImage:
    """Return the refusal of a file that no decoder can make sense of."""
    because = " ".join(reason.split())[:160].rstrip(". ")
    return UnreadableImage(f"{name}: the file is damaged{f' ({because})' if because else ''}. Copy or save it again.")


def many_planes(name: str, what: str) -> UnreadableImage:
    """Return the refusal of a stack or an animation."""
    return UnreadableImage(f"{name}: holds {what}, and one image is needed. Save the one to be read as its own file.")


def _png(data: bytes, name: str) -> Header:
    view, at, idat_bytes, code = memoryview(data), 8, 0, b""
    size: tuple[int, int, int, int] | None = None
    grey = alpha = palette = False
    frames, channels = 1, 1
    per_m: tuple[float, float] | None = None
    while code != b"IEND":
        length, code = _BLOCK.unpack_from(data, at)
        end = at + 8 + length
        (crc,) = _CRC.unpack_from(data, end)
        if code[0] & 32 == 0 and zlib.crc32(view[at + 4 : end]) != crc:
            raise damaged(name, f"checksum of its {code.decode('latin1')} block is wrong")
        if code == b"IDAT" and size is not None:
            idat_bytes += length
        elif code == b"IHDR":
            size = width, height, bits, colour = struct.unpack_from(">IIBB", data, at + 8)
            channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(colour, 0)
            if not channels:
                raise damaged(name, f"PNG colour type {colour}")
            grey, alpha, palette = colour in (0, 4), colour in (4, 6), colour == 3
        elif size is None:
            raise damaged(name, "its first block is not IHDR")
        elif code == b"PLTE" and palette:
            body = data[at + 8 : end]
            grey = body[0::3] == body[1::3] == body[2::3]
        elif code == b"tRNS":
            alpha = True
        elif code == b"acTL":
            frames = int.from_bytes(data[at + 8 : at + 12])
        elif code == b"pHYs" and data[at + 16] == 1:
            per_m = _per_m(*struct.unpack_from(">II", data, at + 8))
        at = end + 4
    assert size is not None
    check_size(width, height, name)
    if (1 + (width * channels * bits + 7) // 8) * height > 1040 * idat_bytes + 4096:
        raise truncated(name)  # deflate packs at most 1032 : 1, so these blocks cannot hold that image
    return Header("PNG", width, height, frames, grey, alpha, palette, bits, per_m)


def _per_m(x: int, y: int) -> tuple[float, float]:
    return float(x), float(y)


def _jpeg(data: bytes, name: str) -> Header:
    at = 2
    size: tuple[int, int] | None = None
    per_m: tuple[float, float] | None = None
    while True:
        filler, marker, length = _SEGMENT.unpack_from(data, at)
        if filler != 0xFF:
            raise damaged(name, "no JPEG marker where one must be")
        if marker == 0xFF:  # any number of these may stand before a marker
            at += 1
            continue
        if marker == 0xDA:
            break
        if marker == 0xD9:
            raise truncated(name)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            bits, height, width, channels = struct.unpack_from(">BHHB", data, at + 4)
            if channels not in (1, 3):
                raise UnreadableImage(
                    f"{name}: a JPEG with {channels} channels (CMYK, for print). Save the original as RGB."
                )
            size = width, height
        elif marker == 0xE0 and data[at + 4 : at + 9] == b"JFIF\0":
            unit, x, y = struct.unpack_from(">BHH", data, at + 11)
            factor = {1: 1 / 0.0254, 2: 100.0}.get(unit)
            # 65535 is a field filled with ones, seen in pictures from the web, not a density
            per_m = None if factor is None or 0xFFFF in (x, y) else (x * factor, y * factor)
        at += 2 + length
    if size is None:
        raise damaged(name, "no JPEG frame header")
    check_size(width, height, name)
    if data.rfind(b"\xff\xd9", at) < 0:
        raise truncated(name)
    # the Huffman code of a block of 64 pixels takes a bit at least, and of three channels two may be quartered
    if width * height > 2048 * (len(data) - at) + 65536:
        raise truncated(name)
    return Header("JPEG", width, height, grey=channels == 1, bits=bits, per_m=per_m)


def _bmp(data: bytes, name: str) -> Header:
    offset, size = struct.unpack_from("<I", data, 10)[0], struct.unpack_from("<I", data, 14)[0]
    if size == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        compression, entry, colours = 0, 3, 0
        per_m = None
    else:
        width, height, _, bits, compression = struct.unpack_from("<iiHHI", data, 18)
        x_per_m, y_per_m, colours = struct.unpack_from("<iiI", data, 38) if size >= 40 else (0, 0, 0)
        per_m, entry = (float(x_per_m), float(y_per_m)), 4
    height = abs(height)  # negative: rows run downwards
    check_size(width, height, name)
    if compression in (0, 3) and offset + (width * bits + 31) // 32 * 4 * height > len(data):
        raise truncated(name)
    grey = False
    if bits <= 8:
        colours = min(colours or 2**bits, 2**bits)
        table = data[14 + size : 14 + size + entry * colours]
        grey = table[0::entry] == table[1::entry] == table[2::entry]
    return Header("BMP", width, height, grey=grey, palette=bits <= 8, per_m=per_m)


def _webp(data: bytes, name: str) -> Header:
    (size,) = struct.unpack_from("<I", data, 4)
    if size + 8 > len(data):
        raise truncated(name)
    code = data[12:16]
    if code == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return Header("WebP", width & 0x3FFF, height & 0x3FFF)
    if code == b"VP8L":
        (packed,) = struct.unpack_from("<I", data, 21)
        return Header("WebP", (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1, alpha=bool(packed >> 28 & 1))
    if code != b"VP8X":
        raise damaged(name, "no WebP image in it")
    flags = data[20]
    width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
    frames, at = 0, 12
    while at + 8 <= size + 8:
        code, length = struct.unpack_from("<4sI", data, at)
        frames += code == b"ANMF"
        at += 8 + length + length % 2
    return Header("WebP", width, height, frames=frames if flags & 2 else 1, alpha=bool(flags & 16))


def _gif(data: bytes, name: str) -> Header:
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    at, frames = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0), 0
    while data[at] != 0x3B:
        if data[at] == 0x2C:
            frames += 1
            local = data[at + 9]
            at += 11 + (3 << (local & 7) + 1 if local & 0x80 else 0)
        elif data[at] == 0x21:
            at += 2
        else:
            raise damaged(name, "no GIF block where one must be")
        while data[at]:
            at += 1 + data[at]
        at += 1
    return Header("GIF", width, height, frames=frames)


_PARSERS = {"PNG": _png, "JPEG": _jpeg, "BMP": _bmp, "WebP": _webp, "GIF": _gif}
