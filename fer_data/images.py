"""Reading photos: each comes out as RGB, upright, eight bits."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from aupipe.fer_data.errors import FerError, paragraph
from aupipe.fer_data.image_size import LIMIT_VARIABLE, PIXEL_LIMIT, image_size


@contextmanager
def one_opencv_thread() -> Iterator[None]:
    """Let OpenCV work in one thread for a while, and then as before.

    Our workers are processes, one a core: OpenCV's own threads would only get into each other's way.
    """
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


class _Quiet:
    """Keeps OpenCV from printing while a file is decoded: what is wrong with it is said by its reason.

    The level belongs to the whole process, so the first thread to come silences it and the last to go restores it.
    """

    def __init__(self) -> None:
        self._lock, self._inside, self._before = threading.Lock(), 0, 0

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._before = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                cv2.utils.logging.setLogLevel(self._before)


quiet_opencv = _Quiet()


class UnreadableImageError(FerError, ValueError):
    """The bytes are not an image that can be decoded."""


def decode_image(data: bytes, name: str = "image") -> UInt8[np.ndarray, "h w 3"]:
    """Decode an image file's bytes.

    The format is taken from the content, never from the name. EXIF orientation is applied, an alpha channel is
    dropped, grey and palette images become RGB, 16-bit values are scaled to 8 bits. A file that ends too early is
    refused, never returned half grey; bytes after the image's end do no harm. Damage inside a JPEG's entropy-coded
    data is not always detectable. An image of more than 200 megapixels is refused before its memory is taken (the
    environment variable ``OPENCV_IO_MAX_IMAGE_PIXELS`` sets another limit).

    Args:
        data: The file's bytes.
        name: The file, for the error.

    Returns:
        RGB ``(height, width, 3)`` uint8.

    Raises:
        UnreadableImageError: The bytes are not an image that can be decoded.
    """
    buffer = np.frombuffer(data, np.uint8)
    image, why = None, f"{len(data)} bytes starting with {data[:8]!r}"
    height, width = image_size(data) or (0, 0)
    too_large = height * width > int(os.environ.get(LIMIT_VARIABLE, PIXEL_LIMIT))
    if buffer.size and not too_large:
        try:
            with quiet_opencv:
                image = cv2.imdecode(buffer, cv2.IMREAD_COLOR_RGB)
        except cv2.error as error:
            too_large = "CV_IO_MAX_IMAGE" in str(error)
    if too_large:
        why = f"an image larger than {LIMIT_VARIABLE} allows (200 megapixels unless set)"
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

    Raises:
        OSError: It cannot be opened.
        UnreadableImageError: It cannot be decoded.
    """
    return decode_image(path.read_bytes(), str(path))


def write_png(path: Path, image: UInt8[np.ndarray, "h w 3"]) -> None:
    """Write an RGB image as PNG (not atomic: for generated data and figures)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(image))


def encode_png(image: UInt8[np.ndarray, "h w 3"]) -> bytes:
    """Encode an RGB image as the bytes of a PNG file."""
    return bytes(cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1])
