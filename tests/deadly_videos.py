"""Tasks for a process of its own that decode no video and end badly."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from aupipe.fer_data.processes import die_silently
from aupipe.fer_data.videos import VideoFrame

Tell = Callable[[VideoFrame], None]


def grey_frame(number: int) -> VideoFrame:
    return VideoFrame(number, number / 10, np.full((40, 40, 3), 90, np.uint8))


def dies_after_two(job: tuple[Path, int], tell: Tell) -> None:
    die_silently()
    for number in (0, 1):
        tell(grey_frame(number))
    os.kill(os.getpid(), signal.SIGSEGV)


def stands_still_after_one(job: tuple[Path, int], tell: Tell) -> None:
    tell(grey_frame(0))
    time.sleep(600)


def dies(path: Path, tell: object) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)
