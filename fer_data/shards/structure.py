"""The structure of a shard's file, checked before anything in it is used.

HDF5 can make a dataset of other files: through external links, external storage, virtual datasets. A shard has nothing
of the kind: each dataset lies in the file itself, in one piece, with the type and shape that the format gives it.
"""

from __future__ import annotations

import contextlib
import math
import os
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from h5py import h5a, h5d, h5f, h5l, h5o, h5p

from aupipe.fer_data.action_units.modes import AU_SOURCES
from aupipe.fer_data.errors import SchemaVersionError, StoreError, paragraph
from aupipe.fer_data.shards import spec
from aupipe.fer_data.shards.index import ShardEntry, StoreIndex

UNREADABLE = (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError)
"""What HDF5 and NumPy raise where a file is not a shard."""


class Piece(NamedTuple):
    """A dataset that lies in the file itself, in one piece: its first byte is the ``start`` th."""

    dtype: np.dtype
    shape: tuple[int, ...]
    start: int


def check_shard(path: Path, entry: ShardEntry, index: StoreIndex) -> None:
    """Raise :class:`StoreError` unless a file is the shard that the index describes, as far as its structure says."""
    later = spec.later_in(entry.offsets)
    expected = spec.datasets(index.encoding, entry.rows, index.image_size, index.map_size, index.id_bytes, later)
    try:
        with _opened(path) as file:
            spec.check_version(_text(file, b"schema_version"), entry.name)
            plan = _text(file, b"plan_digest")
            faults = [] if plan != entry.plan_digest else structure_faults(file, expected, entry.offsets)
    except UNREADABLE as error:
        if isinstance(error, SchemaVersionError):
            raise
        faults, plan = [_unreadable(error)], entry.plan_digest
    if plan != entry.plan_digest:
        raise StoreError(
            paragraph(
                f"The shard {entry.name} is not the one that the index describes: another lies under its name.",
                where=path.parent,
                expected=f"plan {entry.plan_digest[:16]}",
                got=f"plan {plan[:16]}",
                fix="Run `aupipe verify` on the store, then `aupipe repair`.",
            )
        )
    _refuse(path, faults)


def check_later(path: Path, name: str) -> None:
    """Raise :class:`StoreError` unless a dataset of :data:`~aupipe.fer_data.shards.spec.LATER` matches its checksum.

    The shard's structure must be sound.
    """
    try:
        with h5py.File(path, "r", locking=False) as file:
            faults = later_faults(file, (name,))
    except UNREADABLE as error:
        faults = [_unreadable(error)]
    _refuse(path, faults)


def _refuse(path: Path, faults: list[str]) -> None:
    if faults:
        raise StoreError(
            paragraph(
                f"The shard {path.name} is not built as a shard is, so nothing was read from it.",
                where=path.parent,
                got="; ".join(faults[:3]),
                fix="Run `aupipe verify` on the store. If others gave it to you, ask them for a sound copy.",
            )
        )


def _unreadable(error: Exception) -> str:
    return f"it cannot be read as one ({error})"


def structure_faults(
    file: h5f.FileID, expected: Mapping[str, tuple[np.dtype, tuple[int, ...]]], offsets: Mapping[str, int]
) -> list[str]:
    """List what is wrong with the structure of a shard.

    Args:
        file: The shard, open. Of HDF5's own objects, because every open of a store waits for this.
        expected: Type and shape of each dataset; -1 stands for any length.
        offsets: Byte at which datasets must begin, for those whose place is known.
    """
    size = file.get_filesize()
    return piece_faults({name: _piece(file, name.encode(), size) for name in expected}, expected, offsets)


def piece_faults(
    found: Mapping[str, Piece | str],
    expected: Mapping[str, tuple[np.dtype, tuple[int, ...]]],
    offsets: Mapping[str, int],
) -> list[str]:
    """List what is wrong with the pieces that were found; see :func:`structure_faults`."""
    faults = []
    for name, (dtype, shape) in expected.items():
        fault = piece = found.get(name, "is missing")
        if not isinstance(piece, str):
            known = piece.shape if -1 not in shape else shape[: len(piece.shape)]
            if (piece.dtype, known) != (dtype, shape):
                fault = f"is {piece.dtype} {piece.shape} where {dtype} {shape} is expected"
            elif piece.start != offsets.get(name, piece.start):
                fault = "lies elsewhere in the file than the index says"
            else:
                continue
        faults.append(f"the dataset {name} {fault}")
    return faults


