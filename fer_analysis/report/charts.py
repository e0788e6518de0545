"""Curves as inline SVG: sharp at any size, coloured by the page's own style in light and dark."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.ticker import MaxNLocator

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 340, 200, 40, 10, 10, 30
_MARKED = 30
"""Up to so many points are marked one by one."""


@dataclass(frozen=True)
class Series:
    """A named curve; None where there is no value. Two series of a chart differ in colour and in dash."""

    name: str
    values: Sequence[float | None]


def line_chart(title: str, x: Sequence[int], series: Sequence[Series]) -> str:
    """A figure of up to two curves over whole numbers ``x`` (epochs), with its axis and, in words, its last values."""
    values = [value for one in series for value in one.values if value is not None]
    name = html.escape(title)
    if not values:
        return f"<figure><figcaption><b>{name}</b><br>no values</figcaption></figure>"
    frame = _Frame.around(x, values)
    curves = "".join(frame.curve(number, x, one) for number, one in enumerate(series))
    said = "; ".join(f"{one.name} {_last(one)}" for one in series)
    legend = " · ".join(
        f'<span class="s{number}">{"– –" if number else "——"} {html.escape(one.name)}</span> {_last(one)}'
        for number, one in enumerate(series)
    )
    return (
        f"<figure><figcaption><b>{name}</b><br>{legend}</figcaption>"
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{name}, at the end: {html.escape(said)}">'
        f"{frame.axes()}{curves}</svg></figure>"
    )


def _last(one: Series) -> str:
    present = [value for value in one.values if value is not None]
    return f"{present[-1]:.3f}" if present else "–"


@dataclass(frozen=True)
class _Frame:
    """Where values lie in the picture."""

    x_low: float
    x_high: float
    y_ticks: tuple[float, ...]
    x_ticks: tuple[int, ...]

    @classmethod
    def around(cls, x: Sequence[int], values: Sequence[float]) -> _Frame:
        low, high = min(values), max(values)
        room = max(high - low, 1e-3) * 0.05
        y_ticks = tuple(float(tick) for tick in MaxNLocator(5).tick_values(low - room, high + room))
        across = MaxNLocator(6, integer=True).tick_values(min(x), max(x))
        x_ticks = tuple(int(tick) for tick in across if min(x) <= tick <= max(x))
        return cls(min(x), max(max(x), min(x) + 1), y_ticks, x_ticks)

    def across(self, x: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (x - self.x_low) / (self.x_high - self.x_low)

    def down(self, y: float) -> float:
        low, high = self.y_ticks[0], self.y_ticks[-1]
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * (y - low) / (high - low)

    def axes(self) -> str:
        digits = max(len(f"{tick:.6g}".partition(".")[2]) for tick in self.y_ticks)
        lines = [
            f'<line class="grid" x1="{_LEFT}" y1="{self.down(y):.1f}" x2="{_WIDTH - _RIGHT}" y2="{self.down(y):.1f}"/>'
            f'<text x="{_LEFT - 5}" y="{self.down(y) + 4:.1f}" text-anchor="end">{y:.{digits}f}</text>'
            for y in self.y_ticks
        ]
        marks = [
            f'<text x="{self.across(x):.1f}" y="{_HEIGHT - _BOTTOM + 15}" text-anchor="middle">{x}</text>'
            for x in self.x_ticks
        ]
        middle = (_LEFT + _WIDTH - _RIGHT) / 2
        return "".join([*lines, *marks, f'<text x="{middle}" y="{_HEIGHT - 2}" text-anchor="middle">epoch</text>'])

    def curve(self, number: int, x: Sequence[int], one: Series) -> str:
        points = [
            (self.across(at), self.down(value)) for at, value in zip(x, one.values, strict=True) if value is not None
        ]
        path = "M" + "L".join(f"{left:.1f} {top:.1f}" for left, top in points) if points else ""
        dots = points if len(points) <= _MARKED else points[-1:]
        marks = "".join(f'<circle class="s{number}" cx="{a:.1f}" cy="{b:.1f}" r="2.5"/>' for a, b in dots)
        return f'<path class="s{number}" d="{path}"/>{marks}'
