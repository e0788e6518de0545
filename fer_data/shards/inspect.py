"""The content of a store or a shard, as a value that can be printed or turned into JSON."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from aupipe.fer_data.errors import SchemaVersionError, StoreError, paragraph
from aupipe.fer_data.shards import spec
from aupipe.fer_data.shards.index import ShardEntry, StoreIndex, load_index
from aupipe.fer_data.shards.structure import UNREADABLE, foreign_faults
from aupipe.fer_data.types import SPLITS
from aupipe.fer_data.wrong_path import is_shard
from aupipe.fer_display.tables import aligned

_BAR = 12
_EIGHTHS = " ▏▎▍▌▋▊▉"
_WIDE = 96
FEW_ROWS = 100
"""Rows of a split below which an accuracy has a standard error of 5 points or more."""

_TOO_FEW = ("an accuracy measured on them has a standard error of up to {:.0f} points", "too few to learn from")
"""What is wrong with so few faces to measure on, and to train on."""


@dataclass(frozen=True)
class Inspection:
    """Lines for a person, ``more`` for one who asks for all, and an object for a machine."""

    lines: tuple[str, ...]
    content: dict[str, Any]
    more: tuple[str, ...] = ()


def inspect_path(path: Path) -> Inspection:
    """Describe a store (a folder) or one shard (a file).

    A store whose shards are missing or damaged is described as well, and says so. Raises :class:`StoreError` when there
    is no store, or the shard cannot be read.
    """
    return _inspect_shard(path) if is_shard(path) else _inspect_store(path)


def _inspect_store(folder: Path) -> Inspection:
    index = load_index(folder)
    states = {entry.name: _state(folder, entry) for entry in index.shards}
    datasets = _store_datasets(index, [entry for entry in index.shards if states[entry.name] == "present"])
    lines = [
        f"store {folder}",
        f"  samples   {sum(map(index.rows, index.splits))} of {index.total}, "
        f"{sum(entry.with_map for entry in index.shards)} with a map",
        f"  images    {index.image_size} x {index.image_size} RGB, {index.encoding}",
        f"  maps      {index.map_size} x {index.map_size}, codebook {index.codebook.get('name', '')}",
        *_histogram(index),
        *_section("left out", {reason: str(count) for reason, count in index.failed.items()} or {"none": ""}),
        *_warnings(index, states),
    ]
    more = [
        *_section(
            "digests", {"store": index.digest, "codebook": index.codebook_digest, "schema": index.schema_version}
        ),
        *_section("channels", {"mean": _numbers(index.channel_mean), "deviation": _numbers(index.channel_std)}),
        *_section("configuration", flat_content(index.config)),
        *_section("provenance", flat_content(index.provenance)),
        *_shard_tree(index, states, datasets),
    ]
    content = {**index.as_json(), "encoding": index.encoding, "datasets": datasets, "states": states}
    return Inspection(tuple(lines), content, tuple(more))


def _warnings(index: StoreIndex, states: Mapping[str, str]) -> list[str]:
    """Warn of damaged files, and of splits from which little can be learned or told."""
    found = [f"{name} is {state}" for name, state in states.items() if state != "present"]
    for split in SPLITS:
        rows, absent = index.rows(split), [name for name, count in index.label_counts(split).items() if not count]
        if not rows:
            found.append(f"there is no {split} split")
        elif absent and len(absent) < len(index.classes):
            found.append(f"{split} has no {', no '.join(absent)}")
        if 0 < rows < FEW_ROWS:
            found.append(f"{split} has {_faces(rows)}: {_TOO_FEW[split == 'train'].format(50 / rows**0.5)}")
    return ["", *(f"  WARN: {one}" for one in found)] if found else []


def _faces(count: int) -> str:
    return "1 face" if count == 1 else f"{count} faces"


def _state(folder: Path, entry: ShardEntry) -> str:
    path = folder / entry.name
    if not path.is_file():
        return "missing"
    size = path.stat().st_size
    return "present" if size == entry.bytes else f"damaged: {size} bytes where the index says {entry.bytes}"


def _store_datasets(index: StoreIndex, entries: Sequence[ShardEntry]) -> dict[str, dict[str, Any]]:
    """Datasets over all shards, their lengths and bytes added up as the index says: no shard is opened.

    The length of JPEG files is not in the index, and is None.
    """
    told, found = spec.descriptions(), dict[str, tuple[np.dtype, tuple[int, ...]]]()
    lengths = Counter[str]()
    for entry in entries:
        later, sizes = spec.later_in(entry.offsets), (index.image_size, index.map_size, index.id_bytes)
        for name, (dtype, shape) in spec.datasets(index.encoding, entry.rows, *sizes, later).items():
            found[name] = dtype, shape
            lengths[name] += shape[0]
    return {
        name: {
            "shape": [None if name == "image_jpeg" else lengths[name], *shape[1:]],
            "dtype": str(dtype),
            "bytes": None if name == "image_jpeg" else lengths[name] * math.prod(shape[1:]) * dtype.itemsize,
            "units": told[name][1],
            "long_name": told[name][0],
        }
        for name, (dtype, shape) in sorted(found.items())
    }


def _inspect_shard(path: Path) -> Inspection:
    attributes, datasets = _shard(path)
    shown = flat_content(attributes)
    lines = [f"shard {path.name}  {path.stat().st_size / 1e6:.1f} MB", *_section("attributes", shown), ""]
    lines += ["  datasets", *(f"    {line}" for line in _tree(datasets))]
    return Inspection(tuple(lines), {"attributes": attributes, "datasets": datasets})


def _shard(path: Path) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """A shard's attributes and datasets; what the format's own datasets are is known without the file."""
    told = spec.descriptions()
    try:
        with h5py.File(path, "r", locking=False) as file:
            spec.check_version(str(file.attrs["schema_version"]), path)
            if faults := foreign_faults(file.id):
                raise ValueError("; ".join(faults[:3]))
            attributes = {name: _plain(value) for name, value in file.attrs.items()}
            datasets = {
                name: {
                    "shape": list(dataset.shape),
                    "dtype": str(dataset.dtype),
                    "bytes": int(dataset.nbytes),
                    "units": told[name][1] if name in told else _plain(dataset.attrs.get("units", "")),
                    "long_name": told[name][0] if name in told else _plain(dataset.attrs.get("long_name", "")),
                }
                for name, dataset in file.items()
                if not dataset.is_scale
            }
    except UNREADABLE as error:
        if isinstance(error, SchemaVersionError):
            raise
        raise StoreError(
            paragraph(f"{path} is not a shard that can be read.", expected="an HDF5 shard or a store folder", got=error)
        ) from error
    return attributes, datasets


def _histogram(index: StoreIndex) -> list[str]:
    """Rows by class, a column of counts and bars for each split; bars are relative to the split's largest class."""
    counts = {split: index.label_counts(split) for split in index.splits}
    wide = max((len(name) for name in (*index.classes, "class")), default=0) + 2
    lines = ["", f"  {'class':<{wide}}" + "".join(f"{split:>8} {'':<{_BAR}}" for split in counts).rstrip()]
    for name in index.classes:
        cells = [f"{by[name]:>8} {_bar(by[name] / max(*by.values(), 1)):<{_BAR}}" for by in counts.values()]
        lines.append(f"  {name:<{wide}}" + "".join(cells).rstrip())
    totals = "".join(f"{index.rows(split):>8} {'':<{_BAR}}" for split in counts).rstrip()
    return [*lines, f"  {'all':<{wide}}{totals}"]


