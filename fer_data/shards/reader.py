"""Opening a store: small columns in memory, images and maps read in place, without the HDF5 library."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, UInt8

from aupipe.fer_data.au_maps.codebook import Codebook, codebook_from_dict
from aupipe.fer_data.errors import StoreError, paragraph
from aupipe.fer_data.geometry import is_profile
from aupipe.fer_data.shards import spec
from aupipe.fer_data.shards.index import ShardEntry, StoreIndex, load_index
from aupipe.fer_data.shards.remote import is_url, local_store, pinned
from aupipe.fer_data.shards.rows import RowFiles
from aupipe.fer_data.shards.shard_rows import ShardRows
from aupipe.fer_data.shards.structure import check_later, check_shard, value_fault
from aupipe.fer_data.types import Progress


@dataclass(frozen=True)
class Store:
    """A finished store: its folder, its index, and for the copy of a remote one the URL with its digest."""

    folder: Path
    index: StoreIndex
    url: str = ""

    @property
    def place(self) -> Path | str:
        """Where the same store is opened again: its URL, or its folder."""
        return self.url or self.folder.resolve()

    @cached_property
    def codebook(self) -> Codebook:
        """The codebook its maps were drawn with."""
        return codebook_from_dict(self.index.codebook, f"{self.folder}/index.json")

    def split(self, name: str) -> SplitReader:
        """Open a reader of one split.

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

    def __repr__(self) -> str:
        index = self.index
        splits = ", ".join(f"{name} {index.rows(name)}" for name in index.splits)
        return (
            f"Store {self.folder.resolve().name}: {sum(map(index.rows, index.splits))} of {index.total} samples "
            f"({splits}), images {index.image_size} x {index.image_size} {index.encoding}, maps {index.map_size} x "
            f"{index.map_size}, codebook {index.codebook.get('name', '')}"
        )

    def _repr_html_(self) -> str:
        from aupipe.fer_data.shards.notebook import store_html

        return store_html(self)


