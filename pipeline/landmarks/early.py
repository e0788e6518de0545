"""An early word on bad data: too much is left out of the first few hundred photos, before hours go into the rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aupipe.fer_data.landmark_parts import LandmarkRow
from aupipe.fer_data.types import Reason, Sample

ENOUGH = 300
"""Photos, in hash order and so of all splits and classes, after which the share left out is told."""

SHOWN_GROUPS = 3


@dataclass(frozen=True)
class Tally:
    """Photos of a part by split and class: how many there were, and the paths of those that were left out."""

    seen: Counter[str] = field(default_factory=Counter)
    left_out: tuple[tuple[str, str], ...] = ()


def tally(samples: Sequence[Sample], rows: Sequence[LandmarkRow]) -> Tally:
    """Count a part's photos and those without landmarks."""
    groups = [f"{sample.split}/{sample.label}" for sample in samples]
    failed = [
        (group, sample.path)
        for group, sample, row in zip(groups, samples, rows, strict=True)
        if row.reason is not Reason.OK
    ]
    return Tally(Counter(groups), tuple(failed))


@dataclass
class EarlyWarning:
    """Speaks once, after :data:`ENOUGH` photos, where more than the share ``allowed`` was left out."""

    root: Path
    allowed: float
    seen: Counter[str] = field(default_factory=Counter)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    due: bool = True

    def hear(self, part: Tally) -> str | None:
        """Take in a finished part; returns the warning when it is time for it."""
        self.seen += part.seen
        self.left_out += part.left_out
        total = self.seen.total()
        if not self.due or total < ENOUGH:
            return None
        self.due = False
        if len(self.left_out) <= self.allowed * total:
            return None
        failed = Counter(group for group, _ in self.left_out)
        worst = sorted(failed, key=lambda group: (-failed[group] / self.seen[group], group))[:SHOWN_GROUPS]
        by_group = ", ".join(f"{group} {failed[group]} of {self.seen[group]}" for group in worst)
        example = next(path for group, path in self.left_out if group == worst[0])
        return (
            f"{len(self.left_out) / total:.0%} of the first {total} photos are left out, more than --max-failures "
            f"{self.allowed:g} allows; by split: {_by_split(self.seen, failed)}; most in {by_group}. "
            f"Look at such a photo now, for example {self.root / example}, before the rest is worked through: Ctrl-C "
            "stops, and what is done is kept. At the end --sheet shows those that are left out."
        )


def _by_split(seen: Counter[str], failed: Counter[str]) -> str:
    splits = sorted({group.partition("/")[0] for group in seen})
    return ", ".join(
        f"{split} {sum(failed[one] for one in own) / sum(seen[one] for one in own):.0%}"
        for split in splits
        for own in [[group for group in seen if group.partition("/")[0] == split]]
    )
