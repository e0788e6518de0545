"""Rows of small pictures: maps and faces side by side, one row a kind and one column a class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from aupipe.fer_display.sheet import LINE, across, new_sheet

MAP_COLOURS = "cividis"
"""Even in lightness and the same to colour-blind eyes."""

PICTURE, GAP = 1.35, 0.05
"""Inches that a picture takes in width, and between pictures."""

EMPTY = 0.93
"""Grey where there is no picture."""


@dataclass(frozen=True)
class MapRow:
    """A row of pictures of one size, a column each.

    A picture is a map (h, w) in [0, 1], or RGB (h, w, 3) in [0, 1] or 8 bits; None: there is none, and ``missing`` is
    written in its place. ``outlines`` (any size): where one reaches one half, a white line is drawn over its picture.
    ``opacity`` (h, w) in [0, 1]: a picture's pixels fade to grey with it; empty: none do.
    """

    title: str
    pictures: Sequence[np.ndarray | None]
    outlines: Sequence[np.ndarray] = field(default=())
    missing: str = ""
    opacity: Sequence[np.ndarray] = field(default=())

    @property
    def slope(self) -> float:
        """Height of its pictures over their width; 1 where it has none."""
        return next((one.shape[0] / one.shape[1] for one in self.pictures if one is not None), 1.0)


def draw_map_rows(
    columns: Sequence[str],
    rows: Sequence[MapRow],
    *,
    title: str = "",
    bar: str = "",
    colours: str = MAP_COLOURS,
    dpi: int = 100,
) -> Figure:
    """Draw rows of pictures under the names of their columns.

    Args:
        columns: Names of the columns.
        rows: The rows, each with a picture or None for every column.
        bar: What the colours of the maps from 0 to 1 mean, for a colour bar beside the rows; empty: no bar.
        colours: Matplotlib's name of the maps' colours.
        dpi: Pixels an inch.

    Returns:
        The figure.
    """
    left = 0.25 + across([row.title for row in rows])
    top = 0.15 + LINE * max((1 + name.count("\n") for name in columns), default=0) + (0.2 if title else 0)
    width = PICTURE * max(len(columns), 1)
    heights = [PICTURE * row.slope for row in rows]
    sheet = new_sheet(left + width + (1.0 if bar else 0.1), top + sum(heights) + GAP * (len(rows) - 1) + 0.1, dpi)
    if title:
        sheet.text(left + width / 2, 0.06, title, ha="center")
    y = top
    for number, (row, height) in enumerate(zip(rows, heights, strict=True)):
        axis = sheet.axes(left, y, width, height)
        _draw_row(axis, row, colours)
        if number == 0:
            axis.xaxis.tick_top()
            axis.set_xticks(np.arange(len(columns)) + 0.5, list(columns), fontsize="medium")
            axis.tick_params(length=0)
        y += height + GAP
    if bar:
        scale = ScalarMappable(Normalize(0, 1), colours)
        first = next(n for n, row in enumerate(rows) if any(one is not None and one.ndim == 2 for one in row.pictures))
        start = top + sum(heights[:first]) + GAP * first
        place = sheet.axes(left + width + 0.15, start, 0.15, sheet.height - 0.1 - start)
        sheet.figure.colorbar(scale, cax=place).set_label(bar, fontsize="small")
    return sheet.figure


def _draw_row(axis: Axes, row: MapRow, colours: str) -> None:
    """Draw a row as one image, each picture one wide and one high, with white lines between them."""
    n = len(row.pictures)
    shape = next((one.shape[:2] for one in row.pictures if one is not None), (1, 1))
    coloured = [_coloured(one, shape, colours) for one in row.pictures]
    if len(row.opacity):
        faded = zip(coloured, row.opacity, strict=True)
        coloured = [EMPTY + (picture - EMPTY) * opacity[..., None] for picture, opacity in faded]
    strip = np.concatenate(coloured, 1)
    axis.imshow(strip, extent=(0, n, 1, 0), aspect="auto")
    for place, picture in enumerate(row.pictures):
        if picture is None:
            axis.text(place + 0.5, 0.5, row.missing, color="0.3", ha="center", va="center", fontsize="small")
    if len(row.outlines) and max(float(one.max()) for one in row.outlines) >= 0.5:
        pairs = zip(row.outlines, row.pictures, strict=True)
        strip = np.concatenate([np.float32(outline) * (picture is not None) for outline, picture in pairs], 1)
        x, y = ((np.arange(size) + 0.5) * end / size for size, end in zip(strip.shape[::-1], (n, 1), strict=True))
        axis.contour(x, y, strip, [0.5], colors="white", linewidths=1)
    for place in range(1, n):
        axis.axvline(place, color="white", linewidth=72 * GAP)
    axis.set_xlim(0, n)
    axis.set_ylim(1, 0)
    axis.set_ylabel(row.title, rotation=0, ha="right", va="center")
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set_visible(False)


def _coloured(picture: np.ndarray | None, shape: tuple[int, ...], colours: str) -> np.ndarray:
    """Colour a picture: RGB in [0, 1]."""
    if picture is None:
        return np.full((*shape, 3), EMPTY)
    if picture.ndim == 2:
        return np.asarray(matplotlib.colormaps[colours](picture)[..., :3])
    return picture / 255 if picture.dtype == np.uint8 else np.clip(picture, 0, 1)
