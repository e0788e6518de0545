"""Images listed in text tables: CSV with a header, JSON lines, or columns separated by white space without a header."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path, PurePosixPath

import numpy as np

from aupipe.fer_data.errors import ManifestError, paragraph, printable
from aupipe.fer_data.image_names import is_image_name
from aupipe.fer_data.manifest.descriptors import Form, compile_pattern
from aupipe.fer_data.manifest.labels import Vocabulary
from aupipe.fer_data.manifest.layouts.base import (
    DatasetListing,
    Gathering,
    RawRow,
    ReadRequest,
    canonical_split,
    choose_variant,
    is_file,
    register_reader,
    relative_path,
)
from aupipe.fer_data.manifest.layouts.boxes import NO_SIZE, read_size, settle_format
from aupipe.fer_data.manifest.layouts.cells import (
    POINT_COLUMNS,
    box_parts,
    declared_format,
    parse_points,
    plain_word,
    read_numbers,
    to_box,
)
from aupipe.fer_data.manifest.layouts.paths import Folders, find_paths, is_outside
from aupipe.fer_data.manifest.layouts.text import (
    HEADER_ROLES,
    SURPLUS,
    column_roles,
    has_surplus,
    point_columns,
    read_header,
    read_lines,
    table_rows,
)
from aupipe.fer_data.manifest.layouts.walk import scan
from aupipe.fer_data.manifest.problems import Place, Problem, ProblemReason, is_plain
from aupipe.fer_data.manifest.same_faces import group_faces
from aupipe.fer_data.types import Box

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl")
_NEEDED = {"path", "label"}
_TEXTS = {"path", "label", "split", "subject"}  # which hold no decimal commas
_LONG = 16  # a word for a split is shorter
_NO_BOX = "expected x0 y0 x1 y1 with x0 < x1 and y0 < y1, or x y width height"


class _BadRowError(Exception):
    """A row that cannot be used; the message says why."""


class TableReader:
    """One row per image (or face) in a table; other images in the same folders are listed as problems."""

    def recognises(self, folder: Path, form: Form, vocabulary: Vocabulary) -> bool:
        """Return whether the tables exist and, for those with a header, that it names a path and a label."""
        tables = find_tables(folder, form)
        named = bool(form.columns) or all(column_roles(read_header(table)).keys() >= _NEEDED for table, _ in tables)
        return bool(tables) and named

    def read(self, request: ReadRequest) -> DatasetListing:
        """List every line of the tables as a row or a problem.

        Raises :class:`ManifestError` when there is no table.
        """
        tables = find_tables(request.folder, request.form)
        if not tables:
            raise request.not_there("No table of labels")
        root = request.folder.parent if request.folder.is_file() else request.folder
        found, near = Gathering(), dict[str, str]()
        folders = Folders(root, found)
        parsed = [_parse_table(_open_table(table, request, split), request, folders, found) for table, split in tables]
        claims = defaultdict[str, set[str]](set)
        for row in chain.from_iterable(one.rows for one in parsed):
            claims[row.path].add(row.split)
        contested = any(len(splits) > 1 for splits in claims.values())
        for one in parsed:
            near |= _add_rows(one, request, folders, found, contested)
        named = {row.path for row in found.rows} | {problem.path for problem in found.problems}
        found.problems += _unlisted(folders, found.rows, named)
        found.notes = list(dict.fromkeys(found.notes))
        return found.listing(root, near)


def find_tables(folder: Path, form: Form) -> list[tuple[Path, str]]:
    """Find the files with the rows, each with the split it stands for (empty: none)."""
    if form.parts and folder.is_dir():
        return [(folder / name, split) for name, split in form.parts.items() if (folder / name).is_file()]
    if any("*" in name for name in form.tables):
        found = [table for name in form.tables for table in sorted(folder.glob(name))] if folder.is_dir() else []
        return [(table, canonical_split(table.parent.name, {}) or "") for table in found]
    table = find_table(folder, form)
    if table is None and folder.is_dir() and not form.tables:
        # train.csv and test.csv: several tables are one dataset where their names tell different splits.
        several = [(table, canonical_split(table.stem, {}) or "") for table in list_tables(folder)]
        return several if len({split for _, split in several} - {""}) == len(several) else []
    return [(table, "")] if table is not None else []


def find_table(folder: Path, form: Form) -> Path | None:
    """Find the file with the rows: ROOT itself, one of the form's names, or the only table of the folder."""
    if folder.is_file():
        # A file is accepted for layouts that need nothing else than the table.
        alone = not (form.requires or form.columns or form.parts or any("*" in name for name in form.tables))
        return folder if alone and folder.suffix.lower() in (*TABLE_SUFFIXES, ".txt") else None
    if form.tables:
        return next((folder / name for name in form.tables if (folder / name).is_file()), None)
    found = list_tables(folder)
    return found[0] if len(found) == 1 else None


