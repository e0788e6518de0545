"""Whether a score tells faces that show an action unit from faces that do not: areas under the curve (ROC).

Over all faces much of such an area is knowing the expression. Within a class knowing it is worth nothing: there the
score must tell this face from another of its class. Areas are pooled over action units and classes by their pairs of
faces, so that one interval over persons holds for all of them.

scikit-learn's ``roc_auc_score`` gives the same area; here all resamples of a bootstrap are counted after one sort.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

from aupipe.fer_models.metrics import resampling

LEAST_FACES = 6
"""Faces of a class with an action unit, and without it, that its area needs."""


def area_under_curve(
    scores: Float[np.ndarray, "n"], positive: Bool[np.ndarray, "n"], weight: Float[np.ndarray, "n"] | None = None
) -> float:
    """Compute the share of pairs of a positive and a negative in which the positive has the higher score.

    Ties count half. ``weight``: how often each counts. NaN without both kinds.
    """
    won, pairs = pairs_won(scores, positive, np.ones((1, len(scores))) if weight is None else weight[None])
    return float(won[0] / pairs[0]) if pairs[0] else float("nan")


def pairs_won(
    scores: Float[np.ndarray, "n"], positive: Bool[np.ndarray, "n"], weight: Float[np.ndarray, "r n"]
) -> tuple[Float64[np.ndarray, "r"], Float64[np.ndarray, "r"]]:
    """Count the pairs in which the positive has the higher score, ties half, and all pairs.

    Args:
        scores: One a face.
        positive: Which faces should have the higher ones.
        weight: How often each face counts, in each resample.
    """
    order = np.argsort(scores, kind="stable")
    _, start = np.unique(scores[order], return_index=True)
    below = np.add.reduceat(np.where(positive, 0.0, weight)[:, order], start, axis=1)
    above = np.add.reduceat(np.where(positive, weight, 0.0)[:, order], start, axis=1)
    won = (above * (np.cumsum(below, 1) - below / 2)).sum(1)
    return won, above.sum(1) * below.sum(1)


@dataclass(frozen=True)
class UnitInClass:
    """An action unit, by its column, in a class: the faces that are compared, with it and without."""

    unit: int
    label: int
    rows: Int64[np.ndarray, "m"]


def units_in_classes(
    shown: Bool[np.ndarray, "n k"], label: Int64[np.ndarray, "n"], known: Bool[np.ndarray, "n k"] | None = None
) -> list[UnitInClass]:
    """List every action unit in every class with :data:`LEAST_FACES` faces of each kind.

    Args:
        shown: Whether a face shows each action unit.
        label: The class of each face.
        known: Which faces have a score for it; None: all.
    """
    found = []
    for unit in range(shown.shape[1]):
        there = np.ones(len(label), bool) if known is None else known[:, unit]
        for number in np.unique(label):
            rows = np.flatnonzero(there & (label == number))
            with_it = int(shown[rows, unit].sum())
            if min(with_it, len(rows) - with_it) >= LEAST_FACES:
                found.append(UnitInClass(unit, int(number), rows))
    return found


def pooled_area(
    units: Sequence[UnitInClass],
    scores: Float[np.ndarray, "n k"],
    shown: Bool[np.ndarray, "n k"],
    weight: Float[np.ndarray, "r n"] | None = None,
) -> Float64[np.ndarray, "r"]:
    """Compute the area over all pairs of faces of these action units in their classes, in each resample.

    ``weight``: how often each face counts; None: once, one resample. NaN where no pair is left.
    """
    weight = np.ones((1, len(shown))) if weight is None else weight
    won, pairs = np.zeros(len(weight)), np.zeros(len(weight))
    for one in units:
        its = pairs_won(scores[one.rows, one.unit], shown[one.rows, one.unit], weight[:, one.rows])
        won, pairs = won + its[0], pairs + its[1]
    return np.asarray(np.divide(won, pairs, out=np.full(len(weight), np.nan), where=pairs > 0))


def pair_count(units: Sequence[UnitInClass], shown: Bool[np.ndarray, "n k"]) -> int:
    """Count the pairs of a face with the action unit and a face without that the pooled area is over."""
    with_it = [int(shown[one.rows, one.unit].sum()) for one in units]
    return sum(count * (len(one.rows) - count) for count, one in zip(with_it, units, strict=True))


def resampled_faces(group: Int64[np.ndarray, "n"], resamples: int = resampling.RESAMPLES) -> Float64[np.ndarray, "r n"]:
    """Draw how often each face counts when persons are resampled; ``group``: the person of each."""
    persons, number = np.unique(group, return_inverse=True)
    return resampling.draw_counts(len(persons), resamples)[:, number]


def area_interval(areas: Float64[np.ndarray, "r"]) -> tuple[float, float] | None:
    """Take the 95 % interval from areas on resampled faces; None where none of them has a pair."""
    there = areas[np.isfinite(areas)]
    return resampling.percentile_interval(there) if len(there) else None
