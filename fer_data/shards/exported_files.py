"""What every form of an export is made of: a row's image and map as files, and the count of what arrived."""

from __future__ import annotations

import cv2
import numpy as np

from aupipe.fer_data.errors import StoreError, paragraph
from aupipe.fer_data.images import encode_png
from aupipe.fer_data.shards import SplitReader


def image_suffix(reader: SplitReader) -> str:
    """Return the ending of a split's image files: ``png``, or ``jpg`` where the store holds JPEG."""
    return "jpg" if reader.encoding == "jpeg" else "png"


def image_file(reader: SplitReader, row: int) -> bytes:
    """Make a row's image file: PNG of pixels, the very JPEG file otherwise."""
    if reader.encoding == "jpeg":
        return bytes(reader.jpeg_bytes(row))
    return encode_png(reader.image(row))


def map_file(reader: SplitReader, row: int) -> bytes:
    """Make a row's AU map as a PNG file of 8 bits, 255 = 1.0."""
    return bytes(cv2.imencode(".png", np.asarray(np.rint(reader.au_map(row) * 255), np.uint8))[1])


def check_count(what: str, found: int, expected: int) -> None:
    """Raise :class:`StoreError` where not every row arrived."""
    if found != expected:
        raise StoreError(
            paragraph(f"The export is not complete: {what}.", expected=f"{expected} rows", got=f"{found}",
                      fix="Empty the folder and export again.")
        )  # fmt: skip
