from __future__ import annotations

import errno
import importlib.machinery
import io
import os
import resource
import struct
import subprocess
import sys
import types
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from aupipe.fer_data.errors import FerError, UserInputError
from aupipe.fer_data.image_names import photo_suffixes
from aupipe.fer_data.image_size import LIMIT_VARIABLE, SIDE_LIMIT, image_size
from aupipe.fer_data.images import (
    FILE_LIMIT,
    STRETCHED,
    UnreadableImageError,
    decode_image,
    is_photo,
    may_be_decoded_now,
    one_opencv_thread,
    read_image,
    write_png,
)
from aupipe.fer_data.types import Reason


def photo(height: int = 60, width: int = 80) -> np.ndarray:
    """A smooth colour image without symmetry, so that every rotation and channel swap shows."""
    small = np.random.default_rng(5).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def encode(image: np.ndarray, extension: str, *parameters: int) -> bytes:
    """Encode channels in RGB(A) order; OpenCV itself wants BGR(A)."""
    if image.ndim == 3:
        image = image[..., [2, 1, 0, *range(3, image.shape[2])]]
    done, data = cv2.imencode(extension, image, parameters)
    assert done
    return data.tobytes()


def exif(orientation: int) -> bytes:
    """A minimal APP1 segment: a big-endian TIFF header and one tag, 0x0112."""
    tiff = b"MM\x00\x2a\x00\x00\x00\x08" + struct.pack(">HHHIHHI", 1, 0x0112, 3, 1, orientation, 0, 0)
    body = b"Exif\x00\x00" + tiff
    return b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body


def test_rgb_order_and_lossless_content() -> None:
    image = photo()
    decoded = decode_image(encode(image, ".png"))
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, image)


def test_grey_becomes_three_equal_channels() -> None:
    grey = photo()[..., 0]
    np.testing.assert_array_equal(decode_image(encode(grey, ".png")), np.repeat(grey[..., None], 3, 2))
    jpeg = decode_image(encode(grey, ".jpg"))
    assert jpeg.shape == (60, 80, 3)
    assert np.ptp(jpeg.astype(int), axis=2).max() == 0


def test_an_alpha_channel_is_dropped() -> None:
    alpha = np.linspace(0, 255, 80).astype(np.uint8)
    image = np.dstack([photo(), np.broadcast_to(alpha, (60, 80))])
    np.testing.assert_array_equal(decode_image(encode(image, ".png")), image[..., :3])


def test_a_palette_image() -> None:
    pillow = pytest.importorskip("PIL.Image")
    palette = pillow.fromarray(photo()).quantize(32)
    file = io.BytesIO()
    palette.save(file, "PNG")
    assert file.getvalue()[25] == 3  # the colour type of the header: indexed
    np.testing.assert_array_equal(decode_image(file.getvalue()), np.asarray(palette.convert("RGB")))


@pytest.mark.parametrize("extension", [".png", ".tiff"])
def test_sixteen_bits_are_scaled(extension: str) -> None:
    image = photo()
    wide = image.astype(np.uint16) * 257
    np.testing.assert_array_equal(decode_image(encode(wide, extension)), image)
    grey = decode_image(encode(wide[..., 1], extension))
    np.testing.assert_array_equal(grey, np.repeat(image[..., 1:2], 3, 2))


UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_orientation_is_applied(orientation: int) -> None:
    plain = encode(photo(), ".jpg", cv2.IMWRITE_JPEG_QUALITY, 95)
    turned = plain[:2] + exif(orientation) + plain[2:]
    np.testing.assert_array_equal(decode_image(turned), UPRIGHT[orientation](decode_image(plain)))


def test_the_name_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "webp.jpg"
    path.write_bytes(encode(photo(), ".webp", cv2.IMWRITE_WEBP_QUALITY, 101))
    assert path.read_bytes()[:4] == b"RIFF"
    np.testing.assert_array_equal(read_image(path), photo())