def list_tables(folder: Path) -> list[Path]:
    """List the tables of a folder, without manifests that aupipe itself wrote there."""
    found = [Path(entry.path) for entry in scan(folder) if entry.name.lower().endswith((*TABLE_SUFFIXES, ".txt"))]
    return [
        path
        for path in found
        if path.is_file()
        and not path.name.endswith(".problems.csv")
        and not path.with_suffix(".meta.json").exists()
        and (path.suffix.lower() != ".txt" or column_roles(read_header(path)).keys() >= _NEEDED)
    ]


@dataclass(frozen=True, slots=True)
class _Table:
    """A table: its rows by role with their line numbers.

    ``surplus``: lines whose cells may be shifted: they have more than the header has columns. ``unread``: columns that
    nothing is read from. ``found_split``: name of a column that is read as the split for what it holds, empty where its
    name says so.
    """

    path: Path
    roles: Mapping[str, int]
    rows: Sequence[tuple[int, dict[str, str]]]
    surplus: Set[int]
    unread: Sequence[str]
    found_split: str


def _open_table(path: Path, request: ReadRequest, split: str) -> _Table:
    form = request.form
    rows: Iterator[tuple[int, list[str]]]
    if form.columns and not form.delimiter:
        header = list(form.columns)
        rows = ((line, text.split()) for line, text in enumerate(read_lines(path), start=1) if text.strip())
    else:
        rows = table_rows(path, form.delimiter)
        start = next(rows, None)
        header = start[1] if start is not None else []
        if not column_roles(header).keys() >= _NEEDED and form.columns and start is not None:
            # A table that may lack its header: the first line is a row already.
            rows, header = chain([start], rows), list(form.columns)
    roles = column_roles(header)
    _check_header(header, roles, path)
    listed = list(rows)
    at = None if split else _split_column(header, listed, roles, request.splits)
    roles.pop("split", None)
    roles |= {} if at is None else {"split": at}
    cells = [(line, {role: row[at].strip() for role, at in roles.items() if at < len(row)}) for line, row in listed]
    for _, row in cells if at is None else ():
        row["split"] = split  # where the file tells the split, a column does not
    used = set(roles.values())
    unread = [name for at, name in enumerate(header) if at not in used and name and not name.startswith("Unnamed")]
    # Where the columns that are read come first, a text with commas behind them shifts none of them.
    shifted = used != set(range(len(used))) or any(role not in _TEXTS for role in roles)
    surplus = {line for line, row in listed if shifted and has_surplus(row, header)}
    found = "" if at is None or plain_word(header[at]) in HEADER_ROLES["split"].split() else header[at]
    return _Table(path, roles, cells, surplus, [] if form.columns else unread, found)


def _split_column(
    header: Sequence[str],
    rows: Sequence[tuple[int, Sequence[str]]],
    roles: Mapping[str, int],
    splits: Mapping[str, str],
) -> int | None:
    """Find the column that tells the split.

    One with a name for it that holds a word for one (folds with numbers are no splits), or else one that holds nothing
    but such words: plain ones, or also longer ones, such as "Test 1", where those for training are among them.
    """
    names, taken = [plain_word(cell) for cell in header], {at for role, at in roles.items() if role != "split"}
    free = [at for at in range(len(header)) if at not in taken]
    for at in (names.index(alias) for alias in HEADER_ROLES["split"].split() if alias in names):
        if at in free and any(canonical_split(word, splits) for word in _words(rows, at)):
            return at
    for at in free:
        words = set[str]()
        for word in _words(rows, at):
            if len(word) >= _LONG or not canonical_split(word, {}):
                break
            words.add(word)
        else:
            plain = all(word.isalpha() and canonical_split(word, {}, whole=True) for word in words)
            if words and (plain or "train" in {canonical_split(word, {}) for word in words}):
                return at
    return None


