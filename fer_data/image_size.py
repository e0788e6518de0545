"""How large an image is, read from the head of its file: known before the memory of its pixels is taken."""

from __future__ import annotations

import struct
from collections.abc import Callable

Size = tuple[int, int]
"""Height and width in pixels."""

LIMIT_VARIABLE = "OPENCV_IO_MAX_IMAGE_PIXELS"
"""OpenCV's own name for the largest image it decodes, in pixels; it reads the variable when it is loaded."""

PIXEL_LIMIT = 200_000_000
"""Where that variable is not set: a file of some kilobytes may claim a gigapixel."""

SIDE_LIMIT = 32_766
"""Longest side in pixels: OpenCV cuts nothing out of a larger image, and MediaPipe ends the process."""

_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_BARE = frozenset({0x01, *range(0xD0, 0xD9)})
"""Markers without a length."""


def image_size(data: bytes) -> Size | None:
    """Read the height and width that an image file claims.

    Knows PNG, JPEG, WebP, TIFF, BMP, GIF and JPEG 2000, by their content. None for other formats, and for a head that
    is damaged or ends too early: whether that is an image is the decoder's to say.

    >>> image_size(b"GIF89a" + struct.pack("<HH", 640, 480))
    (480, 640)
    """
    for start, read in _READERS:
        if data.startswith(start):
            try:
                return read(data)
            except (struct.error, IndexError):
                return None
    return None


def _png(data: bytes) -> Size | None:
    name, width, height = struct.unpack_from(">4sII", data, 12)
    return (height, width) if name == b"IHDR" else None


def _gif(data: bytes) -> Size | None:
    width, height = struct.unpack_from("<HH", data, 6)
    return height, width


def _bmp(data: bytes) -> Size | None:
    if struct.unpack_from("<I", data, 14)[0] == 12:  # the header of OS/2
        width, height = struct.unpack_from("<HH", data, 18)
        return height, width
    width, height = struct.unpack_from("<ii", data, 18)
    return abs(height), abs(width)  # a negative height says that the first row is the top one


def _jpeg(data: bytes) -> Size | None:
    at = 2
    while data[at] == 0xFF:
        marker = data[at + 1]
        if marker in _JPEG_FRAMES:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return height, width
        if marker == 0xFF:  # padding
            at += 1
        elif marker in _JPEG_BARE:
            at += 2
        else:
            at += 2 + int(struct.unpack_from(">H", data, at + 2)[0])
    return None


def _webp(data: bytes) -> Size | None:
    kind = data[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[27:30], "little"), 1 + int.from_bytes(data[24:27], "little")
    if kind == b"VP8L":
        bits = int(struct.unpack_from("<I", data, 21)[0])
        return 1 + (bits >> 14 & 0x3FFF), 1 + (bits & 0x3FFF)
    width, height = struct.unpack_from("<HH", data, 26)
    return height & 0x3FFF, width & 0x3FFF


def _tiff(data: bytes) -> Size | None:
    order = "<" if data[:2] == b"II" else ">"
    (at,) = struct.unpack_from(f"{order}I", data, 4)
    (count,) = struct.unpack_from(f"{order}H", data, at)
    found: dict[int, int] = {}
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        tag, kind = struct.unpack_from(f"{order}HH", data, entry)
        if tag in (256, 257):
            found[tag] = int(struct.unpack_from(f"{order}{'H' if kind == 3 else 'I'}", data, entry + 8)[0])
    return (found[257], found[256]) if len(found) == 2 else None


def _jpeg2000(data: bytes) -> Size | None:
    at = data.find(b"ihdr", 0, 4096)
    if at < 0:
        return None
    height, width = struct.unpack_from(">II", data, at + 4)
    return height, width


_READERS: tuple[tuple[bytes, Callable[[bytes], Size | None]], ...] = (
    (b"\x89PNG\r\n\x1a\n", _png),
    (b"\xff\xd8", _jpeg),
    (b"RIFF", _webp),
    (b"II*\x00", _tiff),
    (b"MM\x00*", _tiff),
    (b"BM", _bmp),
    (b"GIF8", _gif),
    (b"\x00\x00\x00\x0cjP  ", _jpeg2000),
)
