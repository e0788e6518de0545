"""The log as people look at it, ``log.csv`` and ``curves.png``: drawing takes longer than an epoch of a small run.

So both are written at most every :data:`EVERY` seconds. What was put off is written when the training ends, however it
ends; after a kill both are as old as that, and what continues the run writes them again at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from aupipe.fer_data.files import sha256_bytes, sha256_file, write_bytes, write_text
from aupipe.fer_display.tables import csv_of_records

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EVERY = 10.0


class LogViews:
    """The two files of a run's folder. As a context: at its end they show all that they were given."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder, self._clock = folder, clock
        self._written = -EVERY + clock()
        self._rows: Sequence[dict[str, Any]] = ()

    def __enter__(self) -> LogViews:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.write()

    def show(self, rows: Sequence[dict[str, Any]]) -> None:
        """Take the log's rows so far, and write them if it is time."""
        self._rows = list(rows)
        if self._clock() - self._written >= EVERY:
            self.write()

    def write(self) -> None:
        """Write what was put off."""
        if self._rows:
            write_views(self._folder, self._rows)
            self._rows, self._written = (), self._clock()


def write_views(folder: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write ``curves.png``, then ``log.csv``: where the latter is up to date, both are, and nothing is drawn."""
    log, curves, text = folder / "log.csv", folder / "curves.png", csv_of_records(rows)
    if curves.is_file() and log.is_file() and sha256_file(log) == sha256_bytes(text.encode()):
        return
    from aupipe.fer_display.figures import png_bytes  # a training starts without Matplotlib

    write_bytes(curves, png_bytes(draw_curves(rows)))
    write_text(log, text)


def draw_curves(rows: Sequence[dict[str, Any]]) -> Figure:
    """Draw three panels over the epochs: cross-entropy, alignment, validation accuracy."""
    from aupipe.fer_display.curves import Curve, Panel, draw_panels

    epochs = [row["epoch"] for row in rows]
    panels = {
        "cross-entropy": ("train_ce", "val_ce"),
        "alignment: 1 − cosine": ("train_align", "val_align"),
        "accuracy": ("val_accuracy", "val_balanced_accuracy"),
    }
    lines = ("-", "--")  # one that lies on the other shows through it
    return draw_panels(
        [
            Panel(
                title,
                [
                    Curve(name.replace("_", " "), epochs, [row[name] for row in rows], line=line, marker=".")
                    for name, line in zip(names, lines, strict=True)
                ],
                across="epoch",
                grid=False,
            )
            for title, names in panels.items()
        ]
    )
