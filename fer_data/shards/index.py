"""``index.json``: the commit point of a store.

Written last; what it does not name is not part of the store.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from aupipe.fer_data.errors import StoreError, paragraph
from aupipe.fer_data.files import digest, withdraw, write_text
from aupipe.fer_data.image_size import PIXEL_LIMIT
from aupipe.fer_data.shards.spec import LATER, SCHEMA_VERSION, check_version, datasets
from aupipe.fer_data.typed import UnreadableTextError, convert, read_json
from aupipe.fer_data.types import SPLITS
from aupipe.fer_data.wrong_path import wrong_path

INDEX_NAME = "index.json"
LONGEST_ID = 2**16
"""Bytes of a sample id, which is hardly more than a path."""


@dataclass(frozen=True)
class ShardEntry:
    """One shard in the index.

    ``offsets``: byte offset of each contiguous dataset, for reading without HDF5.
    """

    name: str
    split: str
    rows: int
    with_map: int
    bytes: int
    sha256: str
    plan_digest: str
    offsets: Mapping[str, int]
    labels: Mapping[str, int]
    channel_sum: list[int]
    channel_sum_of_squares: list[int]


@dataclass(frozen=True)
class StoreIndex:
    """The whole store: shards by split and number, classes, configuration, codebook, provenance.

    ``failed`` counts the samples of the manifest that are not in the store, by reason; ``rows + sum(failed) ==
    total``. ``channel_mean``, ``channel_std``: RGB over the training split, in [0, 1].
    """

    classes: tuple[str, ...]
    image_size: int
    map_size: int
    id_bytes: int
    rows_per_shard: int
    shards: tuple[ShardEntry, ...]
    total: int
    failed: Mapping[str, int]
    files: Mapping[str, str]
    config: Mapping[str, Any]
    codebook: Mapping[str, Any]
    codebook_digest: str
    provenance: Mapping[str, Any]
    channel_mean: list[float]
    channel_std: list[float]
    schema_version: str = SCHEMA_VERSION

    def rows(self, split: str) -> int:
        """Count the rows of a split."""
        return sum(shard.rows for shard in self.shards if shard.split == split)

    def label_counts(self, split: str) -> dict[str, int]:
        """Count the rows of a split by class name, every class present."""
        shards = [shard for shard in self.shards if shard.split == split]
        return {name: sum(shard.labels.get(name, 0) for shard in shards) for name in self.classes}

    @property
    def splits(self) -> tuple[str, ...]:
        """Splits that have rows, in the usual order."""
        return tuple(split for split in ("train", "val", "test") if self.rows(split))

    @property
    def encoding(self) -> str:
        """The encoding of the images: ``raw`` or ``jpeg``."""
        return "jpeg" if any("image_jpeg" in shard.offsets for shard in self.shards) else "raw"

    @property
    def fold(self) -> str:
        """The fold that the splits are those of; empty: the store's own."""
        return ""

    @property
    def aus(self) -> str:
        """Whose action units the maps show: ``class``, the label's, or another mode of ``build-maps --aus``."""
        return str(self.config.get("aus", "class"))

    def as_json(self) -> dict[str, Any]:
        """Return the index's content with its own digest."""
        content = json.loads(json.dumps(self, default=_values))
        return {**content, "digest": digest(content)}

    @cached_property
    def digest(self) -> str:
        """Identity of the store's content."""
        return str(self.as_json()["digest"])


def _values(entry: StoreIndex | ShardEntry) -> dict[str, Any]:
    return {field.name: getattr(entry, field.name) for field in fields(entry)}


def index_text(index: StoreIndex) -> str:
    """Format the exact text of ``index.json``."""
    return json.dumps(index.as_json(), sort_keys=True, indent=1, allow_nan=False) + "\n"


def save_index(folder: Path, index: StoreIndex) -> bool:
    """Write the index unless the very same one is there; tell whether it was written.

    Raises :class:`StoreError` when the rows and the failures are not the manifest's total.
    """
    rows, failed = sum(shard.rows for shard in index.shards), sum(index.failed.values())
    if rows + failed != index.total:
        raise StoreError(
            paragraph(
                "The store was not finished: its rows and the samples left out do not add up.",
                where=folder,
                expected=f"{index.total} samples, as in the manifest",
                got=f"{rows} rows and {failed} left out",
                fix="Run `aupipe landmarks`, then `aupipe build-maps` again: what is right is kept.",
            )
        )
    path, text = folder / INDEX_NAME, index_text(index)
    if path.is_file() and path.read_bytes() == text.encode():
        return False
    write_text(path, text)
    return True


