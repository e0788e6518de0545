"""Localisation of maps against the region of the AUs (torch, so that it runs where the maps are).

The region of a face is where its AU map reaches :data:`REGION_THRESHOLD`. The three figures need no scale of the map
and say different things: where its maximum lies, how much of it lies inside, how well its order separates inside from
outside. All three have the region's share of the pixels as their chance level. Faces without a region get 0 and must be
left out by the caller.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int32
from torch import Tensor

from aupipe.fer_models.metrics.ranking import pointing_game

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
    top = values == peak
    counts = [(top & side).sum(1, keepdim=True).double() for side in (region.flatten(1), ~region.flatten(1))]
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
    """Average each map's precision as a detector of its region's pixels; a constant map scores the region's share.

    ``maps`` >= 0, in single precision. Defined as :func:`~aupipe.fer_models.metrics.ranking.average_precision`; only
    values that occur in the region gain recall, so no others are looked at.
    """
    inside = region.flatten(1)
    total = inside.sum(1)
    ranked = _ranked(maps.flatten(1), inside)
    row, place = (ranked & 1).nonzero(as_tuple=True)
    level = ranked[row, place].long() & 0xFFFFFFFF
    levels, gained = torch.unique_consecutive(row << 32 | level, return_counts=True)
    row, so_far = levels >> 32, gained.cumsum(0)
    hits = so_far - (total.cumsum(0) - total)[row]
    claimed = place[so_far - 1] + 1
    sums = torch.zeros(len(maps), dtype=torch.float64, device=maps.device)
    return sums.index_add_(0, row, gained * hits.double() / claimed) / total.clamp_min(1)


def _ranked(values: Float[Tensor, "b n"], inside: Bool[Tensor, "b n"]) -> Int32[Tensor, "b n"]:
    """Sort each row's pixels from the strongest, as numbers: weakness, and in the last bit whether it is inside.

    So an order need not be sorted along, and those inside come last among equals. Floats >= 0 lie in the order of their
    bits; half of their range is taken off, so that a bit is free for the second part.
    """
    bits = (values.float() + 0.0).view(torch.int32)  # -0 becomes 0
    numbers = (0x3FFFFFFF - bits) << 1 | inside
    # On the CPU NumPy sorts about five times as fast as torch.
    return numbers.sort(1).values if numbers.is_cuda else torch.from_numpy(np.sort(numbers.numpy(), 1))
