"""The pictures to explain: a photo, a folder of photos, a manifest, or a video, as one stream in a fixed order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64, UInt8

from aupipe.fer_data.errors import UserInputError, paragraph, printable
from aupipe.fer_data.image_names import is_image, photo_suffixes
from aupipe.fer_data.images import UnreadableImageError, is_photo, read_image
from aupipe.fer_data.manifest import Manifest, read_manifest
from aupipe.fer_data.manifest.layouts.walk import walk_files
from aupipe.fer_data.types import Box, Failure
from aupipe.fer_data.videos import LostFrame, VideoFrame, video_frames, video_header
from aupipe.fer_data.wrong_path import is_ours, wrong_path

VIDEO_SUFFIXES = frozenset(
    (
        *(".avi", ".mp4", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".mjpg", ".mts", ".m2ts", ".ts"),
        *(".3gp", ".flv", ".ogv", ".vob"),
    )
)
"""What is a video by its name. A file of any other name is one where the decoder opens it and it is no photo."""


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
        rate: Taken frames that are shown in a second.
        ignored: Files of a folder that are no photos by their name.
        photos: Names of an image's or a folder's photos, in order.
        manifest: The manifest, where the input is one.
    """

    path: Path
    kind: str
    total: int
    every: int = 1
    rate: float = 0.0
    ignored: int = 0
    photos: tuple[str, ...] = ()
    manifest: Manifest | None = None

    def pictures(self) -> Iterator[InputPicture | Failure]:
        """Yield the pictures in order, RGB uint8; one that cannot be read is a :class:`Failure`."""
        if self.kind == "video":
            yield from (_frame(self.path, frame) for frame in video_frames(self.path, self.every))
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
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES or not (suffix in photo_suffixes() or is_photo(path)):
        header = video_header(path)
        if header.opened or suffix in VIDEO_SUFFIXES:
            return Source(path, "video", -(-header.frames // every), every, header.rate / every)
    return Source(path, "image", 1, photos=(path.name,))


def _folder(path: Path) -> Source:
    if is_ours(path):
        raise UserInputError(wrong_path(path, "images"))
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


def _frame(path: Path, frame: VideoFrame | LostFrame) -> InputPicture | Failure:
    video = printable(path.name)
    name = video if frame.number is None else f"{video}/frame-{frame.number:06d}"
    if isinstance(frame, LostFrame):
        return Failure(name, str(path), frame.reason.key, frame.detail)
    return InputPicture(name, frame.image, frame=frame.number, seconds=frame.seconds)
