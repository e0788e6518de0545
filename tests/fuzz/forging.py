"""Files that are wrong inside and right by every checksum: what somebody who means it would make.

A forgery changes a shard or a landmark part in the folder it works in, and then everything that speaks of its bytes:
row checksums, the index and its digest, landmarks.json. Of a torch file it makes another one that torch can read.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import zlib
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import h5py
import numpy as np
import torch

from aupipe.fer_data.files import digest
from aupipe.fer_data.recorded import DIGESTS
from aupipe.fer_data.shards.index import load_index, save_index
from aupipe.fer_data.shards.spec import rows_crc32, tail_columns
from fuzz.mutations import BYTES, Mutation

Forgery = Callable[[Path, Random], None]
Edit = Callable[[h5py.File, Random], None]

SECRET = "secret.h5"
"""A file beside the store that no forged shard may make anybody read."""


# --- HDF5 ---


def _dataset(file: h5py.File, rng: Random) -> str:
    return rng.choice(sorted(name for name in file if isinstance(file[name], h5py.Dataset) and file[name].ndim))


def _again(file: h5py.File, name: str, make: Callable[[np.ndarray], None]) -> None:
    values, attributes = file[name][:], dict(file[name].attrs)
    del file[name]
    make(values)
    if name in file and isinstance(file.get(name, getlink=True), h5py.HardLink):
        for key in ("long_name", "units"):
            if key in attributes:
                file[name].attrs[key] = attributes[key]


def _external_link(file: h5py.File, rng: Random) -> None:
    name = _dataset(file, rng)
    _again(
        file, name, lambda values: file.__setitem__(name, h5py.ExternalLink(str(Path(SECRET).resolve()), f"/{name}"))
    )


def _soft_link(file: h5py.File, rng: Random) -> None:
    name = _dataset(file, rng)
    target = rng.choice(("/nowhere", f"/{name}", "/", "/label"))
    _again(file, name, lambda values: file.__setitem__(name, h5py.SoftLink(target)))


def _virtual(file: h5py.File, rng: Random) -> None:
    name = _dataset(file, rng)

    def make(values: np.ndarray) -> None:
        layout = h5py.VirtualLayout(values.shape, values.dtype)
        layout[:] = h5py.VirtualSource(str(Path(SECRET).resolve()), name, values.shape)
        file.create_virtual_dataset(name, layout)

    _again(file, name, make)


def _external_storage(file: h5py.File, rng: Random) -> None:
    name = _dataset(file, rng)
    place = [(str(Path(SECRET).resolve()), 0, h5py.h5f.UNLIMITED)]
    _again(file, name, lambda values: file.create_dataset(name, values.shape, values.dtype, external=place) and None)


def _shape(file: h5py.File, rng: Random) -> None:
    name = _dataset(file, rng)

    def make(values: np.ndarray) -> None:
        file[name] = rng.choice(
            (values[:0], values[..., None], values[1:], np.concatenate([values, values]), values.ravel())
        )

    _again(file, name, make)


def _dtype(file: h5py.File, rng: Random) -> None:
    name = _dataset(file, rng)
    kinds = ["<i8", "<f8", "S4", "<u2", ">f4", "<c8", "?"]
    _again(file, name, lambda values: file.__setitem__(name, np.ones(values.shape, rng.choice(kinds))))


def _text(file: h5py.File, rng: Random) -> None:
    name = _dataset(file, rng)
    kind = h5py.string_dtype()
    _again(file, name, lambda values: file.create_dataset(name, data=["x" * 9] * len(values), dtype=kind) and None)


def _gigantic(file: h5py.File, rng: Random) -> None:
    """Nothing is stored; a reader that believes the shape asks for terabytes."""
    name = _dataset(file, rng)
    _again(
        file,
        name,
        lambda values: (
            file.create_dataset(name, (10**9, *values.shape[1:]), values.dtype, chunks=(1, *values.shape[1:])) and None
        ),
    )


def _packed(file: h5py.File, rng: Random) -> None:
    name = _dataset(file, rng)
    _again(file, name, lambda values: file.create_dataset(name, data=values, compression="gzip") and None)


def _gone(file: h5py.File, rng: Random) -> None:
    del file[_dataset(file, rng)]


def _group(file: h5py.File, rng: Random) -> None:
    name = _dataset(file, rng)
    _again(file, name, lambda values: file.create_group(name) and None)


def _attribute(file: h5py.File, rng: Random) -> None:
    name = rng.choice(sorted(file.attrs))
    odd: Any = rng.choice(
        (None, 7, "", "{", "[" * 3000, np.nan, np.zeros(3), h5py.Empty("f"), "99.0", b"\xff", np.zeros((0,)))
    )
    del file.attrs[name]
    if odd is not None:
        file.attrs[name] = odd


def _values(names: tuple[str, ...], odd: tuple[Any, ...]) -> Edit:
    def edit(file: h5py.File, rng: Random) -> None:
        name = rng.choice([name for name in names if name in file])
        values = file[name][:]
        values[rng.randrange(len(values))] = rng.choice(odd)
        file[name][:] = values

    return edit


FILE_EDITS: dict[str, Edit] = {
    "an external link": _external_link,
    "a soft link": _soft_link,
    "a virtual dataset": _virtual,
    "external storage": _external_storage,
    "another shape": _shape,
    "another type": _dtype,
    "text of any length": _text,
    "a gigantic dataset": _gigantic,
    "a compressed dataset": _packed,
    "a dataset gone": _gone,
    "a group instead": _group,
    "an odd attribute": _attribute,
}
SHARD_EDITS = FILE_EDITS | {
    "a label out of range": _values(("label",), (3, 200, 255)),
    "NaN": _values(("landmarks", "to_source"), (np.nan, np.inf, -np.inf)),
    "a switch of 7": _values(("has_map",), (7, 255)),
    "a name of no text": _values(("sample_id",), (b"", b"\xff\xfe", b"\x80")),
}
PART_EDITS = FILE_EDITS | {
    "an unknown reason": _values(("reason",), (99, 255)),
    "NaN": _values(("landmarks", "pose", "score"), (np.nan, np.inf, -np.inf)),
    "a name of no text": _values(("sample_id", "path", "source_sha256"), (b"", b"\xff\xfe", b"\x80")),
    "a size of less than nothing": _values(("source_size",), (-1, 0, 2**31 - 1)),
}


def forge_shard(name: str, path: Path, rng: Random) -> None:
    """Edit a shard, and make its row checksums, its index entry and the index's digest right again."""
    with h5py.File(SECRET, "w") as secret, h5py.File(path, "r") as shard:
        for key in shard:
            if isinstance(shard[key], h5py.Dataset):
                secret[key] = shard[key][()]
    index = load_index(path.parent)
    with h5py.File(path, "r+") as file:
        SHARD_EDITS[name](file, rng)
        _right_rows(file, index.image_size, index.map_size, index.id_bytes)
        offsets = {key: _offset(file, key) for key in next(e for e in index.shards if e.name == path.name).offsets}
    data = path.read_bytes()
    entries = tuple(
        replace(entry, bytes=len(data), sha256=hashlib.sha256(data).hexdigest(), offsets=offsets)
        if entry.name == path.name
        else entry
        for entry in index.shards
    )
    (path.parent / "index.json").unlink()
    save_index(path.parent, replace(index, shards=entries))


