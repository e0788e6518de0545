"""Progress of a long call: shown on stderr where it is asked for."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from aupipe.fer_data.errors import printable
from aupipe.fer_data.types import Progress, Silent, spoken

if TYPE_CHECKING:
    from tqdm import tqdm

PATIENCE = 60.0
"""Seconds between two lines where there is no terminal: a log file is read, not watched."""


class Bar:
    """Progress on stderr: on a terminal a bar with count, rate and time left, else a line a stage and a minute."""

    def __init__(self) -> None:
        self._bar: tqdm[Any] | _Lines | None = None

    def start(self, label: str, total: int, unit: str) -> None:
        """Open a bar."""
        self.finish()
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(desc=label, total=total, unit=unit, file=sys.stderr, dynamic_ncols=True, mininterval=0.5)
        else:
            self._bar = _Lines(label, total, unit)

    def advance(self, count: int) -> None:
        """Move it."""
        if self._bar is not None:
            self._bar.update(count)

    def note(self, message: str) -> None:
        """Print a line above it."""
        from tqdm import tqdm

        tqdm.write(printable(message), file=sys.stderr)

    def finish(self) -> None:
        """Close it."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class _Lines:
    """What a bar would show, as lines: one a minute, and one at the end."""

    def __init__(self, label: str, total: int, unit: str) -> None:
        self.label, self.total, self.unit, self.count = printable(label), total, unit, 0
        self.started = self.told = time.monotonic()
        self._marks = [(self.started, 0)]

    def update(self, count: int) -> None:
        """Take note that so many more are done."""
        self.count += count
        now = time.monotonic()
        if now - self._marks[-1][0] >= PATIENCE / 2:
            # The rate is that of the last half to whole minute: what was there already went by faster.
            self._marks = [self._marks[-1], (now, self.count)]
        then, had = self._marks[0]
        if now - self.told >= PATIENCE and had < self.count < self.total:
            self.told = now
            left = (now - then) / (self.count - had) * (self.total - self.count)
            self._say(f"{self.count:,} of {self.total:,} {self.unit}, about {spoken(left)} left")

    def close(self) -> None:
        """Say how it ended."""
        done = f"{self.count:,}" if self.count == self.total else f"{self.count:,} of {self.total:,}"
        self._say(f"{done} {self.unit} in {spoken(time.monotonic() - self.started)}")

    def _say(self, words: str) -> None:
        sys.stderr.write(f"{self.label}: {words}\n")
        sys.stderr.flush()


def shown_progress(progress: bool | Progress) -> Progress:
    """Choose who hears of the progress: a bar for True, nobody for False, else the given one."""
    if isinstance(progress, bool):
        return Bar() if progress else Silent()
    return progress
