"""A folder as people have it: every file is read correctly, or is a row with a reason, and nothing stops the run."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from aupipe.fer_data.manifest import build_manifest, read_manifest
from aupipe.fer_data.types import Reason, Silent
from aupipe.fer_demo.portrait import portrait_faces
from aupipe.pipeline.executors import SerialExecutor
from aupipe.pipeline.landmarks.run import run_landmarks
from aupipe.pipeline.landmarks.tasks import LandmarkConfig
from aupipe.pipeline.landmarks.work import open_work


def encoded(image: np.ndarray, extension: str) -> bytes:
    if image.ndim == 3:
        image = image[..., [2, 1, 0, *range(3, image.shape[2])]]
    return cv2.imencode(extension, image)[1].tobytes()


def palette_png(image: np.ndarray) -> bytes:
    """256 greys by palette."""
    height, width = image.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    palette = bytes(value for grey in range(256) for value in (grey, grey, grey))
    rows = b"".join(b"\0" + row.tobytes() for row in cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))
    return png((b"IHDR", header), (b"PLTE", palette), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def on_its_side_with_exif(image: np.ndarray) -> bytes:
    """Stored a quarter turn anticlockwise, with the tag that says: turn clockwise to look at it."""
    tiff = b"MM\x00\x2a\x00\x00\x00\x08" + struct.pack(">HHHIHHI", 1, 0x0112, 3, 1, 6, 0, 0)
    body = b"Exif\x00\x00" + tiff
    data = encoded(np.rot90(image), ".jpg")
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]


@pytest.fixture(scope="module")
def outcome(model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Reason, np.ndarray]]:
    """Reason and points by file name, after the real stage."""
    folder = tmp_path_factory.mktemp("odd")
    root = folder / "faces" / "happiness"
    root.mkdir(parents=True)
    face = next(portrait_faces("happiness", 1, seed=3, size=160)).image
    black_gigapixel = png(
        (b"IHDR", struct.pack(">IIBBBBB", 40_000, 40_000, 1, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(bytes(5001 * 40_000), 9)),
        (b"IEND", b""),
    )
    files = {
        "plain.png": encoded(face, ".png"),
        "grey.png": encoded(cv2.cvtColor(face, cv2.COLOR_RGB2GRAY), ".png"),
        "alpha.png": encoded(np.dstack([face, np.full(face.shape[:2], 9, np.uint8)]), ".png"),
        "sixteen.png": encoded(face.astype(np.uint16) * 257, ".png"),
        "palette.png": palette_png(face),
        "scan.tiff": encoded(face, ".tiff"),
        "webp.jpg": cv2.imencode(".webp", face[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, 101])[1].tobytes(),
        "exif.jpg": on_its_side_with_exif(face),
        "Gesicht mit Umlaut ä 表情 .png": encoded(face, ".bmp"),
        "truncated.jpg": encoded(face, ".jpg")[:2000],
        "text.png": b"this is not an image\n",
        "gigapixel.png": black_gigapixel,
        "blank.png": encoded(np.full((80, 80, 3), 128, np.uint8), ".png"),
        "one_pixel.png": encoded(np.zeros((1, 1, 3), np.uint8), ".png"),
        "tiny.png": encoded(cv2.resize(face, (14, 14), interpolation=cv2.INTER_AREA), ".png"),
        "vanished.png": encoded(face[:150], ".png"),
        "replaced.png": encoded(face[:, :150], ".png"),
        "empty.png": b"",
    }
    for name, data in files.items():
        (root / name).write_bytes(data)
    (root / "directory.jpg").mkdir()
    (root / "dangling.jpg").symlink_to("nowhere.jpg")
    (root / "loop").symlink_to(root, target_is_directory=True)
    (root / "self.png").symlink_to("self.png")
    build_manifest("folder", folder / "faces", folder / "m.csv")
    manifest = read_manifest(folder / "m.csv")
    (root / "vanished.png").unlink()
    (root / "replaced.png").unlink()
    (root / "replaced.png").mkdir()
    report = run_landmarks(manifest, folder / "work", LandmarkConfig(part_size=4), SerialExecutor(), Silent())
    assert report.ok + sum(report.failed.values()) == report.total == len(manifest.samples)
    return {
        path.rpartition("/")[2]: (reason, points)
        for part in open_work(folder / "work").parts()
        for path, reason, points in zip(part.paths, part.reasons, part.landmarks, strict=True)
    }


@pytest.mark.parametrize(
    "name", ["grey.png", "alpha.png", "sixteen.png", "palette.png", "scan.tiff", "webp.jpg", "exif.jpg",
             "Gesicht mit Umlaut ä 表情 .png"]
)  # fmt: skip
def test_read_correctly(outcome: dict[str, tuple[Reason, np.ndarray]], name: str) -> None:
    plain, (reason, points) = outcome["plain.png"][1], outcome[name]
    assert reason is Reason.OK
    assert np.linalg.norm(points - plain, axis=1).mean() < 1.5  # pixels of 160


@pytest.mark.parametrize(
    ("name", "reasons"),
    [
        ("truncated.jpg", {Reason.UNREADABLE}),
        ("text.png", {Reason.UNREADABLE}),
        ("gigapixel.png", {Reason.TOO_LARGE}),
        ("blank.png", {Reason.NO_FACE, Reason.IMPLAUSIBLE_FACE}),
        ("one_pixel.png", {Reason.NO_FACE, Reason.IMPLAUSIBLE_FACE}),
        ("tiny.png", {Reason.FACE_TOO_SMALL, Reason.NO_FACE, Reason.IMPLAUSIBLE_FACE}),
        ("vanished.png", {Reason.MISSING_FILE}),
        ("replaced.png", {Reason.NO_ACCESS}),
    ],
)
def test_left_out_with_a_reason(outcome: dict[str, tuple[Reason, np.ndarray]], name: str, reasons: set[Reason]) -> None:
    assert outcome[name][0] in reasons
    assert not outcome[name][1].any()


def test_what_is_no_image_file_never_became_a_sample(outcome: dict[str, tuple[Reason, np.ndarray]]) -> None:
    assert not {"empty.png", "directory.jpg", "dangling.jpg", "self.png"} & set(outcome)
    assert len(outcome) == 17  # each file once: the loop was not followed
