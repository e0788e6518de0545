"""The datasets of a shard: name, type, shape, dimensions and meaning of each, in one table."""

from __future__ import annotations

import zlib
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, UInt8, UInt32

from aupipe.fer_data.action_units.modes import AU_SOURCES, SIDES, WIDTH
from aupipe.fer_data.errors import SchemaVersionError, paragraph

SCHEMA_VERSION = "1.4"
"""``major.minor`` of a store whose images are pixels: a reader of any 1.x reads it."""

JPEG_SCHEMA_VERSION = "2.3"
"""``major.minor`` of a store whose images are JPEG: it lacks the dataset that a reader of 1.x needs."""

SCHEMA_VERSIONS = {"raw": SCHEMA_VERSION, "jpeg": JPEG_SCHEMA_VERSION}
"""What is written, by encoding. Read is every minor version of these major ones."""


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
    (2, 3) float64 maps crop pixels to pixels of the source photo. group: the person; empty: nobody else's face. pose
    (3,) float32: yaw, pitch, roll in the source photo, degrees. au_weight (99, 2) uint8, 255 = 1.0: what the map was
    drawn from, by FACS number and side; au_source: the place in
    :data:`~aupipe.fer_data.action_units.modes.AU_SOURCES`.
    """

    sample_id: str
    label: int
    image: UInt8[np.ndarray, "s s 3"]
    au_map: UInt8[np.ndarray, "m m"]
    has_map: bool
    landmarks: Float32[np.ndarray, "68 2"]
    to_source: Float64[np.ndarray, "2 3"]
    group: str = ""
    pose: Float32[np.ndarray, "3"] = field(default_factory=lambda: np.zeros(3, np.float32))
    au_weight: UInt8[np.ndarray, "99 2"] = field(default_factory=lambda: np.zeros((WIDTH, 2), np.uint8))
    au_source: int = 0


@dataclass(frozen=True)
class ShardHeader:
    """The statements of every shard about itself, HDF5 attributes of the root.

    ``crop_digest``: identity of everything but the maps and what they were drawn from: shards that agree in it differ
    in these only.
    ``jpeg_quality`` matters where ``encoding`` is ``jpeg``.
    """

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
    encoding: str = "raw"
    jpeg_quality: int = 95
    crop_digest: str = ""


@lru_cache(maxsize=16)
def columns(image_size: int, map_size: int, id_bytes: int) -> tuple[Column, ...]:
    """List every dataset that carries sample data, in the order in which the row checksum runs over them."""
    return (
        Column("image", "u1", (image_size, image_size, 3), ("y", "x", "channel"), "aligned face crop, RGB"),
        Column("label", "u1", (), (), "expression label: index into the attribute `classes`"),
        Column(
            "au_map", "u1", (map_size, map_size), ("map_y", "map_x"),
            "action units of the label or of the face, drawn on the crop", attributes={"scale_factor": 1 / 255},
        ),
        Column("has_map", "u1", (), (), "1 where au_map is meaningful, 0 where there are no action units"),
        Column("landmarks", "<f4", (68, 2), ("landmark", "xy"), "iBUG-68 landmarks in the crop, (x, y)", "pixel"),
        Column("to_source", "<f8", (2, 3), ("row", "column"), "crop to source pixels: out = M[:, :2] p + M[:, 2]"),
        Column("sample_id", f"S{id_bytes}", (), (), "sample id of the manifest, UTF-8"),
    )  # fmt: skip


LATER = ("group", "pose", "au_weight", "au_source")
"""Datasets that came with a minor version: an earlier shard lacks them, and the row checksum does not run over them."""


def later_in(names: Container[str]) -> tuple[str, ...]:
    """List those of :data:`LATER` that a shard has."""
    return tuple(name for name in LATER if name in names)


def later_columns(id_bytes: int) -> tuple[Column, ...]:
    """Describe the datasets of :data:`LATER`."""
    group = "person, or the sample where the person is unknown: faces of one group are not independent"
    pose = "yaw (positive to image right), pitch (positive down), roll (positive clockwise) in the source photo"
    return (
        Column("group", f"S{id_bytes}", (), (), group),
        Column("pose", "<f4", (3,), ("angle",), pose, "degree"),
        Column(
            "au_weight", "u1", (WIDTH, len(SIDES)), ("au", "side"),
            "weight of each action unit in au_map: the index is its FACS number; the person's left, right",
            attributes={"scale_factor": 1 / 255},
        ),
        Column(
            "au_source", "u1", (), (), "what au_weight comes from",
            attributes={"flag_values": np.arange(len(AU_SOURCES), dtype="u1"), "flag_meanings": " ".join(AU_SOURCES)},
        ),
    )  # fmt: skip


def tail_columns(image_size: int, map_size: int, id_bytes: int) -> tuple[Column, ...]:
    """List :func:`columns` without the image: those that shards of either encoding have in the same form."""
    return columns(image_size, map_size, id_bytes)[1:]


def descriptions(id_bytes: int = 1) -> dict[str, tuple[str, str]]:
    """Return long name and units of every dataset with sample data."""
    known = (*columns(1, 1, id_bytes), *later_columns(id_bytes))
    return {
        **{column.name: (column.long_name, column.units) for column in known},
        "crc32": ("CRC-32 of the row's bytes over all columns", ""),
        "image_jpeg": ("aligned face crops, RGB, one JPEG file after the other", "1"),
        "image_offset": ("where each row's JPEG starts in image_jpeg, and where the last one ends", "byte"),
    }


def dataset_names(encoding: str) -> tuple[str, ...]:
    """List the names of the datasets with sample data, checksums last: those whose offsets are in the index."""
    images = ("image",) if encoding == "raw" else ("image_jpeg", "image_offset")
    return (*images, *(column.name for column in tail_columns(1, 1, 1)), "crc32")


@lru_cache(maxsize=16)
def datasets(
    encoding: str, rows: int, image_size: int, map_size: int, id_bytes: int, present: tuple[str, ...]
) -> Mapping[str, tuple[np.dtype, tuple[int, ...]]]:
    """Return type and shape of each dataset of :func:`dataset_names`, and of the ``present`` ones of :data:`LATER`.

    -1 is a length that the file says.
    """
    described = (*columns(image_size, map_size, id_bytes), *later_columns(id_bytes))
    known = {one.name: (np.dtype(one.dtype), (rows, *one.shape)) for one in described}
    known["crc32"] = np.dtype("<u4"), (rows,)
    known["image_jpeg"], known["image_offset"] = (np.dtype("u1"), (-1,)), (np.dtype("<u8"), (rows + 1,))
    names = [*dataset_names(encoding), *present]
    return {name: known[name] for name in names}


def row_values(row: TripletRow) -> dict[str, Any]:
    """Return a row's value for each column of :func:`columns` and :func:`later_columns`."""
    return {
        "image": row.image,
        "label": row.label,
        "au_map": row.au_map,
        "has_map": int(row.has_map),
        "landmarks": row.landmarks,
        "to_source": row.to_source,
        "sample_id": row.sample_id.encode(),
        "group": (row.group or row.sample_id).encode(),
        "pose": row.pose,
        "au_weight": row.au_weight,
        "au_source": row.au_source,
    }


