"""The likeness of the networks' maps: Pearson correlation over pixels, distance 1 - r, average linkage."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, UInt8
from scipy.cluster.hierarchy import dendrogram, fcluster, linkage
from scipy.spatial.distance import squareform

from aupipe.fer_analysis.comparison.map_files import MapSet

OVERALL = "overall"
"""Name of the mean over the expressions."""


@dataclass(frozen=True)
class Tree:
    """Networks joined by average linkage of the distance ``1 - r``.

    ``links`` is scipy's table (two clusters, merge height, size), ``order`` the leaves from bottom to top.
    """

    name: str
    networks: tuple[str, ...]
    correlation: Float64[np.ndarray, "n n"]
    links: Float64[np.ndarray, "m 4"]

    @property
    def heights(self) -> Float64[np.ndarray, "m"]:
        """Merge heights, rising: distances between 0 and 2."""
        return np.asarray(self.links[:, 2], np.float64)

    @property
    def order(self) -> list[int]:
        """Rows of ``networks`` as a drawing puts them."""
        return [int(leaf) for leaf in dendrogram(self.links, no_plot=True)["leaves"]]

    def two_clusters(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Split the networks into the two sides of the last merge."""
        side = fcluster(self.links, 2, "maxclust")
        first = side == side[0]
        return (
            tuple(name for name, inside in zip(self.networks, first, strict=True) if inside),
            tuple(name for name, inside in zip(self.networks, first, strict=True) if not inside),
        )


def correlations(maps: UInt8[np.ndarray, "n h w"]) -> Float64[np.ndarray, "n n"]:
    """Correlate maps as vectors of pixels (Pearson's r, OpenCV's TM_CCOEFF_NORMED); maps must not be constant."""
    values = maps.reshape(len(maps), -1).astype(np.float64)
    values -= values.mean(1, keepdims=True)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    table = np.clip(values @ values.T, -1, 1)
    np.fill_diagonal(table, 1)
    return np.asarray(table)


def make_tree(name: str, networks: tuple[str, ...], correlation: Float64[np.ndarray, "n n"]) -> Tree:
    """Join two networks or more into a tree."""
    distance = squareform(1 - (correlation + correlation.T) / 2, checks=False)
    return Tree(name, networks, correlation, np.asarray(linkage(distance, "average"), np.float64))


def grow_trees(maps: MapSet) -> tuple[Tree, ...]:
    """Grow a tree per expression of the networks that have it, then :data:`OVERALL` of those that have them all.

    The overall distance is the mean over the expressions of ``1 - r``. Trees of fewer than two networks are left out.
    """
    trees = []
    for column, expression in enumerate(maps.expressions):
        rows = np.flatnonzero(maps.present[:, column])
        if len(rows) > 1:
            names = tuple(maps.networks[row] for row in rows)
            trees.append(make_tree(expression, names, correlations(maps.maps[rows, column])))
    complete = np.flatnonzero(maps.present.all(1))
    if len(complete) > 1 and len(maps.expressions) > 1:
        columns = range(len(maps.expressions))
        mean = np.mean([correlations(maps.maps[complete, column]) for column in columns], 0)
        trees.append(make_tree(OVERALL, tuple(maps.networks[row] for row in complete), np.asarray(mean)))
    return tuple(trees)
