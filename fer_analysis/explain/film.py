"""An annotated video: each frame of a video with what a run saw in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from aupipe.fer_analysis.explain.film_frame import film_frame
from aupipe.fer_analysis.explain.inputs import Source
from aupipe.fer_analysis.explain.opened import OpenRun
from aupipe.fer_analysis.explain.seen import SeenPicture
from aupipe.fer_data.errors import UserInputError, paragraph
from aupipe.fer_data.video_files import VideoFacts, VideoWriting, check_video_name, write_video

BLANK = 90
"""The grey of a frame that cannot be decoded."""


@dataclass
class Film:
    """An annotated video that is made while its frames are explained. ``facts``: of the finished file.

    It has the frames that were looked at, at the speed of the video, and no sound.
    """

    opened: OpenRun
    source: Source
    path: Path
    facts: VideoFacts | None = None

    def watch(self, stream: Iterable[SeenPicture]) -> Iterator[SeenPicture]:
        """Draw and write what passes; the file is put in place after the last frame.

        A frame that cannot be decoded is grey and says so. Where not one can, no file is made.
        """
        with ExitStack() as stack:
            video: VideoWriting | None = None
            waiting = list[SeenPicture]()  # those before the first that can be decoded, whose size all have
            for seen in stream:
                waiting.append(seen)
                if video is None and seen.picture is not None:
                    video = stack.enter_context(write_video(self.path, self.source.rate))
                    blank = np.full_like(seen.picture.image, BLANK)
                if video is not None:
                    for one in waiting:
                        picture = blank if one.picture is None else _fitted(one.picture.image, blank)
                        video.add(film_frame(self.opened, one, picture))
                    waiting.clear()
                yield seen
        self.facts = None if video is None else video.facts


def check_film(source: Source, path: Path) -> None:
    """Raise :class:`UserInputError` unless an annotated video can be made of an input, under this name."""
    if source.kind != "video":
        what = {"image": "a photo", "folder": "a folder", "manifest": "a manifest"}[source.kind]
        raise UserInputError(
            paragraph(
                "--video-out is made of a video.",
                where=source.path,
                expected="a video",
                got=what,
                fix="Leave --video-out out: --out has a picture of every face.",
            )
        )
    check_video_name(path)


def _fitted(image: UInt8[np.ndarray, "h w 3"], first: UInt8[np.ndarray, "a b 3"]) -> UInt8[np.ndarray, "a b 3"]:
    """Bring a frame to the size of the first one: streams may change it."""
    if image.shape == first.shape:
        return image
    return np.asarray(cv2.resize(image, (first.shape[1], first.shape[0]), interpolation=cv2.INTER_AREA), np.uint8)
