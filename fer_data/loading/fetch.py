"""Filling buffers with rows: whole images, or cut and mirrored on the way where the augmentation only moves pixels."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from jaxtyping import Bool, Int64, UInt8

from fer_data.shards import SplitReader

TILE = 8
"""Rows read before they are cut: few enough to be still in the processor's cache."""

_scratch = threading.local()


@dataclass(frozen=True)
class Cuts:
    """Where each sample's square crop lies in its image (top left corner, pixels), and whether it is mirrored."""

    x: Int64[np.ndarray, "b"]
    y: Int64[np.ndarray, "b"]
    flip: Bool[np.ndarray, "b"]

    def part(self, piece: slice) -> Cuts:
        """The cuts of some samples."""
        return Cuts(self.x[piece], self.y[piece], self.flip[piece])

    def copy(self, place: int, image: UInt8[np.ndarray, "s s 3"], out: UInt8[np.ndarray, "c c 3"]) -> None:
        """Copy the crop of one sample."""
        x, y, crop = int(self.x[place]), int(self.y[place]), len(out)
        window = image[y : y + crop, x : x + crop]
        if self.flip[place]:
            cv2.flip(window, 1, dst=out)
        else:
            out[:] = window


def pieces(count: int, threads: int) -> Iterator[slice]:
    """``range(count)`` in at most ``threads`` consecutive, nearly equal parts, none of them empty."""
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
    size = reader.store.index.image_size
    # In the order of the file, so that neighbours are read together; the buffers keep the order of the batch.
    for tile in np.array_split(np.argsort(rows, kind="stable"), -(-len(rows) // TILE)):
        whole = _tile(size)[: len(tile)]
        small = None if maps is None else np.empty((len(tile), *maps.shape[1:]), np.uint8)
        reader.gather(rows[tile], whole, small)
        if maps is not None and small is not None:
            maps[tile] = small
        for image, place in zip(whole, tile, strict=True):
            cuts.copy(int(place), image, images[place])


def _tile(size: int) -> UInt8[np.ndarray, "t s s 3"]:
    """A buffer of this thread's own."""
    if getattr(_scratch, "size", None) != size:
        _scratch.size, _scratch.images = size, np.empty((TILE, size, size, 3), np.uint8)
    buffer: np.ndarray = _scratch.images
    return buffer
