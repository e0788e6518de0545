"""Writing one shard, from rows or from another shard with the same crops: a file that is complete or does not exist."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from jaxtyping import Float32, UInt8

from aupipe.fer_data.action_units.modes import SIDES, WIDTH
from aupipe.fer_data.errors import StoreError, paragraph
from aupipe.fer_data.files import atomic_path, flushing, steady_file
from aupipe.fer_data.shards import spec
from aupipe.fer_data.shards.encoding import IMAGE_ATTRIBUTES, channel_sums, encode_jpeg
from aupipe.fer_data.shards.index import ShardEntry
from aupipe.fer_data.shards.shard_file import ShardFile, open_shard, stored_images
from aupipe.fer_data.shards.spec import ShardHeader, TripletRow

PAGE = 4096
ROWS_AT_ONCE = 64
"""Rows written at once: few calls of HDF5, and little memory."""


@dataclass(frozen=True)
class DrawnMaps:
    """What is drawn anew with another codebook, of some rows: the columns of these names."""

    au_map: UInt8[np.ndarray, "n m m"]
    has_map: UInt8[np.ndarray, "n"]
    au_weight: UInt8[np.ndarray, "n 99 2"]
    au_source: UInt8[np.ndarray, "n"]


Draw = Callable[[slice, Float32[np.ndarray, "n 68 2"], UInt8[np.ndarray, "n"]], DrawnMaps]
"""Some rows, their landmarks and labels to what is drawn of them."""


@dataclass(frozen=True)
class StoredRows:
    """Some rows as they lie in the file.

    ``images``: per row the pixels (h, h, 3) or the JPEG's bytes; ``tail``: the arrays of the other columns, in order;
    ``later``: those of :func:`~aupipe.fer_data.shards.spec.later_columns`.
    """

    images: list[UInt8[np.ndarray, "..."]]
    tail: list[np.ndarray]
    later: list[np.ndarray]


@dataclass
class ChannelTotals:
    """Sums per RGB channel over a shard's crops, before they are encoded."""

    sums: np.ndarray = field(default_factory=lambda: np.zeros(3))
    squares: np.ndarray = field(default_factory=lambda: np.zeros(3))

    def add(self, image: UInt8[np.ndarray, "h h 3"]) -> None:
        """Count one crop."""
        sums, squares = channel_sums(image)
        self.sums, self.squares = self.sums + sums, self.squares + squares


def write_shard(path: Path, rows: Iterable[TripletRow], count: int, header: ShardHeader) -> ShardEntry:
    """Write a shard from its rows.

    Rows are written a few at a time, so memory stays flat (but for JPEG, whose bytes are kept until the last row).
    The file is written under a temporary name, closed, read back against its row checksums and renamed.

    Args:
        path: The file to write.
        rows: The rows, in order.
        count: Number of rows.
        header: What the shard says about itself.

    Returns:
        The shard's entry for the index.

    Raises:
        StoreError: The rows are not ``count``, or one does not fit its columns.
        FerError: The disk refuses.
    """
    totals = ChannelTotals()
    return _write_batches(path, _batches(rows, count, header, totals), count, header, totals)


def redraw_shard(old: ShardFile, path: Path, draw: Draw, header: ShardHeader) -> ShardEntry:
    """Write the rows of a shard with new maps.

    The result has the bytes that :func:`write_shard` would give.

    Args:
        old: The shard, intact and with the header's crops; it may be the file of that ``path``.
        path: The file to write.
        draw: What draws the maps.
        header: What the new shard says about itself.

    Returns:
        The new shard's entry for the index.

    Raises:
        StoreError: The shard did not read back as written.
        FerError: The disk refuses.
    """
    file = old.file
    totals = ChannelTotals(
        file.attrs["channel_sum"].astype(np.float64), file.attrs["channel_sum_of_squares"].astype(np.float64)
    )
    count = len(file["label"])
    return _write_batches(path, _redrawn(file, count, draw), count, header, totals)


