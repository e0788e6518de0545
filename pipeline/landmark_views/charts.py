"""Histograms as inline SVG: no script, colours from the page's style."""

from __future__ import annotations

import html
import math

import numpy as np
from jaxtyping import Float, Int

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 340, 170, 12, 12, 22, 26
_BINS = 36


def nice_step(span: float, count: int) -> float:
    """The smallest of 1, 2, 5 x 10^k that covers ``span`` in at most ``count`` steps.

    >>> nice_step(180, 40), nice_step(0.9, 40)
    (5.0, 0.05)
    """
    rough = span / count
    scale = 10.0 ** math.floor(math.log10(rough))
    return next(factor * scale for factor in (1, 2, 5, 10) if factor * scale >= rough * (1 - 1e-9))


def bins(values: Float[np.ndarray, "n"]) -> tuple[Float[np.ndarray, "k1"], Int[np.ndarray, "k"]]:
    """Edges at multiples of a round step, and counts; one bin where all values are equal. ``values`` is not empty."""
    low, high = float(values.min()), float(values.max())
    if high - low < 1e-6 * max(abs(low), abs(high), 1e-3):
        return np.array([low - 0.5, low + 0.5]), np.array([len(values)])
    step = nice_step(high - low, _BINS)
    first, last = math.floor(low / step), math.floor(high / step) + 1
    edges = np.arange(first, last + 1) * step
    # Positions are clipped because a value may round to just outside of the outermost edge.
    places = np.clip(np.floor(values.astype(np.float64) / step).astype(int) - first, 0, last - first - 1)
    return edges, np.bincount(places, minlength=last - first)


def histogram(title: str, unit: str, values: Float[np.ndarray, "n"]) -> str:
    """A figure: the histogram with its title, axis and a line of quantiles; a sentence where there are no values."""
    name = html.escape(f"{title} ({unit})" if unit else title)
    if not len(values):
        return f"<figure><figcaption><b>{name}</b><br>no faces</figcaption></figure>"
    edges, counts = bins(values)
    digits = _digits(float(edges[1] - edges[0]))
    low, middle, high = (_number(float(value), digits) for value in np.percentile(values, (5, 50, 95)))
    said = f"median {middle} · 5th to 95th percentile: {low} to {high}"
    return (
        f"<figure><figcaption><b>{name}</b><br>{said}</figcaption>"
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="Histogram of {name}: {said}">'
        f"{_bars(edges, counts)}{_axis(edges)}"
        f'<text x="{_LEFT}" y="14">most in a bar: {counts.max():,}</text></svg></figure>'
    )


def _bars(edges: Float[np.ndarray, "k1"], counts: Int[np.ndarray, "k"]) -> str:
    room = _HEIGHT - _TOP - _BOTTOM
    drawn = []
    for left, right, count in zip(_across(edges[:-1], edges), _across(edges[1:], edges), counts.tolist(), strict=True):
        height = room * count / counts.max()
        # A single face stays visible beside a bar of thousands.
        height = max(height, 1.0) if count else 0.0
        label = f"<title>{count:,}</title>"
        top = _HEIGHT - _BOTTOM - height
        width = max(right - left - 1, 0.5)
        drawn.append(f'<rect x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}">{label}</rect>')
    return "".join(drawn)


def _axis(edges: Float[np.ndarray, "k1"]) -> str:
    base = _HEIGHT - _BOTTOM
    ticks = _ticks(edges)
    digits = _digits(float(ticks[1] - ticks[0])) if len(ticks) > 1 else 2
    line = f'<line x1="{_LEFT}" y1="{base}" x2="{_WIDTH - _RIGHT}" y2="{base}"/>'
    marks = "".join(
        f'<line x1="{x:.1f}" y1="{base}" x2="{x:.1f}" y2="{base + 4}"/>'
        f'<text x="{x:.1f}" y="{base + 17}" text-anchor="middle">{_number(float(tick), digits)}</text>'
        for tick, x in zip(ticks, _across(ticks, edges), strict=True)
    )
    return line + marks


def _ticks(edges: Float[np.ndarray, "k1"]) -> Float[np.ndarray, "t"]:
    if len(edges) == 2:
        return np.array([edges.mean()])
    step = nice_step(float(edges[-1] - edges[0]), 6)
    return np.arange(math.ceil(edges[0] / step - 1e-9), math.floor(edges[-1] / step + 1e-9) + 1) * step


def _across(values: Float[np.ndarray, "m"], edges: Float[np.ndarray, "k1"]) -> list[float]:
    share = (values - edges[0]) / (edges[-1] - edges[0])
    return [float(x) for x in _LEFT + share * (_WIDTH - _LEFT - _RIGHT)]


def _digits(step: float) -> int:
    """Decimals that tell multiples of ``step`` apart."""
    return max(0, math.ceil(-math.log10(step) - 1e-9))


def _number(value: float, digits: int) -> str:
    """A number with its minus sign; never minus zero.

    >>> _number(-12.0, 0), _number(-0.04, 1), _number(0.125, 3)
    ('−12', '0.0', '0.125')
    """
    return f"{value:z.{digits}f}".replace("-", "−")
