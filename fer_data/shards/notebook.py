"""The look of a store and of a split in a notebook: counts by class as bars, with an example of each class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from aupipe.fer_data.errors import StoreError
from aupipe.fer_data.shards.index import StoreIndex
from aupipe.fer_data.shards.thumbnails import Rows, example, random_rows
from aupipe.fer_display.pages import Picture, png_picture, render

_THUMBNAIL, _BAR = 72, 110
_COLOURS = {"train": "#3b6fb6", "val": "#c98a2b", "test": "#4f9d69"}


class _Store(Protocol):
    """The shown part of a store: a :class:`~aupipe.fer_data.shards.reader.Store` has it."""

    @property
    def folder(self) -> Path: ...
    @property
    def index(self) -> StoreIndex: ...
    def split(self, name: str) -> _Split: ...


class _Split(Rows, Protocol):
    """The shown part of a split: a :class:`~aupipe.fer_data.shards.reader.SplitReader` has it."""

    split: str

    @property
    def store(self) -> _Store: ...
    def __len__(self) -> int: ...


@dataclass(frozen=True)
class _Bar:
    """Rows of a class in a split; ``width`` in pixels."""

    count: int
    width: int
    colour: str


@dataclass(frozen=True)
class _Row:
    """A class: an example, and a bar for each split."""

    name: str
    picture: Picture | None
    bars: Sequence[_Bar]


def store_html(store: _Store) -> str:
    """Show a store as HTML: identity, counts of every split, and an example of each class.

    Never raises for a damaged store: what cannot be read is said instead of shown.
    """
    index = store.index
    left_out = sum(index.failed.values())
    rows = sum(map(index.rows, index.splits))
    facts = f"{rows} of {index.total} samples" + (f", {left_out} left out" if left_out else "")
    name = store.folder.resolve().name
    return _render(("Triplet store", name, ""), facts, index, [store.split(split) for split in index.splits])


def split_html(reader: _Split) -> str:
    """Show a split as HTML: its counts, and an example of each class."""
    title = ("Split", reader.split, f" of {reader.store.folder.resolve().name}")
    return _render(title, f"{len(reader)} samples", reader.store.index, [reader])


def _render(title: tuple[str, str, str], facts: str, index: StoreIndex, readers: Sequence[_Split]) -> str:
    about = (
        f"{facts} · images {index.image_size} × {index.image_size} {index.encoding} · maps {index.map_size} × "
        f"{index.map_size} · codebook {index.codebook.get('name', '')} · digest {index.digest[:16]}"
    )
    counts = {reader.split: index.label_counts(reader.split) for reader in readers}
    try:
        pictures, trouble = (_pictures(readers[0]) if readers else {}), ""
    except (StoreError, OSError, KeyError) as error:
        pictures, trouble = {}, str(error)
    rows = []
    for name in index.classes:
        bars = [
            _Bar(by_class[name], round(_BAR * by_class[name] / max(*by_class.values(), 1)), _COLOURS[split])
            for split, by_class in counts.items()
        ]
        rows.append(_Row(name, pictures.get(name), bars))
    totals = {split: sum(by_class.values()) for split, by_class in counts.items()}
    return render("notebook", title=title, about=about, trouble=trouble, totals=totals, rows=rows)


def _pictures(reader: _Split) -> dict[str, Picture]:
    """By class name, an example: the crop beside the crop with its map."""
    found = {}
    for label, rows in random_rows(reader, 1, 0).items():
        shown = example(reader, rows[0], _THUMBNAIL)
        pair = np.concatenate([shown.crop, np.full((_THUMBNAIL, 2, 3), 255, np.uint8), shown.overlay], 1)
        said = shown.sample_id + ("" if shown.has_map else ", no map")
        found[reader.store.index.classes[label]] = png_picture(pair, said)
    return found
