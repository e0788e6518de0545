"""Parquet files that hold the images themselves, as Hugging Face writes them: written out beside the manifest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from aupipe.fer_data.errors import ManifestError, paragraph
from aupipe.fer_data.image_names import is_image_name
from aupipe.fer_data.manifest.descriptors import Form
from aupipe.fer_data.manifest.labels import Vocabulary
from aupipe.fer_data.manifest.layouts.base import (
    DatasetListing,
    Gathering,
    RawRow,
    ReadRequest,
    canonical_split,
    register_reader,
    write_once,
)
from aupipe.fer_data.manifest.layouts.text import column_roles
from aupipe.fer_data.manifest.layouts.walk import walk_files
from aupipe.fer_data.manifest.problems import Place, Problem, ProblemReason, is_plain
from aupipe.fer_data.typed import UnreadableTextError, parse_json

NO_LIBRARY = "Parquet needs the library pyarrow: pip install 'aupipe[parquet]'."
_STARTS = {b"\x89PNG": ".png", b"RIFF": ".webp", b"GIF8": ".gif", b"BM": ".bmp", b"II*\0": ".tif", b"MM\0*": ".tif"}


class ParquetReader:
    """``data/train-00000-of-00002.parquet``: a column of image bytes (or of ``{bytes, path}``) and one of labels.

    ``train-00000-of-00002/000012.png`` is row 12 of that file, from 0. The file's name tells the split, or its
    folder's.
    """

    def recognises(self, folder: Path, form: Form, vocabulary: Vocabulary) -> bool:
        """Return whether some Parquet file has a column of images and one of labels."""
        return any(_image_and_label(_open(file)) for file in _files(folder))

    def read(self, request: ReadRequest) -> DatasetListing:
        """Write each row's image below ``request.images_out`` and list it.

        Raises :class:`ManifestError` when there is no such file, or it is damaged.
        """
        found, root = Gathering(), request.folder
        for file in _files(root, found):
            for item in _read_file(file, file.name if root.is_file() else file.relative_to(root).as_posix(), request):
                found.add(item)
        if not (found.rows or found.problems):
            raise request.not_there("No table of images")
        return found.listing(request.images_out)


def why_unread(path: Path) -> str:
    """Say why the rows of a Parquet file are not read."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        return NO_LIBRARY
    opened = _open(path)
    names = "nothing that can be read" if opened is None else ", ".join(opened.schema_arrow.names[:8])
    return f"It holds {names}: no column of images (as bytes), or none of labels."


def _files(place: Path, log: Gathering | None = None) -> list[Path]:
    names = (place / name for name in walk_files(place, log)) if place.is_dir() else iter([place])
    return [file for file in names if file.suffix.lower() == ".parquet"]


def _open(file: Path) -> Any:
    """Open a Parquet file; None where it is none, or pyarrow is not installed."""
    try:
        from pyarrow import parquet

        return parquet.ParquetFile(file)
    except Exception:
        return None


def _image_and_label(opened: Any) -> tuple[str, str] | None:
    """Name the column of the images and that of the labels."""
    if opened is None:
        return None
    import pyarrow

    schema = opened.schema_arrow
    roles = column_roles(schema.names)
    held = [
        field.name
        for field in schema
        if pyarrow.types.is_binary(field.type)
        or (pyarrow.types.is_struct(field.type) and "bytes" in {part.name for part in field.type})
    ]
    return (held[0], schema.names[roles["label"]]) if held and "label" in roles else None


def _read_file(file: Path, name: str, request: ReadRequest) -> Iterator[RawRow | Problem]:
    opened = _open(file)
    columns = _image_and_label(opened)
    if columns is None:
        yield Problem(Place(name), name, "", ProblemReason.BAD_ROW, why_unread(file))
        return
    schema = opened.schema_arrow
    roles = {role: schema.names[at] for role, at in column_roles(schema.names).items() if role in ("split", "subject")}
    if "subject" not in roles and {"group", "sample_id", "au_map", "to_source"} <= {*schema.names}:
        # Our own export: a face without a known person is its own group.
        roles |= {"subject": "group", "sample_id": "sample_id"}
    words = _class_names(schema.metadata or {}, columns[1])
    split = next(filter(None, (canonical_split(part, {}) for part in (file.stem, file.parent.name))), "")
    number = 0
    try:
        for batch in opened.iter_batches(batch_size=256, columns=[*columns, *roles.values()]):
            for row in batch.to_pylist():
                cells = {role: "" if row[column] is None else str(row[column]) for role, column in roles.items()}
                if cells.get("subject") == cells.get("sample_id"):
                    cells.pop("subject", None)
                stated = canonical_split(cells.get("split", ""), request.splits) or split
                yield _row(row[columns[0]], _word(row[columns[1]], words), name, number, stated, cells, request)
                number += 1
    except Exception as error:
        raise ManifestError(
            paragraph(f"A Parquet file cannot be read: {error}.", where=f"{file}, row {number}")
        ) from error


def _class_names(metadata: Mapping[bytes, bytes], column: str) -> list[str]:
    """Read the names of the classes that Hugging Face keeps in the schema."""
    try:
        feature = parse_json(metadata[b"huggingface"], dict[str, Any])["info"]["features"][column]
        return [str(name) for name in feature["names"]]
    except (UnreadableTextError, KeyError, TypeError):
        return []


def _word(value: object, names: list[str]) -> str:
    if isinstance(value, int) and 0 <= value < len(names):
        return names[value]
    return "" if value is None else str(value).strip()


def _row(
    image: object, label: str, name: str, number: int, split: str, cells: Mapping[str, str], request: ReadRequest
) -> RawRow | Problem:
    place = Place(name, number + 1)
    data, given = (image.get("bytes"), image.get("path")) if isinstance(image, dict) else (image, None)
    plain = is_plain(label) and is_plain(cells.get("subject", ""))
    if not isinstance(data, bytes) or not data or not label or not plain:
        detail = "no label, or none that is text" if data and not (label and plain) else "no image, as bytes"
        return Problem(place, "", label if plain else "", ProblemReason.BAD_ROW, detail)
    suffix = PurePosixPath(str(given or "")).suffix.lower()
    if not is_image_name(f"x{suffix}"):
        suffix = next((end for start, end in _STARTS.items() if data.startswith(start)), ".jpg")
    path = f"{PurePosixPath(name).with_suffix('').as_posix()}/{number:06d}{suffix}"
    write_once(request.images_out / path, data)
    return RawRow(path, label, place, split, cells.get("subject", ""))


register_reader("parquet", ParquetReader())
