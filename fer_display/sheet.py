"""A figure laid out by hand, in inches, where the room for every label is known beforehand.

That draws in half the time of a layout engine that measures them, and the cells of a matrix keep their size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aupipe.fer_display.figures import new_figure

CHARACTER = 0.085
"""Inches that a character of a label takes at most, on average."""

LINE = 0.18
"""Inches that a line of a label takes in height."""


@dataclass(frozen=True)
class Sheet:
    """A figure measured in inches from its top left corner."""

    figure: Figure
    width: float
    height: float

    def axes(self, x: float, y: float, width: float, height: float) -> Axes:
        """Add axes whose frame has its top left corner at ``x, y``."""
        return self.figure.add_axes(
            (x / self.width, 1 - (y + height) / self.height, width / self.width, height / self.height)
        )

    def text(self, x: float, y: float, text: str, **style: Any) -> None:
        """Write a text whose upper edge lies at ``y``."""
        self.figure.text(x / self.width, 1 - y / self.height, text, **{"va": "top", **style})


def new_sheet(width: float, height: float, dpi: int = 100) -> Sheet:
    """Make an empty sheet of ``width`` x ``height`` inches."""
    return Sheet(new_figure(width, height, dpi, layout=None), width, height)


def across(labels: Sequence[str]) -> float:
    """Measure the inches that the longest label takes."""
    return CHARACTER * max((len(line) for label in labels for line in label.split("\n")), default=0)


def rising(labels: Sequence[str]) -> float:
    """Measure the inches that the longest label takes in height when it rises by 45 degrees."""
    return 0.75 * across(labels)
