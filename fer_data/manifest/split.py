"""Cutting validation and test samples: stratified, by whole subjects, depending on seed and names only.

Pure. A group is a subject, or a file where subjects are unknown; :mod:`~aupipe.fer_data.group_choice` chooses them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

from aupipe.fer_data.errors import UserInputError, paragraph
from aupipe.fer_data.group_choice import choose_groups, common_classes
from aupipe.fer_data.types import Sample


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
        common = common_classes(pool)
        taken = choose_groups(pool, test_fraction, f"{seed}/test", common, spare=2 if val_fraction else 1)
        current = [replace(item, split="test" if group_of(item) in taken else "train") for item in current]
    else:
        common = common_classes(_groups([item for item in current if item.split == "train"]))
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