def _offset(file: h5py.File, name: str) -> int:
    try:
        return int(file[name].id.get_offset() or 0)
    except (KeyError, AttributeError, OSError, RuntimeError):
        return 4096


def _right_rows(file: h5py.File, image: int, map_size: int, id_bytes: int) -> None:
    """Where the columns can still be read as they should be, the checksums of the rows."""
    try:
        if any(isinstance(one := file.get(name), h5py.Dataset) and one.size > 10**6 for name in file):
            return  # it would take minutes
        images = file["image"][:] if "image" in file else _jpegs(file)
        file["crc32"][:] = rows_crc32(
            images, [file[column.name][:] for column in tail_columns(image, map_size, id_bytes)]
        )
    except (KeyError, ValueError, TypeError, OSError, RuntimeError, AttributeError, MemoryError):
        return


def _jpegs(file: h5py.File) -> list[np.ndarray]:
    offsets = file["image_offset"][:]
    return [file["image_jpeg"][begin:end] for begin, end in pairwise(offsets)]


def forge_part(name: str, path: Path, rng: Random) -> None:
    """Edit a landmark part, and make its own checksum and what landmarks.json says of it right again."""
    with h5py.File(SECRET, "w") as secret, h5py.File(path, "r") as part:
        for key in part:
            secret[key] = part[key][()]
    with h5py.File(path, "r+") as file:
        PART_EDITS[name](file, rng)
        _right_part(file)
    report = path.parents[1] / "landmarks.json"
    content = json.loads(report.read_text())
    content["part_digests"][path.name]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    report.write_text(json.dumps(content))


