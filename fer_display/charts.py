"""Small charts for pages, as SVG: sharp at any size, coloured by the page in light and dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from aupipe.fer_display.figures import new_figure, svg_of

_QUIET, _LINE, _BAR, _SERIES = "#5c6672", "#d7dce3", "#2f6db3", ("#0072b2", "#c0530a")
_WIDTH, _BINS = 340, 36
_MARKED = 30
"""Up to so many points of a curve are marked one by one."""


@dataclass(frozen=True)
class Series:
    """A named curve; None where there is no value. Two series of a chart differ in colour and in dash."""

    name: str
    values: Sequence[float | None]

    @property
    def last(self) -> str:
        """The last value there is, in words."""
        present = [value for value in self.values if value is not None]
        return f"{present[-1]:.3f}" if present else "–"


@dataclass(frozen=True)
class Note:
    """A part of a chart's legend: words, after the name of the curve ``series`` if they are about one."""

    text: str
    name: str = ""
    series: int | None = None


@dataclass(frozen=True)
class Chart:
    """A chart of a page: title, legend, drawing (empty where there is nothing to draw)."""

    title: str
    legend: tuple[Note, ...]
    svg: str = ""


def line_chart(title: str, x: Sequence[int], series: Sequence[Series]) -> Chart:
    """Draw up to two curves over whole numbers ``x`` (epochs); their last values are told in words too."""
    if all(value is None for one in series for value in one.values):
        return Chart(title, (Note("no values"),))
    legend = tuple(Note(one.last, one.name, number) for number, one in enumerate(series))
    said = "; ".join(f"{one.name} {one.last}" for one in series)
    return Chart(title, legend, svg_of(draw_lines(x, series), f"{title}, at the end: {said}"))


def draw_lines(x: Sequence[int], series: Sequence[Series]) -> Figure:
    """Draw curves over epochs on a figure of 340 x 200 units."""
    figure, axes = _frame(200, left=40, right=10, top=10, bottom=30)
    for number, one in enumerate(series):
        points = [(at, value) for at, value in zip(x, one.values, strict=True) if value is not None]
        if points:
            (line,) = axes.plot(*zip(*points, strict=True), color=_SERIES[number], linewidth=2)
            line.set(
                marker="o",
                markersize=4,
                clip_on=False,
                gid=f"title: {one.name}",
                linestyle=(0, (3, 1.5)) if number else "-",
            )
            line.set_markevery(None if len(points) <= _MARKED else [len(points) - 1])
    across, up = MaxNLocator(6, integer=True), MaxNLocator(5)
    low, high = axes.dataLim.ymin, axes.dataLim.ymax
    room = max(high - low, 1e-3) * 0.05
    ticks = up.tick_values(low - room, high + room)
    axes.set(xlim=(min(x), max(max(x), min(x) + 1)), ylim=(ticks[0], ticks[-1]), yticks=ticks, xlabel="epoch")
    axes.set_xticks([tick for tick in across.tick_values(min(x), max(x)) if min(x) <= tick <= max(x)])
    axes.xaxis.set_major_formatter("{x:.0f}")
    digits = max(len(f"{tick:.6g}".partition(".")[2]) for tick in ticks)
    axes.yaxis.set_major_formatter(f"{{x:.{digits}f}}")
    axes.spines[:].set_visible(False)
    axes.hlines(ticks, 0, 1, color=_LINE, linewidth=1, transform=axes.get_yaxis_transform(), clip_on=False, zorder=0)
    return figure


def histogram(title: str, unit: str, values: Float[np.ndarray, "n"]) -> Chart:
    """Draw a histogram with its quantiles in words; only words where there are no values."""
    name = f"{title} ({unit})" if unit else title
    if not len(values):
        return Chart(name, (Note("no faces"),))
    edges, counts = bins(values)
    digits = _digits(float(edges[1] - edges[0])) if len(counts) > 1 else 2
    low, middle, high = (_number(float(value), digits) for value in np.percentile(values, (5, 50, 95)))
    said = f"median {middle} · 5th to 95th percentile: {low} to {high}"
    return Chart(name, (Note(said),), svg_of(draw_histogram(edges, counts), f"Histogram of {name}: {said}"))


