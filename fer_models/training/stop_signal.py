"""When a run saves in the middle of an epoch: every few minutes or steps, and when it is told to stop."""

from __future__ import annotations

import contextlib
import enum
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType


class Wish(enum.IntEnum):
    """What is to be done between two steps; of several wishes the largest counts."""

    GO_ON = 0
    SAVE = 1
    STOP = 2


class Interruption:
    """Says when it is time to save. ``minutes`` 0 and ``steps`` 0: never by that measure.

    Inside :meth:`watching`, SIGTERM and Ctrl-C do not end the program at once but wish it to stop; a second Ctrl-C
    does.
    """

    def __init__(self, minutes: float, steps: int) -> None:
        self.minutes, self.steps = minutes, steps
        self._stop = False
        self.saved(0)

    def saved(self, step: int) -> None:
        """A checkpoint was written after this step."""
        self._step, self._time = step, time.monotonic()

    def wish(self, step: int) -> Wish:
        """What is to be done after this step."""
        if self._stop:
            return Wish.STOP
        late = 0 < self.minutes * 60 <= time.monotonic() - self._time
        return Wish.SAVE if late or 0 < self.steps <= step - self._step else Wish.GO_ON

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Turn signals into wishes; only the main thread can."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._stop and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._stop = True
