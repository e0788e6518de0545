"""Reading videos, in a process of its own: one that ends the decoder, or makes it stand still, costs itself alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from aupipe.fer_data.image_size import SIDE_LIMIT
from aupipe.fer_data.images import quiet_opencv
from aupipe.fer_data.processes import Death, Done, Job, Message, Result, Said, Task, Worker, die_silently
from aupipe.fer_data.types import Reason

FRAME_LIMIT = 64_000_000
"""Most pixels of a video's frame: twice those of an 8K film; a decoder holds several."""

ENDS_EARLY = 0.95
"""A video that yields fewer frames than this share of what its header says is reported as damaged."""

PATIENCE = 60.0
"""Seconds within which a decoder must give a sign of life; it gives one every ``SIGN`` frames."""

SIGN = 25


@dataclass(frozen=True)
class VideoFrame:
    """A frame of a video: its number, from 0, when the container shows it, and the picture, RGB."""

    number: int
    seconds: float
    image: UInt8[np.ndarray, "h w 3"]


@dataclass(frozen=True)
class LostFrame:
    """What cannot be had of a video: a frame, or None: all of it."""

    number: int | None
    reason: Reason
    detail: str


RATES = (0.1, 1000.0)
"""Frames a second that a container may state; others are taken for a mistake."""

USUAL_RATE = 25.0


@dataclass(frozen=True)
class VideoHeader:
    """What the decoder says of a file: whether it opens it, the number of frames, 1 where that is not known, and how
    many are shown in a second, :data:`USUAL_RATE` where that is not."""

    opened: bool
    frames: int
    rate: float = USUAL_RATE


def video_header(path: Path) -> VideoHeader:
    """Ask the decoder about a file. One that it dies of is a video: of what, :func:`video_frames` will say."""
    found = VideoHeader(True, 1)
    for said in _said(_header, path):
        found = found if isinstance(said, Death) else said
    return found


def video_frames(path: Path, every: int) -> Iterator[VideoFrame | LostFrame]:
    """Yield each N-th frame of a video, and what is lost of it.

    Args:
        path: The video.
        every: N.
    """
    number = 0
    for said in _said(_frames, (path, every)):
        if isinstance(said, Death):
            why = f"no sign of life for {PATIENCE:.0f} s" if said.seconds == math.inf else str(said)
            yield LostFrame(number, Reason.WORKER_DIED, f"the decoder gave up from here on: {why}")
        elif said is not None:
            number = number if said.number is None else said.number + 1
            yield said


def _said(task: Task[Job, Said, None], job: Job) -> Iterator[Said | Death]:
    """Yield what a task says in a process of its own, and at last the process's death, if it died."""
    worker: Worker[Job, Said, None] = Worker(task, import_main=False)
    worker.give(job)
    try:
        while not isinstance(said := _next(worker), Done):
            yield said.what if isinstance(said, Message) else said
            if isinstance(said, Death):
                return
    finally:
        worker.end()


def _next(worker: Worker[Job, Said, Result]) -> Message[Said] | Done[Result] | Death:
    if worker.connection.poll(PATIENCE):
        return worker.receive()
    return Death(worker.end(), math.inf)  # not by itself: it was ended


# --- in the other process ---


def _header(path: Path, tell: Callable[[VideoHeader], None]) -> None:
    die_silently()
    with _opened(path) as video:
        rate = float(video.get(cv2.CAP_PROP_FPS))
        rate = rate if RATES[0] <= rate <= RATES[1] else USUAL_RATE
        tell(VideoHeader(video.isOpened(), max(int(video.get(cv2.CAP_PROP_FRAME_COUNT)), 1), rate))


def _frames(job: tuple[Path, int], tell: Callable[[VideoFrame | LostFrame | None], None]) -> None:
    die_silently()
    for frame in decoded_frames(*job):
        tell(frame)


@contextmanager
def _opened(path: Path) -> Iterator[cv2.VideoCapture]:
    with quiet_opencv:
        video = cv2.VideoCapture(str(path))
        try:
            yield video
        finally:
            video.release()


def decoded_frames(path: Path, every: int) -> Iterator[VideoFrame | LostFrame | None]:
    """Decode a video in this process, see :func:`video_frames`; None is a sign of life."""
    with _opened(path) as video:
        if too_large := _too_large(video):
            yield LostFrame(None, Reason.TOO_LARGE, too_large)
            return
        stated, rate = int(video.get(cv2.CAP_PROP_FRAME_COUNT)), max(float(video.get(cv2.CAP_PROP_FPS)), 0.0)
        number, seconds = 0, 0.0
        while video.grab():
            seconds = _time(video, number, seconds, rate)
            if number % every == 0:
                yield _frame(video, number, seconds)
            elif number % SIGN == 0:
                yield None
            number += 1
    if number == 0:
        yield LostFrame(None, Reason.UNREADABLE, "not a video that can be decoded")
    elif number < ENDS_EARLY * stated and seconds * rate < ENDS_EARLY * stated:  # some containers only guess the number
        detail = f"the video breaks off: {number} of the {stated} frames it should have"
        yield LostFrame(number, Reason.UNREADABLE, detail)


def _time(video: cv2.VideoCapture, number: int, before: float, rate: float) -> float:
    """When a frame is shown, in seconds; where the container does not say, one frame after the one ``before``."""
    told = video.get(cv2.CAP_PROP_POS_MSEC) / 1000
    if number == 0 or told > before:
        return max(float(told), 0.0)
    return before + (1 / rate if rate else 0.0)


def _too_large(video: cv2.VideoCapture) -> str:
    """Say how large a video's frames are where that is more than a photo may have; before one is decoded."""
    width, height = (int(video.get(one)) for one in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
    large = width * height > FRAME_LIMIT or max(width, height) > SIDE_LIMIT
    return f"frames of {width} x {height} pixels" if large else ""


def _frame(video: cv2.VideoCapture, number: int, seconds: float) -> VideoFrame | LostFrame:
    ok, image = video.retrieve()
    if not ok:
        return LostFrame(number, Reason.UNREADABLE, "the frame cannot be decoded")
    return VideoFrame(number, round(seconds, 3), np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8))
