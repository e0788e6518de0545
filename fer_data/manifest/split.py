"""Cutting validation and test samples: stratified, by whole subjects, depending on seed and names only.

Pure. Groups (a subject, or a file where subjects are unknown) come in the order of a SHA-256 hash of seed and
name, so that neither the order of rows nor the version of Python or NumPy matters; each is taken when that
brings the cut closer to its target, the sum over classes of |wanted - taken|.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from fractions import Fraction

from aupipe.fer_data.errors import UserInputError, paragraph
from aupipe.fer_data.types import Sample

_ENOUGH_GROUPS = 3  # one for each split


def check_fractions(val_fraction: float, test_fraction: float) -> None:
    """Raise :class:`UserInputError` unless both fractions are in [0, 1)."""
    for name, value in (("validation", val_fraction), ("test", test_fraction)):
        if not 0 <= value < 1:
            raise UserInputError(
                paragraph(f"The {name} fraction cannot be used.", expected="at least 0 and below 1", got=value)
            )


def assign_splits(
    samples: Sequence[Sample], *, seed: int = 0, val_fraction: float = 0.1, test_fraction: float = 0.2
) -> list[Sample]:
    """Fill in the split of every sample; their order stays.

    Without any split, ``test_fraction`` of all becomes test and the rest train. Then, if there is no validation split,
    ``val_fraction`` of train becomes val. Test samples that the dataset names are never touched. A class with at least
    three groups gets one into each cut split, as far as subjects with several expressions allow it. A fraction of 0
    cuts nothing.

    Args:
        samples: The samples; ``split`` is empty where the dataset names none.
        seed: Seed of the order in which groups are taken.
        val_fraction: Share of train, in [0, 1).
        test_fraction: Share of everything, in [0, 1).

    Raises:
        UserInputError: A fraction is outside [0, 1).
    """
    check_fractions(val_fraction, test_fraction)
    splits = {sample.split for sample in samples}
    current = list(samples)
    if splits == {""}:
        pool = _groups(current)
        common = _common_classes(pool)
        taken = choose_groups(pool, test_fraction, f"{seed}/test", common, spare=2 if val_fraction else 1)
        current = [replace(item, split="test" if group_of(item) in taken else "train") for item in current]
    else:
        common = _common_classes(_groups([item for item in current if item.split == "train"]))
    if "val" not in splits:
        train = [item for item in current if item.split == "train"]
        taken = choose_groups(_groups(train), val_fraction, f"{seed}/val", common, spare=1)
        current = [
            replace(item, split="val") if item.split == "train" and group_of(item) in taken else item
            for item in current
        ]
    return current


def group_of(sample: Sample) -> str:
    """Name the group that must not be torn apart: the subject, or the file where the subject is unknown."""
    return f"subject {sample.subject}" if sample.subject else f"file {sample.path}"


def _groups(samples: Sequence[Sample]) -> dict[str, Counter[str]]:
    groups = defaultdict[str, Counter[str]](Counter)
    for sample in samples:
        groups[group_of(sample)][sample.label] += 1
    return dict(groups)


def _common_classes(groups: Mapping[str, Counter[str]]) -> frozenset[str]:
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
