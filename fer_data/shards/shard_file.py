"""One shard, open for reading: its digest, its own notes, its damage, its entry for the index."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from aupipe.fer_data.errors import SchemaVersionError
from aupipe.fer_data.shards import spec
from aupipe.fer_data.shards.encoding import offsets_fit
from aupipe.fer_data.shards.index import ShardEntry
from aupipe.fer_data.shards.structure import UNREADABLE, foreign_faults, later_faults, structure_faults, value_fault

ROWS_AT_ONCE = 64
"""Rows checked at once."""


@dataclass(frozen=True)
class Finding:
    """A fault of a store: the file, the problem, and the samples concerned where they are known."""

    file: str
    what: str
    samples: tuple[str, ...] = ()


@dataclass(frozen=True)
class ShardNotes:
    """The notes of a shard on its own making."""

    plan_digest: str
    crop_digest: str
    encoding: str
    codebook_name: str
    config_json: str


class ShardFile:
    """A shard that is open: every question is answered from this one file, whatever lies under its name meanwhile.

    HDF5 opens it at the first question about its content. The bytes are read whole once for each of these, no more:

    - ``sha256`` sees damage anywhere in the file. The index states it, and ``is_stated`` compares it before HDF5 has
      to make sense of the bytes: a damaged file can make that library hang.
    - ``findings(rows=True)`` compares the row checksums. They were computed before anything was written, so they alone
      tell that a new file holds what was meant; and they are all there is where no index speaks of the file.
    """

    def __init__(self, path: Path) -> None:
        """Open the file. Raises ``OSError`` where there is none."""
        self.path = path
        self._stream = io.FileIO(path)

    def close(self) -> None:
        """Close the file."""
        if "file" in self.__dict__:
            self.file.close()
        self._stream.close()

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the file; computed once."""
        self._stream.seek(0)
        return hashlib.file_digest(self._stream, "sha256").hexdigest()

    def is_stated(self, sha256: str | None) -> bool:
        """Tell whether it is the file of this digest; True where None is stated."""
        try:
            return sha256 is None or self.sha256 == sha256
        except OSError:  # the disk gives an error for the bytes themselves
            return False

    @cached_property
    def file(self) -> h5py.File:
        """The shard for HDF5. Raises one of :data:`UNREADABLE` where it is none."""
        return h5py.File(self._stream, "r")

    @cached_property
    def notes(self) -> ShardNotes:
        """The notes of the shard on its own making. Raises one of :data:`UNREADABLE` where it says nothing."""
        return ShardNotes(
            plan_digest=str(self.file.attrs["plan_digest"]),
            crop_digest=str(self.file.attrs.get("crop_digest", "")),
            encoding="jpeg" if "image_jpeg" in self.file else "raw",
            codebook_name=str(self.file.attrs["codebook"]),
            config_json=str(self.file.attrs["config"]),
        )

    def findings(self, *, rows: bool) -> list[Finding]:
        """Check the structure, and with ``rows`` every row's CRC-32.

        Raises :class:`SchemaVersionError` for a shard of another major version.
        """
        try:
            return self._findings(rows)
        except UNREADABLE as error:
            if isinstance(error, SchemaVersionError):
                raise
            return [Finding(self.path.name, f"not a complete shard ({error})")]

    def _findings(self, rows: bool) -> list[Finding]:
        if faults := self.structure():
            return [Finding(self.path.name, fault) for fault in faults]
        if not rows:
            return []
        file = self.file
        others = [file[column.name] for column in spec.tail_columns(1, 1, 1)]
        findings = damaged_rows(self.path.name, stored_images(file), others, file["crc32"][:])
        return [*findings, *(Finding(self.path.name, fault) for fault in later_faults(file, spec.later_in(file)))]

    def structure(self) -> list[str]:
        """List what is wrong with the structure; where the list is empty, every column may be read.

        Raises one of :data:`UNREADABLE` where HDF5 cannot tell, :class:`SchemaVersionError` for another major version.
        """
        file = self.file
        spec.check_version(str(file.attrs["schema_version"]), self.path)
        if faults := foreign_faults(file.id):
            return faults
        sizes = int(file.attrs["image_size"]), int(file.attrs["map_size"]), file["sample_id"].dtype.itemsize
        expected = spec.datasets(self.notes.encoding, len(file["crc32"]), *sizes, spec.later_in(file))
        return structure_faults(file.id, expected, {})

    def value_faults(self) -> list[str]:
        """List what the columns hold that no store may hold; images are not looked at. Its structure must be sound."""
        file = self.file
        count = len(file.attrs["classes"])
        names = ("label", "has_map", "landmarks", "to_source", "sample_id", *spec.LATER)
        columns = {name: file[name][:] for name in names if name in file}
        faults = [value_fault(name, values, count) for name, values in columns.items()]
        if "image_jpeg" in file and not offsets_fit(file["image_offset"][:].astype(np.int64), len(file["image_jpeg"])):
            faults.append("the offsets of the images do not fit")
        return [fault for fault in faults if fault]

    @property
    def says(self) -> tuple[tuple[str, ...], int, int, int, str]:
        """What all shards of a store agree in: classes, sides of image and map, bytes of an id, codebook."""
        about = self.file.attrs
        sides = int(about["image_size"]), int(about["map_size"])
        classes = tuple(str(name) for name in about["classes"])
        return classes, *sides, self.file["sample_id"].dtype.itemsize, str(about["codebook_digest"])

    def entry(self, name: str | None = None) -> ShardEntry:
        """Describe the shard for the index: rows, size, digest, dataset offsets, label histogram, channel sums.

        ``name`` is the one it will have, where it still has another.
        """
        file = self.file
        names = [str(value) for value in file.attrs["classes"]]
        histogram = np.bincount(file["label"][:], minlength=len(names))
        return ShardEntry(
            name=name or self.path.name,
            split=str(file.attrs["split"]),
            rows=int(file["label"].shape[0]),
            with_map=int(file["has_map"][:].sum()),
            bytes=self._stream.seek(0, io.SEEK_END),
            sha256=self.sha256,
            plan_digest=self.notes.plan_digest,
            offsets={
                name: int(file[name].id.get_offset())
                for name in (*spec.dataset_names(self.notes.encoding), *spec.LATER)
                if name in file
            },
            labels={name: int(count) for name, count in zip(names, histogram, strict=True) if count},
            channel_sum=[int(value) for value in file.attrs["channel_sum"]],
            channel_sum_of_squares=[int(value) for value in file.attrs["channel_sum_of_squares"]],
        )


