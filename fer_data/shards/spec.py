"""What is in a shard: every dataset's name, type, shape, dimensions and meaning, in one table."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, UInt8

from fer_data.errors import SchemaVersionError, paragraph

SCHEMA_VERSION = "1.0"
"""``major.minor``: a reader accepts its own major version only; minor versions add optional content."""


@dataclass(frozen=True)
class Column:
    """One dataset of a shard; ``shape`` and ``dims`` without the leading ``sample`` dimension."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    dims: tuple[str, ...]
    long_name: str
    units: str = "1"
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TripletRow:
    """One sample of the store.

    image (s, s, 3) RGB uint8; au_map (m, m) uint8, 255 = 1.0; landmarks (68, 2) float32 in crop pixels; to_source
    (2, 3) float64 maps crop pixels to pixels of the source photo.
    """

    sample_id: str
    label: int
    image: UInt8[np.ndarray, "s s 3"]
    au_map: UInt8[np.ndarray, "m m"]
    has_map: bool
    landmarks: Float32[np.ndarray, "68 2"]
    to_source: Float64[np.ndarray, "2 3"]


@dataclass(frozen=True)
class ShardHeader:
    """What every shard says about itself, as HDF5 attributes of the root."""

    split: str
    classes: tuple[str, ...]
    image_size: int
    map_size: int
    plan_digest: str
    codebook_name: str
    codebook_digest: str
    config_json: str
    software_json: str
    id_bytes: int


def columns(image_size: int, map_size: int, id_bytes: int) -> tuple[Column, ...]:
    """Every dataset that carries sample data, in the order in which the row checksum runs over them."""
    return (
        Column("image", "u1", (image_size, image_size, 3), ("y", "x", "channel"), "aligned face crop, RGB"),
        Column("label", "u1", (), (), "expression label: index into the attribute `classes`"),
        Column(
            "au_map", "u1", (map_size, map_size), ("map_y", "map_x"),
            "action units of the labelled expression, drawn on the crop", attributes={"scale_factor": 1 / 255},
        ),
        Column("has_map", "u1", (), (), "1 where au_map is meaningful, 0 where the expression has no action units"),
        Column("landmarks", "<f4", (68, 2), ("landmark", "xy"), "iBUG-68 landmarks in the crop, (x, y)", "pixel"),
        Column("to_source", "<f8", (2, 3), ("row", "column"), "crop to source pixels: out = M[:, :2] p + M[:, 2]"),
        Column("sample_id", f"S{id_bytes}", (), (), "sample id of the manifest, UTF-8"),
    )  # fmt: skip


def row_values(row: TripletRow) -> dict[str, Any]:
    """A row's value for each column of :func:`columns`."""
    return {
        "image": row.image,
        "label": row.label,
        "au_map": row.au_map,
        "has_map": int(row.has_map),
        "landmarks": row.landmarks,
        "to_source": row.to_source,
        "sample_id": row.sample_id.encode(),
    }


def row_crc32(values: Iterable[np.ndarray]) -> int:
    """CRC-32 over the bytes of a row's values, in column order, as they lie in the file (little-endian)."""
    crc = 0
    for value in values:
        crc = zlib.crc32(np.ascontiguousarray(value).tobytes(), crc)
    return crc


def check_version(version: str, where: object) -> None:
    """Raise :class:`SchemaVersionError` unless ``version`` has this reader's major number."""
    if version.split(".")[0] != SCHEMA_VERSION.split(".")[0]:
        raise SchemaVersionError(
            paragraph(
                "The store was written in another schema version.",
                where=where,
                expected=f"schema {SCHEMA_VERSION.split('.')[0]}.x",
                got=f"schema {version}",
                fix="Build it again with this version's `aupipe build-maps`, or read it with the one that wrote it.",
            )
        )
