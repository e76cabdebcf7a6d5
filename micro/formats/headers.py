"""What the first bytes of a PNG, JPEG, BMP, WebP or GIF promise, and whether the rest of the file can keep it.

Decoders trust headers: they allocate what a header announces and fill with grey what a cut file no longer holds. So
both are checked here, before a decoder sees the file.
"""

import struct
import zlib
from dataclasses import dataclass, replace

from micro.errors import UnreadableImage

MAX_PIXELS = 2**30
"""Images with more pixels are refused: one side of 32,768, five times the largest stitched scan we know of."""

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
    """Return "TIFF", "PNG", "JPEG", "BMP", "WebP" or "GIF" by the first 32 bytes, whatever the file is called."""
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
    parse = {"PNG": _png, "JPEG": _jpeg, "BMP": _bmp, "WebP": _webp, "GIF": _gif}[kind_of(data[:32]) or ""]
    try:
        found = parse(data, name)
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
    view, at, idat_bytes, ended = memoryview(data), 8, 0, False
    found: Header | None = None
    channels = 1
    while not ended:
        length, code = struct.unpack_from(">I4s", data, at)
        body = view[at + 8 : at + 8 + length]
        (crc,) = struct.unpack_from(">I", data, at + 8 + length)
        if code[0] & 32 == 0 and zlib.crc32(body, zlib.crc32(code)) != crc:
            raise damaged(name, f"checksum of its {code.decode('latin1')} block is wrong")
        if code == b"IHDR":
            width, height, bits, colour = struct.unpack_from(">IIBB", body)
            channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(colour, 0)
            if not channels:
                raise damaged(name, f"PNG colour type {colour}")
            found = Header("PNG", width, height, grey=colour in (0, 4), alpha=colour in (4, 6), bits=bits)
            found = replace(found, palette=colour == 3)
        elif found is None:
            raise damaged(name, "its first block is not IHDR")
        elif code == b"PLTE" and found.palette:
            found = replace(found, grey=bytes(body[0::3]) == bytes(body[1::3]) == bytes(body[2::3]))
        elif code == b"tRNS":
            found = replace(found, alpha=True)
        elif code == b"acTL":
            found = replace(found, frames=int.from_bytes(body[:4]))
        elif code == b"pHYs" and body[8] == 1:
            found = replace(found, per_m=_per_m(*struct.unpack_from(">II", body)))
        idat_bytes += length if code == b"IDAT" else 0
        ended = code == b"IEND"
        at += 12 + length
    assert found is not None
    row_bytes = 1 + (found.width_px * channels * found.bits + 7) // 8
    if row_bytes * found.height_px <= 2**40 and row_bytes * found.height_px > 1040 * idat_bytes + 4096:
        if found.width_px * found.height_px > MAX_PIXELS:
            check_size(found.width_px, found.height_px, name)
        raise truncated(name)  # deflate packs at most 1032 : 1, so these blocks cannot hold that image
    return found


def _per_m(x: int, y: int) -> tuple[float, float]:
    return float(x), float(y)


def _jpeg(data: bytes, name: str) -> Header:
    at, found = 2, None
    per_m: tuple[float, float] | None = None
    while True:
        while data[at] == 0xFF and data[at + 1] == 0xFF:
            at += 1
        if data[at] != 0xFF:
            raise damaged(name, "no JPEG marker where one must be")
        marker = data[at + 1]
        if marker == 0xDA:
            break
        if marker == 0xD9:
            raise truncated(name)
        (length,) = struct.unpack_from(">H", data, at + 2)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            bits, height, width, channels = struct.unpack_from(">BHHB", data, at + 4)
            if channels not in (1, 3):
                raise UnreadableImage(
                    f"{name}: a JPEG with {channels} channels (CMYK, for print). Save the original as RGB."
                )
            found = Header("JPEG", width, height, grey=channels == 1, bits=bits)
        elif marker == 0xE0 and data[at + 4 : at + 9] == b"JFIF\0":
            unit, x, y = struct.unpack_from(">BHH", data, at + 11)
            factor = {1: 1 / 0.0254, 2: 100.0}.get(unit)
            # 65535 is a field filled with ones, seen in pictures from the web, not a density
            per_m = None if factor is None or 0xFFFF in (x, y) else (x * factor, y * factor)
        at += 2 + length
    if found is None:
        raise damaged(name, "no JPEG frame header")
    check_size(found.width_px, found.height_px, name)
    if data.rfind(b"\xff\xd9", at) < 0:
        raise truncated(name)
    # the Huffman code of a block of 64 pixels takes a bit at least, and of three channels two may be quartered
    if found.width_px * found.height_px > 2048 * (len(data) - at) + 65536:
        raise truncated(name)
    return replace(found, per_m=per_m)


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
