"""The speed of a loader, and the most it could be: that of copying the same bytes from memory to memory."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

SOURCE_BYTES = 256 * 2**20
"""More than a processor's cache holds, so that the limit is that of memory."""


@dataclass(frozen=True)
class LoadReport:
    """The cost of reading (a part of) an epoch.

    ``bytes``: of the uint8 images and maps that were delivered. ``wait_seconds``: time in which the consumer had asked
    for a batch that was not ready. ``first_batch_seconds``: from asking for the epoch to having its first batch.
    """

    images: int = 0
    bytes: int = 0
    seconds: float = 0.0
    wait_seconds: float = 0.0
    first_batch_seconds: float = 0.0

    @property
    def wait_fraction(self) -> float:
        """Share of the time that was spent waiting for data."""
        return self.wait_seconds / max(self.seconds, 1e-9)

    @property
    def images_per_second(self) -> float:
        """Images per second, whatever the consumer did with them included."""
        return self.images / max(self.seconds, 1e-9)

    @property
    def gigabytes_per_second(self) -> float:
        """Delivered uint8 bytes per second, in 1e9 bytes."""
        return self.bytes / max(self.seconds, 1e-9) / 1e9

    def memcpy_fraction(self, image_bytes: int) -> float:
        """Compute the share of :func:`memcpy_limit`."""
        return self.gigabytes_per_second / memcpy_limit(image_bytes)

    def as_json(self, image_bytes: int) -> dict[str, float]:
        """Return the object that ``--json`` prints."""
        return {
            "images_per_second": round(self.images_per_second, 1),
            "gigabytes_per_second": round(self.gigabytes_per_second, 3),
            "memcpy_fraction": round(self.memcpy_fraction(image_bytes), 3),
            "wait_fraction": round(self.wait_fraction, 4),
            "first_batch_seconds": round(self.first_batch_seconds, 4),
        }


@lru_cache
def memcpy_limit(image_bytes: int, repeats: int = 5) -> float:
    """Measure, once, at how many GB/s one thread copies images of this size in random order with ``np.copyto``.

    The median of ``repeats`` passes of at least 1,024 images over at least 256 MB.
    """
    count = max(SOURCE_BYTES // image_bytes, 1)
    # Written to, because untouched pages are all the same page of zeros.
    source = np.full((count, image_bytes), 7, np.uint8)
    target = np.full((128, image_bytes), 0, np.uint8)
    passes = max(1024 // count, 1)
    rows = np.random.default_rng(0).permutation(count)
    rates = []
    for _ in range(repeats):
        started = time.perf_counter()
        for _ in range(passes):
            for place, row in enumerate(rows):
                np.copyto(target[place % 128], source[row])
        rates.append(passes * count * image_bytes / (time.perf_counter() - started) / 1e9)
    return float(np.median(rates))
