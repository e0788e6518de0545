"""Rows and files that a build left out: the closed set of reasons, and their listing ``M.problems.csv``."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from aupipe.fer_data.errors import printable
from aupipe.fer_data.files import write_text
from aupipe.fer_display.tables import csv_text

PROBLEM_COLUMNS = ("where", "path", "source_label", "reason", "detail")
NOT_PLAIN = "the name holds control characters or is not UTF-8"
"""The detail of a problem whose name is not plain, see :func:`is_plain`."""


class ProblemReason(enum.StrEnum):
    """The closed set of reasons why a row, or a file, stays out of the manifest.

    The row of a ``NOT_CODED`` stays in: its action units alone could not be read.
    """

    MISSING_FILE = "missing_file"
    UNLISTED_FILE = "unlisted_file"
    UNKNOWN_LABEL = "unknown_label"
    DUPLICATE_ROW = "duplicate_row"
    CONFLICTING_LABEL = "conflicting_label"
    DUPLICATE_IMAGE = "duplicate_image"
    BAD_ROW = "bad_row"
    DROPPED_LABEL = "dropped_label"
    NO_LABEL = "no_label"
    NO_MAJORITY = "no_majority"
    NOT_CHOSEN = "not_chosen"
    NOT_AN_IMAGE_NAME = "not_an_image_name"
    UNREADABLE_FOLDER = "unreadable_folder"
    NOT_CODED = "not_coded"

    @property
    def concerns_a_file(self) -> bool:
        """True when it is about a file that is no row of the dataset; those are counted apart from rows."""
        return self in _NO_ROWS


_NO_ROWS = (ProblemReason.UNLISTED_FILE, ProblemReason.NOT_AN_IMAGE_NAME, ProblemReason.UNREADABLE_FOLDER)


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A file relative to ROOT and, for text files, a line counted from 1.

    >>> str(Place("data/legend.csv", 12))
    'data/legend.csv, line 12'
    """

    file: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}" if self.line else self.file


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One row or file that stays out. Orders by place, so that a listing reads like its source."""

    place: Place
    path: str
    source_label: str
    reason: ProblemReason
    detail: str = ""


def count_problems(problems: Iterable[Problem]) -> dict[str, int]:
    """Count problems by reason, sorted by name."""
    return dict(sorted(Counter(problem.reason.value for problem in problems).items()))


def is_plain(text: str) -> bool:
    """Return whether a name can stand in a manifest: no control characters, encodable as UTF-8."""
    return text == printable(text)


def write_problems(path: Path, problems: Iterable[Problem]) -> None:
    """Write the listing as CSV with :data:`PROBLEM_COLUMNS`, sorted; the header alone when there are none."""
    cells = ((str(one.place), one.path, one.source_label, one.reason.value, one.detail) for one in sorted(problems))
    write_text(path, csv_text(PROBLEM_COLUMNS, (tuple(map(printable, row)) for row in cells)))
