"""The bytes of a split's shards, without the HDF5 library: mapped into memory, or read from where they lie.

Splits that fit well into memory are mapped: a row is used where it lies in the page cache. Of larger ones, and where
the file system has no maps, nothing is mapped: positioned reads add nothing to the process's resident memory. A file
that was cut short is noticed before its rows are used; what a map cannot report is a file cut short, or a disk that
fails, while a row is being copied: the system then ends the process, where a read raises an error.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import os
import resource
import threading
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from aupipe.fer_data.errors import StoreError, paragraph
from aupipe.fer_data.machine import usable_memory

STRETCH = 1 << 19
"""Bytes that the system is asked to fetch at a time: of more, Linux may fetch the beginning alone."""

MAPPED_SHARE = 0.5
"""A split's files are mapped when together they take at most this share of the memory: then they can stay there."""


class RowFiles:
    """The open files of a split; threads share them, forked processes inherit them (reads carry their own position).

    Files are opened when first used and stay open. Of a split with more files than half of the process's limit none
    stays open: each read opens and closes its own.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        found = [path.stat() for path in paths]
        self._files = [(one.st_dev, one.st_ino) for one in found]
        size = sum(one.st_size for one in found)
        self._keep = len(paths) <= most // 2
        self._may_map = len(paths) <= most // 4 and size <= MAPPED_SHARE * usable_memory()
        self._open: dict[int, int] = {}
        self._maps: dict[int, mmap.mmap] = {}
        self._lock = threading.Lock()
        weakref.finalize(self, _close_all, self._open)

    def view(self, shard: int, offset: int, size: int) -> UInt8[np.ndarray, "size"] | None:
        """Return bytes of a file where they lie, not to be written to; None where it is not mapped.

        Raises :class:`StoreError` when the file ends before.
        """
        mapped = self._map(shard)
        if mapped is None:
            return None
        self.check(shard, offset + size)
        return np.frombuffer(mapped, np.uint8, size, offset)

    def check(self, shard: int, end: int) -> None:
        """Raise :class:`StoreError` when a mapped file ends before the byte ``end``; of others each read says so."""
        if (mapped := self._maps.get(shard)) is not None and (size := mapped.size()) < end:
            raise self._cut_short(shard, f"{end} bytes", f"{size} bytes")

    def read(self, shard: int, offset: int, out: np.ndarray) -> None:
        """Fill the contiguous array ``out`` from a byte offset on.

        Raises :class:`StoreError` when the file ends before.
        """
        if (found := self.view(shard, offset, out.nbytes)) is not None:
            out.reshape(-1).view(np.uint8)[:] = found
            return
        if self._keep:
            self._fill(self._kept(shard), shard, offset, out)
            return
        with self._opened(shard) as descriptor:
            self._fill(descriptor, shard, offset, out)

    def array(self, shard: int, offset: int, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
        """Read an array from a byte offset on. Raises :class:`StoreError` when the file ends before."""
        stored = np.empty(np.dtype(dtype).itemsize * math.prod(shape), np.uint8)
        self.read(shard, offset, stored)
        return stored.view(dtype).reshape(shape)

    def will_need(self, shard: int, offset: int, length: int) -> None:
        """Tell the system that these bytes will be read soon, so that it fetches them in long runs."""
        if hasattr(os, "posix_fadvise"):
            with self._opened(shard) as descriptor:
                for start in range(offset, offset + length, STRETCH):
                    stretch = min(STRETCH, offset + length - start)
                    os.posix_fadvise(descriptor, start, stretch, os.POSIX_FADV_WILLNEED)

    def _map(self, shard: int) -> mmap.mmap | None:
        if shard not in self._maps and self._may_map:
            with self._lock, self._opened(shard) as descriptor:
                try:
                    self._maps.setdefault(shard, mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ))
                except (OSError, ValueError):  # no maps here, a limit of address space, or an empty file
                    self._may_map = False
        return self._maps.get(shard)

    @contextlib.contextmanager
    def _opened(self, shard: int) -> Iterator[int]:
        descriptor = self._open_again(shard)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _open_again(self, shard: int) -> int:
        """Open a file; it must be the one that was there at first, whose labels and landmarks are in memory."""
        descriptor = os.open(self.paths[shard], os.O_RDONLY)
        now = os.fstat(descriptor)
        if (now.st_dev, now.st_ino) == self._files[shard]:
            return descriptor
        os.close(descriptor)
        raise StoreError(
            paragraph(
                f"The shard {self.paths[shard].name} was replaced by another file while the store was read.",
                where=self.paths[shard].parent,
                fix="Run the same command again; do not build a store that is being read.",
            )
        )

    def _kept(self, shard: int) -> int:
        descriptor = self._open.get(shard)
        if descriptor is None:
            with self._lock:
                if shard not in self._open:
                    self._open[shard] = self._open_again(shard)
                descriptor = self._open[shard]
        return descriptor

    def _fill(self, descriptor: int, shard: int, offset: int, out: np.ndarray) -> None:
        got = os.preadv(descriptor, [out.data], offset)
        if got == out.nbytes:
            return
        rest = out.data.cast("B")
        while got < out.nbytes:
            more = os.preadv(descriptor, [rest[got:]], offset + got)
            if not more:
                raise self._cut_short(shard, f"{out.nbytes} bytes at {offset}", f"{got} bytes")
            got += more

    def _cut_short(self, shard: int, expected: str, got: str) -> StoreError:
        return StoreError(
            paragraph(
                f"The shard {self.paths[shard].name} ended while it was read: it was cut short meanwhile.",
                expected=expected,
                got=got,
                fix="Run `aupipe verify` on the store.",
            )
        )


def _close_all(descriptors: dict[int, int]) -> None:
    for descriptor in descriptors.values():
        os.close(descriptor)
