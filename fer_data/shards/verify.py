"""Finding damage: in one shard by its row checksums, in a store by the index's digests."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from aupipe.fer_data.files import sha256_file
from aupipe.fer_data.folders import is_system_file
from aupipe.fer_data.shards import spec
from aupipe.fer_data.shards.croissant import CROISSANT_NAME, is_outdated
from aupipe.fer_data.shards.encoding import offsets_fit
from aupipe.fer_data.shards.index import INDEX_NAME, ShardEntry, StoreIndex, index_text, load_index
from aupipe.fer_data.shards.shard_file import Finding, ShardFile, damaged_rows, open_shard, stored_images
from aupipe.fer_data.shards.structure import UNREADABLE

STRAY = "not part of the store"
_OTHER_BYTES = "not the bytes that the index describes"


def verify_shard(path: Path, *, rows: bool) -> list[Finding]:
    """Check one shard's structure.

    Args:
        path: The shard.
        rows: Check every row's CRC-32, too.

    Returns:
        What is wrong with it.

    Raises:
        SchemaVersionError: The shard is of another major version.
    """
    try:
        with open_shard(path) as shard:
            return shard.findings(rows=rows)
    except OSError as error:
        return [Finding(path.name, f"not a complete shard ({error})")]


def verify_store(folder: Path, *, rows: bool = False) -> list[Finding]:
    """Check every file of a store against its index.

    Args:
        folder: The store.
        rows: Name the damaged samples, too.

    Returns:
        A finding for each file that is changed, missing, truncated, swapped, extra or half-written.

    Raises:
        StoreError: The index itself cannot be used.
    """
    index = load_index(folder)
    findings = []
    if (folder / INDEX_NAME).read_bytes() != index_text(index).encode():
        findings.append(Finding(INDEX_NAME, "not the bytes that were written"))
    shards = {entry.name: entry for entry in index.shards}
    expected = {name: entry.sha256 for name, entry in shards.items()} | dict(index.files)
    seen: dict[bytes, str] = {}
    for name, sha256 in sorted(expected.items()):
        path = folder / name
        if not path.is_file():
            findings.append(Finding(name, "missing"))
        elif name in shards:
            findings += _shard_findings(path, shards[name], index, rows, seen)
        elif not _has_digest(path, sha256):
            findings.append(Finding(name, _OTHER_BYTES))
    if (folder / CROISSANT_NAME).is_file() and is_outdated(folder):
        findings.append(Finding(CROISSANT_NAME, "describes another index: run `aupipe export --to croissant` again"))
    known = {*expected, INDEX_NAME, CROISSANT_NAME}
    for path in sorted(folder.iterdir()):
        if path.name not in known and not is_system_file(path.name):
            what = "left by an interrupted write" if path.name.endswith(".tmp") else STRAY
            findings.append(Finding(path.name, what))
    return findings


def _shard_findings(
    path: Path, entry: ShardEntry, index: StoreIndex, rows: bool, seen: dict[bytes, str]
) -> list[Finding]:
    """Check one shard; ``seen`` collects the sample ids of sound ones and the shards they are in."""
    try:
        with open_shard(path) as shard:
            if shard.sha256 == entry.sha256:
                return shard.findings(rows=False) or _untrue(shard, entry, index, seen)
    except OSError as error:  # a disk that fails ends a process that reads its pages through a map, as is done below
        return [Finding(entry.name, f"cannot be read ({error.strerror or error})")]
    damaged = _damaged_in_place(path, entry, index) if rows else []
    return damaged or [Finding(entry.name, _OTHER_BYTES)]


def _untrue(shard: ShardFile, entry: ShardEntry, index: StoreIndex, seen: dict[bytes, str]) -> list[Finding]:
    """List what a shard of the stated bytes holds that no shard may hold, or that the index describes otherwise."""
    try:
        if faults := shard.value_faults():
            return [Finding(entry.name, fault) for fault in faults]
        if shard.entry() != entry:
            return [Finding(entry.name, "not what the index says of it")]
        stated = (index.classes, index.image_size, index.map_size, index.id_bytes, index.codebook_digest)
        if shard.says != stated:
            return [Finding(entry.name, "of other classes, sizes or codebook than the index says")]
        ids: list[bytes] = shard.file["sample_id"][:].tolist()
    except UNREADABLE as error:
        return [Finding(entry.name, f"not a complete shard ({error})")]
    twice = [name for name in ids if name in seen]
    seen |= dict.fromkeys(ids, entry.name)
    samples = tuple(name.decode() for name in twice)
    return [Finding(entry.name, "samples that another shard holds too", samples)] if twice else []


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
        arrays: dict[str, np.ndarray] = {
            column.name: np.memmap(path, column.dtype, "r", entry.offsets[column.name], (entry.rows, *column.shape))
            for column in columns
            if column.name in entry.offsets
        }
        if index.encoding == "jpeg":
            arrays |= _mapped_jpegs(path, entry)
        stated = np.memmap(path, "<u4", "r", entry.offsets["crc32"], (entry.rows,))
        tail = [arrays[column.name] for column in columns[1:]]
    except (OSError, KeyError, ValueError):
        return []
    return damaged_rows(entry.name, stored_images(arrays), tail, stated)


def _mapped_jpegs(path: Path, entry: ShardEntry) -> dict[str, np.ndarray]:
    """Memory maps of ``image_jpeg`` and ``image_offset``. Raises ``ValueError`` when the offsets lead astray."""
    offsets = np.memmap(path, "<u8", "r", entry.offsets["image_offset"], (entry.rows + 1,))
    size = int(offsets[-1])
    if not offsets_fit(offsets.astype(np.int64), size):
        raise ValueError("the offsets of the images do not fit")
    data = np.memmap(path, np.uint8, "r", entry.offsets["image_jpeg"], (size,))
    return {"image_jpeg": data, "image_offset": offsets}
