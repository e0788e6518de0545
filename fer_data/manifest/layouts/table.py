"""Images listed in a text table: CSV with a header, or columns separated by white space without one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePosixPath

import numpy as np

from aupipe.fer_data.errors import ManifestError, paragraph, printable
from aupipe.fer_data.manifest.descriptors import Form, compile_pattern
from aupipe.fer_data.manifest.labels import Vocabulary
from aupipe.fer_data.manifest.layouts.base import (
    DatasetListing,
    RawRow,
    ReadRequest,
    canonical_split,
    choose_variant,
    describe_folder,
    is_file,
    is_image_name,
    register_reader,
    relative_path,
)
from aupipe.fer_data.manifest.layouts.cells import POINT_COLUMNS, box_of_cells, parse_points
from aupipe.fer_data.manifest.layouts.text import (
    column_roles,
    csv_rows,
    guess_delimiter,
    point_columns,
    read_header,
    read_lines,
)
from aupipe.fer_data.manifest.layouts.walk import list_unreadable, scan
from aupipe.fer_data.manifest.problems import Place, Problem, ProblemReason, is_plain


class _BadRowError(Exception):
    """A row that cannot be used; the message says why."""


class TableReader:
    """One row per image (or face) in a table; other images in the same folders are listed as problems."""

    def recognises(self, folder: Path, form: Form, vocabulary: Vocabulary) -> bool:
        """Return whether the table exists and, for a CSV with a header, that names a path and a label."""
        tables = find_tables(folder, form)
        return bool(tables) and (bool(form.columns) or {"path", "label"} <= read_header(tables[0][0]).keys())

    def read(self, request: ReadRequest) -> DatasetListing:
        """List every line of the table as a row or a problem.

        Raises :class:`ManifestError` when there is no table.
        """
        tables = find_tables(request.folder, request.form)
        if not tables:
            raise missing_table_error(request)
        root = request.folder.parent if request.folder.is_file() else request.folder
        parser = _RowParser(root, request, choose_variant(request.form, request.variant))
        rows, problems = list[RawRow](), list[Problem]()
        for table, split in tables:
            name = table.relative_to(root).as_posix()
            for line, cells in _table_rows(table, request.form):
                if split:
                    cells["split"] = split
                try:
                    rows.append(parser.parse(cells, Place(name, line)))
                except _BadRowError as error:
                    path, label = parser.path_of(cells) or cells.get("path", ""), cells.get("label", "")
                    problems.append(Problem(Place(name, line), path, label, ProblemReason.BAD_ROW, str(error)))
        named = {row.path for row in rows} | {problem.path for problem in problems}
        problems += _unlisted(root, rows, named, problems)
        return DatasetListing(root, tuple(rows), tuple(problems))


def find_tables(folder: Path, form: Form) -> list[tuple[Path, str]]:
    """Find the files with the rows, each with the split it stands for (empty: none)."""
    if form.parts and folder.is_dir():
        return [(folder / name, split) for name, split in form.parts.items() if (folder / name).is_file()]
    table = find_table(folder, form)
    return [(table, "")] if table is not None else []


def find_table(folder: Path, form: Form) -> Path | None:
    """Find the file with the rows: ROOT itself, one of the form's names, or the only CSV of the folder."""
    if folder.is_file():
        # A file is accepted for layouts that need nothing else than the table.
        fits = folder.suffix.lower() in (".csv", ".tsv") and not (form.requires or form.columns or form.parts)
        return folder if fits else None
    if form.tables:
        return next((folder / name for name in form.tables if (folder / name).is_file()), None)
    found = list_tables(folder)
    return found[0] if len(found) == 1 else None


def list_tables(folder: Path) -> list[Path]:
    """List the CSV files of a folder, without manifests that aupipe itself wrote there."""
    found = sorted(path for path in folder.glob("*.[ct]sv") if path.is_file())
    return [
        path
        for path in found
        if not path.name.endswith(".problems.csv") and not path.with_suffix(".meta.json").exists()
    ]


def missing_table_error(request: ReadRequest) -> ManifestError:
    """Make the error for a layout whose table is not there."""
    return ManifestError(
        paragraph(
            f"No table of labels in {request.root}.",
            expected=request.form.looks_for,
            got=describe_folder(request.root),
        )
    )


