"""The report of a build, as a value that can be printed or turned into JSON."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aupipe.fer_data.manifest.advice import faulty_rows
from aupipe.fer_data.manifest.descriptors import ALL_SPLITS
from aupipe.fer_data.manifest.labels import order_classes
from aupipe.fer_data.manifest.problems import ProblemReason
from aupipe.fer_data.types import SPLITS, lines_repr


@dataclass(frozen=True, slots=True)
class PublishedCount:
    """One split's published number of images against what was found, before duplicates were set aside."""

    split: str
    published: Mapping[str, int]
    found: Mapping[str, int]

    @property
    def ok(self) -> bool:
        """True when every class has as many images as published."""
        return dict(self.published) == dict(self.found)

    def line(self) -> str:
        """Write ``OK train: 12271 images`` or ``WARN train: 12270 of 12271 images (fear 280 of 281)``."""
        total, expected = sum(self.found.values()), sum(self.published.values())
        if self.ok:
            return f"OK {self.split}: {total} images, as published"
        off = [
            f"{label} {self.found.get(label, 0)} of {self.published.get(label, 0)}"
            for label in order_classes({*self.published, *self.found})
            if self.found.get(label, 0) != self.published.get(label, 0)
        ]
        return f"WARN {self.split}: {total} of {expected} published images ({', '.join(off)})"


def compare_counts(
    published: Mapping[str, Mapping[str, int]], usable_counts: Mapping[tuple[str, str], int]
) -> tuple[PublishedCount, ...]:
    """Compare published counts with usable rows by (split, label); empty when nothing is published.

    Where counts are published for the whole dataset only, so is the comparison.
    """
    if not published:
        return ()
    whole = ALL_SPLITS in published
    found = defaultdict[str, Counter[str]](Counter)
    for (split, label), count in usable_counts.items():
        found[ALL_SPLITS if whole else split or "train"][label] += count
    splits = [split for split in (*SPLITS, ALL_SPLITS) if split in published or split in found]
    return tuple(PublishedCount(split, published.get(split, {}), found.get(split, {})) for split in splits)


@dataclass(frozen=True, slots=True)
class BuildReport:
    """Outcome of a build: ``samples + problem_rows == rows_read``; files that are no row are counted apart."""

    manifest: Path
    problems_file: Path
    layout: str
    title: str
    rows_read: int
    samples: int
    counts: Mapping[str, Mapping[str, int]]
    problems: Mapping[str, int]
    published: tuple[PublishedCount, ...]
    digest: str
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    lost_classes: tuple[str, ...] = ()

    @property
    def faulty_share(self) -> float:
        """Rows left out because of an unknown label, a missing file or a bad row, as a share of all rows."""
        return faulty_rows(self.problems) / self.rows_read if self.rows_read else 0.0

    @property
    def problem_rows(self) -> int:
        """Rows of the dataset that stay out."""
        return sum(n for reason, n in self.problems.items() if not ProblemReason(reason).concerns_a_file)

    @property
    def problem_files(self) -> int:
        """Files in the image folders that are no row of the dataset."""
        return sum(n for reason, n in self.problems.items() if ProblemReason(reason).concerns_a_file)

    def as_json(self) -> dict[str, Any]:
        """Return the object that ``--json`` prints; ``ok`` plus the values of ``failed`` add up to ``total``."""
        reasons = [(reason, n, ProblemReason(reason).concerns_a_file) for reason, n in self.problems.items()]
        return {
            "manifest": str(self.manifest),
            "problems_file": str(self.problems_file),
            "layout": self.layout,
            "total": self.rows_read,
            "ok": self.samples,
            "failed": {reason: n for reason, n, is_file in reasons if not is_file},
            "files_left_out": {reason: n for reason, n, is_file in reasons if is_file},
            "counts": {split: dict(row) for split, row in self.counts.items()},
            "published": [
                {"split": c.split, "ok": c.ok, "published": dict(c.published), "found": dict(c.found)}
                for c in self.published
            ],
            "digest": self.digest,
            "notes": list(self.notes),
            "warnings": list(self.warnings),
            "lost_classes": list(self.lost_classes),
        }

    __repr__ = lines_repr

    def lines(self) -> list[str]:
        """Return a short summary to print."""
        out = [f"{self.title}: {self.rows_read} rows = {self.samples} samples + {self.problem_rows} left out"]
        for split, row in self.counts.items():
            classes = "  ".join(f"{label} {n}" for label, n in row.items())
            out.append(f"  {split:5} {sum(row.values()):7}  {classes}")
        out.extend(f"  {count.line()}" for count in self.published)
        if self.problems:
            reasons = ", ".join(f"{reason} {n}" for reason, n in self.problems.items())
            apart = f"; {self.problem_files} files are no row" if self.problem_files else ""
            out.append(f"  problems: {reasons}{apart} (see {self.problems_file})")
        out.extend(f"  note: {note}" for note in self.notes)
        out.extend(f"  WARN {warning}" for warning in self.warnings)
        return out