def _right_part(file: h5py.File) -> None:
    try:
        if any(isinstance(one := file.get(name), h5py.Dataset) and one.size > 10**6 for name in file):
            return  # it would take minutes
        crc = zlib.crc32((str(file.attrs["plan_digest"]) + str(file.attrs["config"])).encode())
        for key in sorted(file):
            crc = zlib.crc32(np.ascontiguousarray(file[key][:]).tobytes(), crc)
        file.attrs["crc32"] = crc
    except (KeyError, ValueError, TypeError, OSError, RuntimeError, AttributeError, MemoryError):
        return


def make_right(path: Path) -> None:
    """Make right what is recorded of a changed file: the digest within an index, or the one beside a run's file."""
    if path.name == "index.json":
        try:
            content = json.loads(path.read_bytes())
            rest = {key: value for key, value in content.items() if key != "digest"}
            content["digest"] = digest(rest)
        except (ValueError, AttributeError, RecursionError):  # no index at all
            return
        path.write_text(json.dumps(content, sort_keys=True, indent=1) + "\n")
    record = path.parent / DIGESTS
    if record.is_file() and path.name in (known := json.loads(record.read_text())):
        record.write_text(json.dumps({**known, path.name: [hashlib.sha256(path.read_bytes()).hexdigest()]}))


# --- torch files ---


class _Harmful:
    """What a pickle may ask for: a file in the folder that is worked in."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("harmed"),)


def _torch(change: Callable[[Any, Random], Any]) -> Mutation:
    def mutate(data: bytes, rng: Random, twin: bytes) -> bytes:
        content = torch.load(io.BytesIO(data), weights_only=True)
        file = io.BytesIO()
        torch.save(change(content, rng), file)
        return file.getvalue()

    return mutate


def _tensors(content: Any) -> list[tuple[Any, Any]]:
    if not isinstance(content, dict):
        return []
    inner = [(content, key) for key, value in content.items() if isinstance(value, torch.Tensor)]
    return inner + [place for value in content.values() for place in _tensors(value)]


def _odd_tensor(content: Any, rng: Random) -> Any:
    container, key = rng.choice(_tensors(content))
    value = container[key]
    container[key] = rng.choice(
        (
            value[..., None],
            value.flatten()[:0],
            value.to(torch.complex64),
            value.to(torch.float64),
            "text",
            3,
            None,
            value.to_sparse(),
            torch.zeros(1).expand(10**6),
            value.to(torch.int8),
        )
    )
    return content


def _not_finite(content: Any, rng: Random) -> Any:
    floats = [(c, key) for c, key in _tensors(content) if c[key].is_floating_point()]
    container, key = rng.choice(floats)
    container[key] = torch.full_like(container[key], rng.choice((float("nan"), float("inf"))))
    return content


def _key_gone(content: Any, rng: Random) -> Any:
    container = rng.choice([content, *(value for value in content.values() if isinstance(value, dict) and value)])
    del container[rng.choice(sorted(container, key=str))]
    return content


def _plain_value(content: Any, rng: Random) -> Any:
    plain = [key for key, value in content.items() if not isinstance(value, torch.Tensor)] or list(content)
    content[rng.choice(plain)] = rng.choice((None, -1, 10**30, "text", [], {}, float("nan"), [[1]], torch.zeros(3)))
    return content


def _other(content: Any, rng: Random) -> Any:
    deep: Any = []
    for _ in range(50):
        deep = [deep]
    return rng.choice(
        (None, 3, "text", [], {}, deep, {"model": {}}, {"model": None}, [content], {1: 2}, torch.zeros(3))
    )


PT = {
    **BYTES,
    "an odd tensor": _torch(_odd_tensor),
    "not finite": _torch(_not_finite),
    "a key gone": _torch(_key_gone),
    "a plain value": _torch(_plain_value),
    "another content": _torch(_other),
    "code": _torch(lambda content, rng: {**content, "x": _Harmful()}),
    "a bare pickle": lambda data, rng, twin: pickle.dumps(_Harmful()),
}