def _bar(share: float) -> str:
    """A bar of block characters, to an eighth of one.

    >>> _bar(1.0), _bar(0.25), _bar(0.001), _bar(0.0)
    ('████████████', '███', '▏', '')
    """
    eighths = max(round(share * _BAR * 8), 1 if share > 0 else 0)
    return ("█" * (eighths // 8) + _EIGHTHS[eighths % 8]).rstrip()


def _shard_tree(index: StoreIndex, states: Mapping[str, str], datasets: Mapping[str, dict[str, Any]]) -> list[str]:
    lines = ["", f"  shards    {sum(entry.bytes for entry in index.shards) / 1e6:.1f} MB"]
    for number, entry in enumerate(index.shards):
        branch = "└─" if number == len(index.shards) - 1 else "├─"
        state = "" if states[entry.name] == "present" else f"  {states[entry.name].upper()}"
        size = f"{entry.rows:>7} rows {entry.bytes / 1e6:>9.1f} MB"
        lines.append(f"    {branch} {entry.name:<16}{size}  sha256 {entry.sha256[:16]}{state}")
    if not datasets:
        return lines
    return [*lines, "", "  datasets, over all shards", *(f"    {line}" for line in _tree(datasets))]


def _tree(datasets: Mapping[str, Mapping[str, Any]]) -> list[str]:
    lines = []
    for number, (name, about) in enumerate(datasets.items()):
        branch = "└─" if number == len(datasets) - 1 else "├─"
        shape = " x ".join("?" if side is None else str(side) for side in about["shape"])
        units = f" [{about['units']}]" if about["units"] not in ("", "1") else ""
        size = "?" if about["bytes"] is None else _size(about["bytes"])
        lines.append(f"{branch} {name:<13}{shape:<22}{about['dtype']:<9}{size:>9}  {about['long_name']}{units}")
    return lines


def _size(count: int) -> str:
    """Bytes with a unit.

    >>> _size(512), _size(46_714_208)
    ('512 B', '46.7 MB')
    """
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count} B"


def _section(title: str, values: Mapping[str, str]) -> list[str]:
    return ["", f"  {title}", *aligned(list(values.items()), indent=4)] if values else []


def flat_content(content: Mapping[str, Any]) -> dict[str, str]:
    """Flatten a nested mapping to one of dotted names; long values are cut short."""
    return {name: _short(text) for name, text in _flat(content).items()}


def other_options(asked: Mapping[str, Any], was: Mapping[str, Any]) -> tuple[str, str]:
    """Name the options that differ, as they are asked for and as they were; empty where none does."""
    flat = _flat(asked), _flat(was)
    unlike = sorted(name for name in flat[0].keys() | flat[1].keys() if flat[0].get(name) != flat[1].get(name))
    first, second = (", ".join(f"{name} {_short(one.get(name, 'none'))}" for name in unlike) for one in flat)
    return first, second


def _flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, value in content.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
            flat[f"{prefix}{name}"] = text
    return flat


def _short(text: str) -> str:
    return text if len(text) <= _WIDE else f"{text[: _WIDE - 1]}…"


def _numbers(values: Sequence[float]) -> str:
    return " ".join(f"{value:.3f}" for value in values)


def _plain(value: Any) -> Any:
    """The value of an attribute as JSON knows it; what it does not know as text."""
    plain = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(plain, list):
        return [_plain(one) for one in plain]
    return plain if isinstance(plain, str | int | float) else str(plain)