@contextmanager
def open_shard(path: Path) -> Iterator[ShardFile]:
    """Open a shard; it is closed at the end. Raises ``OSError`` where there is none."""
    shard = ShardFile(path)
    try:
        yield shard
    finally:
        shard.close()


def read_notes(path: Path) -> ShardNotes | None:
    """Read what a shard says of its own making; None when it cannot be read."""
    try:
        with open_shard(path) as shard:
            return shard.notes
    except UNREADABLE:
        return None


class _Jpegs:
    """Rows of JPEG bytes, cut out of one array as ``rows[start:stop]``."""

    def __init__(self, data: Any, offsets: np.ndarray) -> None:
        self.data, self.offsets = data, offsets.astype(np.int64)

    def __getitem__(self, chosen: slice) -> list[np.ndarray]:
        ends = self.offsets[chosen.start : chosen.stop + 1]
        return [self.data[start:stop] for start, stop in pairwise(ends)]


def stored_images(file: Mapping[str, Any]) -> Any:
    """Return an object whose slices are the stored images of these rows."""
    if "image" in file:
        return file["image"]
    return _Jpegs(file["image_jpeg"], file["image_offset"][:])


def damaged_rows(name: str, images: Any, tail: Sequence[Any], stated: np.ndarray) -> list[Finding]:
    """List the rows that do not match their checksum; ``tail`` are the other columns in order, the sample ids last."""
    damaged: list[int] = []
    for start in range(0, len(stated), ROWS_AT_ONCE):
        block = slice(start, min(start + ROWS_AT_ONCE, len(stated)))
        found = spec.rows_crc32(images[block], [np.asarray(column[block], column.dtype) for column in tail])
        damaged += (start + np.flatnonzero(found != stated[block])).tolist()
    findings = []
    if isinstance(images, _Jpegs) and not offsets_fit(images.offsets, len(images.data)):
        findings.append(Finding(name, "the offsets of the images do not fit"))
    if damaged:
        samples = tuple(tail[-1][row].decode(errors="replace") for row in damaged)
        findings.append(Finding(name, f"{len(damaged)} rows do not match their checksum", samples))
    return findings
