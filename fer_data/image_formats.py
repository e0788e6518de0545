"""What an image file's bytes are where the decoder does not say: why it was refused, and how an AVIF is turned."""

from __future__ import annotations

HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"})

JPEG_START, JPEG_END, PNG_START = b"\xff\xd8\xff", b"\xff\xd9", b"\x89PNG"

NEEDS_EXTRA = "a HEIC photo: `pip install 'aupipe[heic]'` reads it, or convert it to JPEG"

_OTHER_FILES = (
    (b"\xef\xbb\xbf<", "a web page or an SVG drawing"),
    (b"<", "a web page or an SVG drawing"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"version https://git-lfs", "a Git LFS pointer instead of the photo: run `git lfs pull`"),
)


def is_heic(data: bytes) -> bool:
    """Tell whether the bytes are those of a HEIC photo, whatever the file is called."""
    brands = _brands(data)
    return bool(brands & HEIC_BRANDS) and b"avif" not in brands


def undecodable(data: bytes) -> str:
    """Say why an image that the decoder refused is none, as far as its bytes tell; empty where they do not."""
    if not data:
        return "an empty file"
    if is_heic(data):
        return NEEDS_EXTRA
    if _brands(data):
        return "a damaged AVIF image" if b"avif" in _brands(data) else "a video, or a photo of an unknown kind"
    if data.startswith(JPEG_START):
        return "a damaged JPEG" if JPEG_END in data[-64:] else "a JPEG that ends too early: its end marker is missing"
    if data.startswith(PNG_START):
        return "a damaged PNG" if b"IEND" in data[-64:] else "a PNG that ends too early: its last chunk is missing"
    for start, name in ((JPEG_START, "JPEG"), (PNG_START, "PNG")):
        if (at := data.find(start, 0, 256)) > 0:
            return f"a {name} after {at} other bytes: it must begin the file"
    known = (name for start, name in _OTHER_FILES if data.startswith(start))
    return next(known, "")


def avif_turn(data: bytes) -> tuple[int, int | None] | None:
    """Read how an AVIF is to be shown, which OpenCV leaves undone.

    Returns:
        Quarter turns anticlockwise, and then the axis that is reversed (0 height, 1 width), as its properties ``irot``
        and ``imir`` have it; None where the file is no AVIF or has neither.
    """
    if b"avif" not in _brands(data):
        return None
    head = data[: max(data.find(b"mdat"), 0)] or data
    turned, mirrored = head.find(b"irot"), head.find(b"imir")
    if max(turned, mirrored) < 0:
        return None
    turns = head[turned + 4] & 3 if turned >= 0 else 0
    return turns, head[mirrored + 4] & 1 if mirrored >= 0 else None


def _brands(data: bytes) -> set[bytes]:
    """What an ISO media file says that it is; empty for any other."""
    if data[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(data[:4], "big"), 256, len(data))
    return {data[8:12], *(data[at : at + 4] for at in range(16, end, 4))}
