"""Codebooks as pictures: every AU and every expression over the mean face, and two codebooks side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from aupipe.fer_data.au_maps.codebook import Codebook
from aupipe.fer_data.au_maps.codebook_diff import CodebookDiff
from aupipe.fer_data.au_maps.heatmaps import render_aus
from aupipe.fer_data.au_maps.mean_face import mean_face
from aupipe.fer_display.sheet import Sheet, new_sheet

SIZE = 224
COLUMNS = 8
TILE = 1.62
"""Inches."""

GAP, CAPTION, HEADING, MARGIN = 0.12, 0.42, 0.42, 0.3
MAP_COLOURS, DIFFERENCE_COLOURS = "magma", "RdBu_r"

_UP = ((0.1761, 0.3573), (0.1800, 0.2300), (0.2350, 0.1150), (0.3500, 0.0400), (0.5000, 0.0180))
"""The forehead from the left end of the jaw line to the top, in shares of the crop: the 68 points end at the brows."""

_OPEN_LINES = (
    (*range(17, 22),), (*range(22, 27),), (27, 28, 29, 30), (31, 32, 33, 34, 35),
    (36, 37, 38, 39), (36, 41, 40, 39), (42, 43, 44, 45), (42, 47, 46, 45),
    (*range(48, 55),), (54, 55, 56, 57, 58, 59, 48), (60, 61, 62, 63, 64), (64, 65, 66, 67, 60),
)  # fmt: skip
"""Brows, nose, lids and lips as runs of landmarks; the corners of eyes and mouth stay sharp."""


@dataclass(frozen=True, slots=True)
class MapTile:
    """One picture of a sheet: a map over the mean face, a title, and a smaller line under it."""

    title: str
    subtitle: str
    drawn: Float32[np.ndarray, "m m"] | None
    signed: bool = False


@dataclass(frozen=True, slots=True)
class MapSection:
    """Maps under a common heading."""

    heading: str
    tiles: tuple[MapTile, ...]


def draw_codebook(codebook: Codebook) -> Figure:
    """Draw one page: the map of every expression, then the region of every AU."""
    expressions = tuple(
        MapTile(_spaced(name), _units(codebook, name), _map(codebook, name)) for name in codebook.expressions
    )
    face = mean_face(SIZE)
    units = tuple(
        MapTile(f"AU {unit.number}", unit.name, render_aus(face, {unit.number: 1.0}, codebook, SIZE, SIZE))
        for unit in sorted(codebook.action_units.values(), key=lambda unit: unit.number)
    )
    sections = [MapSection("Expressions", expressions), MapSection("Action units", units)]
    return _draw(f"Codebook {codebook.name}", f"{codebook.source}\ndigest {codebook.digest[:16]}", sections)


def draw_diff(a: Codebook, b: Codebook, diff: CodebookDiff) -> Figure:
    """Draw the maps of both codebooks, expression by expression, and of their difference B - A."""
    shared = [entry for entry in diff.expressions if entry.cosine is not None]
    rows: list[list[MapTile]] = [[], [], []]
    for entry in shared:
        first, second = _map(a, entry.expression), _map(b, entry.expression)
        rows[0].append(MapTile(_spaced(entry.expression), _units(a, entry.expression), first))
        rows[1].append(MapTile(_spaced(entry.expression), _units(b, entry.expression), second))
        if first is not None and second is not None:
            rows[2].append(
                MapTile(_spaced(entry.expression), f"cosine {entry.cosine:.2f}", second - first, signed=True)
            )
    headings = [f"A: {a.name}", f"B: {b.name}", "B - A"]
    sections = [MapSection(heading, tuple(tiles)) for heading, tiles in zip(headings, rows, strict=True)]
    notes = f"A  {a.source}\nB  {b.source}"
    if not shared:
        notes = f"Nothing is drawn: no expression has a map in both.\n{notes}"
    return _draw(f"Codebooks {a.name} and {b.name}", notes, sections)


def _map(codebook: Codebook, expression: str) -> Float32[np.ndarray, "m m"] | None:
    weights = codebook.expressions[expression]
    return render_aus(mean_face(SIZE), weights, codebook, SIZE, SIZE) if weights else None


def _units(codebook: Codebook, expression: str) -> str:
    """AU numbers with their weights, in lines short enough for a tile."""
    weights = codebook.expressions[expression]
    words = [f"{au}" + (f" ({weight:g})" if weight != 1 else "") for au, weight in weights.items()]
    lines = [""]
    for word in words:
        if len(lines[-1]) + len(word) > 34:
            lines.append("")
        lines[-1] += ("   " if lines[-1] else "") + word
    return "\n".join(lines) if words else "no AUs, no map"


def _spaced(name: str) -> str:
    return name.replace("_", " ")


# --- the page ---


def _draw(title: str, notes: str, sections: Sequence[MapSection]) -> Figure:
    sections = [section for section in sections if section.tiles]
    columns = min(COLUMNS, max((len(section.tiles) for section in sections), default=0))
    columns = max(columns, 5)
    row_height = TILE + CAPTION + GAP
    rows = sum(-(-len(section.tiles) // columns) for section in sections)
    width = 2 * MARGIN + columns * (TILE + GAP) + 0.7
    page = new_sheet(width, 2 * MARGIN + 0.85 + rows * row_height + len(sections) * HEADING, dpi=150)
    page.text(MARGIN, MARGIN, title, size=17, weight="bold")
    page.text(MARGIN, MARGIN + 0.36, notes, size=8.5, color="0.35", linespacing=1.4)
    top = MARGIN + 0.85
    for section in sections:
        page.text(MARGIN, top + 0.12, section.heading, size=12, weight="bold")
        top += HEADING
        start = top
        for index, tile in enumerate(section.tiles):
            row, column = divmod(index, columns)
            top = start + row * row_height
            _draw_tile(page, tile, MARGIN + column * (TILE + GAP), top)
        _draw_bar(page, section, MARGIN + columns * (TILE + GAP) + 0.06, start)
        top += row_height
    return page.figure


def _draw_tile(page: Sheet, tile: MapTile, x: float, y: float) -> None:
    axes = page.axes(x, y, TILE, TILE)
    axes.set_axis_off()
    if tile.drawn is not None:
        axes.imshow(tile.drawn, interpolation="bilinear", **_colours(tile.signed))
    dark = tile.drawn is not None and not tile.signed
    _draw_face(axes, "#f4f4f4" if dark else "0.25")
    axes.set_xlim(-0.5, SIZE - 0.5)
    axes.set_ylim(SIZE - 0.5, -0.5)
    page.text(x, y + TILE + 0.03, tile.title, size=8.5, weight="bold")
    page.text(x, y + TILE + 0.18, tile.subtitle, size=6.5, color="0.3", linespacing=1.25)


def _colours(signed: bool) -> dict[str, Any]:
    return (
        {"cmap": DIFFERENCE_COLOURS, "vmin": -1, "vmax": 1} if signed else {"cmap": MAP_COLOURS, "vmin": 0, "vmax": 1}
    )


def _draw_bar(page: Sheet, section: MapSection, x: float, y: float) -> None:
    signed = any(tile.signed for tile in section.tiles)
    style = _colours(signed)
    scale = ScalarMappable(Normalize(style["vmin"], style["vmax"]), style["cmap"])
    bar = page.figure.colorbar(scale, cax=page.axes(x, y, 0.12, TILE))
    bar.set_ticks([-1, 0, 1] if signed else [0, 0.5, 1])
    bar.ax.tick_params(labelsize=7, length=2)
    bar.outline.set_visible(False)


def _draw_face(axes: Axes, colour: str) -> None:
    """Outlines of the mean face: a smooth curve through each run of landmarks."""
    face = mean_face(SIZE)
    left = np.array(_UP) * SIZE - 0.5
    right = left[::-1] * [-1, 1] + [SIZE - 1, 0]
    outline = smooth_curve(np.concatenate([left[:-1], left[-1:], right[1:-1], face[16::-1]]))
    axes.plot(*outline.T, color=colour, linewidth=0.9, alpha=0.75)
    for run in _OPEN_LINES:
        axes.plot(*smooth_curve(face[list(run)]).T, color=colour, linewidth=0.9, alpha=0.85, solid_capstyle="round")
    for eye in (range(36, 42), range(42, 48)):
        x, y = face[list(eye)].mean(0)
        axes.plot(x, y, "o", markersize=3.2, color=colour, alpha=0.6, markeredgewidth=0)


def smooth_curve(points: Float64[np.ndarray, "n 2"], steps: int = 12) -> Float64[np.ndarray, "s 2"]:
    """Draw a Catmull-Rom curve through the points, closed where the first and the last are one."""
    closed = np.allclose(points[0], points[-1])
    before, after = (points[-2], points[1]) if closed else (2 * points[0] - points[1], 2 * points[-1] - points[-2])
    padded = np.concatenate([before[None], points, after[None]])
    p0, p1, p2, p3 = (padded[i : len(points) - 1 + i, None] for i in range(4))
    t = np.linspace(0, 1, steps, endpoint=False)[None, :, None]
    curve = p1 + 0.5 * t * (p2 - p0 + t * (2 * p0 - 5 * p1 + 4 * p2 - p3 + t * (3 * (p1 - p2) + p3 - p0)))
    return np.concatenate([curve.reshape(-1, 2), points[-1:]])
