"""Reading text tables line by line: delimiters, header names, and messages for files that are no table."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from aupipe.fer_data.errors import ManifestError, paragraph
from aupipe.fer_data.manifest.layouts.cells import BOX_COLUMNS, POINT_COLUMNS

HEADER_ROLES: dict[str, tuple[str, ...]] = {
    "path": (
        "path",
        "image_path",
        "filepath",
        "file_path",
        "file",
        "filename",
        "file_name",
        "image",
        "image_name",
        "img",
        "subdirectory_filepath",
    ),
    "label": ("label", "emotion", "expression", "class", "category"),
    "split": ("split", "usage", "subset", "partition"),
    "subject": ("subject", "subject_id", "person", "person_id", "identity"),
    "pixels": ("pixels",),
    "box": ("box", "bbox"),
    "points": ("landmarks", "facial_landmarks"),
}
"""Header names understood for each role, best first; those of boxes and points in several columns are in ``cells``."""


def read_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a text file with their ends, without a byte order mark; the file is read as they are taken.

    Raises :class:`ManifestError` when it cannot be read or is not UTF-8 text.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from file
    except UnicodeDecodeError as error:
        where = f"{path}, line {_first_odd_line(path)}"
        raise ManifestError(
            paragraph("A table is not UTF-8 text.", where=where, fix="Save it as UTF-8 and try again.")
        ) from error
    except OSError as error:
        raise ManifestError(paragraph(f"A table cannot be read: {error.strerror or error}.", where=path)) from error


def _first_odd_line(path: Path) -> int:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return number
    return 0


def csv_rows(lines: Iterable[str], where: object, delimiter: str = ",") -> Iterator[tuple[int, list[str]]]:
    """Yield ``(line number, cells)`` of each row that is not blank; of a row of several lines the last line's.

    Raises :class:`ManifestError` when the text is not CSV.
    """
    reader = csv.reader(lines, delimiter=delimiter)
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield reader.line_num, cells
    except csv.Error as error:
        raise ManifestError(
            paragraph(f"A table is not CSV: {error}.", where=f"{where}, line {reader.line_num}")
        ) from error


def guess_delimiter(header: str) -> str:
    """Guess the delimiter: the one that a header line holds most often; a comma when there is none.

    >>> guess_delimiter("path;label")
    ';'
    """
    return max(",;\t", key=header.count)


def column_roles(header: Sequence[str]) -> dict[str, int]:
    """Find the position of each role in a header; the best name wins when several columns could fill one.

    >>> column_roles(["user.id", "image", "emotion"])
    {'path': 1, 'label': 2}

    All 136 columns ``x0 ... y67`` are landmarks, and then no box is read from ``x0``, ``y0``, ``x1``, ``y1``.
    """
    names = [cell.strip().casefold().replace(" ", "_") for cell in header]
    found = dict[str, int]()
    for role, aliases in HEADER_ROLES.items():
        position = next((names.index(alias) for alias in aliases if alias in names), None)
        if position is not None:
            found[role] = position
    if point_columns(header) == len(POINT_COLUMNS):
        found.update((f"point {name}", names.index(name)) for name in POINT_COLUMNS)
    else:
        columns, roles = next((item for item in BOX_COLUMNS if set(item[0]) <= set(names)), ((), ()))
        found.update((role, names.index(name)) for name, role in zip(columns, roles, strict=True))
    return found


def point_columns(header: Sequence[str]) -> int:
    """Count the landmark columns ``x0 ... y67`` in a header, up to 136; 0 when they may as well be those of a box."""
    present = set(POINT_COLUMNS) & {cell.strip().casefold() for cell in header}
    return len(present) if present - {"x0", "y0", "x1", "y1", "x2", "y2"} else 0


def beginning_matches(path: Path, pattern: str) -> bool:
    """Return whether a regular expression occurs in the first 64 KiB of a text file; False when there is no file."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return re.search(pattern, file.read(65536)) is not None
    except OSError:
        return False


def read_header(path: Path) -> dict[str, int]:
    """Read the column roles of a CSV file's first line; empty when it cannot be read as text."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            first = file.readline(65536)
    except (OSError, UnicodeDecodeError):
        return {}
    return column_roles(next(csv.reader([first], delimiter=guess_delimiter(first)), []))
