"""A contact sheet of random rows of a store, by class."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from aupipe.fer_data.errors import StoreError, UserInputError, paragraph
from aupipe.fer_data.files import write_bytes
from aupipe.fer_data.shards.reader import Store, open_store
from aupipe.fer_data.shards.thumbnails import Example, example, random_rows
from aupipe.fer_display.figures import new_figure, png_bytes

_SIDE, _GAP, _MARGIN, _COLUMNS = 160, 18, 32, 4
_HEADER, _HEADING, _CAPTION = 92, 44, 26
_INK, _QUIET, _LINE, _POINT = "#1b1f24", "#5c6672", "#dee2e7", "#7df9c0"


def save_sheet(path: Path, out: Path, *, split: str | None = None, per_class: int = _COLUMNS, seed: int = 0) -> None:
    """Draw random rows of a store, or of one shard in its store, by class, as a PNG (atomic).

    Args:
        path: The store's folder, or a shard in it.
        out: The PNG to write.
        split: The split to draw from. None: the first that has rows, or the shard's own.
        per_class: Rows of each class, at most.
        seed: Of the draw.

    Raises:
        StoreError: The rows cannot be read.
        UserInputError: ``split`` is not the shard's.
    """
    whole = open_store(path if path.is_dir() else path.parent)
    store = whole if path.is_dir() else _shard_alone(whole, path)
    if not store.index.splits:
        raise StoreError(paragraph("There is nothing to draw: the store has no rows.", where=path))
    if path.is_file() and split not in (None, store.index.splits[0]):
        raise UserInputError(
            paragraph(f"{path.name} has no rows of another split.", expected=store.index.splits[0], got=split)
        )
    reader = store.split(split or store.index.splits[0])
    rows = random_rows(reader, per_class, seed)
    groups = [[example(reader, row, _SIDE) for row in picked] for picked in rows.values()]
    counts = np.bincount(reader.labels, minlength=len(store.index.classes)).tolist()
    headings = [f"{store.index.classes[label]}   {counts[label]}" for label in rows]
    title = f"{path.name if path.is_file() else path.resolve().name}   {reader.split}   {len(reader)} samples"
    note = (
        f"up to {per_class} random rows of each class (seed {seed}): the crop, and over it the map of the expression's "
        f"action units and the 68 landmarks.   store {whole.index.digest[:16]}"
    )
    _draw(out, title, note, headings, groups)


def _shard_alone(store: Store, path: Path) -> Store:
    entries = tuple(entry for entry in store.index.shards if entry.name == path.name)
    if not entries:
        raise StoreError(paragraph(f"{path.name} is not a shard of the store around it.", where=path.parent))
    return dataclasses.replace(store, index=dataclasses.replace(store.index, shards=entries))


def _draw(out: Path, title: str, note: str, headings: Sequence[str], groups: Sequence[Sequence[Example]]) -> None:
    pair = 2 * _SIDE + 2
    width = 2 * _MARGIN + _COLUMNS * (pair + _GAP) - _GAP
    heights = [_HEADING + -(-len(group) // _COLUMNS) * (_SIDE + _CAPTION) for group in groups]
    height = _HEADER + sum(heights) + _MARGIN
    canvas = np.full((height, width, 3), 255, np.uint8)
    figure = new_figure(width / 100, height / 100, layout=None)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    axes.axis("off")
    _text(axes, _MARGIN, _MARGIN + 14, title, 15, _INK, bold=True)
    _text(axes, _MARGIN, _MARGIN + 38, note, 9, _QUIET)
    top = _HEADER
    for heading, group, tall in zip(headings, groups, heights, strict=True):
        axes.plot([_MARGIN, width - _MARGIN], [top, top], color=_LINE, linewidth=0.8)
        _text(axes, _MARGIN, top + 27, heading, 11, _INK, bold=True)
        for number, shown in enumerate(group):
            y = top + _HEADING + (number // _COLUMNS) * (_SIDE + _CAPTION)
            x = _MARGIN + (number % _COLUMNS) * (pair + _GAP)
            canvas[y : y + _SIDE, x : x + _SIDE] = shown.crop
            canvas[y : y + _SIDE, x + pair - _SIDE : x + pair] = shown.overlay
            inside = shown.points[((shown.points > 0) & (shown.points < _SIDE - 1)).all(1)]
            _points(axes, inside + np.array([x + pair - _SIDE, y]))
            caption = shown.sample_id + "   no map" * (not shown.has_map) + "   profile" * shown.profile
            _text(axes, x, y + _SIDE + 14, _shortened(caption, 54), 8, _QUIET)
        top += tall
    axes.imshow(canvas, extent=(-0.5, width - 0.5, height - 0.5, -0.5), aspect="auto", interpolation="nearest")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a script that the font lacks is drawn as boxes
        write_bytes(out, png_bytes(figure))


def _points(axes: Axes, points: np.ndarray) -> None:
    for size, colour in ((2.6, "black"), (1.7, _POINT)):
        axes.plot(*points.T, "o", markersize=size, color=colour, markeredgewidth=0, snap=False)


def _text(axes: Axes, x: int, y: int, text: str, size: int, colour: str, *, bold: bool = False) -> None:
    weight = "bold" if bold else "normal"
    axes.text(x, y, text, fontsize=size, color=colour, weight=weight, va="baseline")


def _shortened(text: str, length: int) -> str:
    """Leave out the middle of ``text`` where it is longer than ``length``: ids differ at their ends."""
    tail = length - length // 3 - 1
    return text if len(text) <= length else f"{text[: length // 3]}…{text[-tail:]}"