class SplitReader:
    """The rows of one split, numbered from 0 over its shards in order.

    Safe to fork and to pickle: nothing is opened before it is used, and what is open does not travel.
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
    def groups(self) -> list[str]:
        """Person of each row, or its sample id where the person is unknown: faces of one group are not independent.

        Stores of the formats 1.0, 1.1 and 2.0 know no persons.
        """
        if not self._has("group"):
            return self.sample_ids
        return [value.decode() for value in self._later_column("group")]

    @cached_property
    def pose(self) -> Float32[np.ndarray, "n 3"] | None:
        """Yaw, pitch, roll in degrees, in the source photo; None in stores of formats before 1.3 and 2.2."""
        return self._later_column("pose") if self._has("pose") else None

    @cached_property
    def au_weight(self) -> UInt8[np.ndarray, "n 99 2"] | None:
        """Weights that the maps were drawn from, 255 = 1.0, by FACS number and side (the person's left, right).

        None in stores of formats before 1.4 and 2.3.
        """
        return self._later_column("au_weight") if self._has("au_weight") else None

    @cached_property
    def au_source(self) -> UInt8[np.ndarray, "n"] | None:
        """What :attr:`au_weight` comes from: the place in
        :data:`~aupipe.fer_data.action_units.modes.AU_SOURCES`."""
        return self._later_column("au_source") if self._has("au_source") else None

    @property
    def profile(self) -> Bool[np.ndarray, "n"]:
        """True where the face is turned so far that its far half is mostly hidden, its points there a guess."""
        return np.zeros(len(self), bool) if self.pose is None else is_profile(self.pose[:, 0])

    @cached_property
    def encoding(self) -> str:
        """The encoding of the images: ``raw`` or ``jpeg``."""
        return self.store.index.encoding

    def image(self, row: int) -> UInt8[np.ndarray, "s s 3"]:
        """Read one RGB crop."""
        size = self.store.index.image_size
        image = np.empty((size, size, 3), np.uint8)
        shard, local = self._locate(row)
        shard.read_image(local, image)
        return image

    def jpeg_bytes(self, row: int) -> UInt8[np.ndarray, "b"]:
        """Return the row's JPEG file as it lies in the store, not to be written to.

        Raises :class:`StoreError` where :attr:`encoding` is not ``jpeg``.
        """
        if self.encoding != "jpeg":
            raise StoreError(f"The images of {self.store.folder} are pixels, not JPEG: use `image` or `gather`.")
        shard, local = self._locate(row)
        return shard.jpeg(local)

    def au_map(self, row: int) -> Float32[np.ndarray, "m m"]:
        """Read one AU map in [0, 1]."""
        return np.asarray(self.stored_maps(np.array([row]))[0], np.float32) / np.float32(255)

    def stored_maps(self, rows: Int64[np.ndarray, "k"]) -> UInt8[np.ndarray, "k m m"]:
        """Read AU maps as they are stored: 255 = 1.0. Raises ``IndexError`` for a row outside."""
        size = self.store.index.map_size
        maps = np.empty((len(rows), size, size), np.uint8)
        for shard, places, local in self.in_file_order(rows):
            shard.read_maps(local, maps, places)
        return maps

    def gather(
        self,
        rows: Int64[np.ndarray, "b"],
        images: UInt8[np.ndarray, "b s s 3"],
        maps: UInt8[np.ndarray, "b m m"] | None,
    ) -> None:
        """Copy the given rows into the caller's buffers; JPEG is decoded into them.

        Several threads may call this at once.

        Args:
            rows: Numbers of the rows.
            images: Contiguous buffer of the images.
            maps: Contiguous buffer of the maps (255 = 1.0); None leaves them unread.

        Raises:
            IndexError: A row lies outside.
            StoreError: A JPEG cannot be decoded.
        """
        for shard, places, local in self.in_file_order(rows):
            for place, row in zip(places.tolist(), local.tolist(), strict=True):
                shard.read_image(row, images[place])
            if maps is not None:
                shard.read_maps(local, maps, places)

    def in_file_order(
        self, rows: Int64[np.ndarray, "b"]
    ) -> Iterator[tuple[ShardRows, Int64[np.ndarray, "k"], Int64[np.ndarray, "k"]]]:
        """Group rows by shard, sorted: each shard with their places in ``rows`` and their numbers in the shard.

        Raises ``IndexError`` for a row outside.
        """
        outside = (rows < 0) | (rows >= len(self))
        if outside.any():
            self._locate(int(rows[outside][0]))
        places = np.argsort(rows, kind="stable")
        ordered = rows[places]
        bounds = np.searchsorted(ordered, self._starts)
        for number in np.flatnonzero(np.diff(bounds)).tolist():
            chosen = slice(bounds[number], bounds[number + 1])
            local = ordered[chosen] - self._starts[number]
            yield self._shard(number, local), places[chosen], local

    def will_need(self, first: int, last: int) -> None:
        """Ask the system to fetch the images and maps of the rows ``first`` to ``last - 1`` from the disk in long
        runs."""
        for number, shard in enumerate(self._shards):
            start, stop = (int(np.clip(row - self._starts[number], 0, shard.entry.rows)) for row in (first, last))
            if stop > start:
                begin, end = shard.image_place(start)[0], shard.image_place(stop - 1)[1]
                self._files.will_need(number, begin, end - begin)
                begin, end = shard.map_place(start), shard.map_place(stop)
                self._files.will_need(number, begin, end - begin)

    @cached_property
    def _files(self) -> RowFiles:
        return RowFiles([self._path(entry) for entry in self.entries])

    @cached_property
    def _sound(self) -> set[int]:
        """Shards whose structure was found right: it is checked once, before anything in them is used."""
        return set()

    def _check(self, number: int) -> None:
        if number not in self._sound:
            check_shard(self._files.paths[number], self.entries[number], self.store.index)
            self._sound.add(number)

    @cached_property
    def _shards(self) -> list[ShardRows]:
        index = self.store.index
        return [
            ShardRows(self._files, number, entry, index.image_size, index.map_size, index.id_bytes)
            for number, entry in enumerate(self.entries)
        ]

    def _repr_html_(self) -> str:
        from aupipe.fer_data.shards.notebook import split_html

        return split_html(self)

    def _locate(self, row: int) -> tuple[ShardRows, int]:
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)} in split {self.split!r}")
        number = bisect_right(self._starts, row) - 1
        local = row - int(self._starts[number])
        return self._shard(number, np.array([local])), local

    def _shard(self, number: int, rows: Int64[np.ndarray, "k"]) -> ShardRows:
        """The shard, once its structure and these of its rows were found right."""
        self._check(number)
        shard = self._shards[number]
        shard.check(rows)
        return shard

    def _column(self, name: str) -> np.ndarray:
        index = self.store.index
        columns = (*spec.columns(index.image_size, index.map_size, index.id_bytes), *spec.later_columns(index.id_bytes))
        column = next(one for one in columns if one.name == name)
        parts = []
        for number, entry in enumerate(self.entries):
            self._check(number)
            parts.append(self._files.array(number, entry.offsets[name], column.dtype, (entry.rows, *column.shape)))
        values = np.concatenate(parts)
        if fault := value_fault(name, values, len(index.classes)):
            raise StoreError(
                paragraph(
                    f"The split {self.split!r} holds what no store may hold, so it was not read.",
                    where=self.store.folder,
                    got=fault,
                    fix="Run `aupipe verify` on the store. If others gave it to you, ask them for a sound copy.",
                )
            )
        return values

    def _has(self, name: str) -> bool:
        return all(name in entry.offsets for entry in self.entries)

    def _later_column(self, name: str) -> np.ndarray:
        """Read a column over which the rows' own checksums do not run."""
        stored = self._column(name)
        for path in self._files.paths:
            check_later(path, name)
        return stored

    def _path(self, entry: ShardEntry) -> Path:
        path = self.store.folder / entry.name
        if not path.is_file() or path.stat().st_size != entry.bytes:
            raise StoreError(
                paragraph(
                    f"The shard {entry.name} is missing or is not the file the index describes.",
                    where=self.store.folder,
                    expected=f"{entry.bytes} bytes",
                    got=f"{path.stat().st_size} bytes" if path.is_file() else "no such file",
                    fix="Run `aupipe verify` on the store, then `aupipe repair`: intact shards are kept.",
                )
            )
        return path


def open_store(folder: Path | str, progress: Progress | None = None) -> Store:
    """Open a finished store.

    Args:
        folder: A folder, or the URL of one (``https://...``, ``s3://...``), which is copied into the cache first.
        progress: Told what is copied.

    Returns:
        The store: ``index`` says what is in it, ``split(name)`` reads its rows as arrays. A notebook shows it with
        examples of each class.

    Raises:
        StoreError: It is unfinished, damaged or of another version, or the URL does not answer.

    Example:
        >>> reader = aupipe.open_store("store").split("test")
        >>> len(reader), reader.image(0).shape, reader.au_map(0).shape
        (7, (96, 96, 3), (24, 24))
    """
    place = local_store(folder, progress)
    index = load_index(place)
    return Store(place, index, pinned(str(folder), index.digest) if is_url(folder) else "")
