"""Action units that share a place: those whose regions cannot be told apart by where a map is strong."""

from __future__ import annotations

import itertools

from aupipe.fer_data.au_maps.codebook import Codebook
from aupipe.fer_data.au_maps.codebook_check import SIZE, cosine
from aupipe.fer_data.au_maps.heatmaps import render_aus
from aupipe.fer_data.au_maps.mean_face import mean_face

SHARED = 0.85
"""Cosine of two regions on the mean face from which a coarse map cannot say which of them it means."""

MAP = SIZE // 4
"""Side of the maps that are compared."""


def shared_places(codebook: Codebook) -> tuple[tuple[int, ...], ...]:
    """Group the action units that share a place: from one to the next the regions' cosine is at least :data:`SHARED`.

    Returns:
        The groups of two AUs or more, by number.
    """
    face = mean_face(SIZE)
    maps = {number: render_aus(face, {number: 1.0}, codebook, SIZE, MAP) for number in sorted(codebook.action_units)}
    group: dict[int, frozenset[int]] = {number: frozenset([number]) for number in maps}
    for a, b in itertools.combinations(maps, 2):
        if cosine(maps[a], maps[b]) >= SHARED:
            merged = group[a] | group[b]
            group |= dict.fromkeys(merged, merged)
    return tuple(sorted(tuple(sorted(one)) for one in set(group.values()) if len(one) > 1))
