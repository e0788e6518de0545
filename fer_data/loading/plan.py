"""The rows of each batch of an epoch, on each rank, and a run's position in it: pure, without reading a byte."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Int64, Integer

from aupipe.fer_data.errors import StoreError, UserInputError, paragraph
from aupipe.fer_data.loading.counters import counter_hash

Mode = Literal["none", "full", "block", "balanced"]
BLOCK = 1024
"""Rows of a block in block order: neighbours on the disk, so that a store larger than memory is read in long runs."""


def order(n: int, seed: int, epoch: int, mode: Mode = "full", block: int = BLOCK) -> Int64[np.ndarray, "n"]:
    """Order the rows 0 .. n-1 for an epoch: a pure function of its arguments.

    ``none`` keeps them sorted, ``full`` is a random permutation, ``block`` shuffles blocks of neighbouring rows and the
    rows inside each block.

    Raises:
        UserInputError: Another mode.
    """
    rows = np.arange(n, dtype=np.int64)
    if mode == "none":
        return rows
    if mode not in ("full", "block"):
        raise UserInputError(paragraph("Unknown order.", expected="none, full or block", got=repr(mode)))
    # Another stream than the augmentation's, whose draws must not depend on the place in the order.
    keys = counter_hash(~seed, epoch, rows, 2)
    if mode == "full":
        return np.argsort(keys[:, 0], kind="stable")
    blocks = rows // block
    return np.lexsort((keys[:, 0], blocks, keys[blocks, 1])).astype(np.int64)


def balanced(labels: Integer[np.ndarray, "n"], seed: int, epoch: int) -> Int64[np.ndarray, "m"]:
    """Draw an epoch in which each class that has rows comes equally often: a pure function of its arguments.

    Draw ``row + k * n`` is the k-th repetition of a row, to be augmented in its own way. A class goes through all of
    its rows in random order before it starts again, even across epochs: small classes repeat no row more than they
    must, large ones leave none out for long.
    """
    n, classes = len(labels), np.unique(labels)
    share = n // max(len(classes), 1)
    drawn = [np.empty(0, np.int64)]
    for label in classes:
        rows = np.flatnonzero(labels == label)
        rounds, place = np.divmod(epoch * share + np.arange(share), len(rows))
        some = range(int(rounds[0]), int(rounds[-1]) + 1)
        shuffled = np.stack([rows[np.argsort(counter_hash(~seed, number, rows, 3)[:, 2])] for number in some])
        again = rounds - rounds[0]
        drawn.append(shuffled[again, place] + again * n)
    draws = np.concatenate(drawn)
    return draws[np.argsort(counter_hash(~seed, epoch, draws, 1)[:, 0], kind="stable")]


@dataclass(frozen=True)
class EpochPlan:
    """The batches of every epoch, as one rank of a run sees them.

    ``batch_size`` is that of all ranks together: rank r takes the r-th share of each batch of the one global order, so
    the order and the state mean the same for every ``world_size``. Without ``drop_last`` an epoch ends with a shorter
    batch, shared out as evenly as it goes; ``even`` makes all batches of an epoch as equal as possible instead.
    """

    rows: int
    batch_size: int
    seed: int = 0
    mode: Mode = "full"
    drop_last: bool = False
    rank: int = 0
    world_size: int = 1
    labels: Integer[np.ndarray, "n"] | None = field(default=None, compare=False)
    even: bool = False

    @property
    def length(self) -> int:
        """Samples of an epoch, before ``drop_last``."""
        if self.labels is None:
            return self.rows
        classes = max(len(np.unique(self.labels)), 1)
        return self.rows // classes * classes

    def check(self) -> None:
        """Raise :class:`UserInputError` when some rank would have nothing to do, or the batch cannot be shared out."""
        if self.batch_size < 1:
            raise UserInputError(paragraph("The batch size is not positive.", got=self.batch_size))
        if self.rows < 1:
            raise UserInputError(paragraph("There are no rows to load.", got=f"{self.rows} rows"))
        if (self.mode == "balanced") != (self.labels is not None):
            raise UserInputError(paragraph("A balanced order, and no other, needs the labels of the rows."))
        if self.drop_last and self.even:
            raise UserInputError(paragraph("Even batches leave no last one to drop.", fix="Use one of the two."))
        if (self.drop_last or self.even) and self.batch_size > self.length:
            raise UserInputError(
                paragraph(
                    f"A batch of {self.batch_size} is larger than the split: an epoch would have no full batch.",
                    expected=f"at most {self.length}, the samples of an epoch",
                    fix=f"Use --batch-size {self.length} or less.",
                )
            )
        if not 0 <= self.rank < self.world_size:
            raise UserInputError(
                paragraph("There is no such rank.", expected=f"0 to {self.world_size - 1}", got=self.rank)
            )
        self._check_shares()

    def _check_shares(self) -> None:
        divisors = [count for count in range(1, self.world_size) if self.batch_size % count == 0]
        if self.batch_size % self.world_size:
            above = -(-self.batch_size // self.world_size) * self.world_size
            raise UserInputError(
                paragraph(
                    f"A batch of {self.batch_size} cannot be shared out evenly among {self.world_size} processes.",
                    expected="a batch size that the world size divides",
                    fix=f"Use a batch size of {above}, or {divisors[-1]} processes.",
                )
            )
        last = self.samples(len(self)) - self.samples(len(self) - 1)
        smallest = self.length // len(self) if self.even else last
        if smallest < self.world_size:
            raise UserInputError(
                paragraph(
                    f"The {'smallest' if self.even else 'last'} batch of an epoch has {smallest} rows for "
                    f"{self.world_size} processes: some would wait for the others for ever.",
                    fix=f"Use {' or '.join(self._ways_to_share())}.",
                )
            )

    def _ways_to_share(self) -> Iterator[str]:
        """Name what leaves every process a row of each batch: the smallest batch size that does, if one does."""
        plain = replace(self, rows=self.length, labels=None, mode="full")
        for size in range(self.world_size, plain.rows + 1, self.world_size):
            other = replace(plain, batch_size=size)
            last = plain.rows - other.samples(len(other) - 1)
            if (plain.rows // len(other) if self.even else last) >= self.world_size:
                yield f"a batch size of {size}"
                break
        yield "fewer processes" if self.even else "drop_last=True"

    def __len__(self) -> int:
        """Count the batches of an epoch; ``even`` has one less where two rows a batch could not be had otherwise."""
        whole, rest = divmod(self.length, self.batch_size)
        alone = self.even and self.batch_size > 1 and self.length // (whole + 1) < 2
        return whole + (rest > 0 and not self.drop_last and not alone)

    def batches(self, epoch: int) -> list[Int64[np.ndarray, "b"]]:
        """List the rows of each batch of an epoch that belong to this rank, in order."""
        if self.labels is None:
            rows = order(self.rows, self.seed, epoch, self.mode)
        else:
            rows = balanced(self.labels, self.seed, epoch)
        whole = [rows[self.samples(i) : self.samples(i + 1)] for i in range(len(self))]
        share = (self.rank, self.rank + 1)
        return [batch[slice(*(len(batch) * r // self.world_size for r in share))] for batch in whole]

    def samples(self, batches: int) -> int:
        """Count the samples that all ranks together have seen after so many batches."""
        if self.even:
            return self.length * batches // len(self)
        return min(batches * self.batch_size, self.length)

    @property
    def largest(self) -> int:
        """Samples of the largest batch: ``batch_size``, but for small splits."""
        return -(-self.length // len(self)) if self.even else min(self.batch_size, self.length)

    def identity(self) -> dict[str, Any]:
        """Return what must agree for a state to mean the same samples; rank and world size may differ."""
        names = ("seed", "mode", "batch_size", "drop_last", "even", "rows")
        return {name: getattr(self, name) for name in names}

    def batches_done(self, samples: object) -> int:
        """Count the batches for so many samples: the inverse of :meth:`samples`.

        Raises :class:`StoreError` for a number at which no batch ends.
        """
        ends = [self.samples(batches) for batches in range(len(self) + 1)]
        if type(samples) is int and samples in ends:
            return ends.index(samples)
        step = "" if self.even else f"a multiple of {self.batch_size} "
        raise StoreError(
            paragraph(
                "The loader's state is damaged: no batch ends there.",
                expected=f"{step}up to {self.samples(len(self))}",
                got=f"samples_done {samples!r}",
            )
        )


def check_same(mine: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Raise :class:`StoreError` when a state disagrees with the loader that is to continue from it."""
    different = sorted(name for name, value in mine.items() if state.get(name) != value)
    if different:
        raise StoreError(
            paragraph(
                "The loader's state belongs to another store, another order of batches or another augmentation.",
                expected={name: mine[name] for name in different},
                got={name: state.get(name) for name in different},
                fix="Open the store the state was saved with, and the same loader settings.",
            )
        )
