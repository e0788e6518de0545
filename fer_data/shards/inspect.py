"""What a store or a shard holds, as a value that can be printed or turned into JSON."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py

from fer_data.errors import StoreError, paragraph
from fer_data.shards import spec
from fer_data.shards.index import load_index


@dataclass(frozen=True)
class Inspection:
    """Lines for a person and an object for a machine."""

    lines: tuple[str, ...]
    content: dict[str, Any]


def inspect_path(path: Path) -> Inspection:
    """Describe a store (a folder) or one shard (a file).

    Raises :class:`StoreError`.
    """
    return _inspect_store(path) if path.is_dir() else _inspect_shard(path)


def _inspect_store(folder: Path) -> Inspection:
    index = load_index(folder)
    failed = ", ".join(f"{count} {reason}" for reason, count in index.failed.items()) or "none"
    lines = [
        f"store {folder}  schema {index.schema_version}  digest {index.digest[:16]}",
        f"  {sum(map(index.rows, index.splits))} of {index.total} samples; left out: {failed}",
        f"  images {index.image_size} x {index.image_size} RGB, maps {index.map_size} x {index.map_size}",
        f"  codebook {index.codebook['name']} ({index.codebook_digest[:12]})",
        f"  channel mean {index.channel_mean}, std {index.channel_std}",
        "",
        f"  {'class':<12}" + "".join(f"{split:>8}" for split in index.splits),
    ]
    for name in index.classes:
        counts = [
            sum(shard.labels.get(name, 0) for shard in index.shards if shard.split == split) for split in index.splits
        ]
        lines.append(f"  {name:<12}" + "".join(f"{count:>8}" for count in counts))
    lines.append(f"  {'all':<12}" + "".join(f"{index.rows(split):>8}" for split in index.splits))
    lines.append("")
    lines += [f"  {s.name}  {s.rows} rows  {s.bytes / 1e6:.1f} MB  sha256 {s.sha256[:16]}" for s in index.shards]
    return Inspection(tuple(lines), index.as_json())


def _inspect_shard(path: Path) -> Inspection:
    try:
        with h5py.File(path, "r") as file:
            spec.check_version(str(file.attrs["schema_version"]), path)
            attributes = {name: _plain(value) for name, value in file.attrs.items()}
            datasets = {
                name: {
                    "shape": list(dataset.shape),
                    "dtype": str(dataset.dtype),
                    "units": _plain(dataset.attrs.get("units", "")),
                    "long_name": _plain(dataset.attrs.get("long_name", "")),
                }
                for name, dataset in file.items()
                if not dataset.is_scale
            }
    except (OSError, KeyError, AttributeError) as error:
        raise StoreError(
            paragraph(f"{path} is not a shard that can be read.", expected="an HDF5 shard or a store folder", got=error)
        ) from error
    lines = [f"shard {path.name}", ""]
    lines += [f"  {name}: {value}" for name, value in attributes.items()]
    lines.append("")
    for name, about in datasets.items():
        shape = " x ".join(map(str, about["shape"]))
        lines.append(f"  {name:<12}{shape:<22}{about['dtype']:<9}{about['long_name']} [{about['units']}]")
    return Inspection(tuple(lines), {"attributes": attributes, "datasets": datasets})


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else value
