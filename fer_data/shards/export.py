"""A store as other tools read it: a folder of images, tar files for the webdataset package, or Parquet tables.

All hold every row, the image as it lies in the store (PNG for pixels, the very JPEG file otherwise), and come out
byte for byte the same each time.

``folder``: ``images/SPLIT/CLASS/ID.png``, ``maps/SPLIT/CLASS/ID.png`` for rows that have a map (8 bits, 255 = 1.0),
and ``landmarks.csv`` with a line for each row: its sample id, the files, and the 68 points.
``aupipe manifest build folder OUT/images`` reads the images back.

``webdataset``: a tar for each shard, ``SPLIT-000000.tar``, with the members ``KEY.png`` or ``.jpg``, ``.cls`` (class
index), ``.au_map.png``, ``.landmarks.npy`` (68 x 2, float32, pixels) and ``.json`` of each row. A row without a map has
one of zeros, and ``has_map`` false in its JSON.

``parquet``: see :mod:`~aupipe.fer_data.shards.export_parquet`.
"""

from __future__ import annotations

import io
import json
import os
import re
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aupipe.fer_data.errors import FolderInUseError, StoreError, UserInputError, paragraph, unknown_name
from aupipe.fer_data.files import atomic_path, sha256_bytes, write_json
from aupipe.fer_data.folders import EXPORT, is_system_file, output_folder
from aupipe.fer_data.shards import SplitReader, Store
from aupipe.fer_data.shards.export_parquet import export_parquet, load_library
from aupipe.fer_data.shards.exported_files import check_count, export_by_shard, image_file, image_suffix, map_file
from aupipe.fer_data.shards.parquet_croissant import describe_tables
from aupipe.fer_data.typed import UnreadableTextError, read_json
from aupipe.fer_data.types import Progress, Silent
from aupipe.fer_display.tables import csv_lines

RECORD_NAME = "export.json"
"""What an export was made from, and whether it is complete."""

TARS = "2"
"""Form of the tars; from 2 on a row's JSON names its person (``subject``)."""

_MAX_NAME = 120
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"


@dataclass(frozen=True)
class ExportReport:
    """A finished export. ``rows``: rows written, by split; ``files``: names of the tars or tables, or of
    ``landmarks.csv``."""

    form: str
    rows: dict[str, int]
    files: tuple[str, ...]


def export_store(
    store: Store, form: str, out: Path, progress: Progress | None = None, about: Mapping[str, str] | None = None
) -> ExportReport:
    """Write every row of a store to a folder, as other tools read it.

    Interrupted, it continues when called again: finished tars, tables and PNG files are kept.

    Args:
        store: The store.
        form: ``folder``, ``webdataset`` or ``parquet``.
        out: The folder to write.
        progress: Hears of each written row.
        about: What people say of the data, for the metadata beside Parquet tables
            (:data:`~aupipe.fer_data.shards.croissant.ABOUT`).

    Raises:
        UserInputError: The form is unknown, or its library is not installed.
        FolderInUseError: ``out`` holds anything else.
        StoreError: Rows cannot be read or did not all arrive.
    """
    progress = progress or Silent()
    record = check_export(store, form, out)
    rows = {split: store.index.rows(split) for split in store.index.splits}
    with output_folder(out, EXPORT):
        _refuse_other_content(out, record)
        write_json(out / RECORD_NAME, {**record, "complete": False})
        progress.start("exporting", sum(rows.values()), "image")
        try:
            files = FORMS[form](store, out, progress)
            if form == "parquet":
                describe_tables(store, out, files, about or {})
        finally:
            progress.finish()
        write_json(out / RECORD_NAME, {**record, "complete": True, "classes": store.index.classes, "rows": rows})
    return ExportReport(form, rows, files)


def check_export(store: Store, form: str, out: Path) -> dict[str, str]:
    """Refuse what :func:`export_store` refuses before it reads a row; return what names this export."""
    if form not in FORMS:
        raise UserInputError(unknown_name("form", form, sorted(FORMS)))
    if form == "parquet":
        load_library()
    record = {"form": form, "store": store.index.digest}
    if form == "webdataset":
        record["version"] = TARS  # finished tars are kept, so they must be of this form
    _refuse_other_content(out, record)
    return record


def _refuse_other_content(out: Path, record: dict[str, str]) -> None:
    names = [path.name for path in out.iterdir()] if out.is_dir() else []
    present = sorted(name for name in names if not is_system_file(name) and not name.endswith(".tmp"))
    if not present:
        return
    try:
        found = read_json(out / RECORD_NAME, dict[str, Any])
        same = all(found.get(key) == value for key, value in record.items())
    except UnreadableTextError:
        same = False
    if not same:
        raise FolderInUseError(
            paragraph(
                f"The folder {out} is not empty, and what it holds is not this export.",
                expected=f"an empty folder, or one whose {RECORD_NAME} names this store and form",
                got=", ".join(present[:3]) + (", ..." if len(present) > 3 else ""),
                fix="Choose another --out, or empty it.",
            )
        )


# --- webdataset ---


def _export_tars(store: Store, out: Path, progress: Progress) -> tuple[str, ...]:
    return export_by_shard(
        store,
        out,
        progress,
        name=lambda split, number, _: f"{split}-{number:06d}.tar",
        write=_write_tar,
        count=_rows_in_tar,
    )


