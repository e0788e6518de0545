"""Where a map points, against the region of the AUs (torch, so that it runs where the maps are).

The region of a face is where its AU map reaches :data:`REGION_THRESHOLD`. The three figures need no scale of the map
and say different things: where its maximum lies, how much of it lies inside, how well its order separates inside from
outside. All three have the region's share of the pixels as their chance level. Faces without a region get 0 and must be
left out by the caller.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

REGION_THRESHOLD = 0.5
"""Least value of the AU map inside the region: for a Gaussian blob, within 1.18 sigma of its centre."""


def au_region(au_map: Float[Tensor, "b m m"]) -> Bool[Tensor, "b m m"]:
    """Pixels of the region."""
    return au_map >= REGION_THRESHOLD


def region_share(region: Bool[Tensor, "b m m"]) -> Float[Tensor, "b"]:
    """Share of the pixels that lie in the region: what a map without any knowledge scores."""
    return region.flatten(1).double().mean(1)


def pointing(maps: Float[Tensor, "b m m"], region: Bool[Tensor, "b m m"]) -> Float[Tensor, "b"]:
    """Pointing game (Zhang et al., 2018): 1 where the map's maximum lies in the region, without tolerance, else 0.

    Where several pixels share the maximum, the share of them in the region: what drawing one at random would score on
    average, so that a uniform map scores chance and not luck. An empty map points nowhere: 0.
    """
    values = maps.flatten(1)
    peak = values.amax(1, keepdim=True)
    top = (values == peak).double()
    return (top * region.flatten(1)).sum(1) / top.sum(1) * (peak[:, 0] > 0)


def energy(maps: Float[Tensor, "b m m"], region: Bool[Tensor, "b m m"]) -> Float[Tensor, "b"]:
    """Share of the map's mass that lies in the region (Wang et al., 2020: energy-based pointing game).

    ``maps`` >= 0. An empty map has none: 0.
    """
    values = maps.flatten(1).double()
    total = values.sum(1)
    inside = (values * region.flatten(1)).sum(1)
    return torch.where(total > 0, inside / total.clamp_min(torch.finfo(torch.float64).tiny), 0.0)


def pixel_ap(maps: Float[Tensor, "b m m"], region: Bool[Tensor, "b m m"]) -> Float[Tensor, "b"]:
    """Average precision of each map as a detector of its region's pixels, ``sum (R_i - R_{i-1}) P_i``.

    The same as scikit-learn's ``average_precision_score`` of each face (equal values count as one threshold), for all
    faces at once. A constant map scores the region's share.
    """
    values, order = maps.flatten(1).sort(dim=1, descending=True)
    positive = region.flatten(1).gather(1, order).double()
    n = values.shape[1]
    rank = torch.arange(n, device=values.device)
    # A threshold lets in all pixels of one value, so a pixel's precision is that at the last of its equals.
    last = torch.ones_like(values, dtype=torch.bool)
    last[:, :-1] = values[:, :-1] != values[:, 1:]
    end = torch.where(last, rank, n - 1).flip(1).cummin(1).values.flip(1)
    precision = (positive.cumsum(1) / (rank + 1)).gather(1, end)
    return (positive * precision).sum(1) / positive.sum(1).clamp_min(1)