def rows_crc32(images: Iterable[UInt8[np.ndarray, "..."]], tail: Sequence[np.ndarray]) -> UInt32[np.ndarray, "n"]:
    """Compute the CRC-32 of each row: over its image as stored, then its values of the other columns, as in the file.

    ``images``: per row the pixels or the JPEG's bytes. ``tail``: the arrays of :func:`tail_columns`, n rows each.
    """
    joined = np.concatenate([_bytes_of_rows(column) for column in tail], 1)
    return np.array(
        [
            zlib.crc32(row, zlib.crc32(np.ascontiguousarray(image).data))
            for image, row in zip(images, joined, strict=True)
        ],
        "<u4",
    )


def _bytes_of_rows(column: np.ndarray) -> UInt8[np.ndarray, "n b"]:
    size = int(np.prod(column.shape[1:])) * column.dtype.itemsize
    return np.frombuffer(np.ascontiguousarray(column).tobytes(), np.uint8).reshape(len(column), size)


def check_version(version: str, where: object) -> None:
    """Raise :class:`SchemaVersionError` unless ``version`` has a major number that this reader knows."""
    known = [written.split(".")[0] for written in SCHEMA_VERSIONS.values()]
    if version.split(".")[0] not in known:
        raise SchemaVersionError(
            paragraph(
                "The store was written in another schema version.",
                where=where,
                expected=f"schema {' or '.join(f'{major}.x' for major in known)}",
                got=f"schema {version}",
                fix="Build it again with this version's `aupipe build-maps`, or read it with the one that wrote it.",
            )
        )
