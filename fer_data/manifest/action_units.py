"""Action units that people or other programs coded: from a dataset's own files, or from a table beside it.

A table names the faces by file, by sequence or by person, and their action units in FACS notation, or in the columns
of OpenFace (``AU01_c``, ``AU01_r``), LibreFace (``au_1``, ``au_1_intensity``) or py-feat (``AU01``). What cannot be
read is listed and leaves its faces uncoded; nothing is guessed.
"""

from __future__ import annotations

import posixpath
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from aupipe.fer_data.action_units.facs import FacsCode, FacsError, intensity_letter, parse_facs
from aupipe.fer_data.errors import ManifestError, paragraph
from aupipe.fer_data.files import sha256_file
from aupipe.fer_data.manifest.layouts.cells import plain_word
from aupipe.fer_data.manifest.layouts.text import HEADER_ROLES, find_column, table_rows
from aupipe.fer_data.manifest.problems import Place, Problem, ProblemReason
from aupipe.fer_data.types import Sample

_EXACT = 3  # of the names of a file: path, path without suffix, sample_id
_PRESENT = 0.5  # of a presence (0 or 1) or a probability
_KEYS: Mapping[str, str] = {
    "file": HEADER_ROLES["path"] + " input sampleid",
    "sequence": "sequence sequenceid seq clip video videoid",
    "person": HEADER_ROLES["subject"],
}
"""Header names of what a table names faces by, most exact first."""


@dataclass(frozen=True, slots=True)
class CodeSource:
    """Where a manifest's action units come from.

    Attributes:
        name: File name of the table; empty where they lie with the dataset.
        scale: What the numbers were: ``FACS``, ``OpenFace``, ``LibreFace``, ``probability`` (py-feat).
        samples: Number of samples that have codes.
        observed: The action units that were looked for; empty: all of FACS.
        sha256: SHA-256 of the table; empty where there is none.
    """

    name: str = ""
    scale: str = "FACS"
    samples: int = 0
    observed: tuple[int, ...] = ()
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class CodedSamples:
    """Samples with their action units, what could not be read, and sentences for the report."""

    samples: Sequence[Sample]
    source: CodeSource | None = None
    problems: Sequence[Problem] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class _Scale:
    """How a program names its columns, as patterns of lower-case header names with the number as group 1."""

    name: str
    presence: str
    intensity: str = ""

    def columns(self, header: Sequence[str]) -> dict[int, tuple[int | None, int | None]]:
        """Find the columns of presence and of intensity of each action unit."""
        found = defaultdict[int, list[int | None]](lambda: [None, None])
        for at, name in enumerate(header):
            for slot, pattern in enumerate((self.presence, self.intensity)):
                if pattern and (match := re.fullmatch(pattern, name.strip().lower())):
                    found[int(match[1])][slot] = at
        return {number: (one[0], one[1]) for number, one in sorted(found.items())}


_SCALES = (
    _Scale("OpenFace", r"au(\d+)_c", r"au(\d+)_r"),
    _Scale("LibreFace", r"au_(\d+)", r"au_(\d+)_intensity"),
    _Scale("probability", r"au(\d+)"),
)


@dataclass(slots=True)
class _CodeTable:
    """A table that was read: codes by the text that names their faces."""

    key: str
    source: CodeSource
    codes: dict[str, tuple[FacsCode, ...] | None] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def attach_codes(samples: Sequence[Sample], texts: Sequence[tuple[str, Place]], table: Path | None) -> CodedSamples:
    """Give samples the action units that lie with the dataset, or those of a table.

    Args:
        samples: The samples.
        texts: By sample, what the dataset itself says in FACS notation (empty: nothing), and where.
        table: A table to read instead; None: none.

    Raises:
        ManifestError: The table cannot be read, or names no face of this dataset.
    """
    if table is not None:
        return _from_table(samples, table)
    if not any(text for text, _ in texts):
        return CodedSamples(samples)
    coded, problems = list[Sample](), list[Problem]()
    for sample, (text, place) in zip(samples, texts, strict=True):
        try:
            coded.append(replace(sample, aus=parse_facs(text)))
        except FacsError as error:
            coded.append(sample)
            problems.append(_uncoded(place, sample.path, str(error)))
    return CodedSamples(coded, CodeSource(samples=count_coded(coded)), problems, _notes(coded, problems, "the dataset"))


def count_coded(samples: Sequence[Sample]) -> int:
    """Count the samples whose action units somebody coded."""
    return sum(sample.aus is not None for sample in samples)


def _uncoded(place: Place, path: str, detail: str) -> Problem:
    return Problem(place, path, "", ProblemReason.NOT_CODED, detail)


def _notes(samples: Sequence[Sample], problems: Sequence[Problem], where: str) -> list[str]:
    notes = [f"{count_coded(samples)} of {len(samples)} samples have the action units that {where} names"]
    if problems:
        notes.append(f"action units of {len(problems)} rows cannot be read, such as {problems[0].detail}")
    return notes


def _from_table(samples: Sequence[Sample], path: Path) -> CodedSamples:
    table = _read_table(path)
    if table.key == "file":
        _shorten(table, samples)
    coded, used, whose = list[Sample](), Counter[str](), dict[str, str]()
    for sample in samples:
        key = next((name for name in _names(sample, table.key) if name in table.codes), None)
        if key is None:
            coded.append(sample)
            continue
        if table.key == "file" and whose.setdefault(key, sample.path) != sample.path:
            raise _two_files(path, table.lines[key], key, (whose[key], sample.path))
        used[key] += 1
        coded.append(replace(sample, aus=table.codes[key]))
    if not used:
        unread = f"{len(table.problems)} rows that cannot be read: {table.problems[0].detail}" if table.problems else ""
        raise ManifestError(
            paragraph(
                "A table of action units names no face of this dataset.",
                where=path,
                expected=f"the {table.key} of an image, such as {next(_names(samples[0], table.key), 'none known')}",
                got=next(iter(table.codes), unread or "no row"),
                fix="Give the table that belongs to these images."
                + (" Say who the persons are with --subject." if table.key == "person" else ""),
            )
        )
    notes = _notes(coded, table.problems, f"{path.name} ({table.source.scale}, by {table.key})")
    if unused := len(table.codes) - len(used):
        notes.append(f"{unused} of {len(table.codes)} rows of {path.name} name no sample")
    source = replace(table.source, samples=count_coded(coded))
    return CodedSamples(coded, source, table.problems, notes)


