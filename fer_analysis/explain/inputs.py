"""The pictures to explain: a photo, a folder of photos, a manifest, or a video, as one stream in a fixed order."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float64, UInt8

from aupipe.fer_data.errors import UserInputError, paragraph, printable
from aupipe.fer_data.image_size import SIDE_LIMIT
from aupipe.fer_data.images import UnreadableImageError, is_image, is_photo, photo_suffixes, quiet_opencv, read_image
from aupipe.fer_data.manifest import Manifest, read_manifest
from aupipe.fer_data.manifest.layouts.walk import walk_files
from aupipe.fer_data.types import Box, Failure, Reason

VIDEO_SUFFIXES = frozenset(
    (
        *(".avi", ".mp4", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".mjpg", ".mts", ".m2ts", ".ts"),
        *(".3gp", ".flv", ".ogv", ".vob"),
    )
)
"""What is a video by its name. A file of any other name is one where the decoder opens it and it is no photo."""

FRAME_LIMIT = 64_000_000
"""Most pixels of a video's frame: twice those of an 8K film; a decoder holds several."""

ENDS_EARLY = 0.95
"""A video that yields fewer frames than this share of what its header says is reported as damaged."""


@dataclass(frozen=True)
class InputPicture:
    """One picture to explain.

    Attributes:
        name: Unique within the input, forward slashes.
        image: RGB.
        frame: Number of a video's frame, from 0.
        seconds: The time at which it is shown, as the video's container has it.
        label: The manifest's label.
        box: The manifest's box, in pixels.
        known: The 68 points ``(x, y)`` that ship with a manifest's dataset, in pixels.
    """

    name: str
    image: UInt8[np.ndarray, "h w 3"]
    frame: int | None = None
    seconds: float | None = None
    label: str = ""
    box: Box | None = None
    known: Float64[np.ndarray, "68 2"] | None = None


@dataclass(frozen=True)
class Source:
    """An input that was found.

    Attributes:
        path: The input.
        kind: ``image``, ``folder``, ``manifest`` or ``video``.
        total: Pictures it should yield.
        every: Each N-th frame of a video is taken.
        ignored: Files of a folder that are no photos by their name.
        photos: Names of an image's or a folder's photos, in order.
        manifest: The manifest, where the input is one.
    """

    path: Path
    kind: str
    total: int
    every: int = 1
    ignored: int = 0
    photos: tuple[str, ...] = ()
    manifest: Manifest | None = None

    def pictures(self) -> Iterator[InputPicture | Failure]:
        """Yield the pictures in order, RGB uint8; one that cannot be read is a :class:`Failure`."""
        if self.kind == "video":
            yield from _frames(self.path, self.every)
        elif self.manifest is not None:
            yield from _samples(self.manifest)
        else:
            root = self.path if self.kind == "folder" else self.path.parent
            for name in self.photos:
                yield _picture(root / name, printable(name))


