"""Reading photos: each comes out as RGB, upright, eight bits."""

from __future__ import annotations

import errno
import importlib
import io
import os
import re
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from jaxtyping import UInt8

from aupipe.fer_data.errors import FerError, UserInputError, paragraph
from aupipe.fer_data.image_formats import NEEDS_EXTRA, avif_turn, is_heic, undecodable
from aupipe.fer_data.image_size import LIMIT_VARIABLE, PIXEL_LIMIT, SIDE_LIMIT, image_size
from aupipe.fer_data.types import Reason

FILE_LIMIT = 2**29
"""Largest photo file that is read, in bytes: a photo of 200 megapixels is a fifth of that, or less."""

CAMERA_BITS = 16
"""Largest value, of 255, of a 16-bit image that uses 12 bits; so dark an image is looked at again in full depth."""

STRETCHED = "16-bit values of which the image uses 12 bits or fewer were scaled by those"
"""The decoder's note on such an image."""


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
    """A photo that cannot be had: its ``reason`` is one of the closed set, ``detail`` says in some words why."""

    def __init__(self, name: str, reason: Reason, detail: str) -> None:
        super().__init__(paragraph(f"{name} cannot be read as an image.", got=detail))
        self.reason, self.detail = reason, detail


def decode_image(data: bytes, name: str = "image") -> UInt8[np.ndarray, "h w 3"]:
    """Decode an image file's bytes; the image that :func:`decode_photo` returns."""
    return decode_photo(data, name)[0]


def decode_photo(data: bytes, name: str = "image") -> tuple[UInt8[np.ndarray, "h w 3"], str]:
    """Decode an image file's bytes.

    The format is taken from the content, never from the name. The orientation (EXIF, and AVIF's own) is applied, an
    alpha channel is dropped, grey and palette images become RGB, 16-bit values are scaled to 8 bits: by the 10 or 12
    bits that they use where a camera wrote those. HEIC needs the extra ``heic``. A file that ends too early is
    refused, never returned half grey; bytes after the image's end do no harm. Damage inside a JPEG's entropy-coded
    data is not always detectable. An image of more than 200 megapixels (the environment variable
    ``OPENCV_IO_MAX_IMAGE_PIXELS`` sets another limit), or with a side of more than 32,766, is refused before its memory
    is taken.

    Args:
        data: The file's bytes.
        name: The file, for the error.

    Returns:
        RGB ``(height, width, 3)`` uint8; :data:`STRETCHED` where its values were scaled by the bits in use, else "".

    Raises:
        UnreadableImageError: The bytes are not an image that can be decoded.
    """
    if too_large := too_large_image(data):
        raise UnreadableImageError(name, Reason.TOO_LARGE, too_large)
    image, note = None, ""
    try:
        with quiet_opencv:
            image, note = (_decoded_heic(data, name), "") if is_heic(data) else _decoded(data)
    except cv2.error as error:
        if "CV_IO_MAX_IMAGE" in str(error):  # of a format whose size image_size() does not know
            why = f"an image of {_more_than(_pixel_limit())}"
            raise UnreadableImageError(name, Reason.TOO_LARGE, why) from error
    if image is None:
        raise UnreadableImageError(name, Reason.UNREADABLE, _undecodable(data))
    if too_large := _too_large(image.shape[0], image.shape[1], _pixel_limit()):
        raise UnreadableImageError(name, Reason.TOO_LARGE, too_large)
    return np.asarray(image, np.uint8), note


def _decoded(data: bytes) -> tuple[UInt8[np.ndarray, "h w 3"] | None, str]:
    if not data:
        return None, ""
    packed, turn = np.frombuffer(data, np.uint8), avif_turn(data)
    flags = cv2.IMREAD_COLOR_RGB | (0 if turn is None else cv2.IMREAD_IGNORE_ORIENTATION)
    image, note = cv2.imdecode(packed, flags), ""
    if image is None:
        return None, ""
    if image.max() <= CAMERA_BITS:
        stretched = _stretched(packed, flags & cv2.IMREAD_IGNORE_ORIENTATION)
        image, note = (image, "") if stretched is None else (stretched, STRETCHED)
    if turn is not None:
        image = np.rot90(image, turn[0])
        image = image if turn[1] is None else np.flip(image, turn[1])
    return np.ascontiguousarray(image, np.uint8), note


