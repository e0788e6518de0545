"""Figures of a comparison: dendrograms on one true distance axis, correlation matrices, all maps with their masks."""

from __future__ import annotations

import matplotlib
import numpy as np
from jaxtyping import UInt8
from matplotlib.figure import Figure
from scipy.cluster.hierarchy import dendrogram

from aupipe.fer_analysis.comparison.map_files import MapSet, MaskSet
from aupipe.fer_analysis.comparison.similarity import Tree
from aupipe.fer_display.figures import new_figure

LINE = "#1f4e79"
COLOURS = "magma"
DPI = 110


def draw_dendrogram(tree: Tree, longest: float) -> Figure:
    """The tree, root at the right; the axis runs from 0 to ``longest``, the same for all trees of a comparison."""
    figure = new_figure(7.5, 1.3 + 0.3 * len(tree.networks), dpi=DPI)
    axis = figure.subplots()
    drawn = dendrogram(tree.links, no_plot=True)
    for along, distance in zip(drawn["icoord"], drawn["dcoord"], strict=True):
        axis.plot(distance, along, color=LINE, linewidth=1.6, solid_joinstyle="miter")
    places = 5 + 10 * np.arange(len(tree.networks))
    axis.set_yticks(places, [tree.networks[leaf] for leaf in tree.order])
    axis.set_ylim(0, 10 * len(tree.networks))
    axis.set_xlim(0, longest)
    axis.tick_params(axis="y", length=0)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.grid(axis="x", color="0.9")
    axis.set_axisbelow(True)
    axis.set_xlabel("distance 1 - r (average linkage)")
    axis.set_title(tree.name)
    return figure


def draw_correlations(tree: Tree) -> Figure:
    """The matrix of Pearson's r, networks in the order of the tree, values written in the cells."""
    order, n = tree.order, len(tree.networks)
    values = tree.correlation[np.ix_(order, order)]
    figure = new_figure(2.6 + 0.5 * n, 2.0 + 0.5 * n, dpi=DPI)
    axis = figure.subplots()
    image = axis.imshow(values, cmap="RdBu_r", vmin=-1, vmax=1)
    names = [tree.networks[leaf] for leaf in order]
    axis.set_xticks(range(n), names, rotation=45, ha="right")
    axis.set_yticks(range(n), names)
    for row, column in np.ndindex(n, n):
        strong = abs(values[row, column]) > 0.6
        axis.text(
            column,
            row,
            f"{values[row, column]:.2f}",
            ha="center",
            va="center",
            fontsize=7,
            color="white" if strong else "black",
        )
    figure.colorbar(image, ax=axis, shrink=0.7, label="r")
    axis.set_title(f"correlation of maps: {tree.name}")
    return figure


def draw_maps(maps: MapSet, masks: MaskSet | None) -> Figure:
    """Every map, a row a network and a column an expression; the mask's outline in white."""
    rows, columns = maps.present.shape
    height, width = maps.maps.shape[2:]
    figure = new_figure(1.5 + 1.15 * columns, 0.4 + 1.15 * rows * height / width, dpi=DPI)
    for row, column in np.ndindex(rows, columns):
        axis = figure.add_subplot(rows, columns, row * columns + column + 1)
        axis.set_xticks([])
        axis.set_yticks([])
        if maps.present[row, column]:
            axis.imshow(_coloured(maps.maps[row, column]))
            if masks is not None:
                axis.contour(masks.masks[column], levels=[0.5], colors="white", linewidths=0.7)
        else:
            axis.text(0.5, 0.5, "left out", ha="center", va="center", transform=axis.transAxes, fontsize=8)
        if row == 0:
            axis.set_title(maps.expressions[column], fontsize=9)
        if column == 0:
            axis.set_ylabel(maps.networks[row], rotation=0, ha="right", va="center", fontsize=9)
    return figure


def _coloured(values: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    return np.asarray(matplotlib.colormaps[COLOURS](values)[..., :3] * 255, np.uint8)
