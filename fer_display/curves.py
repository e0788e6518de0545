"""Curves, and bars with intervals, on panels of one look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aupipe.fer_display.figures import framed_figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
"""Told apart by colour-blind eyes too (Okabe and Ito)."""

QUIET = "#999999"
"""Of what is compared with."""


@dataclass(frozen=True)
class Curve:
    """A named curve of ``y`` over ``x``.

    ``low, high``: a range around it, drawn as a band or, with ``caps``, as bars at the points. ``singles``: (x, y) of
    the single values behind it. ``colour`` None: the next one.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    caps: bool = False
    singles: Sequence[tuple[float, float]] = ()
    colour: str | None = None
    line: str = "-"
    width: float = 1.5
    marker: str = ""
    marker_size: float = 6.0


@dataclass(frozen=True)
class Panel:
    """Curves on common axes.

    ``ticks``: places and names on the x axis, where these are not numbers. ``legend``: its title; None: no legend;
    ``place``: where it lies.
    """

    title: str
    curves: Sequence[Curve]
    across: str = ""
    up: str = ""
    ticks: Sequence[tuple[float, str]] = ()
    x_limits: tuple[float, float] | None = None
    y_limits: tuple[float, float] | None = None
    legend: str | None = ""
    grid: bool = True
    place: Literal["best", "lower left"] = "best"


def draw_panel(axis: Axes, panel: Panel) -> None:
    """Draw a panel on axes; a curve without a name is not in the legend."""
    for number, curve in enumerate(panel.curves):
        colour = curve.colour or COLOURS[number % len(COLOURS)]
        axis.plot(
            curve.x, curve.y, curve.line, color=colour, linewidth=curve.width, label=curve.name or None,
            marker=curve.marker or None, markersize=curve.marker_size,
        )  # fmt: skip
        if curve.caps:
            ends = [np.subtract(curve.y, curve.low), np.subtract(curve.high, curve.y)]
            axis.errorbar(curve.x, curve.y, yerr=ends, fmt="none", color=colour, capsize=3)
        elif len(curve.low):
            axis.fill_between(curve.x, curve.low, curve.high, color=colour, alpha=0.08)
        for x, y in curve.singles:
            axis.plot(x, y, ".", color=colour, alpha=0.5, markersize=4)
    axis.set(title=panel.title, xlabel=panel.across, ylabel=panel.up)
    limits = {"xlim": panel.x_limits, "ylim": panel.y_limits}
    axis.set(**{name: value for name, value in limits.items() if value is not None})  # None would freeze the limits
    if panel.ticks:
        axis.set_xticks([place for place, _ in panel.ticks], [name for _, name in panel.ticks])
    tidy(axis, grid=panel.grid)
    if panel.legend is not None:
        axis.legend(
            title=panel.legend or None, fontsize="small", title_fontsize="small", loc=panel.place, markerscale=0.6,
            frameon=bool(panel.legend),
        )  # fmt: skip


def draw_panels(panels: Sequence[Panel], width: float = 3.1, height: float = 2.2) -> Figure:
    """Draw panels side by side, each ``width`` x ``height`` inches."""
    figure = framed_figure(width * len(panels), height, left=0.55, right=0.15, top=0.3, bottom=0.5)
    axes = figure.subplots(1, len(panels), squeeze=False, gridspec_kw={"wspace": 0.22})[0]
    for axis, panel in zip(axes, panels, strict=True):
        draw_panel(axis, panel)
    return figure


@dataclass(frozen=True)
class IntervalBar:
    """A bar with its interval and what is written above it."""

    name: str
    value: float
    low: float
    high: float
    text: str
    colour: str = QUIET


def draw_bars(axis: Axes, bars: Sequence[IntervalBar], *, title: str, across: str, up: str) -> None:
    """Draw bars with intervals from a line at 0."""
    for place, bar in enumerate(bars):
        ends = [[max(bar.value - bar.low, 0)], [max(bar.high - bar.value, 0)]]
        axis.bar(place, bar.value, 0.62, color=bar.colour, yerr=ends, capsize=5)
        above = (place, max(bar.high, 0))
        axis.annotate(bar.text, above, (0, 4), textcoords="offset points", ha="center", va="bottom")
    axis.axhline(0, color="black", linewidth=0.8)
    axis.margins(y=0.22)
    low, high = axis.get_ylim()
    axis.set_ylim(min(low, -0.02), max(high, 0.1))  # a value of nothing is not to look like one of much
    axis.set_xticks(range(len(bars)), [bar.name for bar in bars])
    axis.set(title=title, xlabel=across, ylabel=up)
    tidy(axis)


def tidy(axis: Axes, *, grid: bool = True) -> None:
    """Leave out what carries nothing: frame lines above and at the right; a faint grid behind the rest."""
    axis.spines[["top", "right"]].set_visible(False)
    if grid:
        axis.grid(alpha=0.25)
    axis.set_axisbelow(True)
