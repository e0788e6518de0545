"""Trees of things joined by their distance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64
from matplotlib.figure import Figure
from scipy.cluster.hierarchy import dendrogram

from aupipe.fer_display.curves import tidy
from aupipe.fer_display.figures import new_figure

LINE = "#1f4e79"


def draw_tree(
    links: Float64[np.ndarray, "m 4"], names: Sequence[str], longest: float, *, title: str, across: str
) -> Figure:
    """Draw a dendrogram, root at the right, over a true distance axis.

    Args:
        links: scipy's table of joins (two clusters, height, size).
        names: Names of the leaves.
        longest: The axis runs from 0 to this distance.
        title: Heading.
        across: Label of the axis.

    Returns:
        The figure.
    """
    figure = new_figure(7.5, 1.3 + 0.3 * len(names), dpi=110)
    axis = figure.subplots()
    drawn = dendrogram(links, no_plot=True)
    for along, distance in zip(drawn["icoord"], drawn["dcoord"], strict=True):
        axis.plot(distance, along, color=LINE, linewidth=1.6, solid_joinstyle="miter")
    axis.set_yticks(5 + 10 * np.arange(len(names)), [names[leaf] for leaf in drawn["leaves"]])
    axis.set(xlim=(0, longest), ylim=(0, 10 * len(names)), xlabel=across, title=title)
    axis.tick_params(axis="y", length=0)
    tidy(axis)
    axis.grid(visible=False, axis="y")
    axis.spines["left"].set_visible(False)
    return figure
