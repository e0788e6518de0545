"""A table as a picture, to put on a slide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from aupipe.fer_display.figures import new_figure

INK, QUIET = "#1b1f24", "#6b7280"


def draw_table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]], arrow: str) -> Figure:
    """Draw a table: what is between ``**`` is bold, controls step back, and the arrows of a column lie in line.

    Args:
        title: Heading.
        head: Titles of the columns.
        rows: Cells as text.
        arrow: Stands between the two figures of a pair, each of which may be bold by itself.

    Returns:
        The figure.
    """
    columns = [_Column.of(cells, arrow) for cells in zip(head, *rows, strict=True)]
    right = np.cumsum([column.width + 2 for column in columns])
    lines, total = len(rows) + 1, max(int(right[-1]), len(title))
    figure = new_figure(0.074 * total + 0.4, 0.26 * (lines + 2), dpi=110)
    axis = figure.subplots()
    axis.set_axis_off()
    axis.set_xlim(0, total)
    axis.set_ylim(lines + 0.2, -1.2)
    axis.text(0, -0.8, title, fontsize=10, weight="bold", va="center")
    for line in (0, 1, lines):
        axis.axhline(line, color=INK, linewidth=0.8)
    for number, row in enumerate([head, *rows]):
        style: dict[str, Any] = {"fontsize": 8, "va": "center", "color": QUIET if row[0].startswith("control") else INK}
        axis.text(0, number + 0.5, _plain(row[0]), weight=_weight(row[0], number), **style)
        for cell, column, edge in zip(row[1:], columns[1:], right[1:], strict=True):
            for side, place in zip(reversed(cell.split(arrow)), (edge - 0.5, edge - 0.5 - column.after), strict=False):
                axis.text(place, number + 0.5, _plain(side), ha="right", weight=_weight(side, number), **style)
            if arrow in cell:
                middle = edge - 0.5 - column.after + len(arrow) / 2
                axis.text(middle, number + 0.5, arrow.strip(), ha="center", **style)
    return figure


@dataclass(frozen=True)
class _Column:
    """The room of a column in characters: all of it, and from the left side of an arrow to the column's right edge."""

    width: int
    after: int

    @staticmethod
    def of(cells: Sequence[str], arrow: str) -> _Column:
        sides = [_plain(cell).split(arrow) for cell in cells]
        pairs = [side for side in sides if len(side) == 2]
        after = max((len(arrow) + len(second) for _, second in pairs), default=0)
        whole = max((len(first) for first, _ in pairs), default=0) + after
        return _Column(max(whole, *(len(side[0]) for side in sides if len(side) == 1)), after)


def _plain(cell: str) -> str:
    return cell.replace("**", "")


def _weight(cell: str, line: int) -> str:
    return "bold" if line == 0 or cell.startswith("**") else "normal"
