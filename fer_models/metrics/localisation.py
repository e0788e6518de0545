"""Localisation of maps against the region of the AUs (torch, so that it runs where the maps are).

The region of a face is where its AU map reaches :data:`REGION_THRESHOLD`. The three figures need no scale of the map
and say different things: where its maximum lies, how much of it lies inside, how well its order separates inside from
outside. All three have the region's share of the pixels as their chance level. Faces without a region get 0 and must be
left out by the caller.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from aupipe.fer_models.metrics.ranking import average_precision, pointing_game

REGION_THRESHOLD = 0.5
"""Least value of the AU map inside the region: for a Gaussian blob, within 1.18 sigma of its centre."""


def au_region(au_map: Float[Tensor, "b m m"]) -> Bool[Tensor, "b m m"]:
    """Mark the pixels of the region."""
    return au_map >= REGION_THRESHOLD


def region_share(region: Bool[Tensor, "b m m"]) -> Float[Tensor, "b"]:
    """Compute the region's share of the pixels: the score of a map without any knowledge."""
    return region.flatten(1).double().mean(1)


def pointing(maps: Float[Tensor, "b m m"], region: Bool[Tensor, "b m m"]) -> Float[Tensor, "b"]:
    """Score the pointing game, without tolerance; equal maxima count by their share. An empty map points nowhere: 0."""
    values = maps.flatten(1)
    peak = values.amax(1, keepdim=True)
    top, inside = values == peak, region.flatten(1)
    counts = [(top & side).sum(1, keepdim=True).double() for side in (inside, ~inside)]  # no other value matters
    return pointing_game(*counts) * (peak[:, 0] > 0)


def energy(maps: Float[Tensor, "b m m"], region: Bool[Tensor, "b m m"]) -> Float[Tensor, "b"]:
    """Compute the share of the map's mass that lies in the region (Wang et al., 2020: energy-based pointing game).

    ``maps`` >= 0. An empty map has none: 0.
    """
    values = maps.flatten(1).double()
    total = values.sum(1)
    inside = (values * region.flatten(1)).sum(1)
    return torch.where(total > 0, inside / total.clamp_min(torch.finfo(torch.float64).tiny), 0.0)


def pixel_ap(maps: Float[Tensor, "b m m"], region: Bool[Tensor, "b m m"]) -> Float[Tensor, "b"]:
    """Average each map's precision as a detector of its region's pixels; a constant map scores the region's share."""
    return average_precision(*_value_counts(maps.flatten(1), region.flatten(1)))


def _value_counts(
    values: Float[Tensor, "b n"], region: Bool[Tensor, "b n"]
) -> tuple[Float64[Tensor, "b n"], Float64[Tensor, "b n"]]:
    """Pixels inside and outside by value, from the strongest: each count stands at the last pixel of its value."""
    ranked, order = values.sort(dim=1, descending=True)
    last = torch.ones_like(ranked, dtype=torch.bool)
    last[:, :-1] = ranked[:, :-1] != ranked[:, 1:]
    inside = region.gather(1, order)
    counts = []
    for side in (inside, ~inside):
        so_far = side.double().cumsum(1)
        before = (so_far * last).cummax(1).values.roll(1, 1)
        before[:, 0] = 0
        counts.append((so_far - before) * last)
    return counts[0], counts[1]
