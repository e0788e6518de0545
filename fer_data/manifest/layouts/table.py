"""Images listed in a text table: CSV with a header, or columns separated by white space without one."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePosixPath

from fer_data.errors import ManifestError, UserInputError, paragraph, unknown_name
from fer_data.manifest.descriptors import Form, compile_pattern
from fer_data.manifest.labels import Vocabulary
from fer_data.manifest.layouts.base import (
    Listing,
    RawRow,
    ReadRequest,
    canonical_split,
    describe_folder,
    is_file,
    is_image_name,
    register_reader,
    relative_path,
)
from fer_data.manifest.layouts.text import column_roles, csv_rows, guess_delimiter, read_header, read_lines
from fer_data.manifest.problems import Place, Problem, ProblemReason, is_plain, printable
from fer_data.types import Box

_CORNERS = ("x0", "y0", "x1", "y1")


class _BadRowError(Exception):
    """A row that cannot be used; the message says why."""


class TableReader:
    """One row per image (or face) in a table; other images in the same folders are listed as problems."""

    def recognises(self, folder: Path, form: Form, vocabulary: Vocabulary) -> bool:
        """The table and the required paths exist and, for a CSV, its header names a path and a label."""
        table = find_table(folder, form)
        if table is None or not all((folder / name).exists() for name in form.requires):
            return False
        return bool(form.columns) or {"path", "label"} <= read_header(table).keys()

    def read(self, request: ReadRequest) -> Listing:
        """Every line of the table is a row or a problem.

        Raises :class:`ManifestError` when there is no table.
        """
        table = find_table(request.folder, request.form)
        if table is None:
            raise no_table(request)
        root = table.parent if request.folder.is_file() else request.folder
        name = table.relative_to(root).as_posix()
        parser = _RowParser(root, request, template(request.form, request.variant))
        rows, problems = list[RawRow](), list[Problem]()
        for line, cells in _table_rows(table, request.form):
            try:
                rows.append(parser.parse(cells, Place(name, line)))
            except _BadRowError as error:
                path, label = parser.path_of(cells) or cells.get("path", ""), cells.get("label", "")
                problems.append(Problem(Place(name, line), path, label, ProblemReason.BAD_ROW, str(error)))
        named = {row.path for row in rows} | {problem.path for problem in problems}
        return Listing(root, tuple(rows), (*problems, *_unlisted(root, rows, named)))


def find_table(folder: Path, form: Form) -> Path | None:
    """The file with the rows: ROOT itself, one of the form's names, or the only CSV of the folder."""
    if folder.is_file():
        # A file is accepted for layouts that need nothing else than the table.
        return folder if folder.suffix.lower() in (".csv", ".tsv") and not (form.requires or form.columns) else None
    if form.tables:
        return next((folder / name for name in form.tables if (folder / name).is_file()), None)
    found = list_tables(folder)
    return found[0] if len(found) == 1 else None


def list_tables(folder: Path) -> list[Path]:
    """CSV files of a folder, without manifests that aupipe itself wrote there."""
    found = sorted(path for path in folder.glob("*.[ct]sv") if path.is_file())
    return [
        path
        for path in found
        if not path.name.endswith(".problems.csv") and not path.with_suffix(".meta.json").exists()
    ]


def no_table(request: ReadRequest) -> ManifestError:
    """The error for a layout whose table is not there."""
    return ManifestError(
        paragraph(
            f"No table of labels in {request.root}.",
            expected=request.form.looks_for,
            got=describe_folder(request.root),
        )
    )


def template(form: Form, variant: str | None) -> str:
    """The path template of a form's variant. Raises :class:`UserInputError` for one that does not exist."""
    if variant is None:
        return next(iter(form.variants.values()), form.path)
    if variant not in form.variants:
        raise UserInputError(
            unknown_name("variant", variant, list(form.variants))
            if form.variants
            else paragraph(f"This layout has no variants, so {variant!r} cannot be chosen.")
        )
    return form.variants[variant]


def _table_rows(table: Path, form: Form) -> Iterator[tuple[int, dict[str, str]]]:
    lines = read_lines(table)
    if form.columns:
        for line, content in enumerate(lines, start=1):
            if content.strip():
                yield line, dict(zip(form.columns, content.split(), strict=False))
        return
    first = next(lines, "")
    rows = csv_rows(chain([first], lines), table, guess_delimiter(first))
    _, header = next(rows, (0, []))
    roles = column_roles(header)
    if not {"path", "label"} <= roles.keys():
        raise ManifestError(
            paragraph(
                "A table has no column for the path or for the label.",
                where=f"{table}, line 1",
                expected="a header such as path,label[,split,subject,x0,y0,x1,y1]",
                got=printable(",".join(header)) or "an empty file",
            )
        )
    for line, cells in rows:
        yield line, {role: cells[at].strip() for role, at in roles.items() if at < len(cells)}


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
        return RawRow(path, label, place, self._split(name, cells.get("split", "")), subject, _box(cells))

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


def _box(cells: Mapping[str, str]) -> Box | None:
    if cells.get("box"):
        parts: Sequence[str] = [part for part in re.split(r"[\s,;()\[\]]+", cells["box"]) if part]
    else:
        parts = [cells.get(corner, "") for corner in _CORNERS]
    if not any(parts):
        return None
    box = parse_box(parts)
    if box is None:
        raise _BadRowError(f"not a box: {' '.join(parts)}; expected x0 y0 x1 y1 with x0 < x1 and y0 < y1")
    return box


def parse_box(parts: Sequence[str]) -> Box | None:
    """A box from four numbers as text, or None when they are no box."""
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        return None
    if len(numbers) != 4 or not all(math.isfinite(number) for number in numbers):
        return None
    box = Box(*numbers)
    return box if box.x0 < box.x1 and box.y0 < box.y1 else None


def _unlisted(root: Path, rows: Sequence[RawRow], named: set[str]) -> Iterator[Problem]:
    # Only folders that hold a listed image count as image folders: others may belong to something else.
    folders = sorted({row.path.rpartition("/")[0] for row in rows if is_file(root / row.path)})
    for folder in folders:
        for entry in sorted(os.scandir(root / folder), key=lambda item: item.name):
            path = f"{folder}/{entry.name}" if folder else entry.name
            if path not in named and is_image_name(entry.name) and entry.is_file():
                place = Place(printable(path))
                yield Problem(place, path, "", ProblemReason.UNLISTED_FILE, "no row names this file")


register_reader("table", TableReader())