def later_faults(file: h5py.File, names: Sequence[str]) -> list[str]:
    """Compare datasets over which no row checksum runs with their own; the structure must be sound."""
    wrong = [name for name in names if zlib.crc32(file[name][:].tobytes()) != int(file[name].attrs["crc32"])]
    return [f"the dataset {name} does not match its checksum" for name in wrong]


def foreign_faults(file: h5f.FileID) -> list[str]:
    """List the names of a shard's root that lead out of the file, or are no dataset in one piece: known or not."""
    return foreign_pieces(pieces(file))


def pieces(file: h5f.FileID) -> dict[str, Piece | str]:
    """Find every name of a file's root: a dataset in one piece, or what is wrong with it."""
    size = file.get_filesize()
    return {name.decode(errors="replace"): _piece(file, name, size) for name in file}


def foreign_pieces(found: Mapping[str, Piece | str]) -> list[str]:
    """List those that are no dataset in one piece."""
    return [f"the dataset {name} {fault}" for name, fault in found.items() if isinstance(fault, str)]


def value_fault(name: str, values: np.ndarray, classes: int) -> str:
    """Say what a column holds that no store may hold; empty where there is nothing of the kind."""
    limits = {"label": classes, "has_map": 2, "au_source": len(AU_SOURCES)}
    if name in limits and values.max(initial=0) >= limits[name]:
        return f"{name} {values.max()}, where the largest is {limits[name] - 1}"
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        return f"numbers in {name} that are not finite"
    if values.dtype.kind == "S":
        return _text_fault(name, values.tolist(), unique=name == "sample_id")
    return ""


def _text_fault(name: str, texts: list[bytes], *, unique: bool) -> str:
    try:
        b"\0".join(texts).decode()
    except UnicodeDecodeError as error:
        return f"a {name} that is not UTF-8 ({error.reason})"
    if unique and len(set(texts)) < len(texts):
        twice = next(text for text, count in Counter(texts).items() if count > 1)
        return f"the {name} {twice.decode()!r} twice"
    return "" if all(texts) else f"an empty {name}"


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[h5f.FileID]:
    """Open a file as ``h5py.File(path, "r", locking=False)`` does, in half its time."""
    access = h5p.create(h5p.FILE_ACCESS)
    access.set_file_locking(False, ignore_when_disabled=False)
    access.set_fclose_degree(h5f.CLOSE_STRONG)
    file = h5f.open(os.fsencode(path), h5f.ACC_RDONLY, access)
    try:
        yield file
    finally:
        file.close()


def _piece(file: h5f.FileID, name: bytes, size: int) -> Piece | str:
    """Find a dataset that lies in the file itself, in one piece; else say what is wrong."""
    try:
        link = file.links.get_info(name)
    except KeyError:
        return "is missing"
    if link.type != h5l.TYPE_HARD:
        return "is a link to somewhere else"
    found = h5o.open(file, name)
    if not isinstance(found, h5d.DatasetID):
        return "is a group or a type"
    start, dtype, shape = found.get_offset(), found.dtype, found.shape
    if start is None:  # chunked, compressed, in another file, or never written
        return "is not one piece of the file itself"
    if start + dtype.itemsize * math.prod(shape) > size:
        return "ends beyond the file"
    return Piece(dtype, shape, start)


def _text(of: h5o.ObjectID, name: bytes) -> str:
    """Read an attribute that is one string. Raises one of :data:`UNREADABLE`."""
    text: bytes = attribute(of, name)
    return text.decode()


def attribute(of: h5o.ObjectID, name: bytes) -> Any:
    """Read an attribute that is one value, a string as bytes. Raises one of :data:`UNREADABLE`."""
    stored = h5a.open(of, name)
    if stored.shape:
        raise ValueError(f"the attribute {name.decode()} is not one value")
    value = np.empty((), stored.dtype)
    stored.read(value)
    return value.item()
