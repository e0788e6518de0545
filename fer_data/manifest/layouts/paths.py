"""Finding the files that a table means where its paths lead nowhere: made on another system, or below another root.

Over the whole table one rule is sought that gives every row its own file; where there is none, or where two fit as
well, the nearest file is named and nothing is guessed.
"""

from __future__ import annotations

import difflib
import os
import posixpath
import re
import unicodedata
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from urllib.parse import unquote

from aupipe.fer_data.image_names import is_image_name
from aupipe.fer_data.manifest.layouts.base import canonical_split
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

    @cached_property
    def files(self) -> list[str]:
        """All files below the root, by their paths."""
        return list(walk_files(self.root))

    def holds(self, path: str) -> bool:
        """Return whether something of that name exists, as far as can be known."""
        folder, _, name = path.rpartition("/")
        entries = None if is_outside(path) else self.entries(folder)
        return not is_outside(path) and (entries is None or name in entries)


@dataclass(frozen=True, slots=True)
class FoundPaths:
    """Files for paths that lead nowhere: ``moved`` by a rule, or only ``near``; ``note`` says the rule, or why none."""

    moved: Mapping[str, str] = field(default_factory=dict)
    near: Mapping[str, str] = field(default_factory=dict)
    note: str = ""


def is_outside(path: str) -> bool:
    """Return whether a normalised path leaves the folder it is relative to."""
    return path.startswith(("/", "../")) or path == ".."


def _composed(path: str) -> str:
    return unicodedata.normalize("NFC", path)


def _plain(path: str) -> str:
    return _composed(unquote(path).strip("\"' "))


def _folded(path: str) -> str:
    return _composed(_plain(path).casefold())


def _unsuffixed(path: str) -> str:
    return posixpath.splitext(_folded(path))[0]


def _unpadded(path: str) -> str:
    return re.sub(r"(?<!\d)0+(?=\d)", "", _unsuffixed(path))


_KEYS: tuple[tuple[Callable[[str], str], str], ...] = (
    (str, ""),
    (_composed, "in another Unicode form"),
    (_plain, "without quotes, and with %20 as a space"),
    (_folded, "when upper and lower case do not count"),
    (_unsuffixed, "when the suffix does not count"),
    (_unpadded, "when leading zeros and the suffix do not count"),
)
"""What may differ between a path and its file, from the least to the most."""
_IN_PLACE = (_composed, _plain, _folded)
"""What may differ in some rows of a table whose other rows are right."""
_FEW = 3


def find_paths(
    paths: Sequence[str], folders: Folders, split: str = "", every: Collection[str] | None = None
) -> FoundPaths:
    """Find the files that paths mean, over all rows of a table at once.

    Args:
        paths: The paths of the rows, normalised, with forward slashes.
        folders: The folder they are relative to.
        split: The split of these rows, where others have the same paths: what lies in another split's folder, unless
            a path names that folder, is another image. Empty: not known.
        every: The paths of all rows of the table, whose files are taken; None: ``paths`` are all.
    """
    absent = [path for path in dict.fromkeys(paths) if not folders.holds(path)]
    if not absent:
        return FoundPaths()
    taken = {path for path in (paths if every is None else every) if folders.holds(path)}
    files = [file for file in folders.files if is_image_name(file)] or folders.files
    if split:
        named = {name for path in absent for name in path.split("/")[:-1]}
        places = {place: place.split("/") for place in {file.rpartition("/")[0] for file in files}}
        away = {place for place, names in places.items() if _splits([n for n in names if n not in named]) - {split}}
        files = [file for file in files if file.rpartition("/")[0] not in away]
    best, said, note, least = dict[str, str](), "", "", 1
    for rules in _rules(absent, files, taken):
        longest = max((len(moved) for _, moved, _ in rules), default=0)
        if longest < least:
            continue
        (words, moved, inside), *others = [rule for rule in rules if len(rule[1]) == longest]
        rival = next((words for words, other, _ in others if other != moved), "")
        if rival and inside:
            fit = f"{longest} of {len(absent)} paths that lead nowhere fit {words}, and {rival} as well"
            note = f"{fit}: write the folder into the table"
        else:
            best, said, note = moved, words, ""
        if len(best) == len(absent):
            break
        least = longest + 1
    best = {} if note else best
    near = _nearest([path for path in absent if path not in best], files)
    for path, file in islice(best.items(), 1):
        note = f"{len(best)} of {len(absent)} paths that lead nowhere were found {said}: {path} is {file}"
    return FoundPaths(best, near, note)


