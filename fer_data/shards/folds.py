"""Folds of a store for cross-validation: whole persons, dealt by their names and classes, classes about even.

Fold 2/5 tests on the second fifth of the persons of all splits; of the others a tenth chooses the epoch (val), the rest
is learned from. Another set of persons gives other folds. Nothing is copied: the splits of a folded store are chosen
rows of the shards that are there, those of val and test in hash order, so that the first are a fair draw. Means and
deviations of the channels stay those of the store's own training split.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8

from aupipe.fer_data.errors import UserInputError, paragraph
from aupipe.fer_data.files import digest
from aupipe.fer_data.fold import Fold, parse_fold
from aupipe.fer_data.group_choice import choose_groups, common_classes
from aupipe.fer_data.shards.chosen_rows import ChosenRows, hashed_name
from aupipe.fer_data.shards.index import StoreIndex
from aupipe.fer_data.shards.reader import SplitReader, Store
from aupipe.fer_data.types import SPLITS

VALIDATION = 0.1
"""Share of the persons outside the fold that choose the epoch."""


def folded_digest(store_digest: str, fold: str) -> str:
    """Give the digest that a folded store has in place of its own; its own where ``fold`` is empty."""
    return digest([store_digest, "fold", str(parse_fold(fold))]) if fold else store_digest


@dataclass(frozen=True)
class FoldedIndex(StoreIndex):
    """The index of a store whose splits are those of a fold. ``counts``: rows of each class, by split."""

    part: str = ""
    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @property
    def fold(self) -> str:
        """See the base class."""
        return self.part

    def rows(self, split: str) -> int:
        """See the base class."""
        return sum(self.counts.get(split, {}).values())

    def label_counts(self, split: str) -> dict[str, int]:
        """See the base class."""
        return {name: self.counts.get(split, {}).get(name, 0) for name in self.classes}

    def as_json(self) -> dict[str, Any]:
        """Refuse: a fold is a view, which no file holds."""
        raise NotImplementedError("a fold of a store has no index of its own")

    @cached_property
    def digest(self) -> str:
        """Identity of content and fold."""
        whole = StoreIndex(**{one.name: getattr(self, one.name) for one in fields(StoreIndex)})
        return folded_digest(whole.digest, self.part)


@dataclass(frozen=True, repr=False)
class FoldedStore(Store):
    """A store seen through a fold. ``chosen``: the rows of each split, numbered over all shards in order."""

    chosen: Mapping[str, Int64[np.ndarray, "n"]] = field(default_factory=dict)

    def split(self, name: str) -> SplitReader:
        """See the base class."""
        super().split(name)
        return ChosenRows(_EveryRow(self), name, self.chosen[name])


class _EveryRow(SplitReader):
    """The rows of all splits of a store, in the order of its shards."""

    def __init__(self, store: Store) -> None:
        super().__init__(store, "")
        self.entries = store.index.shards
        self._starts = np.cumsum([0, *(entry.rows for entry in self.entries)])


def fold_store(store: Store, text: str) -> Store:
    """See a store through a fold.

    Args:
        store: The whole store, opened.
        text: ``2/5``; empty: the store as it is.

    Returns:
        A store whose splits are dealt anew.

    Raises:
        UserInputError: No such fold can be: there are fewer persons than folds, or a part of it is empty.
        StoreError: The store cannot be read.
    """
    if not text:
        return store
    fold, every = parse_fold(text), _EveryRow(store)
    split_of = _deal(every.groups, every.labels, fold)
    chosen = {name: np.flatnonzero(split_of == name).astype(np.int64) for name in SPLITS}
    if empty := [name for name, rows in chosen.items() if not len(rows)]:
        raise UserInputError(
            paragraph(
                f"Fold {fold} of the store has no faces for {' and '.join(empty)}: whole persons are dealt.",
                where=store.folder,
                got=f"{len(set(every.groups))} persons",
                fix="Ask for other folds.",
            )
        )
    for name in ("val", "test"):
        drawn = sorted(chosen[name].tolist(), key=lambda row: hashed_name(every.sample_ids[row]))
        chosen[name] = np.array(drawn, np.int64)
    classes = store.index.classes
    counts = {
        name: {classes[label]: count for label, count in Counter(every.labels[rows].tolist()).items()}
        for name, rows in chosen.items()
    }
    whole: dict[str, Any] = {one.name: getattr(store.index, one.name) for one in fields(StoreIndex)}
    return FoldedStore(store.folder, FoldedIndex(**whole, part=str(fold), counts=counts), store.url, chosen)


def _deal(groups: list[str], labels: UInt8[np.ndarray, "n"], fold: Fold) -> np.ndarray:
    """Name the split of every row: its person's, which goes by the persons' names and classes alone."""
    persons = defaultdict[str, Counter[str]](Counter)
    for group, label in zip(groups, labels.tolist(), strict=True):
        persons[group][str(label)] += 1
    if len(persons) < fold.count:
        raise UserInputError(
            paragraph(
                "The store has too few persons for so many folds: faces of one person stay together.",
                expected=f"{fold.count} persons or more",
                got=len(persons),
                fix="Ask for fewer folds.",
            )
        )
    test = _persons_of(fold, persons)
    others = {name: classes for name, classes in persons.items() if name not in test}
    val = choose_groups(others, VALIDATION, f"val of fold {fold}", common_classes(others), spare=1)
    return np.array(["test" if name in test else "val" if name in val else "train" for name in groups])


def _persons_of(fold: Fold, persons: Mapping[str, Mapping[str, int]]) -> frozenset[str]:
    """Deal the folds one after the other, up to this one; the last takes who is left."""
    left, taken = dict(persons), frozenset[str]()
    for number in range(1, fold.number + 1):
        left = {name: classes for name, classes in left.items() if name not in taken}
        parts = fold.count - number + 1
        if parts == 1:
            return frozenset(left)
        salt = f"fold {number} of {fold.count}"
        taken = choose_groups(left, 1 / parts, salt, common_classes(left), spare=parts - 1)
    return taken
