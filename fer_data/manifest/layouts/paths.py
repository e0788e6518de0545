"""Finding the files that a table means where its paths lead nowhere: made on another system, or below another root.

Over the whole table one rule is sought that gives every row its own file; where there is none, the nearest file is
named and nothing is guessed.
"""

from __future__ import annotations

import difflib
import os
import posixpath
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aupipe.fer_data.manifest.layouts.walk import WalkLog, scan, walk_files

_MOST_COMPARED = 200_000  # pairs of names


class Folders:
    """The files below a root, folder by folder, each folder listed once."""

    def __init__(self, root: Path, log: WalkLog) -> None:
        self.root, self._log = root, log
        self._listed: dict[str, dict[str, os.DirEntry[str]] | None] = {}

    def entries(self, folder: str) -> dict[str, os.DirEntry[str]] | None:
        """Return the entries of a folder by name, none where there is no such folder; None if it cannot be listed."""
        if folder not in self._listed:
            place, faults = self.root / folder, len(self._log.problems)
            names = {entry.name: entry for entry in scan(place, self._log, folder)} if os.path.isdir(place) else {}  # noqa: PTH112 - it does not raise
            self._listed[folder] = names if len(self._log.problems) == faults else None
        return self._listed[folder]

    def holds(self, path: str) -> bool:
        """Return whether something of that name exists, as far as can be known."""
        folder, _, name = path.rpartition("/")
        entries = None if is_outside(path) else self.entries(folder)
        return not is_outside(path) and (entries is None or name in entries)


@dataclass(frozen=True, slots=True)
class FoundPaths:
    """Files for paths that lead nowhere: ``moved`` by a rule, or only ``near``; ``note`` says the rule."""

    moved: Mapping[str, str] = field(default_factory=dict)
    near: Mapping[str, str] = field(default_factory=dict)
    note: str = ""


def is_outside(path: str) -> bool:
    """Return whether a normalised path leaves the folder it is relative to."""
    return path.startswith(("/", "../")) or path == ".."


def _composed(path: str) -> str:
    return unicodedata.normalize("NFC", path)


def _folded(path: str) -> str:
    return unicodedata.normalize("NFC", _composed(path).casefold())


def _unsuffixed(path: str) -> str:
    return posixpath.splitext(_folded(path))[0]


def _unpadded(path: str) -> str:
    return re.sub(r"(?<!\d)0+(?=\d)", "", _unsuffixed(path))


_KEYS: tuple[tuple[Callable[[str], str], str], ...] = (
    (str, ""),
    (_composed, "in another Unicode form"),
    (_folded, "when upper and lower case do not count"),
    (_unsuffixed, "when the suffix does not count"),
    (_unpadded, "when leading zeros and the suffix do not count"),
)
"""What may differ between a path and its file, from the least to the most."""


def find_paths(paths: Sequence[str], folders: Folders) -> FoundPaths:
    """Find the files that paths mean, over all rows of a table at once.

    Args:
        paths: The paths of the rows, normalised, with forward slashes.
        folders: The folder they are relative to.
    """
    unique = dict.fromkeys(paths)
    absent = [path for path in unique if not folders.holds(path)]
    if not absent:
        return FoundPaths()
    files = list(walk_files(folders.root))
    taken = unique.keys() - set(absent)
    for key, words in _KEYS:
        index = _index(files, key)
        if words in (_KEYS[1][1], _KEYS[2][1]):
            moved = _matches(absent, index, key, 0, "", taken)
            if moved:
                return _found(moved, absent, index, files, words)
        for dropped, prefix in [] if taken else _moves(absent, files, key):
            moved = _matches(absent, index, key, dropped, prefix, taken)
            # Files may be missing besides; a rule that leaves more than a tenth without a file is none.
            if 10 * len(moved) >= 9 * len(absent):
                without = "/".join(absent[0].split("/")[:dropped])
                words = ", ".join(
                    filter(None, (f"without {without}/" * bool(dropped), f"below {prefix}" * bool(prefix), words))
                )
                return _found(moved, absent, index, files, words)
    return FoundPaths({}, _nearest(absent, files))


def _found(
    moved: Mapping[str, str], absent: Sequence[str], index: Mapping[str, str | None], files: Sequence[str], words: str
) -> FoundPaths:
    example = next(iter(moved.items()))
    note = f"{len(moved)} of {len(absent)} paths that lead nowhere were found {words}: {example[0]} is {example[1]}"
    return FoundPaths(moved, _nearest([path for path in absent if path not in moved], files), note)


def _index(files: Sequence[str], key: Callable[[str], str]) -> dict[str, str | None]:
    """Index files by their key; None where several share one."""
    index: dict[str, str | None] = {}
    for file in files:
        name = key(file)
        index[name] = None if name in index else file
    return index


def _tail(path: str, dropped: int) -> str:
    return "/".join(path.split("/")[dropped:])


def _matches(
    absent: Sequence[str],
    index: Mapping[str, str | None],
    key: Callable[[str], str],
    dropped: int,
    prefix: str,
    taken: set[str],
) -> dict[str, str]:
    """Give the paths that a rule leads to a file, unless it leads two of them to the same."""
    found = {path: index.get(key(prefix + _tail(path, dropped))) for path in absent if _tail(path, dropped)}
    moved = {path: file for path, file in found.items() if file is not None and file not in taken}
    return moved if len(set(moved.values())) == len(moved) else {}


def _moves(absent: Sequence[str], files: Sequence[str], key: Callable[[str], str]) -> Iterator[tuple[int, str]]:
    """Propose rules: how many leading folders to drop, and what to put before; the longest common tail first."""
    proposed = set[tuple[int, str]]()
    for path in absent[:3]:
        parts = path.split("/")
        for file in files:
            others = file.split("/")
            if key(others[-1]) != key(parts[-1]):
                continue
            common = next(
                (
                    n
                    for n, pair in enumerate(zip(reversed(parts), reversed(others), strict=False))
                    if len({*map(key, pair)}) > 1
                ),
                min(len(parts), len(others)),
            )
            proposed.add((len(parts) - common, "".join(f"{part}/" for part in others[: len(others) - common])))
    yield from sorted(proposed, key=lambda rule: (rule[0], len(rule[1]), rule[1]))


def _nearest(absent: Sequence[str], files: Sequence[str]) -> dict[str, str]:
    """Name for each path the file whose name is nearest: equal but for suffix and leading zeros, or spelt alike."""
    by_name, near = dict[str, str](), dict[str, str]()
    for file in files:
        by_name.setdefault(_unpadded(posixpath.basename(file)), file)
    for path in absent:
        name = _unpadded(posixpath.basename(path))
        close = [name] if name in by_name else []
        if not close and len(absent) * len(by_name) <= _MOST_COMPARED:
            close = difflib.get_close_matches(name, by_name, n=1, cutoff=0.8)
        near.update((path, by_name[other]) for other in close)
    return near