_Rule = tuple[str, dict[str, str], bool]
"""In words, the file of each path, and whether a folder was put before, of which another may be meant as well."""


def _rules(absent: Sequence[str], files: Sequence[str], taken: set[str]) -> Iterator[list[_Rule]]:
    """Yield the rules of each kind, in words, that lead enough paths to a file of their own, and these.

    Files may be missing besides: a rule is one that fits half of the paths; all of several where other rows are right.
    """
    least = max(len(absent), _FEW) if taken else (len(absent) + 1) // 2
    for key, words in _KEYS:
        index = _index(files, key)
        if key in _IN_PLACE:
            yield [(words, _matches(absent, index, key, taken), False)]
        moves = list[_Rule]()
        for dropped, prefix in _moves(absent, files, key) if len(absent) >= least else ():
            moved = _matches(absent, index, _after(key, dropped, prefix), taken)
            without = f"without {'/'.join(absent[0].split('/')[:dropped])}/" if dropped else ""
            if len(moved) >= least:
                said = ", ".join(filter(None, (without, f"below {prefix}" if prefix else "", words)))
                moves.append((said, moved, bool(prefix)))
        yield moves
    for key, words in _KEYS if not any("/" in path for path in absent) else ():
        moved = _matches(absent, _index(files, _of_name(key)), _of_name(key), taken)
        if len(moved) >= least:
            yield [(", ".join(filter(None, ("in folders that the table leaves out", words))), moved, False)]


def _after(key: Callable[[str], str], dropped: int, prefix: str) -> Callable[[str], str]:
    return lambda path: key(prefix + "/".join(path.split("/")[dropped:]))


def _of_name(key: Callable[[str], str]) -> Callable[[str], str]:
    return lambda path: key(posixpath.basename(path))


def _index(files: Sequence[str], key: Callable[[str], str]) -> dict[str, str | None]:
    """Index files by their key; None where several share one."""
    index: dict[str, str | None] = {}
    for file in files:
        name = key(file)
        index[name] = None if name in index else file
    return index


def _matches(
    absent: Sequence[str], index: Mapping[str, str | None], key: Callable[[str], str], taken: set[str]
) -> dict[str, str]:
    """Give the paths whose key is that of one file alone, unless two of them have the same."""
    found = {path: index.get(key(path)) for path in absent}
    moved = {path: file for path, file in found.items() if file is not None and file not in taken}
    return moved if len(set(moved.values())) == len(moved) else {}


def _moves(absent: Sequence[str], files: Sequence[str], key: Callable[[str], str]) -> Iterator[tuple[int, str]]:
    """Propose rules: how many leading folders to drop, and what to put before; the longest common tails alone.

    Where file names repeat from folder to folder, every folder would be a rule otherwise.
    """
    proposed = set[tuple[int, str]]()
    for path in absent[:3]:
        parts, longest = path.split("/"), dict[int, set[tuple[int, str]]]()
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
            left, put = parts[: len(parts) - common], others[: len(others) - common]
            if not (_splits(left) and _splits(put) - _splits(left)):  # train/1.png is another image than test/1.png
                longest.setdefault(common, set()).add((len(left), "".join(f"{part}/" for part in put)))
        proposed |= longest[max(longest)] if longest else set()
    yield from sorted(proposed, key=lambda rule: (rule[0], len(rule[1]), rule[1]))


def _splits(folders: Sequence[str]) -> set[str]:
    return {split for name in folders if (split := canonical_split(name, {}))}


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
            close = close or [other for other in by_name if name and other.startswith(name)]
        near.update((path, by_name[other]) for other in close[:1])
    return near
