"""Walking folders of unknown content: links, circles, folders that cannot be read, odd names."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from aupipe.fer_data.errors import printable
from aupipe.fer_data.manifest.problems import Place, Problem, ProblemReason

# A link inside a linked folder, three deep, is followed; more only multiplies paths where folders link to each other.
_MAX_LINKS = 3

OnError = Callable[[str, OSError], None]


def walk_files(folder: Path, on_error: OnError | None = None) -> Iterator[str]:
    """Yield the relative paths of all files below ``folder``, in a fixed order; follows links but never in a circle.

    A folder that cannot be listed is passed to ``on_error`` with its relative path, and skipped.
    """
    above: set[tuple[int, int] | None] = set()
    levels = [_Level(iter(scan(folder, on_error)), "", _identity(folder), 0)]
    while levels:
        level = levels[-1]
        above.add(level.identity)
        entry = next(level.entries, None)
        if entry is None:
            above.discard(levels.pop().identity)
        elif not is_folder(entry):
            yield f"{level.prefix}{entry.name}"
        else:
            prefix, links = f"{level.prefix}{entry.name}/", level.links + entry.is_symlink()
            identity = _identity(entry)
            if identity not in above and links <= _MAX_LINKS:
                levels.append(_Level(iter(scan(Path(entry.path), on_error, prefix)), prefix, identity, links))


@dataclass(frozen=True, slots=True)
class _Level:
    """A folder on the way: what is left to visit in it, its relative name, and how many links led there."""

    entries: Iterator[os.DirEntry[str]]
    prefix: str
    identity: tuple[int, int] | None
    links: int


def _identity(folder: Path | os.DirEntry[str]) -> tuple[int, int] | None:
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def scan(folder: Path, on_error: OnError | None = None, name: str = "") -> list[os.DirEntry[str]]:
    """List the entries of one folder sorted by name; none, and a call of ``on_error``, when it cannot be listed."""
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        if on_error is not None:
            on_error(name.rstrip("/"), error)
        return []


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a folder or a link to one; a link to itself is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def list_unreadable(problems: list[Problem]) -> OnError:
    """Make an ``on_error`` that appends to ``problems``."""

    def note(name: str, error: OSError) -> None:
        place, detail = Place(printable(name) or "."), f"cannot be listed: {error.strerror or error}"
        problems.append(Problem(place, name, "", ProblemReason.UNREADABLE_FOLDER, detail))

    return note
