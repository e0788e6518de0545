"""Controls of a mean IoU: what needs no network, and a test of the masks themselves."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from aupipe.fer_analysis.comparison import scores
from aupipe.fer_models.metrics.resampling import bootstrap_interval

MAX_ORDERS = 40_320
"""Up to eight expressions every order is tried; beyond, so many random ones."""


@dataclass(frozen=True)
class Permutation:
    """Test of the assignment of masks to expressions: the mean IoU of the true one among all.

    ``p``: share of the orders (the true one among them) that score at least as high.
    """

    true: float
    best: float
    orders: int
    p: float


def assignment_test(table: Float64[np.ndarray, "e e"], seed: int = 0) -> Permutation:
    """Test the assignment of masks to expressions against every other order, or many random ones.

    ``table[i, j]``: mean score of expression i's maps with expression j's mask; the true order is the diagonal.
    """
    k = len(table)
    if math.factorial(k) <= MAX_ORDERS:
        orders = np.array(list(itertools.permutations(range(k))), np.int64)
    else:
        rng = np.random.default_rng(seed)
        orders = np.stack([np.arange(k), *(rng.permutation(k) for _ in range(MAX_ORDERS - 1))])
    means = table[np.arange(k), orders].mean(1)
    true = float(means[0])
    at_least = means >= true - 1e-12
    return Permutation(true, float(means.max()), len(orders), float(at_least.mean()))


@dataclass(frozen=True)
class Controls:
    """Control figures over the networks that have every expression (means over networks and expressions).

    ``networks``: how many they are; ``interval``: of ``mean_iou``, over networks, None of one; ``wrong_masks``:
    mean IoU with the other expressions' masks (None for a single expression).
    """

    networks: int
    mean_iou: float
    interval: tuple[float, float] | None
    all_ones: float
    fixed_threshold: float
    chance: float
    area_matched: float
    wrong_masks: float | None
    permutation: Permutation

    def between(self, digits: int) -> str:
        """Say the interval, with so many decimals; empty where there is none."""
        ends = [f"{end:.{digits}f}" for end in self.interval or ()]
        return f" (95 % over networks: {' to '.join(ends)})" if ends else ""


def measure_controls(levels: Int64[np.ndarray, "n e e 2 256"]) -> Controls:
    """Measure the controls of networks with all expressions: ``levels[network, expression, mask]``."""
    k = levels.shape[1]
    own = levels[:, np.arange(k), np.arange(k)]
    table = scores.otsu_iou(levels)
    off = ~np.eye(k, dtype=bool)
    per_network = scores.otsu_iou(own).mean(1)
    return Controls(
        networks=len(levels),
        mean_iou=float(per_network.mean()),
        interval=bootstrap_interval(per_network),
        all_ones=float(scores.ones_iou(own).mean()),
        fixed_threshold=float(scores.fixed_iou(own).mean()),
        chance=float(scores.chance_iou(own).mean()),
        area_matched=float(scores.area_matched_iou(own).mean()),
        wrong_masks=float(table[:, off].mean()) if k > 1 else None,
        permutation=assignment_test(np.asarray(table.mean(0))),
    )
