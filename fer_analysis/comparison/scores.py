"""Scores of 8-bit maps against masks: pure functions of how often each level occurs outside and inside the mask.

Every score here depends on a map and a mask through two histograms of 256 levels alone, so all of them, for every map
against every mask, cost one count of pixels. Arrays of levels are ``(..., 2, 256)`` int64: outside, inside. A score is
``(...)`` float64. Maps must not be constant and masks neither empty nor full.

Binarised maps (IoU) follow the study: Otsu's threshold t of the 8-bit map over the whole frame, a pixel is on when its
value is > t.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, Int, Int64, UInt8

from aupipe.fer_models.metrics import ranking

Levels = Int64[np.ndarray, "... 2 256"]
VALUES = np.arange(256, dtype=np.float64)
FIXED = 0.1
"""The fixed threshold of a control, as a share of the full range."""


def count_levels(
    maps: UInt8[np.ndarray, "n h w"], masks: Bool[np.ndarray, "m h w"], where: Bool[np.ndarray, "h w"] | None = None
) -> Int64[np.ndarray, "n m 2 256"]:
    """Count the levels of every map outside and inside every mask; ``where``: only these pixels count."""
    chosen = np.ones(maps.shape[1:], bool) if where is None else where
    sides = masks[:, chosen].astype(np.int64) * 256
    values = maps[:, chosen].astype(np.int64)
    counts = [[np.bincount(one + side, minlength=512) for side in sides] for one in values]
    return np.array(counts, np.int64).reshape(len(maps), len(masks), 2, 256)


def otsu(levels: Levels) -> Int64[np.ndarray, "..."]:
    """Find Otsu's threshold (1979) of the whole map: the first level with the largest variance between the classes."""
    histogram = levels.sum(-2).astype(np.float64)
    below, moment = histogram.cumsum(-1), (histogram * VALUES).cumsum(-1)
    n, total = below[..., -1:], moment[..., -1:]
    both = below * (n - below)
    between = np.divide((total * below - moment * n) ** 2, both, out=np.zeros_like(both), where=both > 0)
    # Levels that do not occur repeat their neighbour's value; rounding must not prefer a later one.
    between[histogram == 0] = 0
    return np.asarray(between.argmax(-1), np.int64)


def iou(
    levels: Levels, threshold: Float[np.ndarray, "..."] | Int[np.ndarray, "..."] | float
) -> Float64[np.ndarray, "..."]:
    """Compute the intersection over union of the mask and the pixels above ``threshold`` (in levels, 0 to 255)."""
    on = np.greater(VALUES, np.asarray(threshold)[..., None])[..., None, :]
    claimed = (levels * on).sum(-1)
    union = claimed[..., 0] + levels[..., 1, :].sum(-1)
    return np.asarray(np.divide(claimed[..., 1], union, out=np.zeros(union.shape), where=union > 0))


def otsu_iou(levels: Levels) -> Float64[np.ndarray, "..."]:
    """Compute the study's score, the IoU at Otsu's threshold."""
    return iou(levels, otsu(levels))


def chance_iou(levels: Levels) -> Float64[np.ndarray, "..."]:
    """Compute the IoU of independent areas of these sizes.

    It is p q / (p + q - p q) for the map's share p and the mask's q.
    """
    n = levels.sum((-1, -2))
    on = np.greater(VALUES, otsu(levels)[..., None])
    p, q = (levels.sum(-2) * on).sum(-1) / n, mask_share(levels)
    return np.asarray(p * q / (p + q - p * q))


def fixed_iou(levels: Levels) -> Float64[np.ndarray, "..."]:
    """Compute the IoU at the fixed threshold :data:`FIXED`."""
    return iou(levels, FIXED * 255)


def ones_iou(levels: Levels) -> Float64[np.ndarray, "..."]:
    """Compute the IoU of a map that is on everywhere: the mask's share of the frame."""
    return mask_share(levels)


def mask_share(levels: Levels) -> Float64[np.ndarray, "..."]:
    """Compute the mask's share of all pixels: the chance of several scores."""
    return np.asarray(levels[..., 1, :].sum(-1) / levels.sum((-1, -2)))


def relevance_rank(levels: Levels) -> Float64[np.ndarray, "..."]:
    """Compute the share of the K strongest pixels that lie in the mask of K pixels (Arras et al. 2022).

    Pixels of one level share the last places.
    """
    total, inside = levels.sum(-2)[..., ::-1], levels[..., 1, ::-1]
    k = levels[..., 1, :].sum(-1)
    places = np.clip(k[..., None] - (total.cumsum(-1) - total), 0, total)
    share = np.divide(places, total, out=np.zeros(total.shape), where=total > 0)
    return np.asarray((inside * share).sum(-1) / k)


