"""Figures without a window, and their bytes."""

from __future__ import annotations

import html
import io
import re
from typing import Literal

from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

PNG_MARK = b"Software\0aupipe"
"""What every PNG file of :func:`png_bytes` holds, so that it is known as one of ours."""


def new_figure(
    width: float, height: float, dpi: int = 100, layout: Literal["constrained"] | None = "constrained"
) -> Figure:
    """Make an empty figure of ``width`` x ``height`` inches; ``layout`` None: places are given by hand."""
    figure = Figure(figsize=(width, height), dpi=dpi, layout=layout)
    FigureCanvasAgg(figure)
    return figure


def png_bytes(figure: Figure) -> bytes:
    """Encode a figure as a PNG file; the bytes name this program, without the version of Matplotlib."""
    _take_text_literally(figure)
    data = io.BytesIO()
    figure.savefig(data, format="png", metadata={"Software": "aupipe"})
    return data.getvalue()


def _take_text_literally(figure: Figure) -> None:
    """Take a name with two dollar signs for a name: Matplotlib would set it as a formula, or fail at it."""
    for text in figure.findobj(Text):
        text.set_parse_math(False)


def framed_figure(
    width: float, height: float, *, left: float, right: float, top: float, bottom: float, dpi: int = 100
) -> Figure:
    """Make a figure whose axes share an area of ``width`` x ``height`` inches, with margins in inches around it.

    Where the room for labels is known beforehand, this draws in half the time of a layout that measures them.
    """
    whole = (left + width + right, bottom + height + top)
    figure = new_figure(*whole, dpi=dpi, layout=None)
    figure.subplots_adjust(left / whole[0], bottom / whole[1], 1 - right / whole[0], 1 - top / whole[1])
    return figure


THEME = {
    "#1b1f24": "--ink",
    "#5c6672": "--quiet",
    "#d7dce3": "--line",
    "#2f6db3": "--bar",
    "#0072b2": "--s0",
    "#c0530a": "--s1",
}
"""Colours that a figure on a page shares with the stylesheet, and the stylesheet's names of them."""


def svg_of(figure: Figure, label: str) -> str:
    """Draw a figure as SVG for a page: text stays text, and the colours of :data:`THEME` are the page's own.

    Args:
        figure: An artist whose gid is ``title: WORDS`` shows the words when it is pointed at.
        label: Read out to those who do not see the figure.

    Returns:
        The same text for the same figure and label.
    """
    _take_text_literally(figure)
    data = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": label, "font.family": "sans-serif"}):
        figure.savefig(data, format="svg", metadata=nothing)
    drawn = data.getvalue()
    start = drawn.index("<g ")
    body = re.sub(r'<g id="title: ([^"]*)">', r"<g><title>\1</title>", drawn[start : drawn.rindex("</svg>")])
    body = re.sub(r"<!--.*?-->\s*|(?<=<g) id=\"[^\"]*\"", "", body, flags=re.DOTALL)
    body = re.sub(r"font-family: [^;\"]*", "font-family: system-ui, sans-serif", body)
    for colour, name in THEME.items():
        body = body.replace(colour, f"var({name})")
    width, height = (72 * side for side in figure.get_size_inches())
    return f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{html.escape(label)}">{body}</svg>'
