"""Opening a store: small columns in memory, images and maps as memory maps that need no HDF5 library."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Float32, Float64, Int64, UInt8

from fer_data.codebook import Codebook, codebook_from_dict
from fer_data.errors import StoreError, paragraph
from fer_data.shards import spec
from fer_data.shards.index import ShardEntry, StoreIndex, load_index


@dataclass(frozen=True)
class Store:
    """A finished store: its folder and its index."""

    folder: Path
    index: StoreIndex

    @cached_property
    def codebook(self) -> Codebook:
        """The codebook its maps were drawn with."""
        return codebook_from_dict(self.index.codebook, f"{self.folder}/index.json")

    def split(self, name: str) -> SplitReader:
        """Reader of one split.

        Raises :class:`StoreError` when the split has no rows.
        """
        if name not in self.index.splits:
            raise StoreError(
                paragraph(
                    f"The store {self.folder} has no rows in the split {name!r}.",
                    expected=f"one of {', '.join(self.index.splits) or 'none: the store is empty'}",
                )
            )
        return SplitReader(self, name)


class SplitReader:
    """The rows of one split, numbered from 0 over its shards in order.

    Safe to fork and to pickle: nothing is opened before it is used, and memory maps are re-opened in each process.
    """

    def __init__(self, store: Store, split: str) -> None:
        self.store = store
        self.split = split
        self.entries: tuple[ShardEntry, ...] = tuple(entry for entry in store.index.shards if entry.split == split)
        self._starts = np.cumsum([0, *(entry.rows for entry in self.entries)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getstate__(self) -> dict[str, object]:
        return {key: self.__dict__[key] for key in ("store", "split", "entries", "_starts")}

    @cached_property
    def labels(self) -> UInt8[np.ndarray, "n"]:
        """Index of each row's class in ``store.index.classes``."""
        return self._column("label")

    @cached_property
    def has_map(self) -> UInt8[np.ndarray, "n"]:
        """1 where the AU map is meaningful."""
        return self._column("has_map")

    @cached_property
    def landmarks(self) -> Float32[np.ndarray, "n 68 2"]:
        """The 68 iBUG points in pixels of the crop."""
        return self._column("landmarks")

    @cached_property
    def to_source(self) -> Float64[np.ndarray, "n 2 3"]:
        """Affine from crop pixels to source pixels."""
        return self._column("to_source")

    @cached_property
    def sample_ids(self) -> list[str]:
        """Sample ids of the manifest."""
        return [value.decode() for value in self._column("sample_id")]

    @cached_property
    def _images(self) -> list[np.ndarray]:
        size = self.store.index.image_size
        return self._mapped("image", (size, size, 3))

    @cached_property
    def _maps(self) -> list[np.ndarray]:
        size = self.store.index.map_size
        return self._mapped("au_map", (size, size))

    def image(self, row: int) -> UInt8[np.ndarray, "s s 3"]:
        """One RGB crop."""
        shard, local = self._locate(row)
        return np.array(self._images[shard][local])

    def au_map(self, row: int) -> Float32[np.ndarray, "m m"]:
        """One AU map in [0, 1]."""
        shard, local = self._locate(row)
        return np.asarray(self._maps[shard][local], np.float32) / np.float32(255)

    def gather(
        self,
        rows: Int64[np.ndarray, "b"],
        images: UInt8[np.ndarray, "b s s 3"],
        maps: UInt8[np.ndarray, "b m m"],
    ) -> None:
        """Copy the given rows into the caller's buffers (reused by the loader: nothing is allocated)."""
        shards = np.searchsorted(self._starts, rows, side="right") - 1
        local = rows - self._starts[shards]
        for position in np.argsort(rows, kind="stable"):
            shard, row = int(shards[position]), int(local[position])
            images[position] = self._images[shard][row]
            maps[position] = self._maps[shard][row]

    def _locate(self, row: int) -> tuple[int, int]:
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)} in split {self.split!r}")
        shard = int(np.searchsorted(self._starts, row, side="right")) - 1
        return shard, row - int(self._starts[shard])

    def _column(self, name: str) -> np.ndarray:
        parts = []
        for entry in self.entries:
            with h5py.File(self._path(entry), "r") as file:
                spec.check_version(str(file.attrs["schema_version"]), entry.name)
                parts.append(file[name][:])
        return np.concatenate(parts)

    def _mapped(self, name: str, shape: tuple[int, ...]) -> list[np.ndarray]:
        return [
            np.memmap(self._path(entry), np.uint8, "r", entry.offsets[name], (entry.rows, *shape))
            for entry in self.entries
        ]

    def _path(self, entry: ShardEntry) -> Path:
        path = self.store.folder / entry.name
        if not path.is_file() or path.stat().st_size != entry.bytes:
            raise StoreError(
                paragraph(
                    f"The shard {entry.name} is missing or is not the file the index describes.",
                    where=self.store.folder,
                    expected=f"{entry.bytes} bytes",
                    got=f"{path.stat().st_size} bytes" if path.is_file() else "no such file",
                    fix="Run `aupipe verify` on the store, then `aupipe build-maps` again: intact shards are kept.",
                )
            )
        return path


def open_store(folder: Path | str) -> Store:
    """Open a finished store.

    Raises :class:`StoreError` when it is unfinished, damaged or of another version.
    """
    return Store(Path(folder), load_index(Path(folder)))
