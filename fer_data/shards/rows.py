"""Positioned reads of the contiguous datasets of a split's shards: no HDF5 library, no lock, no growing memory.

A read goes from the page cache straight into the caller's buffer, about as fast as copying from a memory map; unlike a
map it adds nothing to the process's resident memory, and a file that was cut short is an error, not a fatal signal.
"""

from __future__ import annotations

import os
import resource
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fer_data.errors import StoreError, paragraph

STRETCH = 1 << 19
"""Bytes that the system is asked to fetch at a time: of more, Linux may fetch the beginning alone."""


class RowFiles:
    """The open files of a split; threads share them, forked processes inherit them (reads carry their own position).

    Files are opened when first read and stay open. Of a split with more files than half of the process's limit none
    stays open: each read opens and closes its own.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._keep = len(paths) <= resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2
        self._open: dict[int, int] = {}
        self._lock = threading.Lock()
        weakref.finalize(self, _close_all, self._open)

    def read(self, shard: int, offset: int, out: np.ndarray) -> None:
        """Fill the contiguous array ``out`` from a byte offset on.

        Raises :class:`StoreError` when the file ends before.
        """
        if self._keep:
            self._fill(self._descriptor(shard), shard, offset, out)
            return
        descriptor = os.open(self._paths[shard], os.O_RDONLY)
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

    def _descriptor(self, shard: int) -> int:
        descriptor = self._open.get(shard)
        if descriptor is None:
            with self._lock:
                if shard not in self._open:
                    self._open[shard] = os.open(self._paths[shard], os.O_RDONLY)
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
                raise StoreError(
                    paragraph(
                        f"The shard {self._paths[shard].name} ended while it was read: it was cut short meanwhile.",
                        expected=f"{out.nbytes} bytes at {offset}",
                        got=f"{got} bytes",
                        fix="Run `aupipe verify` on the store.",
                    )
                )
            got += more


def _close_all(descriptors: dict[int, int]) -> None:
    for descriptor in descriptors.values():
        os.close(descriptor)
