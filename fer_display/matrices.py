"""Matrices as coloured cells with their values written in them: confusions, cosines, correlations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from aupipe.fer_display.sheet import LINE, Sheet, across, new_sheet, rising

TOP, GAP, BAR = 0.4, 0.2, 0.18
"""Inches above a matrix for its title, beside one, and the width of its colour bar."""

BAR_ROOM = 1.0
"""Inches that a colour bar takes with its numbers and its label."""


@dataclass(frozen=True)
class Matrix:
    """Values (rows, columns) with names; NaN: there is none.

    ``texts``: what is written in the cells; None: the values with ``decimals``. ``low, high``: values of the first and
    the last colour. ``bar``: what the colours mean, for a colour bar; empty: no bar. ``divider``: a white line stands
    before this column. ``cell``: width and height of a cell in inches.
    ``empty``: what to say where there are no rows.
    """

    values: Float[np.ndarray, "r c"]
    rows: Sequence[str]
    columns: Sequence[str]
    title: str = ""
    texts: Sequence[Sequence[str]] | None = None
    decimals: int = 2
    colours: str = "Blues"
    low: float = 0.0
    high: float = 1.0
    bar: str = ""
    across: str = ""
    down: str = ""
    divider: int | None = None
    cell: tuple[float, float] = (0.6, 0.6)
    empty: str = ""

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of all cells, in inches."""
        return self.cell[0] * len(self.columns), self.cell[1] * max(len(self.rows), 1)

    @property
    def margins(self) -> tuple[float, float, float]:
        """Inches to the left, to the right and below that labels, bar and a longer title take."""
        beside = max(0.0, (across([self.title]) - self.size[0]) / 2)
        left = 0.3 + across(self.rows) + (LINE if self.down else 0)
        below = 0.2 + rising(self.columns) + (1.5 * LINE if self.across else 0)
        return max(left, beside), max(BAR_ROOM if self.bar else 0, beside), below


def draw_matrices(grid: Sequence[Sequence[Matrix]], note: str = "", dpi: int = 100) -> Figure:
    """Draw matrices in rows and columns on one figure; ``note``: a line above them all."""
    columns, head = list(zip(*grid, strict=True)), 0.3 if note else 0.0
    lefts = [max(one.margins[0] for one in column) for column in columns]
    widths = [
        left + max(one.size[0] + one.margins[1] for one in column) + GAP
        for left, column in zip(lefts, columns, strict=True)
    ]
    heights = [TOP + max(one.size[1] + one.margins[2] for one in row) for row in grid]
    sheet = new_sheet(sum(widths), head + sum(heights), dpi)
    if note:
        sheet.text(sheet.width / 2, 0.1, note, ha="center", color="0.4", fontsize="small")
    for row, top in zip(grid, head + np.cumsum([0, *heights[:-1]]), strict=True):
        for matrix, left, start in zip(row, lefts, np.cumsum([0, *widths[:-1]]), strict=True):
            _draw(sheet, matrix, float(start) + left, float(top) + TOP)
    return sheet.figure


def draw_matrix(matrix: Matrix, dpi: int = 100) -> Figure:
    """Draw a matrix on a figure of its own."""
    return draw_matrices([[matrix]], dpi=dpi)


def _draw(sheet: Sheet, matrix: Matrix, x: float, y: float) -> None:
    """Draw a matrix whose first cell has its corner at ``x, y``."""
    width, height = matrix.size
    axis = sheet.axes(x, y, width, height)
    axis.set_title(matrix.title, fontsize="medium")
    if not matrix.rows:
        axis.set_axis_off()
        axis.text(0.5, 0.5, matrix.empty, ha="center", va="center")
        return
    scale = Normalize(matrix.low, matrix.high)
    image = axis.imshow(np.nan_to_num(matrix.values), cmap=matrix.colours, norm=scale, aspect="auto")
    axis.set_xticks(range(len(matrix.columns)), list(matrix.columns), rotation=45, ha="right", rotation_mode="anchor")
    axis.set_yticks(range(len(matrix.rows)), list(matrix.rows))
    axis.tick_params(length=0)
    axis.set_xlabel(matrix.across)
    axis.set_ylabel(matrix.down)
    if matrix.divider is not None:
        axis.axvline(matrix.divider - 0.5, color="white", linewidth=3)
    _write_values(axis, matrix, scale)
    if matrix.bar:
        sheet.figure.colorbar(image, cax=sheet.axes(x + width + GAP, y, BAR, height), label=matrix.bar)


def _write_values(axis: Axes, matrix: Matrix, scale: Normalize) -> None:
    """Write every value, white on dark cells."""
    colours = matplotlib.colormaps[matrix.colours](scale(np.nan_to_num(matrix.values)))
    for (row, column), value in np.ndenumerate(matrix.values):
        known = f"{value:.{matrix.decimals}f}" if np.isfinite(value) else "–"
        text = known if matrix.texts is None else matrix.texts[row][column]
        dark = colours[row, column, :3] @ (0.299, 0.587, 0.114) < 0.5
        axis.text(column, row, text, ha="center", va="center", fontsize="small", color="white" if dark else "black")