@pytest.mark.parametrize("content", [b"", b"\x00", b"hello, this is text\n", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xd9"])
def test_what_is_no_image_is_named_and_shown(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "face.png"
    path.write_bytes(content)
    with pytest.raises(UnreadableImageError) as caught:
        read_image(path)
    assert isinstance(caught.value, FerError) and isinstance(caught.value, ValueError)
    assert str(caught.value).startswith(f"{path} cannot be read as an image.")
    assert f"{len(content)} bytes starting with {content[:8]!r}" in str(caught.value)


def test_a_gigapixel_in_a_small_file_is_refused_without_taking_its_memory() -> None:
    # 20,000 x 20,000 black pixels: well-formed, 60 kB, 1.2 GB when decoded.
    header = struct.pack(">IIBBBBB", 20_000, 20_000, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((20_000 // 8 + 1) * 20_000), 9)
    bomb = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in ((b"IHDR", header), (b"IDAT", rows), (b"IEND", b""))
    )
    assert len(bomb) < 100_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UnreadableImageError, match="200 megapixels"):
        decode_image(bomb)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kilobytes


@pytest.mark.parametrize("extension", [".png", ".jpg", ".webp", ".tiff", ".bmp", ".gif", ".jp2"])
def test_the_size_is_read_before_the_pixels(extension: str) -> None:
    data = encode(photo(61, 83), extension)
    assert image_size(data) == (61, 83) == decode_image(data).shape[:2]
    assert all(image_size(data[:length]) in (None, (61, 83)) for length in range(0, len(data), 7))


@pytest.mark.parametrize(
    ("extension", "parameters"),
    [(".jpg", (cv2.IMWRITE_JPEG_PROGRESSIVE, 1)), (".webp", (cv2.IMWRITE_WEBP_QUALITY, 101)),
     (".webp", (cv2.IMWRITE_WEBP_QUALITY, 80)), (".tiff", (cv2.IMWRITE_TIFF_COMPRESSION, 5))],
)  # fmt: skip
def test_the_size_is_read_of_every_kind(extension: str, parameters: tuple[int, ...]) -> None:
    assert image_size(encode(photo(), extension, *parameters)) == (60, 80)


def test_the_size_of_other_bytes_is_not_known() -> None:
    for content in (b"", b"\xff\xd8", b"BM", b"RIFFxxxxWEBP", b"hello", b"II*\x00\xff\xff\xff\xff", b"P6 3 3 255"):
        assert image_size(content) is None


def test_the_limit_is_the_variable_s_where_it_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(photo(), ".jpg")
    monkeypatch.setenv("OPENCV_IO_MAX_IMAGE_PIXELS", "4799")
    with pytest.raises(UnreadableImageError, match="OPENCV_IO_MAX_IMAGE_PIXELS"):
        decode_image(data)
    for enough in ("4800", "5KB", "1Mb"):
        monkeypatch.setenv("OPENCV_IO_MAX_IMAGE_PIXELS", enough)
        assert decode_image(data).shape == (60, 80, 3)
    for no_size in ("many", "1e9", "4KiB"):
        monkeypatch.setenv("OPENCV_IO_MAX_IMAGE_PIXELS", no_size)
        with pytest.raises(UserInputError, match="not a number of pixels"):
            decode_image(data)


def test_opencv_s_settings_are_the_user_s_again_afterwards() -> None:
    log, threads = cv2.utils.logging.getLogLevel(), cv2.getNumThreads()
    with one_opencv_thread():
        assert cv2.getNumThreads() == 1
    with pytest.raises(UnreadableImageError):
        decode_image(encode(photo(), ".jpg")[:200])
    assert (cv2.utils.logging.getLogLevel(), cv2.getNumThreads()) == (log, threads)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("none.png", Reason.MISSING_FILE),
        ("photo.png/none.png", Reason.MISSING_FILE),
        ("a\0b.png", Reason.MISSING_FILE),
        ("x" * 300, Reason.NO_ACCESS),
        ("folder.png", Reason.NO_ACCESS),
        ("fifo.png", Reason.NO_ACCESS),
        ("zero.png", Reason.NO_ACCESS),
        ("large.png", Reason.TOO_LARGE),
        ("long.png", Reason.TOO_LARGE),
    ],
)
def test_a_file_that_is_no_photo_has_its_reason_at_once(tmp_path: Path, name: str, reason: Reason) -> None:
    (tmp_path / "photo.png").write_bytes(encode(photo(), ".png"))
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "fifo.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    with (tmp_path / "large.png").open("wb") as sparse:
        sparse.truncate(FILE_LIMIT + 1)
    (tmp_path / "long.png").write_bytes(encode(np.zeros((2, SIDE_LIMIT + 1, 3), np.uint8), ".png"))
    with pytest.raises(UnreadableImageError) as caught:
        read_image(tmp_path / name)
    assert caught.value.reason is reason and caught.value.detail


def test_a_forbidden_file_is_not_called_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: bytes, flags: int) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), name)

    monkeypatch.setattr("os.open", refuse)
    with pytest.raises(UnreadableImageError, match="Permission denied") as caught:
        read_image(Path("secret.png"))
    assert caught.value.reason is Reason.NO_ACCESS


