"""Screening: the rows of a dataset that may enter a manifest, and exactly one reason why not for each of the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aupipe.fer_data.manifest.content import content_keys, file_sizes
from aupipe.fer_data.manifest.labels import Vocabulary
from aupipe.fer_data.manifest.layouts.base import DatasetListing, RawRow
from aupipe.fer_data.manifest.problems import NOT_PLAIN, Problem, ProblemReason, is_plain
from aupipe.fer_data.manifest.same_faces import group_faces

# Of identical images in several splits the one in test stays: its copy in train would leak, the reverse would not.
_KEEP_FIRST = {"test": 0, "val": 1, "train": 2, "": 3}


@dataclass(frozen=True, slots=True)
class LabelledRow:
    """A usable row with its canonical label."""

    row: RawRow
    label: str


@dataclass(frozen=True, slots=True)
class ScreenedRows:
    """The outcome of a screening.

    ``kept``: rows that stay in. ``problems``: all others, those of the reader included. ``usable_counts``: usable rows
    by split and label before duplicates were set aside, which is what published counts count.
    """

    kept: tuple[LabelledRow, ...]
    problems: tuple[Problem, ...]
    usable_counts: Mapping[tuple[str, str], int]


def screen_rows(listing: DatasetListing, vocabulary: Vocabulary) -> ScreenedRows:
    """Sort rows into kept ones and problems.

    Reads file sizes, and the content of files that share their size.
    """
    sizes, faults = file_sizes(listing.root, (row.path for row in listing.rows))
    faults |= {path: f"{faults[path]}; {near} is there" for path, near in listing.near.items() if path in faults}
    usable, problems = list[LabelledRow](), list(listing.problems)
    some_split = any(row.split for row in listing.rows)
    for row in listing.rows:
        label = vocabulary.canonical(row.source_label)
        dropped = vocabulary.drop_reason(row.source_label)
        if not is_plain(row.path):
            problems.append(_problem(row, ProblemReason.BAD_ROW, NOT_PLAIN))
        elif dropped is not None:
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
            usable.append(LabelledRow(row, label))
    used = {item.row.path for item in usable}
    keys = content_keys(listing.root, {path: size for path, size in sizes.items() if path in used})
    kept, repeated = separate_duplicates(usable, keys)
    usable_counts = Counter((item.row.split, item.label) for item in usable)
    return ScreenedRows(tuple(kept), (*problems, *repeated), usable_counts)


def separate_duplicates(
    usable: Sequence[LabelledRow], keys: Mapping[str, str]
) -> tuple[list[LabelledRow], list[Problem]]:
    """Separate rows that stay from problems: one row per face stays, none of them if labels disagree.

    ``keys`` gives byte-identical files the same key. Pure.
    """
    kept, problems = list[LabelledRow](), list[Problem]()
    for group in group_faces((item, keys[item.row.path], item.row.box) for item in usable):
        if len({item.label for item in group}) > 1:
            problems.extend(_conflict(item, group) for item in group)
            continue
        best = min(group, key=lambda item: _KEEP_FIRST[item.row.split])
        kept.append(best)
        problems.extend(_repeat(item.row, best.row) for item in group if item is not best)
    return kept, problems


def _conflict(item: LabelledRow, group: Sequence[LabelledRow]) -> Problem:
    others = [f"{other.label} at {other.row.place}" for other in group[:4] if other is not item][:3]
    more = f" and {len(group) - 4} more" if len(group) > 4 else ""
    detail = f"{item.label} here; the same image is {', '.join(others)}{more}"
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
