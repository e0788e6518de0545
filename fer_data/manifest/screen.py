"""Screening:

which rows of a dataset may enter a manifest, and for each of the others exactly one reason why not.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aupipe.fer_data.manifest.content import content_keys, file_sizes
from aupipe.fer_data.manifest.labels import Vocabulary
from aupipe.fer_data.manifest.layouts.base import Listing, RawRow
from aupipe.fer_data.manifest.problems import Problem, ProblemReason
from aupipe.fer_data.types import Box

# Of identical images in several splits the one in test stays: its copy in train would leak, the reverse would
# not.
_KEEP_FIRST = {"test": 0, "val": 1, "train": 2, "": 3}


@dataclass(frozen=True, slots=True)
class Labelled:
    """A usable row with its canonical label."""

    row: RawRow
    label: str


@dataclass(frozen=True, slots=True)
class Screening:
    """Rows that stay in, problems (those of the reader included), and usable rows by split and label before
    duplicates were set aside, which is what published counts count.
    """

    kept: tuple[Labelled, ...]
    problems: tuple[Problem, ...]
    present: Mapping[tuple[str, str], int]


def screen(listing: Listing, vocabulary: Vocabulary) -> Screening:
    """Sort rows into kept ones and problems.

    Reads file sizes, and the content of files that share their size.
    """
    sizes, faults = file_sizes(listing.root, (row.path for row in listing.rows))
    usable, problems = list[Labelled](), list(listing.problems)
    some_split = any(row.split for row in listing.rows)
    for row in listing.rows:
        label = vocabulary.canonical(row.source_label)
        dropped = vocabulary.why_dropped(row.source_label)
        if dropped is not None:
            detail = f"the label {row.source_label} means {dropped}"
            problems.append(_problem(row, ProblemReason.DROPPED_LABEL, detail))
        elif some_split and not row.split:
            problems.append(_problem(row, ProblemReason.BAD_ROW, "no split, though other rows have one"))
        elif label is None:
            also = f" Moreover: {faults[row.path]}." if row.path in faults else ""
            detail = vocabulary.suggest(row.source_label) + also
            problems.append(_problem(row, ProblemReason.UNKNOWN_LABEL, detail))
        elif row.path in faults:
            problems.append(_problem(row, ProblemReason.MISSING_FILE, faults[row.path]))
        else:
            usable.append(Labelled(row, label))
    used = {item.row.path for item in usable}
    keys = content_keys(listing.root, {path: size for path, size in sizes.items() if path in used})
    kept, repeated = set_repeats_aside(usable, keys)
    present = Counter((item.row.split, item.label) for item in usable)
    return Screening(tuple(kept), (*problems, *repeated), present)


def set_repeats_aside(usable: Sequence[Labelled], keys: Mapping[str, str]) -> tuple[list[Labelled], list[Problem]]:
    """Rows that stay, and problems: one row per image (and box) stays, none of them if labels disagree.

    ``keys`` gives byte-identical files the same key. Pure.
    """
    groups = defaultdict[tuple[str, Box | None], list[Labelled]](list)
    for item in usable:
        groups[keys[item.row.path], item.row.box].append(item)
    kept, problems = list[Labelled](), list[Problem]()
    for group in groups.values():
        if len({item.label for item in group}) > 1:
            problems.extend(_conflict(item, group) for item in group)
            continue
        best = min(group, key=lambda item: _KEEP_FIRST[item.row.split])
        kept.append(best)
        problems.extend(_repeat(item.row, best.row) for item in group if item is not best)
    return kept, problems


def _conflict(item: Labelled, group: Sequence[Labelled]) -> Problem:
    others = [f"{other.label} at {other.row.place}" for other in group if other is not item]
    more = f" and {len(others) - 3} more" if len(others) > 3 else ""
    detail = f"{item.label} here; the same image is {', '.join(others[:3])}{more}"
    return _problem(item.row, ProblemReason.CONFLICTING_LABEL, detail)


def _repeat(row: RawRow, best: RawRow) -> Problem:
    if row.path == best.path:
        return _problem(row, ProblemReason.DUPLICATE_ROW, f"kept: {best.place}")
    in_split = f" in {best.split}" if best.split and best.split != row.split else ""
    name = "" if str(best.place) == best.path else f", {best.path}"
    detail = f"same bytes; kept: {best.place}{name}{in_split}"
    return _problem(row, ProblemReason.DUPLICATE_IMAGE, detail)


def _problem(row: RawRow, reason: ProblemReason, detail: str) -> Problem:
    return Problem(row.place, row.path, row.source_label, reason, detail)
