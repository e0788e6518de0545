"""Filling buffers with rows: whole images, or cut and mirrored on the way where the augmentation only moves pixels."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from jaxtyping import Bool, Int64, UInt8

from aupipe.fer_data.shards import SplitReader

_scratch = threading.local()


@dataclass(frozen=True)
class Cuts:
    """The place of each sample's square crop in its image (top left corner, pixels), and whether it is mirrored."""

    x: Int64[np.ndarray, "b"]
    y: Int64[np.ndarray, "b"]
    flip: Bool[np.ndarray, "b"]

    def part(self, piece: slice) -> Cuts:
        """Select the cuts of some samples."""
        return Cuts(self.x[piece], self.y[piece], self.flip[piece])

    def at(self, places: Int64[np.ndarray, "k"]) -> Iterator[tuple[int, int, bool]]:
        """Return ``(x, y, mirrored)`` of some samples, as plain numbers."""
        chosen = (values[places].tolist() for values in (self.x, self.y, self.flip))
        return zip(*chosen, strict=True)


def cut(lines: UInt8[np.ndarray, "c s 3"], x: int, flip: bool, out: UInt8[np.ndarray, "c c 3"]) -> None:
    """Copy a crop, which begins at column ``x``, out of those lines of an image that it lies in."""
    window = lines[:, x : x + len(out)]
    if flip:
        cv2.flip(window, 1, dst=out)
    else:
        out[:] = window


def pieces(count: int, threads: int) -> Iterator[slice]:
    """Cut ``range(count)`` into at most ``threads`` consecutive, nearly equal parts, none of them empty."""
    bounds = [count * i // threads for i in range(threads + 1)]
    return (slice(a, b) for a, b in pairwise(bounds) if b > a)


def fill(
    reader: SplitReader,
    rows: Int64[np.ndarray, "b"],
    images: UInt8[np.ndarray, "b c c 3"],
    maps: UInt8[np.ndarray, "b m m"] | None,
    cuts: Cuts | None,
) -> None:
    """Read rows into the buffers; with ``cuts`` the images hold the crops alone. ``maps`` None: they are not read."""
    if cuts is None:
        reader.gather(rows, images, maps)
        return
    # In the order of the file, so that neighbours are read together; the buffers keep the order of the batch.
    # Each image is cut while it is in the processor's cache.
    whole = _whole_image(reader.store.index.image_size)
    for shard, places, local in reader.in_file_order(rows):
        for place, row, (x, y, flip) in zip(places.tolist(), local.tolist(), cuts.at(places), strict=True):
            cut(shard.lines(row, y, images.shape[1], whole), x, flip, images[place])
        if maps is not None:
            shard.read_maps(local, maps, places)


def _whole_image(size: int) -> UInt8[np.ndarray, "s s 3"]:
    """A buffer of this thread's own."""
    if getattr(_scratch, "size", None) != size:
        _scratch.size, _scratch.image = size, np.empty((size, size, 3), np.uint8)
    buffer: np.ndarray = _scratch.image
    return buffer
