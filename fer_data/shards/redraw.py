"""Another shard with the same crops and other maps: images, landmarks and ids are copied, nothing is decoded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from jaxtyping import Float32, UInt8

from aupipe.fer_data.shards import spec
from aupipe.fer_data.shards.index import ShardEntry
from aupipe.fer_data.shards.spec import ShardHeader
from aupipe.fer_data.shards.verify import stored_images
from aupipe.fer_data.shards.writer import BLOCK, Block, ChannelTotals, write_blocks

Draw = Callable[
    [Float32[np.ndarray, "n 68 2"], UInt8[np.ndarray, "n"]],
    tuple[UInt8[np.ndarray, "n m m"], UInt8[np.ndarray, "n"]],
]
"""Landmarks and labels of some rows to their maps and ``has_map``."""


@dataclass(frozen=True)
class ShardNotes:
    """What a shard says of its own making."""

    plan_digest: str
    crop_digest: str
    encoding: str
    codebook_name: str
    config_json: str


def read_notes(path: Path) -> ShardNotes | None:
    """A shard's own account; None when it cannot be read."""
    try:
        with h5py.File(path, "r") as file:
            return ShardNotes(
                plan_digest=str(file.attrs["plan_digest"]),
                crop_digest=str(file.attrs.get("crop_digest", "")),
                encoding="jpeg" if "image_jpeg" in file else "raw",
                codebook_name=str(file.attrs["codebook"]),
                config_json=str(file.attrs["config"]),
            )
    except (OSError, KeyError, RuntimeError):
        return None


def redraw_shard(old: Path, path: Path, draw: Draw, header: ShardHeader) -> ShardEntry:
    """Write the rows of ``old`` to ``path`` with new maps; ``old`` must be intact and have the header's crops.

    The result has the bytes that :func:`write_shard` would give. ``old`` may be ``path``. Raises as
    :func:`write_shard` does.
    """
    with h5py.File(old, "r") as file:
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