def withdraw_index(folder: Path) -> None:
    """Take a store's index back: until the next one is written, the folder holds no store."""
    withdraw(folder / INDEX_NAME)


def load_index(folder: Path) -> StoreIndex:
    """Read and check a store's index.

    Raises :class:`StoreError`.
    """
    path = folder / INDEX_NAME
    if not path.is_file():
        raise StoreError(wrong_path(folder, "store"))
    try:
        content = read_json(path, dict[str, Any])
        version = convert(content.get("schema_version"), str)
    except UnreadableTextError as error:
        raise _damaged(path, error) from error
    check_version(version, path)
    stated = content.pop("digest", None)
    if digest(content) != stated:
        raise StoreError(
            paragraph(
                "The index was changed after it was written: its digest does not fit.",
                where=path,
                fix="Run `aupipe build-maps` again: intact shards are kept and the index is rewritten.",
            )
        )
    try:
        index = convert(content, StoreIndex)
    except UnreadableTextError as error:
        raise _damaged(path, error) from error
    unknown = content.keys() - {field.name for field in fields(StoreIndex)}
    if unknown:
        raise _damaged(path, f"other keys than this version reads: {', '.join(sorted(unknown))}")
    if fault := next(index_faults(index), None):
        raise _damaged(path, fault)
    return index


def _damaged(path: Path, got: object) -> StoreError:
    return StoreError(
        paragraph(
            "The index of the store cannot be used: it is damaged, or was not written by this program.",
            where=path,
            got=got,
            fix="Run `aupipe build-maps` again: intact shards are kept. If others gave you the store, ask for a sound "
            "copy.",
        )
    )


def index_faults(index: StoreIndex) -> Iterator[str]:
    """Yield what no index can say: names outside the store, rows outside their file, sums that do not fit."""
    names = [*(shard.name for shard in index.shards), *index.files]
    odd = [name for name in names if re.fullmatch(r"\w[\w.-]*", name) is None or name == INDEX_NAME]
    if odd:
        yield f"it names files outside the store, such as {odd[0]!r}"
    if len(set(names)) < len(names) or len(set(index.classes)) < len(index.classes):
        yield "the same file or class twice"
    sides = index.image_size, index.map_size
    if min(sides) < 1 or max(sides) ** 2 > PIXEL_LIMIT or not 1 <= index.id_bytes <= LONGEST_ID:
        yield f"images of {index.image_size}, maps of {index.map_size} pixels, ids of {index.id_bytes} bytes"
    rows, failed = sum(shard.rows for shard in index.shards), sum(index.failed.values())
    if rows + failed != index.total or min(index.failed.values(), default=0) < 0:
        yield f"{rows} rows and {failed} left out, of {index.total} samples"
    if not len(index.channel_mean) == len(index.channel_std) == 3:
        yield "means of other than three channels"
    none, one = _dataset_bytes(index, 0), _dataset_bytes(index, 1)
    for shard in index.shards:
        needed = {
            name: none[name] + shard.rows * (one[name] - none[name])
            for name in one
            if name in shard.offsets or name not in LATER  # which earlier versions lack
        }
        yield from _shard_faults(shard, index.classes, needed)


def _dataset_bytes(index: StoreIndex, rows: int) -> dict[str, int]:
    """The least bytes that each dataset of a shard of so many rows takes."""
    known = datasets(index.encoding, rows, index.image_size, index.map_size, index.id_bytes, LATER)
    return {name: dtype.itemsize * abs(math.prod(shape)) for name, (dtype, shape) in known.items()}


def _shard_faults(shard: ShardEntry, classes: tuple[str, ...], needed: Mapping[str, int]) -> Iterator[str]:
    if shard.split not in SPLITS or shard.rows < 1 or not 0 <= shard.with_map <= shard.rows:
        yield f"{shard.rows} rows, {shard.with_map} with a map, in the split {shard.split!r}: {shard.name}"
    if set(shard.labels) - set(classes) or sum(shard.labels.values()) != shard.rows:
        yield f"labels that are not those of {shard.rows} rows: {shard.name}"
    for name, size in needed.items():
        start = shard.offsets.get(name, -1)
        if start < 0 or start + size > shard.bytes:
            yield f"a dataset {name} that does not lie within {shard.name}"
