"""Walking folders of unknown content: links, circles, folders that cannot be read, system files, odd names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from aupipe.fer_data.errors import printable
from aupipe.fer_data.manifest.problems import Place, Problem, ProblemReason

# A link inside a linked folder, three deep, is followed; more only multiplies paths where folders link to each other.
_MAX_LINKS = 3

_SYSTEM_NAMES = (
    *("__macosx", "icon\r", "thumbs.db", "ehthumbs.db", "zbthumbnail.info", "desktop.ini", "$recycle.bin"),
    *("system volume information", "lost+found", "@eadir", "#recycle", "#snapshot"),
)
_SYSTEM_STARTS = (".", "~$", "thumbs.db:")  # what is hidden, and what programs leave while a file is open


@dataclass(slots=True)
class WalkLog:
    """What walks met: problems (folders that cannot be listed; readers add theirs), and system files passed over."""

    problems: list[Problem] = field(default_factory=list)
    passed_over: set[str] = field(default_factory=set)


def is_system_name(name: str) -> bool:
    """Return whether a system or a program leaves files or folders of this name beside the data: all hidden ones do.

    >>> is_system_name("._a.png"), is_system_name("Thumbs.db"), is_system_name("a.png")
    (True, True, False)
    """
    name = name.casefold()
    return name.startswith(_SYSTEM_STARTS) or name in _SYSTEM_NAMES


def walk_files(folder: Path, log: WalkLog | None = None) -> Iterator[str]:
    """Yield the relative paths of all files below ``folder``, in a fixed order; follows links but never in a circle.

    System files are passed over, and folders that cannot be listed; ``log`` takes note of both.
    """
    above: set[tuple[int, int] | None] = set()
    levels = [_Level(iter(scan(folder, log)), "", _identity(folder), 0)]
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
                levels.append(_Level(iter(scan(Path(entry.path), log, prefix)), prefix, identity, links))


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


def scan(folder: Path, log: WalkLog | None = None, name: str = "") -> list[os.DirEntry[str]]:
    """List the entries of one folder sorted by name, without system files; none when it cannot be listed."""
    log, name = log or WalkLog(), name.rstrip("/")
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        detail = f"cannot be listed: {error.strerror or error}"
        log.problems.append(Problem(Place(printable(name) or "."), name, "", ProblemReason.UNREADABLE_FOLDER, detail))
        return []
    log.passed_over.update(f"{name}/{entry.name}" for entry in entries if is_system_name(entry.name))
    return [entry for entry in entries if not is_system_name(entry.name)]


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a folder or a link to one; a link to itself is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False
