"""Which files are images, by their names: without OpenCV wherever a name alone tells, so listing starts at once."""

from __future__ import annotations

import posixpath
from functools import lru_cache
from pathlib import Path

_ALWAYS = (".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".dib")
"""What every OpenCV decodes."""

_BY_BUILD = (".apng", ".webp", ".tif", ".tiff", ".pgm", ".ppm", ".pbm", ".pnm", ".pam", ".jp2", ".gif", ".avif")
"""What it decodes where it was built so."""

_ALSO = (".jfif", ".jif", ".heic", ".heif")
"""Names that OpenCV does not know: JPEG's others, and HEIC's, whose reason says how it can be read."""


@lru_cache(maxsize=1)
def photo_suffixes() -> frozenset[str]:
    """List what the names of photos end in, in lower case: the formats that this OpenCV decodes, and HEIC."""
    return frozenset([*_ALWAYS, *(suffix for suffix in _BY_BUILD if _is_decoded(suffix)), *_ALSO])


@lru_cache(maxsize=len(_BY_BUILD))
def _is_decoded(suffix: str) -> bool:
    import cv2

    return bool(cv2.haveImageWriter(f"x{suffix}"))


def is_image_name(name: str) -> bool:
    """Return whether a file name ends like an image."""
    suffix = posixpath.splitext(name)[1].lower()
    return suffix in _ALWAYS or suffix in _ALSO or (suffix in _BY_BUILD and _is_decoded(suffix))


def is_image(folder: Path, name: str) -> bool:
    """Return whether a file is an image by its name or, where the name has no suffix, by its first bytes."""
    if is_image_name(name) or posixpath.splitext(name)[1]:
        return is_image_name(name)
    from aupipe.fer_data.images import is_photo

    return is_photo(folder / name)
