"""Pure planning: the place of each sample.

No image is touched.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

from aupipe.fer_data.types import Sample

T = TypeVar("T")


def hash_order(samples: Sequence[Sample]) -> list[Sample]:
    """Sort samples by the hash of their id: neighbours are unrelated, so any block of rows is a fair draw."""
    return sorted(samples, key=lambda sample: hashlib.sha256(sample.sample_id.encode()).digest())


def batched(items: Sequence[T], size: int) -> list[Sequence[T]]:
    """Cut a sequence into consecutive pieces of ``size`` items; the last may be shorter.

    >>> batched([1, 2, 3, 4, 5], 2)
    [[1, 2], [3, 4], [5]]
    """
    return [items[start : start + size] for start in range(0, len(items), size)]
