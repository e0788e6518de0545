"""Progress of a long call: shown on stderr where it is asked for."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from aupipe.fer_data.errors import printable
from aupipe.fer_data.types import Progress, Silent

if TYPE_CHECKING:
    from tqdm import tqdm


class Bar:
    """Progress on stderr: count, rate, time left."""

    def __init__(self) -> None:
        self._bar: tqdm[Any] | None = None

    def start(self, label: str, total: int, unit: str) -> None:
        """Open a bar."""
        from tqdm import tqdm

        self.finish()
        self._bar = tqdm(desc=label, total=total, unit=unit, file=sys.stderr, dynamic_ncols=True, mininterval=0.5)

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


def shown_progress(progress: bool | Progress) -> Progress:
    """Choose who hears of the progress: a bar for True, nobody for False, else the given one."""
    if isinstance(progress, bool):
        return Bar() if progress else Silent()
    return progress
