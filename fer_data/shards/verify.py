"""Finding damage: in one shard by its row checksums, in a store by the index's digests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from fer_data.errors import StoreError
from fer_data.files import sha256_file
from fer_data.shards import spec
from fer_data.shards.index import INDEX_NAME, index_text, load_index


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
            return _damaged_rows(file, path.name, columns) if rows else []
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        if isinstance(error, StoreError):
            raise
        return [Finding(path.name, f"not a complete shard ({error})")]


def _damaged_rows(file: h5py.File, name: str, columns: tuple[spec.Column, ...]) -> list[Finding]:
    stated = file["crc32"][:]
    datasets = [file[column.name] for column in columns]
    damaged = [
        row
        for row in range(len(stated))
        if spec.row_crc32(np.asarray(dataset[row], dataset.dtype) for dataset in datasets) != stated[row]
    ]
    if not damaged:
        return []
    samples = tuple(file["sample_id"][row].decode(errors="replace") for row in damaged)
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
    expected = {entry.name: entry.sha256 for entry in index.shards} | dict(index.files)
    for name, sha256 in sorted(expected.items()):
        path = folder / name
        if not path.is_file():
            findings.append(Finding(name, "missing"))
        else:
            findings += _verify_file(path, sha256, rows)
    known = set(expected) | {INDEX_NAME, ".lock"}
    for path in sorted(folder.iterdir()):
        if path.name not in known:
            what = "left by an interrupted write" if path.name.endswith(".tmp") else "not part of the store"
            findings.append(Finding(path.name, what))
    return findings


def _verify_file(path: Path, sha256: str, rows: bool) -> list[Finding]:
    try:
        if sha256_file(path) == sha256:
            return []
        damaged = verify_shard(path, rows=rows) if path.suffix == ".h5" else []
    except (OSError, StoreError) as error:
        return [Finding(path.name, f"cannot be read ({error})")]
    return damaged or [Finding(path.name, "not the bytes that the index describes")]
