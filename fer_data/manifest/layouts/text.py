"""Reading text tables line by line: encodings, delimiters, header names, and messages for files that are no table."""

from __future__ import annotations

import codecs
import contextlib
import csv
import re
import tarfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from aupipe.fer_data.errors import ManifestError, paragraph
from aupipe.fer_data.manifest.layouts.cells import POINT_COLUMNS, box_columns, plain_word
from aupipe.fer_data.typed import UnreadableTextError, parse_json

HEADER_ROLES: dict[str, str] = {
    "path": "path imagepath imgpath filepath relativepath relpath subdirectoryfilepath photopath file filename fname "
    "imagefile imgfile image imagename imgname img images imageid imgid photo picture pic pth",
    "label": "label labels emotion emotions expression expressions class classname category target labelname "
    "emotionlabel expressionlabel classlabel facialexpression exp affect sentiment mood groundtruth gt",
    "split": "split datasplit usage subset partition phase set dataset fold",
    "subject": "subject subjectid person personid personname identity participant participantid actor actorid subj",
    "pixels": "pixels",
    "box": "box bbox boundingbox bndbox facebox facebbox rect facerect roi",
    "points": "landmarks faciallandmarks",
    "aus": "aus facs facscodes actionunits aucodes",
}
"""Header names understood for each role, best first, without spaces and underscores; those of boxes and points in
several columns are in ``cells``."""


def read_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a text file with their ends, without a byte order mark; the file is read as they are taken.

    Raises :class:`ManifestError` when it cannot be read or is not UTF-8 (or UTF-16) text.
    """
    try:
        with path.open(encoding=_encoding(path), newline="") as file:
            yield from file
    except UnicodeDecodeError as error:
        if archive := _archive(path):
            raise ManifestError(archive) from error
        number, line = _first_odd_line(path)
        raise ManifestError(
            paragraph(
                "A table is not UTF-8 text.",
                where=f"{path}, line {number}",
                got=f"{line!r}, if it is Windows-1252",
                fix='Save it as UTF-8 (in Excel: "CSV UTF-8") and try again.',
            )
        ) from error
    except OSError as error:
        raise ManifestError(paragraph(f"A table cannot be read: {error.strerror or error}.", where=path)) from error


def _encoding(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(4)
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if 0 in head[:2]:  # the first character of a header is ASCII
        return "utf-16-be" if head[0] == 0 else "utf-16-le"
    return "utf-8-sig"


def _archive(path: Path) -> str:
    """Say what to do with an archive or a workbook in place of a table; empty for anything else."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            workbook = "xl/workbook.xml" in archive.namelist()
        if workbook:
            return paragraph("An Excel workbook is no text table.", where=path, fix='Save it as "CSV UTF-8".')
    elif not tarfile.is_tarfile(path):
        return ""
    return paragraph("An archive is not read.", where=path, fix="Unpack it, and give the folder that it holds.")


def _first_odd_line(path: Path) -> tuple[int, str]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return number, line.decode("cp1252", "replace").strip()[:80]
    return 0, ""


def csv_rows(lines: Iterable[str], where: object, delimiter: str = "") -> Iterator[tuple[int, list[str]]]:
    """Yield ``(line number, cells)`` of each row that is not blank; of a row of several lines the last line's.

    Without a ``delimiter`` it is the one that Excel's first line ``sep=;`` tells, or that the first row suggests.
    Raises :class:`ManifestError` when the text is not CSV.
    """
    lines, skipped = iter(lines), 0
    first = next(lines, "")
    told = re.fullmatch(r"sep=(.)\s*", first)
    while first and (told is not None or not first.strip()):
        delimiter, told = told[1] if told is not None else delimiter, None
        first, skipped = next(lines, ""), skipped + 1
    reader = csv.reader(chain([first], lines), delimiter=delimiter or guess_delimiter(first))
    try:
        for cells in reader:
            if any(map(str.strip, cells)):
                yield skipped + reader.line_num, cells
    except csv.Error as error:
        raise ManifestError(
            paragraph(f"A table is not CSV: {error}.", where=f"{where}, line {skipped + reader.line_num}")
        ) from error


def guess_delimiter(header: str) -> str:
    """Guess the delimiter: the one that a header line holds most often; a comma when there is none.

    >>> guess_delimiter("path;label")
    ';'
    """
    return max(",;\t|", key=header.count)


def find_column(names: Sequence[str], aliases: str) -> int | None:
    """Find the first of some aliases, best first and separated by blanks, among :func:`plain_word` names."""
    return next((names.index(alias) for alias in aliases.split() if alias in names), None)


