"""How a store and a split show themselves in a notebook: counts by class as bars, with an example of each class."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from aupipe.fer_data.errors import StoreError
from aupipe.fer_data.images import encode_png
from aupipe.fer_data.shards.index import StoreIndex
from aupipe.fer_data.shards.reader import SplitReader, Store
from aupipe.fer_data.shards.thumbnails import example, random_rows

_THUMBNAIL, _BAR = 72, 110
_COLOURS = {"train": "#3b6fb6", "val": "#c98a2b", "test": "#4f9d69"}


def label_counts(index: StoreIndex, split: str) -> dict[str, int]:
    """Rows of a split by class name, every class present."""
    shards = [shard for shard in index.shards if shard.split == split]
    return {name: sum(shard.labels.get(name, 0) for shard in shards) for name in index.classes}


def store_html(store: Store) -> str:
    """HTML for ``Store._repr_html_``: identity, counts of every split, and an example of each class.

    Never raises for a damaged store: what cannot be read is said instead of shown.
    """
    index = store.index
    title = f"Triplet store <b>{escape(store.folder.resolve().name)}</b>"
    left_out = sum(index.failed.values())
    rows = sum(map(index.rows, index.splits))
    facts = f"{rows} of {index.total} samples" + (f", {left_out} left out" if left_out else "")
    return _page(title, facts, index, [store.split(name) for name in index.splits])


def split_html(reader: SplitReader) -> str:
    """HTML for ``SplitReader._repr_html_``: counts of the split, and an example of each class."""
    title = f"Split <b>{escape(reader.split)}</b> of {escape(reader.store.folder.resolve().name)}"
    return _page(title, f"{len(reader)} samples", reader.store.index, [reader])


def _page(title: str, facts: str, index: StoreIndex, readers: Sequence[SplitReader]) -> str:
    about = (
        f"{facts} · images {index.image_size} × {index.image_size} {index.encoding} · maps {index.map_size} × "
        f"{index.map_size} · codebook {escape(str(index.codebook.get('name', '')))} · digest {index.digest[:16]}"
    )
    counts = {reader.split: label_counts(index, reader.split) for reader in readers}
    try:
        pictures, trouble = (_pictures(readers[0]) if readers else {}), ""
    except (StoreError, OSError, KeyError) as error:
        pictures, trouble = {}, f"<div style='color:#b3261e'>No examples: {escape(str(error))}</div>"
    return (
        "<div style='font-family:system-ui,sans-serif;font-size:13px;line-height:1.4'>"
        f"<div style='font-size:15px'>{title}</div><div style='opacity:.7;margin-bottom:6px'>{about}</div>{trouble}"
        f"{_table(index.classes, counts, pictures)}</div>"
    )


def _table(classes: Sequence[str], counts: Mapping[str, Mapping[str, int]], pictures: Mapping[str, str]) -> str:
    left = "style='text-align:left;padding:2px 10px'"
    head = "".join(f"<th {left}>{split} {sum(by_class.values())}</th>" for split, by_class in counts.items())
    lines = [f"<tr><th></th><th {left}>class</th>{head}</tr>"]
    for name in classes:
        cells = "".join(_bar(by_class, name, _COLOURS[split]) for split, by_class in counts.items())
        picture = pictures.get(name, "")
        lines.append(f"<tr><td style='padding:2px'>{picture}</td><td {left}>{escape(name)}</td>{cells}</tr>")
    return f"<table style='border-collapse:collapse'>{''.join(lines)}</table>"


def _bar(by_class: Mapping[str, int], name: str, colour: str) -> str:
    width = round(_BAR * by_class[name] / max(*by_class.values(), 1))
    bar = f"display:inline-block;height:10px;width:{width}px;background:{colour};border-radius:2px;margin-right:6px"
    cell = "text-align:left;padding:2px 10px;white-space:nowrap"
    return f"<td style='{cell}'><span style='{bar}'></span>{by_class[name]}</td>"


def _pictures(reader: SplitReader) -> dict[str, str]:
    """By class name, an example as an ``img``: the crop beside the crop with its map."""
    found = {}
    for label, rows in random_rows(reader, 1, 0).items():
        shown = example(reader, rows[0], _THUMBNAIL)
        pair = np.concatenate([shown.crop, np.full((_THUMBNAIL, 2, 3), 255, np.uint8), shown.overlay], 1)
        data = base64.b64encode(encode_png(pair)).decode()
        title = escape(shown.sample_id + ("" if shown.has_map else ", no map"), quote=True)
        found[reader.store.index.classes[label]] = (
            f"<img src='data:image/png;base64,{data}' alt='' title='{title}' style='display:block;max-width:none'>"
        )
    return found