def _write_batches(
    path: Path, batches: Iterable[StoredRows], count: int, header: ShardHeader, totals: ChannelTotals
) -> ShardEntry:
    """Write a shard from rows that are already in the file's form; ``totals`` is read after the last."""
    with atomic_path(path) as temporary:
        with (
            steady_file(temporary) as disk,
            h5py.File(disk, "w", libver=("v110", "v110"), alignment_threshold=PAGE, alignment_interval=PAGE) as file,
        ):
            _write_header(file, header)
            _write_datasets(file, batches, count, header)
            file.attrs["channel_sum"] = totals.sums.astype(np.int64)
            file.attrs["channel_sum_of_squares"] = totals.squares.astype(np.int64)
            _describe_dimensions(file, header, count)
        with flushing(temporary), open_shard(temporary) as written:
            if problems := written.findings(rows=True):
                raise StoreError(
                    paragraph(
                        f"The shard {path.name} did not read back as written.",
                        got="; ".join(problem.what for problem in problems[:3]),
                        fix="Check the disk and the memory of this machine, then run the command again.",
                    )
                )
            entry = written.entry(path.name)
    return entry


def _write_header(file: h5py.File, header: ShardHeader) -> None:
    file.attrs["schema_version"] = spec.SCHEMA_VERSIONS[header.encoding]
    file.attrs["title"] = "Facial expression triplets: image, label, action-unit map"
    file.attrs["Conventions"] = "CF-1.11"
    file.attrs["split"] = header.split
    file.attrs["classes"] = list(header.classes)
    file.attrs["image_size"] = header.image_size
    file.attrs["map_size"] = header.map_size
    file.attrs["plan_digest"] = header.plan_digest
    file.attrs["crop_digest"] = header.crop_digest
    file.attrs["codebook"] = header.codebook_name
    file.attrs["codebook_digest"] = header.codebook_digest
    file.attrs["config"] = header.config_json
    file.attrs["software"] = header.software_json


def _write_datasets(file: h5py.File, batches: Iterable[StoredRows], count: int, header: ShardHeader) -> None:
    size = header.image_size
    columns = spec.tail_columns(size, header.map_size, header.id_bytes)
    if header.encoding == "raw":
        file.create_dataset("image", (count, size, size, 3), "u1")
    for column in columns:
        file.create_dataset(column.name, (count, *column.shape), column.dtype)
    later = {one.name: np.empty((count, *one.shape), one.dtype) for one in spec.later_columns(header.id_bytes)}
    checksums, files, written = np.zeros(count, "<u4"), list[np.ndarray](), 0
    pixels = np.empty((min(ROWS_AT_ONCE, count) if header.encoding == "raw" else 0, size, size, 3), np.uint8)
    for batch in batches:
        chosen = slice(written, written + len(batch.images))
        if header.encoding == "raw":
            file["image"][chosen] = np.stack(batch.images, out=pixels[: len(batch.images)])
        else:
            files += batch.images
        for column, values in zip(columns, batch.tail, strict=True):
            file[column.name][chosen] = values
        for column_values, values in zip(later.values(), batch.later, strict=True):
            column_values[chosen] = values
        checksums[chosen] = spec.rows_crc32(batch.images, batch.tail)
        written = chosen.stop
    if header.encoding == "jpeg":
        file.create_dataset("image_offset", data=np.cumsum([0, *map(len, files)]).astype("<u8"))
        file.create_dataset("image_jpeg", data=np.concatenate(files))
    file.create_dataset("crc32", data=checksums)
    for name, values in later.items():
        file.create_dataset(name, data=values)
        file[name].attrs["crc32"] = np.uint32(zlib.crc32(values.tobytes()))


def _batches(
    rows: Iterable[TripletRow], count: int, header: ShardHeader, totals: ChannelTotals
) -> Iterator[StoredRows]:
    """The rows in the file's form, checked; never more or fewer than ``count``."""
    columns = spec.columns(header.image_size, header.map_size, header.id_bytes)
    later = spec.later_columns(header.id_bytes)
    given, queue = 0, iter(rows)
    while chunk := list(islice(queue, ROWS_AT_ONCE)):
        given += len(chunk)
        if given > count:
            break
        stored = [_stored(row, (*columns, *later), len(header.classes)) for row in chunk]
        images = [values[0] for values in stored]
        for image in images:
            totals.add(image)
        if header.encoding == "jpeg":
            images = [encode_jpeg(image, header.jpeg_quality) for image in images]
        tail = [np.stack([values[at] for values in stored]) for at in range(1, len(columns))]
        added = [values[len(columns) :] for values in stored]
        yield StoredRows(images, tail, [np.stack(values) for values in zip(*added, strict=True)])
    if given != count:
        raise StoreError(f"A shard of {count} rows was given {given}{' or more' if given > count else ''}.")


