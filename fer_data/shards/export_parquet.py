"""A store as Parquet files, with images and classes as the Hugging Face ``datasets`` library knows them.

A file for each shard, ``SPLIT-00000-of-00004.parquet``, with these columns; those that an older store lacks are left
out. ``au_map`` is null where the row has none.

``image``, ``au_map``: the encoded file and its name, ``{bytes, path}``: ``Image`` features. ``label``: ``ClassLabel``.
``sample_id``, ``split``, ``group``: text. ``landmarks`` 68 x 2, ``to_source`` 2 x 3, ``pose`` 3, ``au_weight`` 99 x 2
(255 = 1.0), ``au_source``: as in the store.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from aupipe.fer_data.errors import StoreError, paragraph
from aupipe.fer_data.files import atomic_path, canonical_json
from aupipe.fer_data.parquet_library import load_pyarrow
from aupipe.fer_data.shards import SplitReader, Store
from aupipe.fer_data.shards.exported_files import export_by_shard, image_file, image_suffix, map_file
from aupipe.fer_data.types import Progress

ROWS_PER_GROUP = 128
"""Rows in memory at once; also what readers take in one piece."""

TEXTS = ("sample_id", "split", "group")
FILES = ("image", "au_map")
ARRAYS: Mapping[str, tuple[str, tuple[int, ...]]] = {
    "landmarks": ("float32", (68, 2)),
    "to_source": ("float64", (2, 3)),
    "pose": ("float32", (3,)),
    "au_weight": ("uint8", (99, 2)),
    "au_source": ("uint8", ()),
}
"""Type and shape of a row's value."""


def load_library() -> ModuleType:
    """Load pyarrow. Raises :class:`UserInputError` when it is not installed."""
    return load_pyarrow("--to webdataset and --to folder need nothing")


def export_parquet(store: Store, out: Path, progress: Progress) -> tuple[str, ...]:
    """Write every row of a store; files that are there already are kept, once their rows were counted."""
    arrow = load_library()
    return export_by_shard(
        store,
        out,
        progress,
        name=lambda split, number, count: f"{split}-{number:05d}-of-{count:05d}.parquet",
        write=partial(_write_file, arrow),
        count=partial(_rows_in, arrow),
    )


def present_columns(reader: SplitReader) -> tuple[str, ...]:
    """List the columns of a split's files, in order: stores of earlier formats lack some."""
    later = {"pose": reader.pose, "au_weight": reader.au_weight, "au_source": reader.au_source}
    names = ("image", "label", "au_map", *TEXTS, *ARRAYS)
    return tuple(name for name in names if later.get(name, name) is not None)


def features(names: tuple[str, ...], classes: tuple[str, ...]) -> dict[str, Any]:
    """Describe columns as the ``datasets`` library does."""
    described: dict[str, Any] = {"label": {"names": list(classes), "_type": "ClassLabel"}}
    described |= {name: {"_type": "Image"} for name in FILES}
    described |= {name: {"dtype": "string", "_type": "Value"} for name in TEXTS}
    for name, (dtype, shape) in ARRAYS.items():
        feature: dict[str, Any] = {"dtype": dtype, "_type": "Value"}
        for length in reversed(shape):
            feature = {"feature": feature, "length": length, "_type": "Sequence"}
        described[name] = feature
    return {name: described[name] for name in names}


def _write_file(arrow: ModuleType, path: Path, reader: SplitReader, rows: range) -> None:
    names = present_columns(reader)
    schema = _schema(arrow, names, reader.store.index.classes)
    packed = [f"{name}.bytes" for name in FILES]  # PNG and JPEG need no other compression
    squeezed = {name: "NONE" if name in packed else "ZSTD" for name in _leaves(schema)}
    with (
        atomic_path(path) as temporary,
        arrow.parquet.ParquetWriter(
            temporary, schema, compression=squeezed, use_dictionary=["label", "split", "group", "au_source"]
        ) as writer,
    ):
        for start in range(rows.start, rows.stop, ROWS_PER_GROUP):
            some = range(start, min(start + ROWS_PER_GROUP, rows.stop))
            columns = [_column(arrow, schema.field(name).type, name, reader, some) for name in names]
            writer.write_table(arrow.Table.from_arrays(columns, schema=schema))


def _schema(arrow: ModuleType, names: tuple[str, ...], classes: tuple[str, ...]) -> Any:
    file = arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())])
    kinds: dict[str, Any] = {"label": arrow.int64()}
    kinds |= {**dict.fromkeys(FILES, file), **dict.fromkeys(TEXTS, arrow.string())}
    for name, (dtype, shape) in ARRAYS.items():
        kinds[name] = arrow.from_numpy_dtype(dtype)
        for length in reversed(shape):
            kinds[name] = arrow.list_(kinds[name], length)
    about = {"huggingface": canonical_json({"info": {"features": features(names, classes)}})}
    return arrow.schema([(name, kinds[name]) for name in names], metadata=about)


def _leaves(schema: Any) -> list[str]:
    """List the paths under which Parquet stores the columns' values."""
    leaves = []
    for field in schema:
        if field.name in FILES:
            leaves += [f"{field.name}.bytes", f"{field.name}.path"]
        else:
            leaves.append(field.name + ".list.element" * len(ARRAYS.get(field.name, ("", ()))[1]))
    return leaves


def _column(arrow: ModuleType, kind: Any, name: str, reader: SplitReader, rows: range) -> Any:
    if name in ARRAYS:
        values = getattr(reader, name)[rows.start : rows.stop]
        column = arrow.array(np.ascontiguousarray(values).reshape(-1))
        for length in reversed(values.shape[1:]):
            column = arrow.FixedSizeListArray.from_arrays(column, length)
        return column
    return arrow.array([_value(name, reader, row) for row in rows], kind)


def _value(name: str, reader: SplitReader, row: int) -> Any:
    key = f"{reader.split}-{row:08d}"
    match name:
        case "image":
            return {"bytes": image_file(reader, row), "path": f"{key}.{image_suffix(reader)}"}
        case "au_map":
            return {"bytes": map_file(reader, row), "path": f"{key}.au_map.png"} if reader.has_map[row] else None
        case "label":
            return int(reader.labels[row])
        case "split":
            return reader.split
        case "group":
            return reader.groups[row]
    return reader.sample_ids[row]


def _rows_in(arrow: ModuleType, path: Path) -> int:
    try:
        return int(arrow.parquet.read_metadata(path).num_rows)
    except (arrow.ArrowException, OSError) as error:
        raise StoreError(
            paragraph(f"{path} is not a Parquet file that can be read.", got=error, fix="Delete it and export again.")
        ) from error
