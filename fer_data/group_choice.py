"""Choosing whole groups (persons) that hold a share of every class, by their names alone.

Groups come in the order of a SHA-256 hash of a salt and their name, so that neither the order of rows nor the version
of Python or NumPy matters; each is taken when that brings the choice closer to its target, the sum over classes of
|wanted - taken|.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from fractions import Fraction

_ENOUGH_GROUPS = 3  # one for each split


def common_classes(groups: Mapping[str, Mapping[str, int]]) -> frozenset[str]:
    """Name the classes that enough groups have, so that each part of a cut can get one."""
    holders = Counter(label for counts in groups.values() for label in counts)
    return frozenset(label for label, count in holders.items() if count >= _ENOUGH_GROUPS)


@dataclass(slots=True)
class _GroupChoice:
    """The state of one greedy cut; ``left`` counts, per class, the groups that are not taken.

    Whole numbers only, in units of 1 / ``unit`` samples: sums of floats would depend on the order of rows.
    """

    wanted: Mapping[str, int]
    unit: int
    left: Counter[str]
    common: Set[str]
    spare: int
    have: Counter[str] = field(default_factory=Counter)
    taken: set[str] = field(default_factory=set)

    def gain(self, counts: Mapping[str, int]) -> int:
        missing = {label: self.wanted[label] - self.unit * self.have[label] for label in counts}
        return sum(abs(missing[label]) - abs(missing[label] - self.unit * n) for label, n in counts.items())

    def leaves_enough(self, counts: Mapping[str, int]) -> bool:
        return all(self.left[label] > self.spare for label in counts if label in self.common)

    def take(self, group: str, counts: Mapping[str, int]) -> None:
        self.taken.add(group)
        self.have.update(counts)
        self.left.subtract(counts.keys())


def choose_groups(
    groups: Mapping[str, Mapping[str, int]], fraction: float, salt: str, common: Set[str], *, spare: int
) -> frozenset[str]:
    """Choose groups that hold about ``fraction`` of every class.

    Args:
        groups: Number of samples by group and class.
        fraction: Share to take, in [0, 1).
        salt: Text that goes into the hash by which the groups are ordered.
        common: Classes of which at least one group is taken, and ``spare`` groups are left, where that is possible.
        spare: Groups to leave of each such class.
    """
    if not fraction or not groups:
        return frozenset()
    totals, left = Counter[str](), Counter[str]()
    for counts in groups.values():
        totals.update(counts)
        left.update(counts.keys())
    share = Fraction(str(fraction))
    least = {label: share.denominator if label in common else 0 for label in totals}
    wanted = {label: max(share.numerator * n, least[label]) for label, n in totals.items()}
    state = _GroupChoice(wanted, share.denominator, left, common, spare)
    ordered = sorted(groups, key=lambda group: hashlib.sha256(f"{salt}/{group}".encode()).digest())
    for group in ordered:
        if state.gain(groups[group]) > 0 and state.leaves_enough(groups[group]):
            state.take(group, groups[group])
    # A class whose every group was too large to bring the sum closer still gets its least harmful one.
    for label in sorted(common & totals.keys(), key=lambda name: (left[name], name)):
        if not state.have[label]:
            fitting = [g for g in ordered if label in groups[g] and state.leaves_enough(groups[g])]
            if fitting:
                best = max(fitting, key=lambda group: state.gain(groups[group]))
                state.take(best, groups[best])
    return frozenset(state.taken)