def draw_histogram(edges: Float[np.ndarray, "k1"], counts: Int[np.ndarray, "k"]) -> Figure:
    """Draw bars that tell their counts, on a figure of 340 x 170 units."""
    figure, axes = _frame(170, left=12, right=12, top=22, bottom=26)
    # A single face stays visible beside a bar of thousands.
    heights = np.maximum(counts, counts.max() / 122)[counts > 0]
    width = np.diff(edges) - min((edges[-1] - edges[0]) / (_WIDTH - 24), (edges[1] - edges[0]) / 2)
    bars = axes.bar(edges[:-1][counts > 0], heights, width[counts > 0], align="edge", color=_BAR, clip_on=False)
    for bar, count in zip(bars, counts[counts > 0].tolist(), strict=True):
        bar.set_gid(f"title: {count:,}")
    ticks = _ticks(edges)
    digits = _digits(float(ticks[1] - ticks[0])) if len(ticks) > 1 else 2
    axes.set(xlim=(edges[0], edges[-1]), ylim=(0, counts.max()), yticks=())
    axes.set_xticks(ticks, [_number(float(tick), digits) for tick in ticks])
    for tick in ticks:
        axes.plot(
            [tick, tick], [0, -0.03], color=_QUIET, linewidth=1, clip_on=False, transform=axes.get_xaxis_transform()
        )
    axes.spines[["top", "left", "right"]].set_visible(False)
    axes.spines["bottom"].set(color=_QUIET, linewidth=1)
    axes.text(0, 1.06, f"most in a bar: {counts.max():,}", transform=axes.transAxes, color=_QUIET, fontsize=11)
    return figure


def bins(values: Float[np.ndarray, "n"]) -> tuple[Float[np.ndarray, "k1"], Int[np.ndarray, "k"]]:
    """Count values between edges at multiples of a round step; one bin where all are equal.

    Args:
        values: at least one.

    Returns:
        k + 1 edges and k counts.
    """
    low, high = float(values.min()), float(values.max())
    if high - low < 1e-6 * max(abs(low), abs(high), 1e-3):
        return np.array([low - 0.5, low + 0.5]), np.array([len(values)])
    step = nice_step(high - low, _BINS)
    first, last = math.floor(low / step), math.floor(high / step) + 1
    edges = np.arange(first, last + 1) * step
    # Positions are clipped because a value may round to just outside of the outermost edge.
    places = np.clip(np.floor(values.astype(np.float64) / step).astype(int) - first, 0, last - first - 1)
    return edges, np.bincount(places, minlength=last - first)


def nice_step(span: float, count: int) -> float:
    """Find the smallest of 1, 2, 5 x 10^k that covers ``span`` in at most ``count`` steps.

    >>> nice_step(180, 40), nice_step(0.9, 40)
    (5.0, 0.05)
    """
    rough = span / count
    scale = 10.0 ** math.floor(math.log10(rough))
    return next(factor * scale for factor in (1, 2, 5, 10) if factor * scale >= rough * (1 - 1e-9))


def _frame(height: float, *, left: float, right: float, top: float, bottom: float) -> tuple[Figure, Axes]:
    """Make an empty figure of 340 x ``height`` units (72 an inch) and its axes, with margins around them."""
    figure = new_figure(_WIDTH / 72, height / 72, dpi=72, layout=None)
    figure.patch.set_visible(False)
    inside = ((_WIDTH - left - right) / _WIDTH, (height - top - bottom) / height)
    axes = figure.add_axes((left / _WIDTH, bottom / height, *inside))
    axes.patch.set_visible(False)
    # Marks would be drawn as references, and a page has several charts: their names would clash.
    axes.tick_params(bottom=False, left=False, labelsize=11, labelcolor=_QUIET, pad=5)
    axes.xaxis.label.set(fontsize=11, color=_QUIET)
    axes.xaxis.labelpad = 0
    return figure, axes


def _ticks(edges: Float[np.ndarray, "k1"]) -> Float[np.ndarray, "t"]:
    if len(edges) == 2:
        return np.array([edges.mean()])
    step = nice_step(float(edges[-1] - edges[0]), 6)
    return np.arange(math.ceil(edges[0] / step - 1e-9), math.floor(edges[-1] / step + 1e-9) + 1) * step


def _digits(step: float) -> int:
    """Count the decimals that tell multiples of ``step`` apart."""
    return max(0, math.ceil(-math.log10(step) - 1e-9))


def _number(value: float, digits: int) -> str:
    """Format a number with its minus sign; never minus zero.

    >>> _number(-12.0, 0), _number(-0.04, 1), _number(0.125, 3)
    ('−12', '0.0', '0.125')
    """
    return f"{value:z.{digits}f}".replace("-", "−")
