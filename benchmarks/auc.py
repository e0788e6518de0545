"""Area under the receiver operating characteristic curve, for the programs that fit or compare on coded faces."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float


def area_under_curve(
    scores: Float[np.ndarray, "n"], positive: Bool[np.ndarray, "n"], weight: Float[np.ndarray, "n"] | None = None
) -> float:
    """Share of pairs of a positive and a negative in which the positive has the higher score; ties count half.

    ``weight``: how often each counts. NaN without both kinds.
    """
    weight = np.ones(len(scores)) if weight is None else weight
    with_it, without = weight[positive].sum(), weight[~positive].sum()
    if not with_it or not without:
        return float("nan")
    order = np.argsort(scores, kind="stable")
    _, start = np.unique(scores[order], return_index=True)
    below = np.add.reduceat(np.where(positive, 0, weight)[order], start)
    above = np.add.reduceat(np.where(positive, weight, 0)[order], start)
    return float((above * (np.cumsum(below) - below / 2)).sum() / (with_it * without))
