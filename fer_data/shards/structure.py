"""The structure of a shard's file, checked before anything in it is used.

HDF5 can make a dataset of other files: through external links, external storage, virtual datasets. A shard has nothing
of the kind: each dataset lies in the file itself, in one piece, with the type and shape that the format gives it.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np
from h5py import h5d, h5l, h5o

from aupipe.fer_data.errors import SchemaVersionError, StoreError, paragraph
from aupipe.fer_data.shards import spec
from aupipe.fer_data.shards.index import ShardEntry, StoreIndex

UNREADABLE = (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError)
"""What HDF5 and NumPy raise where a file is not a shard."""


def check_shard(path: Path, entry: ShardEntry, index: StoreIndex) -> None:
    """Raise :class:`StoreError` unless a file is the shard that the index describes, as far as its structure says."""
    try:
        with h5py.File(path, "r", locking=False) as file:
            spec.check_version(str(file.attrs["schema_version"]), entry.name)
            plan = str(file.attrs["plan_digest"])
            expected = spec.datasets(
                index.encoding, entry.rows, index.image_size, index.map_size, index.id_bytes, entry.offsets
            )
            faults = [] if plan != entry.plan_digest else structure_faults(file, expected, entry.offsets)
            faults = faults or later_faults(file)
    except UNREADABLE as error:
        if isinstance(error, SchemaVersionError):
            raise
        faults, plan = [f"it cannot be read as one ({error})"], entry.plan_digest
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
    if faults:
        raise StoreError(
            paragraph(
                f"The shard {entry.name} is not built as a shard is, so nothing was read from it.",
                where=path.parent,
                got="; ".join(faults[:3]),
                fix="Run `aupipe verify` on the store. If others gave it to you, ask them for a sound copy.",
            )
        )


def structure_faults(
    file: h5py.File, expected: Mapping[str, tuple[np.dtype, tuple[int, ...]]], offsets: Mapping[str, int]
) -> list[str]:
    """List what is wrong with the structure of a shard.

    Args:
        file: The shard, open.
        expected: Type and shape of each dataset; -1 stands for any length.
        offsets: Byte at which datasets must begin, for those whose place is known.
    """
    size = file.id.get_filesize()
    faults = []
    for name, (dtype, shape) in expected.items():
        dataset, fault = _open_dataset(file, name.encode(), size)
        if dataset is not None:
            found = dataset.shape if -1 not in shape else shape[: len(dataset.shape)]
            if (dataset.dtype, found) != (dtype, shape):
                fault = f"is {dataset.dtype} {dataset.shape} where {dtype} {shape} is expected"
            elif dataset.get_offset() != offsets.get(name, dataset.get_offset()):
                fault = "lies elsewhere in the file than the index says"
        if fault:
            faults.append(f"the dataset {name} {fault}")
    return faults


def later_faults(file: h5py.File) -> list[str]:
    """Compare the datasets over which no row checksum runs with their own; the structure must be sound."""
    present = [name for name in spec.LATER if name in file]
    wrong = [name for name in present if zlib.crc32(file[name][:].tobytes()) != int(file[name].attrs["crc32"])]
    return [f"the dataset {name} does not match its checksum" for name in wrong]


def foreign_faults(file: h5py.File) -> list[str]:
    """List the names of a shard's root that lead out of the file, or are no dataset in one piece: known or not."""
    size = file.id.get_filesize()
    found = [(name, _open_dataset(file, name, size)[1]) for name in file.id]
    return [f"the dataset {name.decode(errors='replace')} {fault}" for name, fault in found if fault]


def value_fault(name: str, values: np.ndarray, classes: int) -> str:
    """Say what a column holds that no store may hold; empty where there is nothing of the kind."""
    limits = {"label": classes, "has_map": 2}
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


def _open_dataset(file: h5py.File, name: bytes, size: int) -> tuple[h5d.DatasetID | None, str]:
    """Open a dataset that lies in the file itself, in one piece; else None and what is wrong."""
    if not file.id.links.exists(name):
        return None, "is missing"
    if file.id.links.get_info(name).type != h5l.TYPE_HARD:
        return None, "is a link to somewhere else"
    found = h5o.open(file.id, name)
    if not isinstance(found, h5d.DatasetID):
        return None, "is a group or a type"
    made = found.get_create_plist()
    if made.get_layout() != h5d.CONTIGUOUS or made.get_external_count() or made.get_nfilters():
        return None, "is not one piece of the file itself"
    start = found.get_offset()
    if start is None or start + found.dtype.itemsize * int(np.prod(found.shape, dtype=object)) > size:
        return None, "ends beyond the file"
    return found, ""
