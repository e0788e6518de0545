"""Finding damage: in one shard by its row checksums, in a store by the index's digests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from fer_data.errors import StoreError
from fer_data.files import sha256_file
from fer_data.shards import spec
from fer_data.shards.index import INDEX_NAME, ShardEntry, StoreIndex, index_text, load_index


@dataclass(frozen=True)
class Finding:
    """Something wrong with a store: which file, what, and the samples concerned where they are known."""

    file: str
    what: str
    samples: tuple[str, ...] = ()


def verify_shard(path: Path, *, rows: bool) -> list[Finding]:
    """Check one shard's structure, and with ``rows`` every row's CRC-32."""
    try:
        with h5py.File(path, "r") as file:
            version = str(file.attrs["schema_version"])
            spec.check_version(version, path)
            columns = spec.columns(
                int(file.attrs["image_size"]), int(file.attrs["map_size"]), file["sample_id"].dtype.itemsize
            )
            count = file["crc32"].shape[0]
            wrong = [
                column.name
                for column in columns
                if file[column.name].shape != (count, *column.shape)
                or file[column.name].dtype != np.dtype(column.dtype)
            ]
            if wrong:
                return [Finding(path.name, f"wrong shape or type: {', '.join(wrong)}")]
            if not rows:
                return []
            return _damaged_rows(path.name, [file[column.name] for column in columns], file["crc32"][:])
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        if isinstance(error, StoreError):
            raise
        return [Finding(path.name, f"not a complete shard ({error})")]


def _damaged_rows(name: str, arrays: Sequence[Any], stated: np.ndarray) -> list[Finding]:
    """Rows that do not match their checksum; ``arrays`` are the columns in order, the sample ids last."""
    damaged = [
        row
        for row in range(len(stated))
        if spec.row_crc32(np.asarray(array[row], array.dtype) for array in arrays) != stated[row]
    ]
    if not damaged:
        return []
    samples = tuple(arrays[-1][row].decode(errors="replace") for row in damaged)
    return [Finding(name, f"{len(damaged)} rows do not match their checksum", samples)]


def verify_store(folder: Path, *, rows: bool = False) -> list[Finding]:
    """Check every file of a store against its index; with ``rows`` name the damaged samples.

    Finds any changed byte, missing, truncated, swapped, extra and half-written files. Raises :class:`StoreError`
    when the index itself cannot be used.
    """
    index = load_index(folder)
    findings = []
    if (folder / INDEX_NAME).read_bytes() != index_text(index).encode():
        findings.append(Finding(INDEX_NAME, "not the bytes that were written"))
    shards = {entry.name: entry for entry in index.shards}
    expected = {name: entry.sha256 for name, entry in shards.items()} | dict(index.files)
    for name, sha256 in sorted(expected.items()):
        path = folder / name
        if not path.is_file():
            findings.append(Finding(name, "missing"))
        elif not _has_digest(path, sha256):
            damaged = _damaged_in_place(path, shards[name], index) if rows and name in shards else []
            findings += damaged or [Finding(name, "not the bytes that the index describes")]
    known = set(expected) | {INDEX_NAME, ".lock"}
    for path in sorted(folder.iterdir()):
        if path.name not in known:
            what = "left by an interrupted write" if path.name.endswith(".tmp") else "not part of the store"
            findings.append(Finding(path.name, what))
    return findings


def _has_digest(path: Path, sha256: str) -> bool:
    try:
        return sha256_file(path) == sha256
    except OSError:  # the disk gives an error for the bytes themselves
        return False


def _damaged_in_place(path: Path, entry: ShardEntry, index: StoreIndex) -> list[Finding]:
    """Name the damaged rows through the index's offsets: a damaged file can make the HDF5 library hang or crash."""
    size = path.stat().st_size
    if size != entry.bytes:
        return [Finding(entry.name, f"{size} bytes where the index says {entry.bytes}")]
    columns = spec.columns(index.image_size, index.map_size, index.id_bytes)
    try:
        arrays = [
            np.memmap(path, column.dtype, "r", entry.offsets[column.name], (entry.rows, *column.shape))
            for column in columns
        ]
        stated = np.memmap(path, "<u4", "r", entry.offsets["crc32"], (entry.rows,))
    except (OSError, KeyError):
        return []
    return _damaged_rows(entry.name, arrays, stated)
