"""Scores of a map's order, how well it tells a region's pixels from others: from counts by value (NumPy or torch).

``inside, outside`` (..., levels): how many pixels of each value lie in the region and out of it, from the strongest
value to the weakest; values that do not occur may be among them. Whatever can be counted so is scored by one
definition: maps of any precision on a device, and histograms of 8-bit maps. scikit-learn's ``average_precision_score``
gives the same, map by map, on the CPU; here all maps of a batch are scored at once, where they lie.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from torch import Tensor

Counts = TypeVar("Counts", np.ndarray, Tensor)


def pointing_game(inside: Counts, outside: Counts) -> Counts:
    """Score the pointing game (Zhang et al. 2018): 1 where the map's maximum lies in the region, else 0.

    Where several pixels share the maximum, the share of them in the region: what drawing one at random would score on
    average, so that a uniform map scores chance and not luck.
    """
    total = inside + outside
    first = (total > 0) & (total.cumsum(-1) == total)
    share: Counts = ((inside * first).sum(-1) / (total * first).sum(-1))[...]  # an array, too, where no axis is left
    return share


def average_precision(inside: Counts, outside: Counts) -> Counts:
    """Average the precision over the recall gained at each value, ``sum (R_i - R_{i-1}) P_i``, without interpolation.

    Equal values count as one threshold, so a constant map scores the region's share. 0 where nothing lies inside.
    """
    hits, claimed = inside.cumsum(-1), (inside + outside).cumsum(-1)
    precision = hits / (claimed + (claimed == 0))
    positives = inside.sum(-1)
    average: Counts = ((inside * precision).sum(-1) / (positives + (positives == 0)))[...]
    return average
