"""The rows of a store again, with the images kept as JPEG."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from aupipe.fer_data.shards import ShardHeader, SplitReader, Store, TripletRow, open_store, write_shard
from aupipe.fer_data.shards.index import save_index
from aupipe.fer_data.shards.spec import SCHEMA_VERSIONS


def jpeg_copy(store: Store, folder: Path) -> Store:
    index, entries = store.index, []
    for split in index.splits:
        reader, first = store.split(split), 0
        header = ShardHeader(
            split, index.classes, index.image_size, index.map_size, "plan", index.codebook["name"],
            index.codebook_digest, "{}", "{}", index.id_bytes, encoding="jpeg",
        )  # fmt: skip
        for entry in reader.entries:
            rows = _rows(reader, range(first, first + entry.rows))
            entries.append(write_shard(folder / entry.name, rows, entry.rows, header))
            first += entry.rows
    save_index(
        folder, dataclasses.replace(index, shards=tuple(entries), schema_version=SCHEMA_VERSIONS["jpeg"])
    )  # fmt: skip
    return open_store(folder)


def _rows(reader: SplitReader, rows: range) -> Iterator[TripletRow]:
    for row in rows:
        yield TripletRow(
            sample_id=reader.sample_ids[row],
            label=int(reader.labels[row]),
            image=reader.image(row),
            au_map=np.rint(reader.au_map(row) * 255).astype(np.uint8),
            has_map=bool(reader.has_map[row]),
            landmarks=reader.landmarks[row],
            to_source=reader.to_source[row],
        )
