"""Tables of action units beside a dataset: who wrote one, what it says in each row, and whose face that is.

A table names the faces by file, by sequence or by person, and their action units in FACS notation, or in the columns
of OpenFace (``AU01_c``, ``AU01_r``), LibreFace (``au_1``, ``au_1_intensity``) or py-feat (``AU01``, as our export).
"""

from __future__ import annotations

import posixpath
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Generic, TypeVar

from aupipe.fer_data.action_units.facs import FacsCode, FacsError, intensity_letter, parse_facs
from aupipe.fer_data.action_units.modes import WIDTH
from aupipe.fer_data.errors import ManifestError, paragraph
from aupipe.fer_data.files import sha256_file
from aupipe.fer_data.manifest.labels import NEUTRAL
from aupipe.fer_data.manifest.layouts.cells import plain_word
from aupipe.fer_data.manifest.layouts.text import HEADER_ROLES, SURPLUS, find_column, has_surplus, table_rows
from aupipe.fer_data.types import Sample
from aupipe.fer_display.tables import plain_cell

T = TypeVar("T")

MOST = 5
"""Largest intensity of OpenFace and LibreFace: FACS's E."""

_EXACT = 3  # of the names of a file: path, path without suffix, sample_id
_PRESENT = 0.5  # of a presence (0 or 1) or a probability
_KEYS: Mapping[str, str] = {
    "sample_id": "sampleid",
    "file": HEADER_ROLES["path"] + " input sampleid",
    "sequence": "sequence sequenceid seq clip video videoid",
    "person": HEADER_ROLES["subject"],
}
"""Header names of what a table names faces by, most exact first; sample ids count where they are of this dataset."""


@dataclass(frozen=True, slots=True)
class UnitColumns:
    """Places of an action unit's columns: presence or probability (0 to 1), and intensity (0 to 5)."""

    presence: int | None
    intensity: int | None


@dataclass(frozen=True, slots=True)
class _Scale:
    """How a program names its columns, as patterns of lower-case header names with the number as group 1."""

    name: str
    presence: str
    intensity: str = ""

    def columns(self, header: Sequence[str]) -> dict[int, UnitColumns]:
        """Find the columns of each action unit. Raises :class:`FacsError` where two say the same of one."""
        found = defaultdict[int, list[int | None]](lambda: [None, None])
        for at, name in enumerate(header):
            for slot, pattern in enumerate((self.presence, self.intensity)):
                match = re.fullmatch(pattern, name.strip().lower()) if pattern else None
                if match and 0 < (number := int(match[1])) < WIDTH:
                    if (other := found[number][slot]) is not None:
                        raise FacsError(f"{header[other].strip()} and {name.strip()} are one action unit")
                    found[number][slot] = at
        return {number: UnitColumns(*places) for number, places in sorted(found.items())}


_SCALES = (
    _Scale("OpenFace", r"au(\d+)_c", r"au(\d+)_r"),
    _Scale("LibreFace", r"au_(\d+)", r"au_(\d+)_intensity"),
    _Scale("probability", r"au(\d+)"),
)


@dataclass(frozen=True, slots=True)
class UnitHeader:
    """The columns of a table.

    Attributes:
        key: What names the faces: ``sample_id``, ``file``, ``sequence`` or ``person``; ``name`` is its place.
        scale: What the numbers are: ``FACS``, ``OpenFace``, ``LibreFace``, ``probability``.
        facs: Place of the codes in FACS notation; None where the units have columns of their own.
        units: These columns, by FACS number.
        tracked: Place of OpenFace's ``success``.
    """

    key: str
    name: int
    scale: str
    facs: int | None
    units: Mapping[int, UnitColumns]
    tracked: int | None


@dataclass(frozen=True, slots=True)
class UnitRow:
    """One row of a table; what it is asked for raises :class:`FacsError` where a cell cannot be read."""

    header: UnitHeader
    cells: Sequence[str]

    def codes(self) -> tuple[FacsCode, ...] | None:
        """Return the action units that are there, with their intensity; None where nobody looked or no face was seen.

        A presence or a probability counts from .5, an intensity alone from a trace.
        """
        if self.header.facs is not None:
            return parse_facs(self.cells[self.header.facs])
        if not self._seen():
            return None
        codes = list[FacsCode]()
        for number, at in self.header.units.items():
            strength = _number(self.cells[at.intensity], MOST, f"AU {number}") if at.intensity is not None else None
            letter = intensity_letter(strength) if strength is not None else ""
            present = bool(letter)
            if at.presence is not None:
                present = _number(self.cells[at.presence], 1, f"AU {number}") >= _PRESENT
            if present:
                codes.append(FacsCode(number, "", letter))
        return tuple(codes)

    def probabilities(self) -> tuple[float | None, ...]:
        """Return each action unit's presence or probability, or else its intensity as a share of the largest."""
        return tuple(
            self._value(at.intensity, MOST, number, 1 / MOST)
            if at.presence is None
            else self._value(at.presence, 1, number)
            for number, at in self.header.units.items()
        )

    def scores(self) -> tuple[float | None, ...]:
        """Return what tells most of each action unit: its intensity, or else its presence or probability."""
        return tuple(
            self._value(at.presence, 1, number) if at.intensity is None else self._value(at.intensity, MOST, number)
            for number, at in self.header.units.items()
        )

    def _seen(self) -> bool:
        said = "1" if self.header.tracked is None else self.cells[self.header.tracked]
        return bool(said.strip()) and bool(_number(said, 1, "success"))

    def _value(self, at: int | None, most: float, number: int, unit: float = 1) -> float | None:
        """Read a number and take it times ``unit``; None where the cell is empty or no face was seen."""
        text = "" if at is None or not self._seen() else self.cells[at]
        return _number(text, most, f"AU {number}") * unit if text.strip() else None