def _two_files(path: Path, line: int, key: str, files: Sequence[str]) -> ManifestError:
    return ManifestError(
        paragraph(
            "A row of a table of action units names two images.",
            where=f"{path}, line {line}",
            got=f"{key} is {' and '.join(files)}",
            fix="Write the paths below the dataset's folder into the table.",
        )
    )


def _names(sample: Sample, key: str) -> Iterator[str]:
    """Yield the texts by which a table may mean the sample, most exact first."""
    stem = posixpath.splitext(posixpath.basename(sample.path))[0]
    if key == "person":
        yield from map(_plain, filter(None, [sample.subject]))
    elif key == "file":
        path, without = sample.path, posixpath.splitext(sample.path)[0]
        yield from map(_plain, (path, without, sample.sample_id, posixpath.basename(path), stem))
    else:
        ends = [match.start() for match in re.finditer(r"[_.-]", stem)]
        yield from (_plain(stem[:end]) for end in reversed([*ends, len(stem)]))
        folders = posixpath.dirname(sample.path).split("/")
        yield from (_plain("_".join(folders[start:])) for start in range(len(folders)))


def _plain(text: str) -> str:
    return unicodedata.normalize("NFC", text.strip().replace("\\", "/")).casefold()


def _read_table(path: Path) -> _CodeTable:
    rows = table_rows(path)
    header = next(rows, (0, []))[1]
    words = [plain_word(cell) for cell in header]
    found = {key: at for key, names in _KEYS.items() if (at := find_column(words, names)) is not None}
    facs = find_column(words, HEADER_ROLES["aus"])
    scale, columns = "FACS", dict[int, tuple[int | None, int | None]]()
    if facs is None:
        scale, columns = next(((s.name, c) for s in _SCALES if (c := s.columns(header))), ("", columns))
    if not found or not scale:
        raise ManifestError(
            paragraph(
                "A table of action units lacks a column.",
                where=f"{path}, line 1",
                expected="one that names the image, its sequence or person (path, sequence, subject), and one with "
                "FACS codes (aus), or the columns of OpenFace, LibreFace or py-feat",
                got=", ".join(header)[:200] or "an empty file",
            )
        )
    key = next(iter(found))
    table = _CodeTable(key, CodeSource(path.name, scale, observed=tuple(columns), sha256=sha256_file(path)))
    tracked = find_column(words, "success")
    for line, cells in rows:
        cells = [*cells, *[""] * (len(header) - len(cells))]
        name, place = _plain(cells[found[key]]), Place(path.name, line)
        try:
            codes = _measured(cells, columns, tracked) if facs is None else parse_facs(cells[facs])
        except FacsError as error:
            table.problems.append(_uncoded(place, cells[found[key]], str(error)))
            continue
        if table.codes.get(name, codes) != codes:
            raise _contradiction(path, (table.lines[name], line), cells[found[key]])
        table.codes[name] = codes
        table.lines.setdefault(name, line)
    return table


def _contradiction(path: Path, lines: tuple[int, int], name: str) -> ManifestError:
    return ManifestError(
        paragraph(
            "A table of action units says two things of the same face.",
            where=f"{path}, lines {lines[0]} and {lines[1]}",
            got=name,
            fix="Keep the row that is right.",
        )
    )


def _shorten(table: _CodeTable, samples: Sequence[Sample]) -> None:
    """Let paths of another machine be found by the file's name, where the names of all such rows differ.

    Of a store's faces the files are not known: they are found without the suffix.
    """
    here = {name for sample in samples for name in islice(_names(sample, table.key), _EXACT)}
    bare = all(sample.path == sample.sample_id for sample in samples)
    short = {key: _short(key, here, bare) for key in table.codes}
    if len(set(short.values())) == len(short):
        table.codes = {short[key]: codes for key, codes in table.codes.items()}
        table.lines = {short[key]: line for key, line in table.lines.items()}


def _short(key: str, here: Collection[str], bare: bool) -> str:
    name = posixpath.splitext(key)[0] if bare and key not in here else key
    return name if name in here else posixpath.basename(name)


def _measured(
    cells: Sequence[str], columns: Mapping[int, tuple[int | None, int | None]], tracked: int | None
) -> tuple[FacsCode, ...] | None:
    """Read the columns of a program; None where it saw no face."""
    if tracked is not None and not _number(cells[tracked], 1, "success"):
        return None
    codes = list[FacsCode]()
    for number, (presence, intensity) in columns.items():
        strength = _number(cells[intensity], 5, f"AU {number}") if intensity is not None else None
        letter = intensity_letter(strength) if strength is not None else ""
        present = _number(cells[presence], 1, f"AU {number}") >= _PRESENT if presence is not None else bool(letter)
        if present:
            codes.append(FacsCode(number, "", letter))
    return tuple(codes)


def _number(text: str, most: float, what: str) -> float:
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        value = float("nan")
    if not 0 <= value <= most:
        raise FacsError(f"{what} is {text.strip() or 'empty'!r}, expected a number from 0 to {most:g}")
    return value
