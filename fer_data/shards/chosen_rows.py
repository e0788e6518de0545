"""Some rows of a split, seen as a split of their own: nothing is copied."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
from jaxtyping import Int64

from aupipe.fer_data.shards.reader import SplitReader
from aupipe.fer_data.shards.shard_rows import ShardRows


class ChosenRows(SplitReader):
    """Some rows of ``every`` row, numbered anew in the order given, as the split of this name."""

    def __init__(self, every: SplitReader, split: str, chosen: Int64[np.ndarray, "n"]) -> None:
        super().__init__(every.store, split)
        self._every, self._chosen = every, chosen
        self.entries = every.entries

    def __len__(self) -> int:
        return len(self._chosen)

    def __getstate__(self) -> dict[str, object]:
        return {**super().__getstate__(), "_every": self._every, "_chosen": self._chosen}

    def in_file_order(
        self, rows: Int64[np.ndarray, "b"]
    ) -> Iterator[tuple[ShardRows, Int64[np.ndarray, "k"], Int64[np.ndarray, "k"]]]:
        """See the base class."""
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(self):
            raise IndexError(f"a row outside of the {len(self)} in split {self.split!r}")
        return self._every.in_file_order(self._chosen[rows])

    def will_need(self, first: int, last: int) -> None:
        """See the base class: what lies between the rows is fetched too."""
        some = self._chosen[first:last]
        if len(some):
            self._every.will_need(int(some.min()), int(some.max()) + 1)

    def _locate(self, row: int) -> tuple[ShardRows, int]:
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)} in split {self.split!r}")
        return self._every._locate(int(self._chosen[row]))

    def _column(self, name: str) -> np.ndarray:
        return np.ascontiguousarray(self._every._column(name)[self._chosen])

    def _later_column(self, name: str) -> np.ndarray:
        return np.ascontiguousarray(self._every._later_column(name)[self._chosen])


def few_of_each_class(reader: SplitReader, count: int, seed: int) -> ChosenRows:
    """Choose so many rows of each class, by their names and the seed: the fewer are among the more.

    Args:
        reader: The split.
        count: Rows of each class; of a class with fewer, all.
        seed: Another seed chooses others.
    """
    drawn = sorted(range(len(reader)), key=lambda row: hashed_name(f"{seed} {reader.sample_ids[row]}"))
    labels, left = reader.labels, dict.fromkeys(range(len(reader.store.index.classes)), count)
    chosen = list[int]()
    for row in drawn:
        label = int(labels[row])
        if left[label]:
            left[label] -= 1
            chosen.append(row)
    return ChosenRows(reader, reader.split, np.array(sorted(chosen), np.int64))


def hashed_name(name: str) -> bytes:
    """Return what orders names as if by lot, the same on every machine."""
    return hashlib.sha256(name.encode()).digest()