def _words(rows: Sequence[tuple[int, Sequence[str]]], at: int) -> Iterator[str]:
    return (row[at].strip() for _, row in rows if at < len(row))


def _check_header(header: Sequence[str], roles: Mapping[str, int], table: Path) -> None:
    if not roles.keys() >= _NEEDED:
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
class _ParsedTable:
    """A table with its usable rows, and the texts of the box of each."""

    table: _Table
    rows: Sequence[RawRow]
    boxes: Sequence[Sequence[str]]


def _parse_table(table: _Table, request: ReadRequest, folders: Folders, found: Gathering) -> _ParsedTable:
    """Parse the rows of a table; those that cannot be used are added as problems."""
    name, parser = table.path.relative_to(folders.root).as_posix(), _RowParser(folders.root, request, table.path)
    parsed = list[tuple[RawRow, Sequence[str]]]()
    for line, cells in table.rows:
        try:
            if line in table.surplus:
                raise _BadRowError(SURPLUS)
            parsed.append((parser.parse(cells, Place(name, line)), box_parts(cells)))
        except _BadRowError as error:
            path, label = parser.path_of(cells), cells.get("label", "")
            found.add(Problem(Place(name, line), path, label, ProblemReason.BAD_ROW, str(error)))
    rows, note = _splits_of_folders([row for row, _ in parsed], request.splits)
    found.notes += [note] if note else []
    if table.found_split:
        found.notes.append(f"the column {table.found_split} of {name} is read as the split")
    return _ParsedTable(table, rows, [box for _, box in parsed])


def _add_rows(
    parsed: _ParsedTable, request: ReadRequest, folders: Folders, found: Gathering, contested: bool
) -> Mapping[str, str]:
    """Add the rows of a table; return the nearest files of those whose own is absent."""
    table = parsed.table
    rows, near = _with_files(parsed.rows, folders, found, contested)
    if table.unread:
        name = table.path.relative_to(folders.root).as_posix()
        more = f" and {len(table.unread) - 8} more" if len(table.unread) > 8 else ""
        found.notes.append(f"columns of {name} that are not used: {', '.join(table.unread[:8])}{more}")
    boxed = list(zip(rows, parsed.boxes, strict=True))
    form, note = _box_format(boxed, table, request, folders.root)
    found.notes += [note] if note else []
    several = _photos_of_several(rows)
    for row, parts in boxed:
        if not parts and row.path in several:
            row = replace(row, box=_box_of_points(row))
        found.add(_with_box(row, parts, form, folders.root, near.get(row.path, "")))
    return near


def _splits_of_folders(rows: Sequence[RawRow], splits: Mapping[str, str]) -> tuple[Sequence[RawRow], str]:
    """Give rows without a split the one that the folders of their paths name, where all do and they differ."""
    folders = [row.path.split("/")[:-1] for row in rows]
    told = [next(filter(None, (canonical_split(name, splits) for name in names)), "") for names in folders]
    if any(row.split for row in rows) or "" in told or "train" not in told or len(set(told)) == 1:
        return rows, ""
    shown = ", ".join(sorted({next(name for name in names if canonical_split(name, splits)) for names in folders})[:4])
    return (
        [replace(row, split=split) for row, split in zip(rows, told, strict=True)],
        f"the folders in the paths are read as the split: {shown}",
    )


def _with_files(
    rows: Sequence[RawRow], folders: Folders, found: Gathering, contested: bool
) -> tuple[Sequence[RawRow], Mapping[str, str]]:
    """Give rows the files that they mean; return also the nearest files of those that have none.

    Where rows of several splits have one path (``contested``), they are looked for split by split: a file in the folder
    of another split is none of theirs then.
    """
    moved, near = dict[tuple[str, str], str](), dict[str, str]()
    every = {row.path for row in rows}
    for split in sorted({row.split for row in rows}) if contested else [""]:
        its = [row.path for row in rows if not contested or row.split == split]
        paths = find_paths(its, folders, split, every)
        moved |= {(split, path): file for path, file in paths.moved.items()}
        near |= paths.near
        found.notes += [paths.note] if paths.note else []
    files = [moved.get((row.split if contested else "", row.path), row.path) for row in rows]
    return [replace(row, path=file) for row, file in zip(rows, files, strict=True)], near


