"""Writing one shard: contiguous, page-aligned datasets in a file that is complete or does not exist."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import h5py
import numpy as np

from fer_data.errors import StoreError, paragraph
from fer_data.files import atomic_path, sha256_file, steady_file
from fer_data.shards import spec
from fer_data.shards.index import ShardEntry
from fer_data.shards.spec import ShardHeader, TripletRow
from fer_data.shards.verify import verify_shard

PAGE = 4096


def write_shard(path: Path, rows: Iterable[TripletRow], count: int, header: ShardHeader) -> ShardEntry:
    """Write ``count`` rows to ``path`` and return the shard's entry for the index.

    Rows are written one at a time, so memory stays flat. The file is written under a temporary name, closed, read
    back against its row checksums and renamed. Raises :class:`StoreError` when the rows are not ``count``,
    :class:`FerError` when the disk refuses.
    """
    with atomic_path(path) as temporary:
        with (
            steady_file(temporary) as disk,
            h5py.File(disk, "w", libver=("v110", "v110"), alignment_threshold=PAGE, alignment_interval=PAGE) as file,
        ):
            _write_header(file, header)
            _write_rows(file, rows, count, header)
            _describe_dimensions(file, header, count)
        problems = verify_shard(temporary, rows=True)
        if problems:
            raise StoreError(
                paragraph(
                    f"The shard {path.name} did not read back as written.",
                    got="; ".join(problem.what for problem in problems[:3]),
                    fix="Check the disk and the memory of this machine, then run the command again.",
                )
            )
    return describe_shard(path)


def describe_shard(path: Path) -> ShardEntry:
    """Entry of a finished shard: rows, size, digest, dataset offsets, label histogram, channel sums."""
    with h5py.File(path, "r") as file:
        names = [str(name) for name in file.attrs["classes"]]
        histogram = np.bincount(file["label"][:], minlength=len(names))
        columns = spec.columns(int(file.attrs["image_size"]), int(file.attrs["map_size"]), 1)
        return ShardEntry(
            name=path.name,
            split=str(file.attrs["split"]),
            rows=int(file["label"].shape[0]),
            with_map=int(file["has_map"][:].sum()),
            bytes=path.stat().st_size,
            sha256=sha256_file(path),
            plan_digest=str(file.attrs["plan_digest"]),
            offsets={name: int(file[name].id.get_offset()) for name in (*(c.name for c in columns), "crc32")},
            labels={name: int(count) for name, count in zip(names, histogram, strict=True) if count},
            channel_sum=[int(value) for value in file.attrs["channel_sum"]],
            channel_sum_of_squares=[int(value) for value in file.attrs["channel_sum_of_squares"]],
        )


def _write_header(file: h5py.File, header: ShardHeader) -> None:
    file.attrs["schema_version"] = spec.SCHEMA_VERSION
    file.attrs["title"] = "Facial expression triplets: image, label, action-unit map"
    file.attrs["Conventions"] = "CF-1.11"
    file.attrs["split"] = header.split
    file.attrs["classes"] = list(header.classes)
    file.attrs["image_size"] = header.image_size
    file.attrs["map_size"] = header.map_size
    file.attrs["plan_digest"] = header.plan_digest
    file.attrs["codebook"] = header.codebook_name
    file.attrs["codebook_digest"] = header.codebook_digest
    file.attrs["config"] = header.config_json
    file.attrs["software"] = header.software_json


def _write_rows(file: h5py.File, rows: Iterable[TripletRow], count: int, header: ShardHeader) -> None:
    columns = spec.columns(header.image_size, header.map_size, header.id_bytes)
    for column in columns:
        file.create_dataset(column.name, (count, *column.shape), column.dtype)
    checksums = np.zeros(count, "<u4")
    total, squares = np.zeros(3), np.zeros(3)
    written = 0
    for number, row in enumerate(rows):
        if number >= count:
            written = number + 1
            break
        stored = _stored(row, columns, len(header.classes))
        for column, value in zip(columns, stored, strict=True):
            file[column.name][number] = value
        checksums[number] = spec.row_crc32(stored)
        pixels = row.image.reshape(-1, 3).astype(np.float64)  # whole numbers below 2**53: every sum is exact
        total += np.ones(len(pixels)) @ pixels
        squares += np.diag(pixels.T @ pixels)
        written = number + 1
    if written != count:
        raise StoreError(f"A shard of {count} rows was given {written}.")
    file.create_dataset("crc32", data=checksums)
    file.attrs["channel_sum"] = total.astype(np.int64)
    file.attrs["channel_sum_of_squares"] = squares.astype(np.int64)


def _stored(row: TripletRow, columns: tuple[spec.Column, ...], n_classes: int) -> list[np.ndarray]:
    """The row's values as they lie in the file; nothing is cut, wrapped or broadcast to make it fit."""
    values = spec.row_values(row)
    stored = []
    for column in columns:
        given = np.asarray(values[column.name])
        cast = np.asarray(given, column.dtype)
        kept = np.isfinite(cast).all() if cast.dtype.kind == "f" else np.array_equal(cast, given)
        if cast.shape != column.shape or not kept:
            raise StoreError(
                paragraph(
                    f"The {column.name} of sample {row.sample_id!r} does not fit its column.",
                    expected=f"{column.dtype} of shape {column.shape}, finite",
                    got=f"{given.dtype} of shape {given.shape}",
                )
            )
        stored.append(cast)
    if not 0 <= row.label < n_classes:
        raise StoreError(f"Sample {row.sample_id!r} has label {row.label} where there are {n_classes} classes.")
    return stored


def _describe_dimensions(file: h5py.File, header: ShardHeader, count: int) -> None:
    """Units, long names and named dimension scales, so that any HDF5 or netCDF tool can label the axes."""
    lengths = {
        "sample": count, "y": header.image_size, "x": header.image_size, "channel": 3, "map_y": header.map_size,
        "map_x": header.map_size, "landmark": 68, "xy": 2, "row": 2, "column": 3,
    }  # fmt: skip
    for name, length in lengths.items():
        file.create_dataset(name, data=np.arange(length, dtype="<i4"))
        file[name].make_scale(name)
    for column in spec.columns(header.image_size, header.map_size, header.id_bytes):
        dataset = file[column.name]
        dataset.attrs["long_name"] = column.long_name
        dataset.attrs["units"] = column.units
        for key, value in column.attributes.items():
            dataset.attrs[key] = value
        for axis, name in enumerate(("sample", *column.dims)):
            dataset.dims[axis].attach_scale(file[name])
    file["crc32"].attrs["long_name"] = "CRC-32 of the row's bytes over all columns"
    file["crc32"].dims[0].attach_scale(file["sample"])
    file["label"].attrs["flag_values"] = np.arange(len(header.classes), dtype="u1")
    file["label"].attrs["flag_meanings"] = " ".join(header.classes)
