"""The bytes of a split's shards, without the HDF5 library: mapped into memory, or read from where they lie.

Files that fit well into memory are mapped: a row is then used where it lies in the page cache, and copied once. Of
larger splits, and where the file system has no maps, nothing is mapped: positioned reads add nothing to the process's
resident memory. Both know when a file was cut short. What a map cannot report is a disk that fails in the middle of a
copy: the system then ends the process, where a read raises an error.
"""

from __future__ import annotations

import mmap
import os
import resource
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from fer_data.errors import StoreError, paragraph
from fer_data.memory import physical_memory

STRETCH = 1 << 19
"""Bytes that the system is asked to fetch at a time: of more, Linux may fetch the beginning alone."""

MAPPED_SHARE = 0.5
"""Files are mapped when together they take at most this share of the memory: then they can all stay there."""


class RowFiles:
    """The open files of a split; threads share them, forked processes inherit them (reads carry their own position).

    Files are opened when first used and stay open. Of a split with more files than half of the process's limit none
    stays open: each read opens and closes its own.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._keep = len(paths) <= most // 2
        size = sum(path.stat().st_size for path in paths)
        # Python's map holds a descriptor of its own.
        self._mapped = len(paths) <= most // 4 and size <= MAPPED_SHARE * physical_memory()
        self._open: dict[int, int] = {}
        self._maps: dict[int, UInt8[np.ndarray, "b"]] = {}
        self._lock = threading.Lock()
        weakref.finalize(self, _close_all, self._open)

    def view(self, shard: int, offset: int, size: int) -> UInt8[np.ndarray, "size"] | None:
        """Bytes of a file where they lie, not to be written to; None where files are not mapped.

        Raises :class:`StoreError` when the file ends before.
        """
        if not self._mapped:
            return None
        self.check(shard, offset + size)
        whole = self._map(shard)
        return None if whole is None else whole[offset : offset + size]

    def check(self, shard: int, end: int) -> None:
        """Raise :class:`StoreError` when a file ends before the byte ``end``; of mapped files alone, reads do it."""
        if self._mapped and (size := os.lseek(self._descriptor(shard), 0, os.SEEK_END)) < end:
            raise self._cut_short(shard, f"{end} bytes", f"{size} bytes")

    def read(self, shard: int, offset: int, out: np.ndarray) -> None:
        """Fill the contiguous array ``out`` from a byte offset on.

        Raises :class:`StoreError` when the file ends before.
        """
        if (found := self.view(shard, offset, out.nbytes)) is not None:
            out.reshape(-1).view(np.uint8)[:] = found
            return
        if self._keep:
            self._fill(self._descriptor(shard), shard, offset, out)
            return
        descriptor = os.open(self.paths[shard], os.O_RDONLY)
        try:
            self._fill(descriptor, shard, offset, out)
        finally:
            os.close(descriptor)

    def will_need(self, shard: int, offset: int, length: int) -> None:
        """Tell the system that these bytes will be read soon, so that it fetches them in long runs."""
        if self._keep and hasattr(os, "posix_fadvise"):
            for start in range(offset, offset + length, STRETCH):
                stretch = min(STRETCH, offset + length - start)
                os.posix_fadvise(self._descriptor(shard), start, stretch, os.POSIX_FADV_WILLNEED)

    def _map(self, shard: int) -> UInt8[np.ndarray, "b"] | None:
        found = self._maps.get(shard)
        if found is None:
            descriptor = self._descriptor(shard)
            with self._lock:
                if shard not in self._maps:
                    try:
                        mapped = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
                    except OSError:  # a file system without maps, or a limit of address space
                        self._mapped = False
                        return None
                    self._maps[shard] = np.frombuffer(mapped, np.uint8)
                found = self._maps[shard]
        return found

    def _descriptor(self, shard: int) -> int:
        descriptor = self._open.get(shard)
        if descriptor is None:
            with self._lock:
                if shard not in self._open:
                    self._open[shard] = os.open(self.paths[shard], os.O_RDONLY)
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