def _photos_of_several(rows: Sequence[RawRow]) -> Set[str]:
    """Find the photos whose rows have no box, but landmarks of different faces."""
    boxes = defaultdict[str, list[Box]](list)
    for row in rows:
        if row.points is not None and (box := _box_of_points(row)) is not None:
            boxes[row.path].append(box)
    return {path for path, its in boxes.items() if len(group_faces((box, path, box) for box in its)) > 1}


def _box_of_points(row: RawRow) -> Box | None:
    if row.points is None or not np.isfinite(row.points).all():
        return None
    (x0, y0), (x1, y1) = row.points.min(0).tolist(), row.points.max(0).tolist()
    return Box(x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def _box_format(
    rows: Sequence[tuple[RawRow, Sequence[str]]], table: _Table, request: ReadRequest, root: Path
) -> tuple[str, str]:
    numbers = ((root / row.path, read_numbers(parts)) for row, parts in rows if parts and not is_outside(row.path))
    boxes = [(file, found) for file, found in numbers if to_box(found, "xyxy", None) or len(found) == 4]
    declared = declared_format(table.roles)
    if not boxes or request.form.columns:
        return request.box_format or declared or "xyxy", ""
    return settle_format(boxes, declared, request.box_format, table.path)


def _with_box(row: RawRow, parts: Sequence[str], form: str, root: Path, near: str) -> RawRow | Problem:
    detail = ""
    if is_outside(row.path):
        detail = "the path leaves the dataset's folder" + (f"; {near} is there" if near else "")
    elif parts:
        size = read_size(root / row.path) if form == "yolo" else None
        row = replace(row, box=to_box(read_numbers(parts), form, size))
        if row.box is None and form == "yolo" and size is None:
            # Of a photo that is absent, screening says so.
            detail = NO_SIZE if is_file(root / row.path) else ""
        elif row.box is None:
            detail = f"not a box: {' '.join(parts)}; {_NO_BOX}"
    return Problem(row.place, row.path, row.source_label, ProblemReason.BAD_ROW, detail) if detail else row


class _RowParser:
    def __init__(self, root: Path, request: ReadRequest, table: Path) -> None:
        self._root, self._splits = root, request.splits
        self._template = choose_variant(request.form, request.variant)
        self._beside = "".join(f"{part}/" for part in table.parent.relative_to(root).parts)
        self._split_pattern = compile_pattern(request.form.split_pattern, "split_pattern")

    def path_of(self, cells: Mapping[str, str]) -> str:
        """Return the path of a row relative to the root; as it is given where it leaves the root."""
        name = cells.get("path", "")
        given = PurePosixPath(name)
        if not given.name:
            return name
        stem = str(given.with_suffix(""))
        text = self._template.format(name=name, stem=stem, suffix=given.suffix, beside=self._beside)
        return relative_path(text, self._root) or text.strip().replace("\\", "/")

    def parse(self, cells: Mapping[str, str], place: Place) -> RawRow:
        name, label = cells.get("path", ""), cells.get("label", "")
        if not name or not label:
            raise _BadRowError("no path" if not name else "no label")
        if not all(is_plain(cell) for cell in cells.values()):
            raise _BadRowError("holds control characters")
        path, subject = self.path_of(cells), cells.get("subject", "")
        if path in ("", "."):
            raise _BadRowError("no path")
        split = self._split(name, cells.get("split", ""))
        return RawRow(path, label, place, split, subject, None, _points(cells), cells.get("aus", ""))

    def _split(self, name: str, text: str) -> str:
        if self._split_pattern is not None:
            match = self._split_pattern.search(PurePosixPath(name).name)
            if match is None:
                raise _BadRowError("the file name does not tell its split")
            text = match[1]
        if not text:
            return ""
        split = canonical_split(text, self._splits)
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


def _unlisted(folders: Folders, rows: Sequence[RawRow], named: set[str]) -> Iterator[Problem]:
    # Only folders that hold a listed image count as image folders: others may belong to something else.
    for folder in sorted({row.path.rpartition("/")[0] for row in rows if folders.holds(row.path)}):
        for name, entry in (folders.entries(folder) or {}).items():
            path = f"{folder}/{name}" if folder else name
            if path not in named and is_image_name(name) and _is_file(entry):
                place = Place(printable(path))
                yield Problem(place, path, "", ProblemReason.UNLISTED_FILE, "no row names this file")


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False


register_reader("table", TableReader())
