"""``index.json``: the commit point of a store.

Written last; what it does not name is not part of the store.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from aupipe.fer_data.errors import StoreError, paragraph
from aupipe.fer_data.files import digest, withdraw, write_text
from aupipe.fer_data.shards.spec import SCHEMA_VERSION, check_version

INDEX_NAME = "index.json"


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

    def as_json(self) -> dict[str, Any]:
        """Return the index's content with its own digest."""
        content = json.loads(json.dumps(asdict(self)))
        return {**content, "digest": digest(content)}

    @property
    def digest(self) -> str:
        """Identity of the store's content."""
        return str(self.as_json()["digest"])


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
        raise StoreError(
            paragraph(
                f"{folder} is not a finished store: it has no {INDEX_NAME}, which is written last.",
                fix="If `aupipe build-maps` is writing it, wait; if it was interrupted, run it again: it continues "
                "where it stopped.",
            )
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version = content["schema_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(paragraph("The index is damaged: not readable as JSON.", where=path, got=error)) from error
    check_version(str(version), path)
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
        content["classes"] = tuple(content["classes"])
        content["shards"] = tuple(ShardEntry(**entry) for entry in content["shards"])
        return StoreIndex(**content)
    except (KeyError, TypeError) as error:
        raise StoreError(
            paragraph("The index has other keys than this version reads.", where=path, got=error)
        ) from error