def open_source(path: Path, every: int = 1) -> Source:
    """Find out what an input is, and what it holds.

    Args:
        path: A photo, a folder of photos, a manifest (``.csv``) or a video.
        every: Take each N-th frame of a video.

    Raises:
        UserInputError: There is nothing to explain.
        ManifestError: The manifest is broken.
    """
    if path.is_dir():
        return _folder(path)
    if not path.is_file():
        what = "is a device, a FIFO or a socket" if path.exists() else "does not exist"
        raise UserInputError(
            paragraph(f"{path} {what}.", expected="a photo, a folder of photos, a manifest (.csv) or a video")
        )
    if path.suffix.lower() == ".csv":
        manifest = read_manifest(path)
        return Source(path, "manifest", len(manifest.samples), manifest=manifest)
    if _is_video(path):
        frames = _frame_count(path)
        return Source(path, "video", -(-frames // every), every)
    return Source(path, "image", 1, photos=(path.name,))


def _folder(path: Path) -> Source:
    files = sorted(name for name in walk_files(path) if (path / name).is_file())
    photos = tuple(name for name in files if is_image(path, name))
    if not photos:
        raise UserInputError(
            paragraph(
                "The folder holds no photos.",
                where=path,
                expected=f"files ending in {', '.join(sorted(photo_suffixes()))}",
                got=f"{len(files)} other files" if files else "an empty folder",
                fix="Give the folder of the photos; videos are given one by one.",
            )
        )
    return Source(path, "folder", len(photos), ignored=len(files) - len(photos), photos=photos)


def _samples(manifest: Manifest) -> Iterator[InputPicture | Failure]:
    known = None if manifest.landmarks is None else np.load(manifest.landmarks, mmap_mode="r", allow_pickle=False)
    for sample in manifest.samples:
        points = None if known is None or sample.landmarks_row is None else known[sample.landmarks_row]
        yield _picture(
            manifest.root / sample.path,
            sample.sample_id,
            label=sample.label,
            box=sample.box,
            known=None if points is None else np.array(points, np.float64),
        )


def _picture(
    path: Path, name: str, label: str = "", box: Box | None = None, known: Float64[np.ndarray, "68 2"] | None = None
) -> InputPicture | Failure:
    try:
        image = read_image(path)
    except UnreadableImageError as error:
        return Failure(name, str(path), error.reason.key, error.detail)
    return InputPicture(name, image, label=label, box=box, known=known)


@contextmanager
def _opened(path: Path) -> Iterator[cv2.VideoCapture]:
    with quiet_opencv:
        video = cv2.VideoCapture(str(path))
        try:
            yield video
        finally:
            video.release()


def _is_video(path: Path) -> bool:
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES or suffix in photo_suffixes() or is_photo(path):
        return suffix in VIDEO_SUFFIXES
    with _opened(path) as video:
        return video.isOpened()


def _frame_count(path: Path) -> int:
    """Read the number of frames off the header; 1 where it does not say or cannot be read."""
    with _opened(path) as video:
        return max(int(video.get(cv2.CAP_PROP_FRAME_COUNT)), 1)


def _frames(path: Path, every: int) -> Iterator[InputPicture | Failure]:
    with _opened(path) as video:
        if too_large := _too_large_frames(video):
            yield Failure(printable(path.name), str(path), Reason.TOO_LARGE.key, too_large)
            return
        stated, rate = int(video.get(cv2.CAP_PROP_FRAME_COUNT)), max(float(video.get(cv2.CAP_PROP_FPS)), 0.0)
        number, seconds = 0, 0.0
        while video.grab():
            seconds = _time(video, number, seconds, rate)
            if number % every == 0:
                yield _frame(video, path, number, seconds)
            number += 1
    if number == 0:
        yield Failure(printable(path.name), str(path), Reason.UNREADABLE.key, "not a video that can be decoded")
    elif number < ENDS_EARLY * stated and seconds * rate < ENDS_EARLY * stated:  # some containers only guess the number
        detail = f"the video breaks off: {number} of the {stated} frames it should have"
        yield Failure(f"{printable(path.name)}/frame-{number:06d}", str(path), Reason.UNREADABLE.key, detail)


def _time(video: cv2.VideoCapture, number: int, before: float, rate: float) -> float:
    """When a frame is shown, in seconds; where the container does not say, one frame after the one ``before``."""
    told = video.get(cv2.CAP_PROP_POS_MSEC) / 1000
    if number == 0 or told > before:
        return max(float(told), 0.0)
    return before + (1 / rate if rate else 0.0)


def _too_large_frames(video: cv2.VideoCapture) -> str:
    """Say how large a video's frames are where that is more than a photo may have; before one is decoded."""
    width, height = (int(video.get(one)) for one in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
    large = width * height > FRAME_LIMIT or max(width, height) > SIDE_LIMIT
    return f"frames of {width} x {height} pixels" if large else ""


def _frame(video: cv2.VideoCapture, path: Path, number: int, seconds: float) -> InputPicture | Failure:
    name = f"{printable(path.name)}/frame-{number:06d}"
    ok, image = video.retrieve()
    if not ok:
        return Failure(name, str(path), Reason.UNREADABLE.key, "the frame cannot be decoded")
    rgb = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
    return InputPicture(name, rgb, frame=number, seconds=round(seconds, 3))