def area_matched_iou(levels: Levels) -> Float64[np.ndarray, "..."]:
    """Compute the IoU above the level whose area comes closest to the mask's.

    No reward for a large area, no threshold to tune.
    """
    total = levels.sum(-2)
    above = total.sum(-1, keepdims=True) - total.cumsum(-1)
    wanted = levels[..., 1, :].sum(-1)[..., None]
    return iou(levels, np.asarray(np.abs(above - wanted).argmin(-1)))


def relevance_mass(levels: Levels) -> Float64[np.ndarray, "..."]:
    """Compute the share of the map's sum that lies in the mask (Arras et al. 2022)."""
    mass = (levels * VALUES).sum(-1)
    return np.asarray(mass[..., 1] / mass.sum(-1))


def pointing_game(levels: Levels) -> Float64[np.ndarray, "..."]:
    """Score 1 where the maximum lies in the mask, 0 where it does not; of equal maxima the share that do."""
    return np.asarray(ranking.pointing_game(*_strongest_first(levels)))


def average_precision(levels: Levels) -> Float64[np.ndarray, "..."]:
    """Compute the average precision of the pixels' values as a detector of the mask's pixels."""
    return np.asarray(ranking.average_precision(*_strongest_first(levels)))


def _strongest_first(levels: Levels) -> tuple[Float64[np.ndarray, "... 256"], Float64[np.ndarray, "... 256"]]:
    """Order the counts of pixels inside and outside from the strongest level to the weakest."""
    reverse = levels[..., ::-1].astype(np.float64)
    return reverse[..., 1, :], reverse[..., 0, :]


def auc(levels: Levels) -> Float64[np.ndarray, "..."]:
    """Compute the area under the ROC: the chance that a pixel of the mask is stronger than one outside.

    Equal values count half.
    """
    outside, inside = levels[..., 0, :].astype(np.float64), levels[..., 1, :].astype(np.float64)
    weaker = outside.cumsum(-1) - outside / 2
    return np.asarray((inside * weaker).sum(-1) / (inside.sum(-1) * outside.sum(-1)))


def nss(levels: Levels) -> Float64[np.ndarray, "..."]:
    """Average over the mask the map standardised over the frame (normalised scanpath saliency, Peters et al. 2005)."""
    total = levels.sum(-2)
    n = total.sum(-1)
    mean = (total * VALUES).sum(-1) / n
    spread = np.sqrt((total * VALUES**2).sum(-1) / n - mean**2)
    inside = levels[..., 1, :]
    return np.asarray(((inside * VALUES).sum(-1) / inside.sum(-1) - mean) / spread)


def _constant(value: float) -> Callable[[Levels], Float64[np.ndarray, "..."]]:
    return lambda levels: np.full(levels.shape[:-2], value)


def _chance_area_matched(levels: Levels) -> Float64[np.ndarray, "..."]:
    q = mask_share(levels)
    return np.asarray(q / (2 - q))


@dataclass(frozen=True)
class Score:
    """A score, what an uninformed map reaches, and a sentence that says so."""

    value: Callable[[Levels], Float64[np.ndarray, "..."]]
    chance: Callable[[Levels], Float64[np.ndarray, "..."]]
    text: str


SCORES: Mapping[str, Score] = {
    "iou": Score(otsu_iou, chance_iou, "IoU of the map above Otsu's threshold; chance: independent areas"),
    "iou_fixed": Score(fixed_iou, ones_iou, f"IoU of the map above {FIXED}; beside it: a map that is on everywhere"),
    "iou_area": Score(
        area_matched_iou,
        _chance_area_matched,
        "IoU above the level whose area is closest to the mask's; chance: independent areas",
    ),
    "mass": Score(relevance_mass, mask_share, "relevance mass: share of the map's sum inside; chance: an even map"),
    "rank": Score(relevance_rank, mask_share, "relevance rank: share of the K strongest pixels inside, K the mask's"),
    "pointing": Score(pointing_game, mask_share, "pointing game: the maximum lies inside; chance: any pixel"),
    "auc": Score(auc, _constant(0.5), "area under the ROC of pixel values for the mask"),
    "ap": Score(average_precision, mask_share, "average precision of pixel values for the mask"),
    "nss": Score(nss, _constant(0.0), "mean over the mask of the standardised map"),
}
"""All scores by the name of their column."""