def _stretched(packed: UInt8[np.ndarray, "n"], orientation: int) -> UInt8[np.ndarray, "h w 3"] | None:
    """Scale an image of 16 bits a value, of which no more than 12 are used, to 8; None for another."""
    # not IMREAD_COLOR_RGB: OpenCV 5.0 spoils 16-bit TIFF with it
    deep = cv2.imdecode(packed, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | orientation)
    if deep is None or deep.dtype != np.uint16:
        return None
    return np.asarray(deep[..., ::-1] // 2 ** max(int(deep.max()).bit_length() - 8, 0), np.uint8)


def _decoded_heic(data: bytes, name: str) -> UInt8[np.ndarray, "h w 3"] | None:
    """Decode a HEIC photo, upright; None where the extra is not installed or the photo is damaged."""
    pillow_heif = _heic_decoder()
    if pillow_heif is None:
        return None
    try:
        photo = pillow_heif.open_heif(io.BytesIO(data))
        if too_large := _too_large(photo.size[1], photo.size[0], _pixel_limit()):
            raise UnreadableImageError(name, Reason.TOO_LARGE, too_large)
        return np.asarray(photo.to_pillow().convert("RGB"), np.uint8)
    except (ValueError, RuntimeError, EOFError, SyntaxError) as error:
        why = "a damaged HEIC photo: " + " ".join(str(error).split())
        raise error if isinstance(error, FerError) else UnreadableImageError(name, Reason.UNREADABLE, why) from error


def _heic_decoder() -> Any:
    """Return the extra's module; None where it is not installed, or cannot be loaded."""
    try:
        return importlib.import_module("pillow_heif")
    except ImportError:
        return None


def _undecodable(data: bytes) -> str:
    """Say that and why an image cannot be decoded."""
    cause = undecodable(data)
    if data[:4] in (b"II*\0", b"MM\0*"):
        with quiet_opencv, suppress(cv2.error):
            samples = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
            cause = "" if samples is None else f"a TIFF of {samples.dtype} samples: save it with 8 or 16 bits"
    what = f"not an image that can be decoded: {len(data)} bytes starting with {data[:8]!r}"
    return f"{what}, {cause}" if cause else what


def is_photo(path: Path) -> bool:
    """Tell by a file's first bytes whether it is an image, whatever it is called."""
    if not path.is_file():
        return False
    with quiet_opencv:
        return bool(cv2.haveImageReader(str(path))) or is_heic(_head(path))


def _head(path: Path) -> bytes:
    try:
        with _opened(str(path)) as file:
            return file.read(256)
    except OSError:
        return b""


def too_large_image(data: bytes, most: int | None = None) -> str:
    """Say what is too large about an image, by the head of its file; empty when nothing is, or nothing is known.

    ``most`` pixels are allowed; None: as many as :func:`decode_image` decodes.
    """
    return _too_large(*(image_size(data) or (0, 0)), _pixel_limit() if most is None else most)


def _pixel_limit() -> int:
    """Read the variable as OpenCV does. Raises :class:`UserInputError`."""
    text = os.environ.get(LIMIT_VARIABLE) or str(PIXEL_LIMIT)
    match = re.fullmatch(r"(\d+)(|MB|Mb|mb|KB|Kb|kb)", text)
    if match is None:
        raise UserInputError(
            paragraph(f"{LIMIT_VARIABLE} is not a number of pixels.", expected="such as 400000000", got=text)
        )
    return int(match[1]) * {"": 1, "k": 2**10, "m": 2**20}[match[2][:1].lower()]


def _too_large(height: int, width: int, most: int) -> str:
    if height * width > most:
        return f"{width} x {height} pixels, {_more_than(most)}"
    if max(height, width) > SIDE_LIMIT:
        return f"{width} x {height} pixels, a side longer than {SIDE_LIMIT}"
    return ""


def _more_than(most: int) -> str:
    return f"more than {most / 1e6:g} megapixels ({LIMIT_VARIABLE} sets another limit for photos)"


def may_be_decoded_now(detail: str) -> bool:
    """Tell whether an image may be decoded by now that could not be.

    It may where the extra it needs is installed, or where the limit of pixels is another one. ``detail``: what the
    :class:`UnreadableImageError` said.
    """
    if NEEDS_EXTRA in detail:
        return _heic_decoder() is not None
    return LIMIT_VARIABLE in detail and _more_than(_pixel_limit()) not in detail


def read_photo(path: Path) -> bytes:
    """Read a photo's file: only a regular one, of up to 512 MiB, so that a FIFO or a device is never waited for.

    Raises :class:`UnreadableImageError`.
    """
    name = str(path)
    try:
        with _opened(name) as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise UnreadableImageError(name, Reason.NO_ACCESS, "not a regular file")
            if found.st_size > FILE_LIMIT:
                raise UnreadableImageError(name, Reason.TOO_LARGE, f"a file of {found.st_size:,} bytes")
            return file.read(FILE_LIMIT)
    except OSError as error:
        gone = error.errno in (errno.ENOENT, errno.ENOTDIR)
        reason = Reason.MISSING_FILE if gone else Reason.NO_ACCESS
        raise UnreadableImageError(name, reason, error.strerror or "") from error


def _opened(name: str) -> BinaryIO:
    """Open a file by its name in UTF-8, whatever the locale says; a FIFO, too, opens at once."""
    if "\0" in name:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
    return os.fdopen(os.open(name.encode("utf-8", "surrogateescape"), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")


def read_image(path: Path) -> UInt8[np.ndarray, "h w 3"]:
    """Read and :func:`decode_image` one file. Raises :class:`UnreadableImageError`."""
    return decode_image(read_photo(path), str(path))


def write_png(path: Path, image: UInt8[np.ndarray, "h w 3"]) -> None:
    """Write an RGB image as PNG (not atomic: for generated data and figures)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(image))


def encode_png(image: UInt8[np.ndarray, "h w 3"]) -> bytes:
    """Encode an RGB image as the bytes of a PNG file."""
    return bytes(cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1])
