"""Writing videos: under a temporary name, and read back before they take their own."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from aupipe.fer_data.errors import FerError, UserInputError, paragraph
from aupipe.fer_data.files import atomic_path
from aupipe.fer_data.images import quiet_opencv

CODECS = {".mp4": "mp4v", ".avi": "MJPG"}
"""Codec by the name's ending, those that give the same bytes each time; .avi needs no library beside OpenCV itself."""

LEAST_RATE = 0.1
"""Frames a second below which containers do not keep a rate; a film of rarer frames is shown faster than that."""

RATE_TOLERANCE = 0.01
"""Containers keep a rate as a ratio of whole numbers: this share of it may be lost."""


@dataclass(frozen=True)
class VideoFacts:
    """A video that was written: its frames, their size in pixels, and how many are shown in a second."""

    frames: int
    width: int
    height: int
    rate: float

    def __str__(self) -> str:
        return f"{self.frames} frames of {self.width} x {self.height} pixels, {self.rate:g} a second"


class VideoWriting:
    """A video that is being written; its first frame gives the size of all. Made by :func:`write_video`."""

    def __init__(self, path: Path, codec: str, rate: float) -> None:
        self._path, self._codec, self._rate = path, codec, rate
        self._encoder: cv2.VideoWriter | None = None
        self._size, self._frames = (0, 0), 0

    def add(self, image: UInt8[np.ndarray, "h w 3"]) -> None:
        """Add a frame, RGB, both sides even."""
        if self._encoder is None:
            self._size = (image.shape[1], image.shape[0])
            self._encoder = _encoder(self._path, self._codec, self._rate, self._size)
        self._encoder.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        self._frames += 1

    def close(self) -> None:
        """Write the end of the file."""
        if self._encoder is not None:
            self._encoder.release()

    @property
    def facts(self) -> VideoFacts:
        """What the file should hold by now."""
        return VideoFacts(self._frames, *self._size, self._rate)


@contextmanager
def write_video(path: Path, rate: float) -> Iterator[VideoWriting]:
    """Write a video that stands under its name only once it was read back: a crash leaves no part of it there.

    Args:
        path: A name that :func:`check_video_name` took.
        rate: Frames shown in a second; containers keep thousandths, and no fewer than one in ten seconds.

    Raises:
        UserInputError: This OpenCV has no such codec.
        FerError: What was written is not what reads back.
    """
    with atomic_path(path) as temporary, tempfile.TemporaryDirectory(prefix="aupipe-video-") as folder:
        link = Path(folder) / f"video{path.suffix.lower()}"  # OpenCV takes the container from the name
        link.symlink_to(temporary.resolve())
        video = VideoWriting(link, CODECS[path.suffix.lower()], max(round(rate, 3), LEAST_RATE))
        try:
            yield video
        finally:
            video.close()
        if not _agree(found := read_facts(link), video.facts):
            raise FerError(
                paragraph(
                    f"The video {path} does not read back as it was written, so it was not kept.",
                    expected=video.facts,
                    got=found,
                    fix="Look whether the disk is full, or choose another ending for its name.",
                )
            )


def read_facts(path: Path) -> VideoFacts:
    """Read a video that this program wrote, and count its frames; all 0 for what is no video."""
    with quiet_opencv:
        video = cv2.VideoCapture(str(path))
        frames = 0
        while video.grab():
            frames += 1
        sides = (int(video.get(cv2.CAP_PROP_FRAME_WIDTH)), int(video.get(cv2.CAP_PROP_FRAME_HEIGHT)))
        rate = float(video.get(cv2.CAP_PROP_FPS))
        video.release()
    return VideoFacts(frames, *sides, rate)


def check_video_name(path: Path) -> None:
    """Raise :class:`UserInputError` unless a video can be written under a name: it is free, its codec is there."""
    codec = CODECS.get(path.suffix.lower())
    if codec is None:
        known = ", ".join(CODECS)
        raise UserInputError(
            paragraph("The name of a video says of what kind it is.", where=path, expected=f"an ending of {known}",
                      got=repr(path.suffix))
        )  # fmt: skip
    if path.exists() or path.is_symlink():
        raise UserInputError(
            paragraph(f"{path} is there already, and no video is written over anything.",
                      fix="Choose another name, or remove it if you do not need it.")
        )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="aupipe-video-") as folder:
        _encoder(Path(folder) / f"try{path.suffix.lower()}", codec, 25.0, (64, 64)).release()


def _encoder(path: Path, codec: str, rate: float, size: tuple[int, int]) -> cv2.VideoWriter:
    with quiet_opencv:
        encoder = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), rate, size)
    if encoder.isOpened():
        return encoder
    raise UserInputError(
        paragraph(
            f"The OpenCV on this machine cannot write {path.suffix} videos of {size[0]} x {size[1]} pixels.",
            expected=f"the codec {codec}",
            fix="Choose a name that ends in .avi: that needs OpenCV alone. The wheels of opencv-python on PyPI have "
            "all of them.",
        )
    )


def _agree(found: VideoFacts, expected: VideoFacts) -> bool:
    shapes = [(one.frames, one.width, one.height) for one in (found, expected)]
    return shapes[0] == shapes[1] and abs(found.rate - expected.rate) <= RATE_TOLERANCE * expected.rate
