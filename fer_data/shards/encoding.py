"""The encodings of a shard's images: pixels, or as JPEG files one after the other in one dataset."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int64, UInt8

from aupipe.fer_data.errors import StoreError, UserInputError, paragraph
from aupipe.fer_data.machine import usable_memory

ENCODINGS = ("raw", "jpeg")
JPEG_QUALITY = 95

IMAGE_ATTRIBUTES = {
    "CLASS": "IMAGE",
    "IMAGE_VERSION": "1.2",
    "IMAGE_SUBCLASS": "IMAGE_TRUECOLOR",
    "INTERLACE_MODE": "INTERLACE_PIXEL",
    "DISPLAY_ORIGIN": "UL",
}
"""The HDF5 Image specification's attributes: HDFView and h5web then show pictures."""


def encode_jpeg(image: UInt8[np.ndarray, "h w 3"], quality: int) -> UInt8[np.ndarray, "b"]:
    """Encode an RGB image as a JPEG file; the same image gives the same bytes with the same OpenCV."""
    import cv2  # in the functions that code pixels, so that a store is looked at without it

    _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(data, np.uint8).reshape(-1)


def decode_jpeg(data: UInt8[np.ndarray, "b"], out: UInt8[np.ndarray, "h w 3"], where: object) -> None:
    """Decode a row's JPEG.

    Args:
        data: The JPEG's bytes.
        out: Where the RGB pixels go.
        where: The row, for the error.

    Raises:
        StoreError: It is no JPEG, or of another size.
    """
    import cv2

    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB) if len(data) else None
    except cv2.error:
        image = None
    if image is None or image.shape != out.shape:
        raise StoreError(
            paragraph(
                "An image of the store cannot be decoded.",
                where=where,
                expected=f"a JPEG of {out.shape[1]} x {out.shape[0]} pixels",
                got="other bytes" if image is None else f"{image.shape[1]} x {image.shape[0]} pixels",
                fix="Run `aupipe verify` on the store, then `aupipe repair`.",
            )
        )
    out[:] = image


def offsets_fit(offsets: Int64[np.ndarray, "m"], size: int) -> bool:
    """Tell whether the offsets of n JPEGs (m = n + 1) cut ``size`` bytes into n pieces."""
    return bool(offsets[0] == 0 and offsets[-1] == size and (np.diff(offsets) > 0).all())


def channel_sums(image: UInt8[np.ndarray, "h w 3"]) -> tuple[np.ndarray, np.ndarray]:
    """Sum the three channels and their squares; exact, as whole numbers below 2**53."""
    import cv2

    sums = np.array(cv2.sumElems(image)[:3])
    squares = np.array([cv2.norm(channel, cv2.NORM_L2SQR) for channel in cv2.split(image)])
    return sums, np.rint(squares)  # OpenCV squares a square root, which misses the whole number by 1e-16 of it


def resolve_encoding(asked: str, rows: int, image_size: int, memory: int | None = None) -> str:
    """Resolve ``auto``: ``raw`` where the pixels take at most half of the memory, else ``jpeg``.

    So a whole epoch of a raw store can stay in the page cache.

    Args:
        asked: ``raw``, ``jpeg`` or ``auto``.
        rows: Number of the store's images.
        image_size: Their side in pixels.
        memory: In bytes; by default what this process may use.

    Raises:
        UserInputError: The name is unknown.
    """
    if asked in ENCODINGS:
        return asked
    if asked != "auto":
        raise UserInputError(paragraph("Unknown encoding.", expected="raw, jpeg or auto", got=repr(asked)))
    available = usable_memory() if memory is None else memory
    return "raw" if rows * image_size * image_size * 3 <= available / 2 else "jpeg"
