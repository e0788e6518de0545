"""The images and maps of one shard, row by row: used where they lie, or read into the caller's buffer."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int64, UInt8

from aupipe.fer_data.errors import StoreError, paragraph
from aupipe.fer_data.shards.encoding import decode_jpeg, offsets_fit
from aupipe.fer_data.shards.index import ShardEntry
from aupipe.fer_data.shards.rows import RowFiles
from aupipe.fer_data.shards.spec import rows_crc32, tail_columns


class ShardRows:
    """Rows of shard ``number`` of a split, numbered from 0; images of ``image_size``, maps of ``map_size`` pixels.

    Several threads may read at once. Raises :class:`StoreError` where the file is not what its entry says: ask
    :meth:`check` before rows are used, because pixels and maps that are mapped are then used as they lie there.
    """

    def __init__(
        self, files: RowFiles, number: int, entry: ShardEntry, image_size: int, map_size: int, id_bytes: int
    ) -> None:
        self.entry = entry
        self._files, self._number = files, number
        self._image_bytes, self._map_bytes = 3 * image_size**2, map_size**2
        self._tail = tail_columns(image_size, map_size, id_bytes)
        self._sound = np.zeros(entry.rows, bool)
        self._jpeg_ends: Int64[np.ndarray, "m"] | None = None
        self._pixels = None
        if "image" in entry.offsets:
            pixels = files.view(number, entry.offsets["image"], entry.rows * self._image_bytes)
            self._pixels = None if pixels is None else pixels.reshape(entry.rows, image_size, image_size, 3)
        else:
            self._jpeg_ends = self._read_ends()
        maps = files.view(number, entry.offsets["au_map"], entry.rows * self._map_bytes)
        self._maps = None if maps is None else maps.reshape(entry.rows, map_size, map_size)

    def check(self, rows: Int64[np.ndarray, "k"]) -> None:
        """Check that the file is whole, and compare each row with its checksum the first time it is used.

        Raises :class:`StoreError`.
        """
        self._files.check(self._number, self.entry.bytes)
        new = rows[~self._sound[rows]]
        if not new.size:
            return
        tail = [self._values(one.name, np.dtype((one.dtype, one.shape)).itemsize, new) for one in self._tail]
        found = rows_crc32(map(self._stored_image, new.tolist()), tail)
        wrong = new[found != self._values("crc32", 4, new).view("<u4")[:, 0]]
        if wrong.size:
            raise StoreError(
                paragraph(
                    f"The shard {self.entry.name} is damaged: rows do not match their checksum.",
                    where=self._files.paths[self._number].parent,
                    got=f"row {wrong[0]}" + (f" and {wrong.size - 1} more" if wrong.size > 1 else ""),
                    fix="Run `aupipe verify` on the store, then `aupipe repair`: intact shards are kept.",
                )
            )
        self._sound[new] = True

    def _values(self, name: str, size: int, rows: Int64[np.ndarray, "k"]) -> UInt8[np.ndarray, "k b"]:
        """The bytes of a column in these rows, ``size`` a row."""
        begin = self.entry.offsets[name]
        if (mapped := self._files.view(self._number, begin, self.entry.rows * size)) is not None:
            return np.asarray(mapped.reshape(self.entry.rows, size)[rows])
        found = np.empty((len(rows), size), np.uint8)
        for row, out in zip(rows.tolist(), found, strict=True):
            self._files.read(self._number, begin + row * size, out)
        return found

    def _stored_image(self, row: int) -> UInt8[np.ndarray, "b"]:
        start, stop = self.image_place(row)
        found = self._files.view(self._number, start, stop - start)
        if found is None:
            found = np.empty(stop - start, np.uint8)
            self._files.read(self._number, start, found)
        return found

    def read_image(self, row: int, out: UInt8[np.ndarray, "s s 3"]) -> None:
        """Copy or decode one image into a contiguous array."""
        if self._pixels is not None:
            out[:] = self._pixels[row]
        elif self._jpeg_ends is not None:
            decode_jpeg(self.jpeg(row), out, f"{self.entry.name}, row {row}")
        else:
            self._files.read(self._number, self.image_place(row)[0], out)

    def read_maps(
        self, rows: Int64[np.ndarray, "k"], out: UInt8[np.ndarray, "b m m"], places: Int64[np.ndarray, "k"]
    ) -> None:
        """Copy AU maps as they are stored (255 = 1.0) to these places of a contiguous array."""
        if self._maps is not None:
            out[places] = self._maps[rows]
            return
        for row, place in zip(rows.tolist(), places.tolist(), strict=True):
            self._files.read(self._number, self.map_place(row), out[place])

    def lines(
        self, row: int, top: int, count: int, buffer: UInt8[np.ndarray, "s s 3"]
    ) -> UInt8[np.ndarray, "count s 3"]:
        """Return the lines ``top`` to ``top + count - 1`` of one image, where they lie or in the caller's buffer.

        Of pixels these lines alone are read; JPEG is decoded whole.
        """
        if self._pixels is not None:
            return self._pixels[row, top : top + count]
        if self._jpeg_ends is not None:
            self.read_image(row, buffer)
            return buffer[top : top + count]
        lines = buffer[:count]
        self._files.read(self._number, self.image_place(row)[0] + top * lines[0].nbytes, lines)
        return lines

    def jpeg(self, row: int) -> UInt8[np.ndarray, "b"]:
        """Return the bytes of a row's JPEG; where files are mapped, as they lie there."""
        return self._stored_image(row)

    def image_place(self, row: int) -> tuple[int, int]:
        """Find the bytes of the file that hold a row's image: from, to."""
        if self._jpeg_ends is not None:
            begin = self.entry.offsets["image_jpeg"]
            return begin + int(self._jpeg_ends[row]), begin + int(self._jpeg_ends[row + 1])
        begin = self.entry.offsets["image"] + row * self._image_bytes
        return begin, begin + self._image_bytes

    def map_place(self, row: int) -> int:
        """Find the byte of the file at which a row's map begins."""
        return self.entry.offsets["au_map"] + row * self._map_bytes

    def _read_ends(self) -> Int64[np.ndarray, "m"]:
        """Read the offset in ``image_jpeg`` at which each row's JPEG begins, and the last one's end."""
        stored = np.empty(self.entry.rows + 1, "<u8")
        self._files.read(self._number, self.entry.offsets["image_offset"], stored)
        ends = stored.astype(np.int64)
        last = self.entry.offsets["image_jpeg"] + int(ends[-1])
        if not offsets_fit(ends, int(ends[-1])) or last > self.entry.bytes:
            raise StoreError(
                paragraph(
                    f"The shard {self.entry.name} is damaged: the offsets of its images do not fit.",
                    where=self._files.paths[self._number].parent,
                    fix="Run `aupipe verify` on the store, then `aupipe repair`.",
                )
            )
        return ends
