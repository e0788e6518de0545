"""What every form of an export is made of: a file a shard, a row's image and map, and the count of what arrived."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from aupipe.fer_data.errors import StoreError, paragraph
from aupipe.fer_data.images import encode_png
from aupipe.fer_data.shards import SplitReader, Store
from aupipe.fer_data.types import Progress


def export_by_shard(
    store: Store,
    out: Path,
    progress: Progress,
    *,
    name: Callable[[str, int, int], str],
    write: Callable[[Path, SplitReader, range], None],
    count: Callable[[Path], int],
) -> tuple[str, ...]:
    """Write a file for each shard; those that are there already are kept, once their rows were counted.

    Args:
        store: The store.
        out: Folder of the files.
        progress: Hears of each file's rows.
        name: A file's name, of its split, its number there, and how many there are.
        write: Writes some rows of a split; under its final name a file must be complete.
        count: Counts the rows of a file.

    Returns:
        The files' names.

    Raises:
        StoreError: A file does not have the rows of its shard.
    """
    names = []
    for split in store.index.splits:
        reader, first = store.split(split), 0
        for number, entry in enumerate(reader.entries):
            path = out / name(split, number, len(reader.entries))
            if not path.is_file():
                write(path, reader, range(first, first + entry.rows))
            check_count(path.name, count(path), entry.rows)
            names.append(path.name)
            progress.advance(entry.rows)
            first += entry.rows
    return tuple(names)


def image_suffix(reader: SplitReader) -> str:
    """Return the ending of a split's image files: ``png``, or ``jpg`` where the store holds JPEG."""
    return "jpg" if reader.encoding == "jpeg" else "png"


def image_file(reader: SplitReader, row: int) -> bytes:
    """Make a row's image file: PNG of pixels, the very JPEG file otherwise."""
    if reader.encoding == "jpeg":
        return bytes(reader.jpeg_bytes(row))
    return encode_png(reader.image(row))


def map_file(reader: SplitReader, row: int) -> bytes:
    """Make a row's AU map as a PNG file of 8 bits, 255 = 1.0."""
    return bytes(cv2.imencode(".png", reader.stored_maps(np.array([row]))[0])[1])


def check_count(what: str, found: int, expected: int) -> None:
    """Raise :class:`StoreError` where not every row arrived."""
    if found != expected:
        raise StoreError(
            paragraph(f"The export is not complete: {what}.", expected=f"{expected} rows", got=f"{found}",
                      fix="Empty the folder and export again.")
        )  # fmt: skip
