"""A task for a process of its own that some photos end; it loads little, so that the process starts soon."""

from __future__ import annotations

import os
import signal

from aupipe.fer_data.preparation import MissedFace
from aupipe.fer_data.processes import die_silently
from aupipe.fer_data.types import Reason
from aupipe.pipeline.isolated_photos import Found, Photo


def deadly_if_dark(photo: Photo | None, tell: object) -> Found:
    """End the process at a black photo."""
    if photo is None:
        die_silently()
    elif not photo[0].any():
        os.kill(os.getpid(), signal.SIGSEGV)
    return (MissedFace(Reason.NO_FACE),)