def _write_tar(path: Path, reader: SplitReader, rows: range) -> None:
    with atomic_path(path) as temporary, tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
        for row in rows:
            for suffix, content in _tar_members(reader, row):
                member = tarfile.TarInfo(f"{reader.split}-{row:08d}.{suffix}")
                member.size, member.mode = len(content), 0o644  # time and owner stay 0: the same bytes each time
                tar.addfile(member, io.BytesIO(content))


def _tar_members(reader: SplitReader, row: int) -> Iterator[tuple[str, bytes]]:
    label = int(reader.labels[row])
    yield image_suffix(reader), image_file(reader, row)
    yield "cls", str(label).encode()
    yield "au_map.png", map_file(reader, row)
    points = io.BytesIO()
    np.save(points, reader.landmarks[row], allow_pickle=False)
    yield "landmarks.npy", points.getvalue()
    about = {
        "sample_id": reader.sample_ids[row],
        "subject": _person(reader, row),
        "split": reader.split,
        "label": label,
        "class": reader.store.index.classes[label],
        "has_map": bool(reader.has_map[row]),
        "to_source": reader.to_source[row].tolist(),
    }
    yield "json", json.dumps(about, sort_keys=True, ensure_ascii=False).encode()


def _rows_in_tar(path: Path) -> int:
    try:
        with tarfile.open(path) as tar:
            return sum(name.endswith(".cls") for name in tar.getnames())
    except tarfile.TarError as error:
        raise StoreError(
            paragraph(f"{path} is not a tar file that can be read.", got=error, fix="Delete it and export again.")
        ) from error


# --- folder ---


def _export_folder(store: Store, out: Path, progress: Progress) -> tuple[str, ...]:
    strange = [name for name in store.index.classes if re.fullmatch(r"\w[\w .+-]*", name) is None]
    if strange:
        raise StoreError(paragraph("A class of the store cannot be the name of a folder.", got=strange))
    with (
        atomic_path(out / "landmarks.csv") as temporary,
        temporary.open("w", encoding="utf-8", newline="") as table,
    ):
        axes = [f"{axis}{point}" for point in range(68) for axis in "xy"]
        header = ["sample_id", "subject", "split", "class", "image", "map", *axes]
        table.writelines(csv_lines(header, _written_rows(store, out, progress)))
    for split in store.index.splits:
        found = (out / "images" / split).glob("*/*")
        written = sum(path.is_file() and not is_system_file(path.name) for path in found)
        check_count(f"images/{split}", written, store.index.rows(split))
    return ("landmarks.csv",)


def _written_rows(store: Store, out: Path, progress: Progress) -> Iterator[list[str]]:
    """Write the pictures of every row; yields its line of the table."""
    for split in store.index.splits:
        reader = store.split(split)
        for row, name in enumerate(_file_names(reader)):
            yield _write_row(reader, row, name, out)
            progress.advance(1)


def _write_row(reader: SplitReader, row: int, name: str, out: Path) -> list[str]:
    label = reader.store.index.classes[int(reader.labels[row])]
    place = f"{reader.split}/{label}/{name}"
    image, au_map = f"images/{place}.{image_suffix(reader)}", f"maps/{place}.png" if reader.has_map[row] else ""
    _put(out / image, lambda: image_file(reader, row))
    if au_map:
        _put(out / au_map, lambda: map_file(reader, row))
    points = [f"{value:.3f}" for value in reader.landmarks[row].ravel()]
    return [reader.sample_ids[row], _person(reader, row), reader.split, label, image, au_map, *points]


def _person(reader: SplitReader, row: int) -> str:
    """Name the person of a face; empty where it is not known."""
    group, sample_id = reader.groups[row], reader.sample_ids[row]
    return "" if group == sample_id else group


def _put(path: Path, make: Callable[[], bytes]) -> None:
    """Write a file, unless it is a PNG that an interrupted run finished: encoding is what takes the time."""
    if path.suffix == ".png" and _is_whole_png(path):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(make())


def _is_whole_png(path: Path) -> bool:
    """Tell whether a file is there and ends as a PNG does; one that was cut short does not."""
    try:
        with path.open("rb") as file:
            file.seek(-len(_PNG_END), os.SEEK_END)
            return file.read() == _PNG_END
    except OSError:  # none, or shorter than that
        return False


def _file_names(reader: SplitReader) -> list[str]:
    """For each row a file name without suffix, unique within its class on any file system.

    The sample id without the folders that the export repeats, and without what a file name cannot hold; where that is
    too long or taken, a digest of the id tells them apart.
    """
    taken: set[tuple[int, str]] = set()
    names = []
    for row, sample_id in enumerate(reader.sample_ids):
        label = int(reader.labels[row])
        folders = f"{reader.split}/{reader.store.index.classes[label]}/"
        name = re.sub(r"[^\w.@+=-]+", "_", sample_id.removeprefix(folders)).lstrip(".") or "_"
        if len(name.encode()) > _MAX_NAME or (label, name.casefold()) in taken:
            name = f"{name[: _MAX_NAME // 4]}~{sha256_bytes(sample_id.encode())[:16]}"
        taken.add((label, name.casefold()))
        names.append(name)
    return names


FORMS: dict[str, Callable[[Store, Path, Progress], tuple[str, ...]]] = {
    "folder": _export_folder,
    "parquet": export_parquet,
    "webdataset": _export_tars,
}
