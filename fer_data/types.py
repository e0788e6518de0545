"""Frozen value types shared by every room."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from aupipe.fer_data.action_units.facs import FacsCode

SPLITS = ("train", "val", "test")


class Reason(enum.IntEnum):
    """The closed set of reasons why a sample has no landmarks or no row in the store.

    ``OK`` is 0; stored as ``u1``.
    """

    OK = 0
    MISSING_FILE = 1
    UNREADABLE = 2
    NO_FACE = 3
    IMPLAUSIBLE_FACE = 4
    FACE_TOO_SMALL = 5
    LANDMARKS_OUTSIDE = 6
    SOURCE_CHANGED = 7
    WORKER_DIED = 8
    SEVERAL_FACES = 9
    TOO_LARGE = 10
    NO_ACCESS = 11

    @property
    def key(self) -> str:
        """The name used in CSV and JSON, for example ``no_face``."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Box:
    """Pixel box ``x0 y0 x1 y1``; right and bottom exclusive."""

    x0: float
    y0: float
    x1: float
    y1: float


@dataclass(frozen=True, slots=True)
class Sample:
    """One manifest row.

    ``path`` is relative to the manifest's root, with forward slashes. ``landmarks_row`` is the row of the manifest's
    landmarks file that holds the points shipped with this image, None where there are none. ``aus`` are the action
    units that somebody coded on this face, None where nobody did.
    """

    sample_id: str
    path: str
    label: str
    source_label: str
    split: str
    subject: str = ""
    box: Box | None = None
    landmarks_row: int | None = None
    aus: tuple[FacsCode, ...] | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """A sample that was left out, and why.

    ``reason`` is a :class:`Reason` key.
    """

    sample_id: str
    path: str
    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class StageReport:
    """The outcome of a stage; ``ok`` plus the failures add up to ``total``."""

    stage: str
    total: int
    ok: int
    failed: Mapping[str, int]
    seconds: float
    parts: int
    parts_skipped: int

    @property
    def failed_share(self) -> float:
        """Failed samples as a share of all samples, in [0, 1]."""
        return (self.total - self.ok) / self.total if self.total else 0.0

    def as_json(self) -> dict[str, Any]:
        """Return the object that ``--json`` prints."""
        return {
            "stage": self.stage,
            "total": self.total,
            "ok": self.ok,
            "failed": dict(self.failed),
            "seconds": round(self.seconds, 3),
            "parts": self.parts,
            "parts_skipped": self.parts_skipped,
        }


def count_reasons(failures: Iterable[Failure]) -> dict[str, int]:
    """Count failures by reason, sorted by name."""
    return dict(sorted(Counter(failure.reason for failure in failures).items()))


class HasLines(Protocol):
    """A result that says for people what was done."""

    def lines(self) -> list[str]:
        """Return the lines to print."""


def lines_repr(result: HasLines) -> str:
    """Show a result in a notebook as the command line prints it: ``__repr__`` of the reports."""
    return "\n".join(result.lines())


@runtime_checkable
class Progress(Protocol):
    """A receiver of progress; the command line shows it, a library caller may ignore it."""

    def start(self, label: str, total: int, unit: str) -> None:
        """Begin a new task of ``total`` units."""

    def advance(self, count: int) -> None:
        """Count ``count`` more units as done."""

    def note(self, message: str) -> None:
        """Add a line to the log."""

    def finish(self) -> None:
        """End the task."""


class Silent:
    """A :class:`Progress` that shows nothing."""

    def start(self, label: str, total: int, unit: str) -> None:
        """Ignore it."""

    def advance(self, count: int) -> None:
        """Ignore it."""

    def note(self, message: str) -> None:
        """Ignore it."""

    def finish(self) -> None:
        """Ignore it."""


def spoken(seconds: float) -> str:
    """Say a duration in words for people.

    >>> spoken(42), spoken(130), spoken(5400)
    ('42 s', '2 min 10 s', '1 h 30 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole < 600 and whole % 60 else f"{whole // 60} min"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