def _number(text: str, most: float, what: str) -> float:
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        value = float("nan")
    if not 0 <= value <= most:
        raise FacsError(f"{what} is {text.strip() or 'empty'!r}, expected a number from 0 to {most:g}")
    return value


@dataclass(frozen=True, slots=True)
class UnreadRow:
    """A row that cannot be read: its line, its face as written, and why."""

    line: int
    name: str
    detail: str


@dataclass(slots=True)
class UnitTable(Generic[T]):
    """A table that was read: what it says, and on which line, by the text that names a face.

    ``shared``: faces that were not found because they share their photo, which is all that the table names.
    ``elsewhere``: files that were found by their name alone, with the path in another folder that the table gives.
    """

    path: Path
    header: UnitHeader
    sha256: str
    values: dict[str, T] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    unread: list[UnreadRow] = field(default_factory=list)
    shared: int = 0
    elsewhere: dict[str, str] = field(default_factory=dict)
    _written: dict[str, str] = field(default_factory=dict)

    def notes(self) -> list[str]:
        """Write sentences on faces that it could not mean, or may not have meant."""
        notes = list[str]()
        if self.shared:
            notes.append(
                f"{self.shared} faces share their photo with others, so {self.path.name} cannot mean them: name faces "
                "by sample_id"
            )
        for face, said in islice(self.elsewhere.items(), 1):
            notes.append(
                f"{len(self.elsewhere)} faces are told by {self.path.name} of files in other folders, found by their "
                f"names alone: {face} by {said}"
            )
        return notes

    def find(self, samples: Sequence[Sample], others: Iterable[str] = ()) -> list[str | None]:
        """Return the key of :attr:`values` that each sample has; None where the table does not name it.

        Args:
            samples: The samples.
            others: Ids of more samples of the same dataset, whose rows are not taken for one of these.

        Raises:
            ManifestError: It names none of them, or a row names two files.
        """
        if self.header.key == "file":
            self._shorten(samples, others)
        found, whose = list[str | None](), dict[str, str]()
        photos = Counter(sample.path for sample in samples)
        for sample in samples:
            key = next((name for name in _names(sample, self.header.key) if name in self.values), None)
            if key and self.header.key == "file" and photos[sample.path] > 1 and key != _plain(sample.sample_id):
                key, self.shared = None, self.shared + 1
            found.append(key)
            written = self._written.get(key or "", sample.path)
            if _folder(written) not in ("", _folder(_plain(sample.path))):
                self.elsewhere[sample.path] = written
            if key and self.header.key == "file" and whose.setdefault(key, sample.path) != sample.path:
                raise _two_files(self.path, self.lines[key], key, (whose[key], sample.path))
        if not any(found):
            raise self._names_none(samples)
        return found if self.header.key in ("sample_id", "file") else _without_onsets(samples, found)

    def _shorten(self, samples: Sequence[Sample], others: Iterable[str]) -> None:
        """Let paths of another machine be found by the file's name, where the names of all such rows differ.

        Of a store's faces the files are not known: they are found without the suffix.
        """
        here = {name for sample in samples for name in islice(_names(sample, self.header.key), _EXACT)}
        here |= set(map(_plain, others))
        bare = all(sample.path == sample.sample_id for sample in samples)
        short = {key: _short(key, here, bare) for key in self.values}
        if len(set(short.values())) == len(short):
            self._written = {short[key]: key for key in short}
            self.values = {short[key]: value for key, value in self.values.items()}
            self.lines = {short[key]: line for key, line in self.lines.items()}

    def _names_none(self, samples: Sequence[Sample]) -> ManifestError:
        unread = f"{len(self.unread)} rows that cannot be read: {self.unread[0].detail}" if self.unread else ""
        return ManifestError(
            paragraph(
                "A table of action units names no face of this dataset.",
                where=self.path,
                expected=f"the {self.header.key} of an image, such as "
                f"{next(_names(samples[0], self.header.key), 'none known')}",
                got=next(iter(self.values), unread or "no row"),
                fix="Give the table that belongs to these images."
                + (" Say who the persons are with --subject." if self.header.key == "person" else ""),
            )
        )