def _redrawn(file: Any, count: int, draw: Draw) -> Iterator[StoredRows]:
    images = stored_images(file)
    for start in range(0, count, ROWS_AT_ONCE):
        rows = slice(start, min(start + ROWS_AT_ONCE, count))
        values = {column.name: file[column.name][rows] for column in spec.tail_columns(1, 1, 1)}
        drawn = vars(draw(rows, values["landmarks"], values["label"]))
        later = [drawn[name] if name in drawn else file[name][rows] for name in spec.LATER]
        yield StoredRows(list(images[rows]), [drawn.get(name, values[name]) for name in values], later)


def _stored(row: TripletRow, columns: tuple[spec.Column, ...], n_classes: int) -> list[np.ndarray]:
    """The row's values as they lie in the file; nothing is cut, wrapped or broadcast to make it fit."""
    values = spec.row_values(row)
    stored = [_fitting(values[column.name], column, row.sample_id) for column in columns]
    if not 0 <= row.label < n_classes:
        raise StoreError(f"Sample {row.sample_id!r} has label {row.label} where there are {n_classes} classes.")
    return stored


def _fitting(value: Any, column: spec.Column, sample_id: str) -> np.ndarray:
    given = np.asarray(value)
    cast = np.asarray(given, column.dtype)
    same_type = given.dtype == cast.dtype
    kept = np.isfinite(cast).all() if cast.dtype.kind == "f" else same_type or np.array_equal(cast, given)
    if cast.shape != column.shape or not kept:
        raise StoreError(
            paragraph(
                f"The {column.name} of sample {sample_id!r} does not fit its column.",
                expected=f"{column.dtype} of shape {column.shape}, finite",
                got=f"{given.dtype} of shape {given.shape}",
            )
        )
    return cast


def _describe_dimensions(file: h5py.File, header: ShardHeader, count: int) -> None:
    """Units, long names and named dimension scales, so that any HDF5 or netCDF tool can label the axes."""
    lengths = {
        "sample": count, "y": header.image_size, "x": header.image_size, "channel": 3, "map_y": header.map_size,
        "map_x": header.map_size, "landmark": 68, "xy": 2, "row": 2, "column": 3, "angle": 3,
        "au": WIDTH, "side": len(SIDES),
    }  # fmt: skip
    for name, length in lengths.items():
        file.create_dataset(name, data=np.arange(length, dtype="<i4"))
        file[name].make_scale(name)
    columns = spec.columns(header.image_size, header.map_size, header.id_bytes)
    for column in (*columns, *spec.later_columns(header.id_bytes)):
        if column.name not in file:
            continue
        dataset = file[column.name]
        dataset.attrs["long_name"] = column.long_name
        dataset.attrs["units"] = column.units
        for key, value in column.attributes.items():
            dataset.attrs[key] = value
        for axis, name in enumerate(("sample", *column.dims)):
            dataset.dims[axis].attach_scale(file[name])
    file["crc32"].attrs["long_name"] = spec.descriptions()["crc32"][0]
    file["crc32"].dims[0].attach_scale(file["sample"])
    file["label"].attrs["flag_values"] = np.arange(len(header.classes), dtype="u1")
    file["label"].attrs["flag_meanings"] = " ".join(header.classes)
    _describe_images(file, header)


def _describe_images(file: h5py.File, header: ShardHeader) -> None:
    if header.encoding == "raw":  # after the scales: HDF5 attaches none to what it takes for something else
        for name, value in IMAGE_ATTRIBUTES.items():
            file["image"].attrs[name] = np.bytes_(value)
        return
    told = spec.descriptions()
    file["image_jpeg"].attrs["long_name"] = told["image_jpeg"][0]
    file["image_jpeg"].attrs["media_type"] = "image/jpeg"
    file["image_jpeg"].attrs["quality"] = header.jpeg_quality
    file["image_jpeg"].attrs["units"] = told["image_jpeg"][1]
    file["image_offset"].attrs["long_name"], file["image_offset"].attrs["units"] = told["image_offset"]
