"""A video's class probabilities over time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64
from matplotlib.figure import Figure

from aupipe.fer_display.figures import new_figure

COLOURS = ("#000000", "#e69f00", "#56b4e9", "#009e73", "#cc79a7", "#0072b2", "#d55e00", "#7f7f7f")
"""Okabe and Ito's colours, the light yellow left out; line styles tell them apart too."""

STYLES = ("-", "--", "-.", ":")


def draw_timeline(
    times: Float64[np.ndarray, "t"], probability: Float64[np.ndarray, "t k"], classes: Sequence[str]
) -> Figure:
    """Draw one line a class; a time without a face (a row of NaN) leaves a gap, marked below the lines.

    A frame that could not be decoded has no time (NaN) and leaves a gap only.
    """
    figure = new_figure(11, 4)
    axes = figure.subplots()
    for k, name in enumerate(classes):
        colour, style = COLOURS[k % len(COLOURS)], STYLES[(k + k // len(COLOURS)) % len(STYLES)]
        axes.plot(
            times, probability[:, k], color=colour, linestyle=style, marker=".", markersize=4, linewidth=1.8, label=name
        )
    absent = np.isnan(probability).any(1)
    if absent.any():
        axes.plot(times[absent], np.full(absent.sum(), -0.04), "x", color="black", markersize=5, label="no face")
    axes.set_ylim(-0.08, 1.02)
    axes.set_xlabel("seconds")
    axes.set_ylabel("probability")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=9, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