def _without_onsets(samples: Sequence[Sample], keys: Sequence[str | None]) -> list[str | None]:
    """Leave out neutral faces whose sequence or person also has others: a row speaks of the peak, not of its onset."""
    peaks = {key for sample, key in zip(samples, keys, strict=True) if sample.label != NEUTRAL}
    return [
        None if sample.label == NEUTRAL and key in peaks else key for sample, key in zip(samples, keys, strict=True)
    ]


def read_unit_table(path: Path, read: Callable[[UnitRow], T], samples: Sequence[Sample]) -> UnitTable[T]:
    """Read a table of action units.

    Args:
        path: The table.
        read: What is wanted of a row.
        samples: The faces: where it holds their ids, it is read by these.

    Returns:
        What was read; rows for which ``read`` raised :class:`FacsError` are listed in ``unread``.

    Raises:
        ManifestError: It cannot be read, lacks a column, or says two things of one face.
    """
    rows = table_rows(path)
    _, names = next(rows, (0, []))
    header = _read_header(path, names, {sample.sample_id for sample in samples})
    table = UnitTable[T](path, header, sha256_file(path))
    for line, given in rows:
        cells = [*given, *[""] * (len(names) - len(given))]
        written = plain_cell(cells[header.name])
        name = _plain(written)
        try:
            if has_surplus(given, names):
                raise FacsError(SURPLUS)
            value = read(UnitRow(header, cells))
        except FacsError as error:
            table.unread.append(UnreadRow(line, written, str(error)))
            continue
        if table.values.get(name, value) != value:
            raise _contradiction(path, (table.lines[name], line), written)
        table.values[name] = value
        table.lines.setdefault(name, line)
    return table


def _read_header(path: Path, header: Sequence[str], sample_ids: Collection[str]) -> UnitHeader:
    words = [plain_word(cell) for cell in header]
    keys = {key: at for key, names in _KEYS.items() if (at := find_column(words, names)) is not None}
    if "sample_id" in keys and not _names_samples(path, keys["sample_id"], sample_ids):
        del keys["sample_id"]
    facs = find_column(words, HEADER_ROLES["aus"])
    scale, units = "FACS", dict[int, UnitColumns]()
    if facs is None:
        try:
            scale, units = next(((s.name, found) for s in _SCALES if (found := s.columns(header))), ("", units))
        except FacsError as error:
            what = "A table of action units has two columns of one."
            raise ManifestError(paragraph(what, where=f"{path}, line 1", got=error)) from error
    if not keys or not scale:
        raise ManifestError(
            paragraph(
                "A table of action units lacks a column.",
                where=f"{path}, line 1",
                expected="one that names the image, its sequence or person (path, sequence, subject), and one with "
                "FACS codes (aus), or the columns of OpenFace, LibreFace or py-feat",
                got=", ".join(header)[:200] or "an empty file",
            )
        )
    key = next(iter(keys))
    return UnitHeader(key, keys[key], scale, facs, units, find_column(words, "success"))


def _names_samples(path: Path, at: int, sample_ids: Collection[str]) -> bool:
    rows = islice(table_rows(path), 1, None)
    return any(plain_cell(cells[at]) in sample_ids for _, cells in rows if at < len(cells))


def _names(sample: Sample, key: str) -> Iterator[str]:
    """Yield the texts by which a table may mean the sample, most exact first."""
    stem = posixpath.splitext(posixpath.basename(sample.path))[0]
    if key == "sample_id":
        yield _plain(sample.sample_id)
    elif key == "person":
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


def _short(key: str, here: Collection[str], bare: bool) -> str:
    name = posixpath.splitext(key)[0] if bare and key not in here else key
    return name if name in here else posixpath.basename(name)


def _folder(path: str) -> str:
    """Name the last folder of a path."""
    return posixpath.basename(posixpath.dirname(path))


def _two_files(path: Path, line: int, key: str, files: Sequence[str]) -> ManifestError:
    return ManifestError(
        paragraph(
            "A row of a table of action units names two images.",
            where=f"{path}, line {line}",
            got=f"{key} is {' and '.join(files)}",
            fix="Write the paths below the dataset's folder into the table.",
        )
    )


def _contradiction(path: Path, lines: tuple[int, int], name: str) -> ManifestError:
    return ManifestError(
        paragraph(
            "A table of action units says two things of the same face.",
            where=f"{path}, lines {lines[0]} and {lines[1]}",
            got=name,
            fix="Keep the row that is right.",
        )
    )
