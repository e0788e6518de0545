"""Means of a figure over many groups of faces at once: everything, what was named rightly and wrongly, every class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

ALL, CORRECT, WRONG, LABELLED = range(4)
"""Numbers of the groups: the last is that of the first class's faces, then those of the others, then the faces that
were named each class."""


@dataclass(frozen=True)
class GroupMeans:
    """Means of one figure by group; None of no faces.

    ``macro``: over the expressions, of each one's mean. ``pooled``: over the faces.
    """

    macro: tuple[float | None, ...]
    pooled: tuple[float | None, ...]


@dataclass(frozen=True)
class FaceGroups:
    """``members``: the faces of each group. ``of_class``: 1 where a face is labelled a class, else 0."""

    members: Bool[np.ndarray, "g n"]
    of_class: Float64[np.ndarray, "n k"]

    @staticmethod
    def of(label: Int64[np.ndarray, "n"], predicted: Int64[np.ndarray, "n"], n_classes: int) -> FaceGroups:
        """Make the groups of faces with these labels and predictions."""
        right, classes = label == predicted, np.arange(n_classes)[:, None]
        members = np.concatenate(
            [np.ones((1, len(label)), bool), [right, ~right], classes == label, classes == predicted]
        )
        return FaceGroups(members, (classes == label).T.astype(np.float64))

    def average(self, values: Float64[np.ndarray, "n"], rows: Bool[np.ndarray, "n"]) -> GroupMeans:
        """Average over those of each group's faces where the values mean something."""
        chosen = self.members[:, rows].astype(np.float64)
        counts, sums = chosen @ self.of_class[rows], (chosen * values[rows]) @ self.of_class[rows]
        means = np.divide(sums, counts, out=np.zeros_like(sums), where=counts > 0)
        return GroupMeans(_ratios(means.sum(1), (counts > 0).sum(1)), _ratios(sums.sum(1), counts.sum(1)))


def _ratios(sums: Float64[np.ndarray, "g"], counts: np.ndarray) -> tuple[float | None, ...]:
    return tuple(float(total / count) if count else None for total, count in zip(sums, counts, strict=True))
