"""Saving in the middle of an epoch: every few minutes or steps, and when the run is told to stop."""

from __future__ import annotations

import contextlib
import enum
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType


class Action(enum.IntEnum):
    """The action due between two steps; where several ranks differ the largest counts."""

    GO_ON = 0
    SAVE = 1
    STOP = 2


class StopSignal:
    """Tells a run when to save and when to stop. ``minutes`` 0 and ``steps`` 0: never save by that measure.

    Inside :meth:`watching`, SIGTERM and Ctrl-C do not end the program at once but ask the run to stop; a second Ctrl-C
    does.
    """

    def __init__(self, minutes: float, steps: int) -> None:
        self.minutes, self.steps = minutes, steps
        self._stop = False
        self.note_saved(0)

    def note_saved(self, step: int) -> None:
        """Note that a checkpoint was written after this step."""
        self._step, self._time = step, time.monotonic()

    def next_action(self, step: int) -> Action:
        """Return the action due after this step."""
        if self._stop:
            return Action.STOP
        late = 0 < self.minutes * 60 <= time.monotonic() - self._time
        return Action.SAVE if late or 0 < self.steps <= step - self._step else Action.GO_ON

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Catch SIGTERM and Ctrl-C for the time of the context; only the main thread can."""
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