def column_roles(header: Sequence[str]) -> dict[str, int]:
    """Find the position of each role in a header; the best name wins when several columns could fill one.

    >>> column_roles(["user.id", "image", "emotion"])
    {'path': 1, 'label': 2}

    All 136 columns ``x0 ... y67`` are landmarks, and then no box is read from ``x0``, ``y0``, ``x1``, ``y1``. The roles
    of a box in four columns name its format: ``xywh 0 ... xywh 3``.
    """
    names = [plain_word(cell) for cell in header]
    found = dict[str, int]()
    for role, aliases in HEADER_ROLES.items():
        if (position := find_column(names, aliases)) is not None:
            found[role] = position
    if point_columns(header) == len(POINT_COLUMNS):
        found.update((f"point {name}", names.index(name)) for name in POINT_COLUMNS)
    if {"x5", "y5"} <= {*names}:  # of points, or a row of numbers: no box lies in their first four
        names = ["" if name in POINT_COLUMNS else name for name in names]
    if "box" not in found:
        found |= box_columns(names)
    return found


def read_header(path: Path) -> list[str]:
    """Read the first row of a table (of a ``.jsonl`` file the names); empty when it cannot be read."""
    try:
        return next(table_rows(path), (0, []))[1]
    except ManifestError:
        return []


def table_rows(path: Path, delimiter: str = "") -> Iterator[tuple[int, list[str]]]:
    """Yield ``(line number, cells)`` of a CSV file or of one of JSON objects (``.jsonl``), the header first.

    Raises :class:`ManifestError` when it is neither.
    """
    if path.suffix.lower() == ".parquet":
        yield from enumerate(_parquet_rows(path), start=1)
        return
    if path.suffix.lower() != ".jsonl":
        yield from csv_rows(read_lines(path), path, delimiter)
        return
    header = _json_names(path)
    for number, (line, row) in enumerate(_json_rows(path)):
        if not number:
            yield line, header
        yield line, ["" if row.get(name) is None else str(row[name]) for name in header]


def _json_names(path: Path) -> list[str]:
    """List the names in all records, of which each may lack some; up to a line that cannot be read, if there is one."""
    names: dict[str, None] = {}
    with contextlib.suppress(ManifestError):  # who reads the rows comes to that line
        for _, row in _json_rows(path):
            names.update(dict.fromkeys(row))
    return list(names)


def _json_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the JSON objects of a file's lines, with the lines' numbers; empty ones are passed over."""
    for line, text in enumerate(read_lines(path), start=1):
        try:
            row = parse_json(text, dict[str, Any]) if text.strip() else {}
        except UnreadableTextError as error:
            raise ManifestError(
                paragraph("A line of a table is no JSON object.", where=f"{path}, line {line}", got=error)
            ) from error
        if row:
            yield line, row


def _parquet_rows(path: Path) -> Iterator[list[str]]:
    """Yield the rows of a Parquet file's columns of text and numbers, their names first."""
    try:
        from pyarrow import parquet, types

        table = parquet.read_table(path)
        fields = (field for field in table.schema if not types.is_nested(field.type))
        names = [field.name for field in fields if not types.is_binary(field.type)]
        yield names
        for row in table.select(names).to_pylist():
            yield ["" if row[name] is None else str(row[name]) for name in names]
    except Exception as error:  # its reader raises nearly anything
        raise ManifestError(paragraph(f"A Parquet file cannot be read: {error}.", where=path)) from error


def point_columns(header: Sequence[str]) -> int:
    """Count the landmark columns ``x0 ... y67`` in a header, up to 136; 0 when they may as well be those of a box."""
    names = {plain_word(cell) for cell in header}
    if "x68" in names:  # more points, or other numbers
        return 0
    if set(POINT_COLUMNS) <= names:
        return len(POINT_COLUMNS)
    present = set(POINT_COLUMNS) & {cell.strip().casefold() for cell in header}
    return len(present) if present - {"x0", "y0", "x1", "y1", "x2", "y2"} else 0


def has_surplus(cells: Sequence[str], header: Sequence[str]) -> bool:
    """Return whether a row says something beyond the header's columns, so that its cells may be shifted."""
    return any(cell.strip() for cell in cells[len(header) :])


SURPLUS = (
    "more cells than the header has columns, as where a text or number holds the delimiter: which is whose is unknown"
)


def beginning_matches(path: Path, pattern: str) -> bool:
    """Return whether a regular expression occurs in the first 64 KiB of a text file; False when there is no file."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return re.search(pattern, file.read(65536)) is not None
    except OSError:
        return False