def _table_rows(table: Path, form: Form) -> Iterator[tuple[int, dict[str, str]]]:
    lines = read_lines(table)
    if form.columns and not form.delimiter:
        roles = column_roles(form.columns)
        for line, content in enumerate(lines, start=1):
            if content.strip():
                yield line, _cells(content.split(), roles)
        return
    first = next(lines, "")
    rows = csv_rows(chain([first], lines), table, form.delimiter or guess_delimiter(first))
    start = next(rows, None)
    header = start[1] if start is not None else []
    roles = column_roles(header)
    if not {"path", "label"} <= roles.keys() and form.columns and start is not None:
        # A table that may lack its header: the first line is a row already.
        rows, header = chain([start], rows), list(form.columns)
        roles = column_roles(header)
    _check_header(header, roles, table)
    for line, cells in rows:
        yield line, _cells(cells, roles)


def _cells(cells: Sequence[str], roles: Mapping[str, int]) -> dict[str, str]:
    return {role: cells[at].strip() for role, at in roles.items() if at < len(cells)}


def _check_header(header: Sequence[str], roles: Mapping[str, int], table: Path) -> None:
    if not {"path", "label"} <= roles.keys():
        raise ManifestError(
            paragraph(
                "A table has no column for the path or for the label.",
                where=f"{table}, line 1",
                expected="a header such as path,label[,split,subject,box,x0,y0 ... x67,y67]",
                got=printable(",".join(header))[:200] or "an empty file",
            )
        )
    if 0 < point_columns(header) < len(POINT_COLUMNS):
        raise ManifestError(
            paragraph(
                "A table has some of the columns of the 68 landmarks, but not all.",
                where=f"{table}, line 1",
                expected=f"{len(POINT_COLUMNS)} columns x0, y0 ... x67, y67 (or x0, y0, x1, y1 alone: a box)",
                got=f"{point_columns(header)} of them",
            )
        )


@dataclass(frozen=True, slots=True)
class _RowParser:
    root: Path
    request: ReadRequest
    template: str

    def path_of(self, cells: Mapping[str, str]) -> str | None:
        name = cells.get("path", "")
        given = PurePosixPath(name)
        if not given.name:
            return None
        stem = str(given.with_suffix(""))
        return relative_path(self.template.format(name=name, stem=stem, suffix=given.suffix), self.root)

    def parse(self, cells: Mapping[str, str], place: Place) -> RawRow:
        name, label = cells.get("path", ""), cells.get("label", "")
        if not name or not label:
            raise _BadRowError("no path" if not name else "no label")
        if not all(is_plain(cell) for cell in cells.values()):
            raise _BadRowError("holds control characters")
        path = self.path_of(cells)
        if path is None:
            raise _BadRowError("the path leaves the dataset's folder")
        subject = cells.get("subject", "")
        box = box_of_cells(cells)
        if isinstance(box, str):
            raise _BadRowError(f"not a box: {box}; expected x0 y0 x1 y1 with x0 < x1 and y0 < y1, or x y width height")
        split = self._split(name, cells.get("split", ""))
        return RawRow(path, label, place, split, subject, box, _points(cells))

    def _split(self, name: str, text: str) -> str:
        pattern = compile_pattern(self.request.form.split_pattern, "split_pattern")
        if pattern is not None:
            match = pattern.search(PurePosixPath(name).name)
            if match is None:
                raise _BadRowError("the file name does not tell its split")
            text = match[1]
        if not text:
            return ""
        split = canonical_split(text, self.request.splits)
        if split is None:
            raise _BadRowError(f"unknown split {text!r}, expected train, val or test")
        return split


def _points(cells: Mapping[str, str]) -> np.ndarray | None:
    if cells.get("points"):
        return parse_points(re.split(r"[\s,;]+", cells["points"].strip(" ;[]()")))
    if "point x0" not in cells:
        return None
    parts = [cells.get(f"point {name}", "") for name in POINT_COLUMNS]
    return parse_points(parts) if any(parts) else None


def _unlisted(root: Path, rows: Sequence[RawRow], named: set[str], problems: list[Problem]) -> list[Problem]:
    # Only folders that hold a listed image count as image folders: others may belong to something else.
    folders = sorted({row.path.rpartition("/")[0] for row in rows if is_file(root / row.path)})
    found = []
    for folder in folders:
        for entry in scan(root / folder, list_unreadable(problems), folder):
            path = f"{folder}/{entry.name}" if folder else entry.name
            if path not in named and is_image_name(entry.name) and is_file(Path(entry.path)):
                place = Place(printable(path))
                found.append(Problem(place, path, "", ProblemReason.UNLISTED_FILE, "no row names this file"))
    return found


register_reader("table", TableReader())
