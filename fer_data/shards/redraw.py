"""Another shard with the same crops and other maps: images, landmarks and ids are copied, nothing is decoded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from aupipe.fer_data.shards import spec
from aupipe.fer_data.shards.index import ShardEntry
from aupipe.fer_data.shards.shard_file import ShardFile, stored_images
from aupipe.fer_data.shards.spec import ShardHeader
from aupipe.fer_data.shards.writer import BLOCK, Block, ChannelTotals, write_blocks

Draw = Callable[
    [Float32[np.ndarray, "n 68 2"], UInt8[np.ndarray, "n"]],
    tuple[UInt8[np.ndarray, "n m m"], UInt8[np.ndarray, "n"]],
]
"""Landmarks and labels of some rows to their maps and ``has_map``."""


def redraw_shard(old: ShardFile, path: Path, draw: Draw, header: ShardHeader) -> ShardEntry:
    """Write the rows of ``old`` to ``path`` with new maps; ``old`` must be intact and have the header's crops.

    The result has the bytes that :func:`write_shard` would give. ``old`` may be the file of that ``path``. Raises as
    :func:`write_shard` does.
    """
    file = old.file
    totals = ChannelTotals(
        file.attrs["channel_sum"].astype(np.float64), file.attrs["channel_sum_of_squares"].astype(np.float64)
    )
    count = len(file["label"])
    return write_blocks(path, _redrawn(file, count, draw), count, header, totals)


def _redrawn(file: Any, count: int, draw: Draw) -> Iterator[Block]:
    images = stored_images(file)
    for start in range(0, count, BLOCK):
        rows = slice(start, min(start + BLOCK, count))
        values = {column.name: file[column.name][rows] for column in spec.tail_columns(1, 1, 1)}
        values["au_map"], values["has_map"] = draw(values["landmarks"], values["label"])
        yield Block(list(images[rows]), list(values.values()))
