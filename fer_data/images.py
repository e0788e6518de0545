"""Reading photos: whatever the file holds comes out as RGB, upright, eight bits."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from aupipe.fer_data.errors import FerError, paragraph

cv2.setNumThreads(1)  # workers are processes; OpenCV's own pool would only oversubscribe the cores
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # what is wrong with a file is said by its reason


class UnreadableImageError(FerError, ValueError):
    """The bytes are not an image that can be decoded."""


def decode_image(data: bytes, name: str = "image") -> UInt8[np.ndarray, "h w 3"]:
    """Decode an image file's bytes.

    The format is taken from the content, never from the name. EXIF orientation is applied, an alpha channel is
    dropped, grey and palette images become RGB, 16-bit values are scaled to 8 bits. A file that ends too early is
    refused, never returned half grey; bytes after the image's end do no harm. Damage inside a JPEG's entropy-coded
    data is not always detectable. An image of more than 200 megapixels is refused before its memory is taken (the
    environment variable ``OPENCV_IO_MAX_IMAGE_PIXELS`` sets another limit).

    Returns RGB ``(height, width, 3)`` uint8. Raises :class:`UnreadableImageError`.
    """
    buffer = np.frombuffer(data, np.uint8)
    image, why = None, f"{len(data)} bytes starting with {data[:8]!r}"
    try:
        image = cv2.imdecode(buffer, cv2.IMREAD_COLOR_RGB) if buffer.size else None
    except cv2.error as error:
        if "CV_IO_MAX_IMAGE" in str(error):
            why = "an image larger than OPENCV_IO_MAX_IMAGE_PIXELS allows (200 megapixels unless set)"
    if image is None:
        raise UnreadableImageError(
            paragraph(
                f"{name} is not an image that can be decoded.",
                expected="JPEG, PNG, WebP, TIFF, BMP or another format OpenCV reads",
                got=why,
            )
        )
    return np.asarray(image, np.uint8)


def read_image(path: Path) -> UInt8[np.ndarray, "h w 3"]:
    """Read and :func:`decode_image` one file.

    Raises ``OSError`` as well when it cannot be opened.
    """
    return decode_image(path.read_bytes(), str(path))


def write_png(path: Path, image: UInt8[np.ndarray, "h w 3"]) -> None:
    """Write an RGB image as PNG (not atomic: for generated data and figures)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(image))


def encode_png(image: UInt8[np.ndarray, "h w 3"]) -> bytes:
    """An RGB image as the bytes of a PNG file."""
    return bytes(cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1])
