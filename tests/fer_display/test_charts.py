"""Charts: every value where it belongs, everything that was drawn told in words too, the page's own colours."""

from __future__ import annotations

import doctest
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from aupipe.fer_display import charts
from aupipe.fer_display.charts import Series, draw_histogram, draw_lines, line_chart

finite = st.floats(-1e4, 1e4, width=32)


@given(arrays.arrays(np.float32, st.integers(1, 80), elements=finite))
def test_every_value_lies_in_its_bin(values: np.ndarray) -> None:
    edges, counts = charts.bins(values)
    assert counts.sum() == len(values) and len(edges) == len(counts) + 1 <= 40
    tolerance = 1e-6 * (edges[-1] - edges[0])
    for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True):
        inside = ((values >= low - tolerance) & (values <= high + tolerance)).sum()
        assert inside >= count >= ((values > low + tolerance) & (values < high - tolerance)).sum()


def bar_heights(svg: str) -> list[float]:
    """Of each bar of a drawn histogram: its lower edge less its upper one."""
    paths = re.findall(r'<path d="M ([^"]*z)\s*" style="fill: var\(--bar\)"', svg)
    corners = [[float(number) for number in re.findall(r"[-\d.]+", path)][1::2] for path in paths]
    return [max(down) - min(down) for down in corners]


def test_quantiles_of_one_value_are_that_value() -> None:
    (note,) = charts.histogram("score", "", np.array([0.62], np.float32)).legend
    assert "median 0.62" in str(note)


@pytest.mark.parametrize("values", [[1.0, 1.0], [0.0], [-3.5, 1000.25], [0.2, 0.21]])
def test_a_histogram_is_drawn_of_anything(values: list[float]) -> None:
    drawn = charts.histogram("score", "", np.array(values, np.float32)).svg
    heights = bar_heights(drawn)
    assert "nan" not in drawn and "inf" not in drawn and max(heights) > 100
    assert sum(height > 0 for height in heights) == len(set(values))
    assert sum(map(int, re.findall(r"<title>(\d+)</title>", drawn))) == len(values)


def test_a_single_face_shows_beside_thousands() -> None:
    figure = draw_histogram(np.array([0.0, 1.0, 2.0, 3.0]), np.array([5000, 0, 1]))
    heights = [bar.get_height() for bar in figure.axes[0].patches]  # type: ignore[attr-defined]
    assert heights[0] == 5000 and heights[1] / heights[0] * 122 == pytest.approx(1)


def test_the_examples_of_the_charts_hold() -> None:
    tried = doctest.testmod(charts)
    assert tried.attempted == 2 and tried.failed == 0


def curve(svg: str, name: str) -> list[float]:
    """The points' distances from the top, of a drawn curve."""
    (path,) = re.findall(rf'<title>{name}</title>\s*<path d="M ([^"]*)"', svg)
    return [float(number) for number in re.findall(r"[-\d.]+", path)][1::2]


def test_curves_lie_where_their_values_are() -> None:
    chart = line_chart("Loss", [1, 2, 3], [Series("a", [0.0, 1.0, 0.5]), Series("b", [None, 0.5, None])])
    drawn = chart.svg
    heights = curve(drawn, "a")
    assert heights[1] < heights[2] < heights[0], "SVG counts from the top"
    assert heights[2] == pytest.approx((heights[0] + heights[1]) / 2, abs=0.11)
    marks = re.findall(r'<use [^>]*y="([\d.]+)" style="fill: var\(--s(\d)\)', drawn)
    assert [float(down) for down, number in marks if number == "0"] == heights
    assert len([down for down, number in marks if number == "1"]) == 1
    assert "at the end: a 0.500; b 0.500" in drawn
    assert line_chart("Loss", [1], [Series("a", [None])]).legend[0].text == "no values"
    ticks = [text.replace("−", "-") for text in re.findall(r"text-anchor: end[^>]*>([-−\d.]+)<", drawn)]
    assert float(ticks[0]) <= 0 and float(ticks[-1]) >= 1
    assert "NaN" not in line_chart("One", [1], [Series("a", [0.3])]).svg


def test_many_points_are_marked_at_the_end_only() -> None:
    epochs = list(range(1, 41))
    (line,) = draw_lines(epochs, [Series("a", [1 / epoch for epoch in epochs])]).axes[0].lines
    assert line.get_markevery() == [39] and np.asarray(line.get_ydata()).tolist() == [1 / epoch for epoch in epochs]


def test_a_drawing_is_the_same_again_and_needs_nothing_else() -> None:
    first, second = (charts.histogram("Yaw <i>", "°", np.arange(9, dtype=np.float32)).svg for _ in range(2))
    assert first == second and 'role="img" aria-label="Histogram of Yaw &lt;i&gt; (°): median' in first
    assert not re.search(r"https?:|url\(|@import|src=|\bid=|#[0-9a-f]{6}", first), "the colours are the page's"