FORMATS = {
    "jpeg": (".jpg", ()),
    "progressive": (".jpg", (cv2.IMWRITE_JPEG_PROGRESSIVE, 1)),
    "restart": (".jpg", (cv2.IMWRITE_JPEG_RST_INTERVAL, 4)),
    "png": (".png", ()),
    "webp": (".webp", (cv2.IMWRITE_WEBP_QUALITY, 101)),
    "bmp": (".bmp", ()),
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_that_ends_too_early_is_refused_not_half_grey(name: str) -> None:
    extension, parameters = FORMATS[name]
    whole = encode(photo(120, 160), extension, *parameters)
    assert decode_image(whole).shape == (120, 160, 3)
    for length in (*np.linspace(1, len(whole) - 1, 25).astype(int), len(whole) - 2):
        with pytest.raises(UnreadableImageError):
            decode_image(whole[:length])


def test_a_download_padded_with_zeros_is_refused() -> None:
    whole = encode(photo(240, 320), ".jpg")
    with pytest.raises(UnreadableImageError):
        decode_image(whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2))


def test_a_changed_byte_in_a_png_is_refused() -> None:
    whole = bytearray(encode(photo(), ".png"))
    whole[len(whole) // 2] ^= 0x40
    with pytest.raises(UnreadableImageError):
        decode_image(bytes(whole))


@pytest.mark.parametrize("name", FORMATS)
def test_bytes_after_the_end_do_no_harm(name: str) -> None:
    extension, parameters = FORMATS[name]
    whole = encode(photo(), extension, *parameters)
    np.testing.assert_array_equal(decode_image(whole + b"trailing" * 50), decode_image(whole))


def test_png_round_trip(tmp_path: Path) -> None:
    write_png(tmp_path / "new" / "a.png", photo())
    np.testing.assert_array_equal(read_image(tmp_path / "new" / "a.png"), photo())


@pytest.mark.shared
def test_no_development_image_is_refused(shared: Path) -> None:
    every = [
        path
        for folder in ("faces", "landmarks68")
        for path in sorted((shared / folder).rglob("*"))
        if path.suffix in (".jpg", ".png")
    ]
    assert len(every) > 1000
    assert all(read_image(path).shape[2] == 3 for path in every[::4])
    assert read_image(shared / "faces" / "odd" / "webp_named.jpg").size


def test_a_name_is_utf8_in_any_locale(tmp_path: Path) -> None:
    write_png(tmp_path / "表情.png", photo())
    program = "import pathlib, sys; from aupipe.fer_data.images import read_photo; "
    program += "print(len(read_photo(pathlib.Path(sys.argv[1]) / '\\u8868\\u60c5.png')))"
    plain = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path], env=plain, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == str((tmp_path / "表情.png").stat().st_size), done.stderr


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_avif_is_upright(orientation: int) -> None:
    pillow = pytest.importorskip("PIL.Image")
    tags, file = pillow.Exif(), io.BytesIO()
    tags[0x112] = orientation  # Pillow writes it as AVIF's own properties
    pillow.fromarray(photo()).save(file, "AVIF", exif=tags, quality=95)
    decoded = decode_image(file.getvalue())
    expected = UPRIGHT[orientation](photo())
    assert decoded.shape == expected.shape
    assert np.abs(decoded.astype(int) - expected).mean() < 6


