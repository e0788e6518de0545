"""Figures of a comparison: dendrograms on one true distance axis, correlation matrices, all maps with their masks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from aupipe.fer_analysis.comparison.map_files import MapSet, MaskSet
from aupipe.fer_analysis.comparison.similarity import Tree
from aupipe.fer_display.map_rows import MapRow, draw_map_rows
from aupipe.fer_display.matrices import Matrix, draw_matrix
from aupipe.fer_display.trees import draw_tree


def draw_dendrogram(tree: Tree, longest: float) -> Figure:
    """Draw the tree; the axis runs from 0 to ``longest``, the same for all trees of a comparison."""
    return draw_tree(tree.links, tree.networks, longest, title=tree.name, across="distance 1 - r (average linkage)")


def draw_correlations(tree: Tree) -> Figure:
    """Draw the matrix of Pearson's r, networks in the order of the tree."""
    names = [tree.networks[leaf] for leaf in tree.order]
    values = tree.correlation[np.ix_(tree.order, tree.order)]
    title = f"correlation of maps: {tree.name}"
    return draw_matrix(Matrix(values, names, names, title, colours="RdBu_r", low=-1, bar="r", cell=(0.7, 0.7)))


def draw_maps(maps: MapSet, masks: MaskSet | None) -> Figure:
    """Draw every map, a row a network and a column an expression; the mask's outline in white.

    A pixel fades as fewer of the map's faces reach it, where that is known.
    """
    supports: list[Sequence[np.ndarray]] = (
        [()] * len(maps.networks) if maps.support is None else [list(one) for one in maps.support]
    )
    rows = [
        MapRow(
            network,
            [one / 255 if there else None for one, there in zip(values, present, strict=True)],
            list(masks.masks) if masks is not None else (),
            missing="left out",
            opacity=support,
        )
        for network, values, present, support in zip(maps.networks, maps.maps, maps.present, supports, strict=True)
    ]
    return draw_map_rows(maps.expressions, rows, colours="magma")
