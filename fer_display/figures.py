"""Figures without a window, and their bytes."""

from __future__ import annotations

import io
from typing import Literal

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def new_figure(
    width: float, height: float, dpi: int = 100, layout: Literal["constrained"] | None = "constrained"
) -> Figure:
    """An empty figure of ``width`` x ``height`` inches; ``layout`` None: places are given by hand."""
    figure = Figure(figsize=(width, height), dpi=dpi, layout=layout)
    FigureCanvasAgg(figure)
    return figure


def png_bytes(figure: Figure) -> bytes:
    """Encode a figure as a PNG file."""
    data = io.BytesIO()
    figure.savefig(data, format="png")
    return data.getvalue()


def framed_figure(
    width: float, height: float, *, left: float, right: float, top: float, bottom: float, dpi: int = 100
) -> Figure:
    """A figure whose axes share an area of ``width`` x ``height`` inches, with margins in inches around it.

    Where the room for labels is known beforehand, this draws in half the time of a layout that measures them.
    """
    whole = (left + width + right, bottom + height + top)
    figure = new_figure(*whole, dpi=dpi, layout=None)
    figure.subplots_adjust(left / whole[0], bottom / whole[1], 1 - right / whole[0], 1 - top / whole[1])
    return figure