@pytest.mark.parametrize("extension", [".png", ".tiff"])
@pytest.mark.parametrize("bits", [8, 10, 12])
def test_a_cameras_bits_in_a_16_bit_file_are_stretched(extension: str, bits: int) -> None:
    values = photo().astype(np.uint16) << (bits - 8)
    assert values.max() >= 2 ** (bits - 1)
    np.testing.assert_array_equal(decode_image(encode(values, extension)), photo())


def test_a_dark_photo_stays_dark() -> None:
    dark = photo() // 20
    np.testing.assert_array_equal(decode_image(encode(dark, ".png")), dark)
    full = photo().astype(np.uint16) * 80  # uses 15 bits
    np.testing.assert_array_equal(decode_image(encode(full, ".png")), full >> 8)


JPEG, PNG = encode(photo(), ".jpg"), encode(photo(), ".png")


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"", "an empty file"),
        (b"\0\0\0\x1cftypheic\0\0\0\0mif1heicmiaf" + bytes(100), "a HEIC photo: `pip install 'aupipe[heic]'`"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0isommp42" + bytes(100), "a video"),
        (JPEG[:-2], "a JPEG that ends too early"),
        (b"\r\n" + JPEG, "a JPEG after 2 other bytes"),
        (PNG[:-30], "a PNG that ends too early"),
        (b"\xef\xbb\xbf" + PNG, "a PNG after 3 other bytes"),
        (encode(photo().astype(np.float32) / 255, ".tiff"), "a TIFF of float32 samples"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
    ],
)
def test_what_cannot_be_decoded_says_why(data: bytes, cause: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # not installed
    with pytest.raises(UnreadableImageError) as caught:
        decode_image(data)
    assert caught.value.reason is Reason.UNREADABLE and cause in caught.value.detail


def test_only_an_extra_or_another_limit_can_make_a_photo_decodable(monkeypatch: pytest.MonkeyPatch) -> None:
    def detail(data: bytes) -> str:
        with pytest.raises(UnreadableImageError) as caught:
            decode_image(data)
        return caught.value.detail

    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # not installed
    without_extra, damaged = detail(heic), detail(PNG[:-30])
    monkeypatch.setenv(LIMIT_VARIABLE, "4799")
    too_large = detail(encode(photo(), ".jpg"))
    assert not any(map(may_be_decoded_now, ("", STRETCHED, without_extra, damaged, too_large)))
    module = types.ModuleType("pillow_heif")
    module.__spec__ = importlib.machinery.ModuleSpec("pillow_heif", None)
    monkeypatch.setitem(sys.modules, "pillow_heif", module)
    monkeypatch.setenv(LIMIT_VARIABLE, "4800")
    assert [may_be_decoded_now(one) for one in (without_extra, damaged, too_large)] == [True, False, True]


def test_heic_is_read_where_its_extra_is_installed() -> None:
    heif = pytest.importorskip("pillow_heif")
    file = io.BytesIO()
    heif.from_bytes("RGB", (80, 60), photo().tobytes()).save(file, quality=95)
    assert np.abs(decode_image(file.getvalue()).astype(int) - photo()).mean() < 6
    with pytest.raises(UnreadableImageError, match="a damaged HEIC photo"):
        decode_image(file.getvalue()[:-500])


def test_the_decoder_says_what_a_photo_is(tmp_path: Path) -> None:
    assert {".gif", ".avif", ".jfif", ".heic", ".jpg", ".pnm"} <= photo_suffixes()
    (tmp_path / "plain").write_bytes(encode(photo(), ".gif"))
    (tmp_path / "note").write_bytes(b"hello")
    assert [is_photo(tmp_path / name) for name in ("plain", "note", "absent", ".")] == [True, False, False, False]
