"""Pictures of an evaluation: confusion, cosines by class and map, average maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from aupipe.fer_analysis.evaluation.averages import AverageMaps
from aupipe.fer_display.figures import framed_figure

TITLES = {
    "cam": "CAM",
    "cam_predicted": "CAM of prediction",
    "uniform": "uniform map",
    "centre": "centred Gaussian",
    "mean_map": "mean AU map",
}
MAP_COLOURS = "cividis"
"""Even in lightness and the same to colour-blind eyes."""

CHARACTER = 0.085
"""Inches that a character of a label takes at most, on average."""


def draw_confusion(classes: Sequence[str], matrix: Sequence[Sequence[int]]) -> Figure:
    """The confusion matrix as row shares, with counts written in the cells."""
    counts = np.asarray(matrix, np.int64)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    rows = [f"{name} (n={n})" for name, n in zip(classes, counts.sum(1), strict=True)]
    side = 0.6 * len(classes)
    beside = 1.75 - side / 2  # the title's room, where there are few classes
    left, right = max(0.5 + _across(rows), beside), max(0.2, beside)
    figure = framed_figure(side, side, left=left, right=right, top=0.4, bottom=0.5 + _up(classes))
    axis = figure.subplots()
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axis.set_xticks(range(len(classes)), list(classes), rotation=45, ha="right", rotation_mode="anchor")
    axis.set_yticks(range(len(classes)), rows)
    axis.set_xlabel("predicted")
    axis.set_ylabel("true")
    axis.set_title("Confusion: faces, coloured by share of the row", fontsize="medium")
    for row in range(len(classes)):
        for column in range(len(classes)):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axis.text(column, row, str(counts[row, column]), ha="center", va="center", color=colour, fontsize="small")
    return figure


def draw_cosines(matrix: Mapping[str, Any]) -> Figure:
    """``cosine_matrix`` of ``metrics.json``: classes down, layers, CAM and controls across; one scale from 0 to 1."""
    classes, maps = matrix["classes"], matrix["maps"]
    values = np.asarray(matrix["values"], np.float64).reshape(len(classes), len(maps))
    titles = [f"layer {name}" if name.isdecimal() else TITLES[name] for name in maps]
    rows = [f"{name} (n={n})" for name, n in zip(classes, matrix["counts"], strict=True)]
    width, height = 0.75 * len(maps), 0.45 * max(len(classes), 1)
    figure = framed_figure(width, height, left=0.3 + _across(rows), right=1.2, top=0.4, bottom=0.3 + _up(titles))
    axis = figure.subplots()
    axis.set_title("Mean cosine with the AU map, by true class", fontsize="medium")
    if not classes:
        axis.set_axis_off()
        axis.text(0.5, 0.5, "no face has an AU map", ha="center", va="center")
        return figure
    image = axis.imshow(values, cmap=MAP_COLOURS, vmin=0, vmax=1, aspect="auto")
    axis.set_xticks(range(len(maps)), titles, rotation=45, ha="right", rotation_mode="anchor")
    axis.set_yticks(range(len(classes)), rows)
    controls = sum(name in ("uniform", "centre", "mean_map") for name in maps)
    axis.axvline(len(maps) - controls - 0.5, color="white", linewidth=3)
    for row in range(len(classes)):
        for column in range(len(maps)):
            colour = "black" if values[row, column] > 0.5 else "white"
            axis.text(
                column, row, f"{values[row, column]:.2f}", ha="center", va="center", color=colour, fontsize="small"
            )
    figure.colorbar(image, cax=axis.inset_axes((1 + 0.2 / width, 0, 0.18 / width, 1)), label="cosine")
    return figure


def _across(labels: Sequence[str]) -> float:
    """Inches that the longest label takes."""
    return CHARACTER * max(map(len, labels), default=0)


def _up(labels: Sequence[str]) -> float:
    """Inches that the longest label takes in height when it rises by 45 degrees."""
    return 0.75 * _across(labels)


def draw_averages(averages: AverageMaps, classes: Sequence[str], n_layers: int) -> Figure:
    """Average face, AU map, attention of the last layer and CAM of every class that has faces, on one colour scale.

    The line over the maps is where the class's average AU map reaches half of its maximum.
    """
    shown = [number for number in range(len(classes)) if averages.count[number]]
    heads = [classes[number].replace("_", "\n") + f"\nn={averages.count[number]}" for number in shown]
    rows = {
        "AU map": averages.au_map,
        f"attention,\nlayer {n_layers}": averages.maps[str(n_layers)],
        **({"CAM of\nthe label": averages.maps["cam"]} if "cam" in averages.maps else {}),
    }
    width, height = 1.35 * len(shown), 1.39 * (1 + len(rows))
    top = 0.15 + 0.18 * max((1 + head.count("\n") for head in heads), default=0)
    figure = framed_figure(width, height, left=1.1, right=1.0, top=top, bottom=0.1)
    axes = figure.subplots(1 + len(rows), 1, gridspec_kw={"hspace": 0.03})
    _strip(axes[0], "average\nface", averages.face[shown])
    middle = averages.face.shape[1] * (np.arange(len(shown)) + 0.5) - 0.5
    axes[0].xaxis.tick_top()
    axes[0].set_xticks(middle, heads, fontsize="medium")
    axes[0].tick_params(length=0)
    for axis, (title, maps) in zip(axes[1:], rows.items(), strict=True):
        _strip(axis, title, maps[shown])
        _outline(axis, averages.au_map[shown])
        for place, number in enumerate(shown):
            if title == "AU map" and not averages.count_with_map[number]:
                centre = (np.array([place + 0.5, 0.5])) * maps.shape[1] - 0.5
                axis.text(*centre, "no AU map", color="white", ha="center", va="center", fontsize="small")
    scale = ScalarMappable(Normalize(0, 1), MAP_COLOURS)
    bar = axes[-1].inset_axes((1 + 0.15 / width, 0, 0.15 / width, len(rows)))
    figure.colorbar(scale, cax=bar).set_label("mean of maps, each scaled to its maximum", fontsize="small")
    return figure


def _strip(axis: Axes, title: str, pictures: np.ndarray) -> None:
    """Pictures ``(n, h, w)`` or ``(n, h, w, 3)`` side by side, with white lines between them."""
    side = pictures.shape[1]
    axis.imshow(np.concatenate(list(pictures), axis=1), cmap=MAP_COLOURS, vmin=0, vmax=1)
    for place in range(1, len(pictures)):
        axis.axvline(place * side - 0.5, color="white", linewidth=4)
    axis.set_ylabel(title, rotation=0, ha="right", va="center")
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set_visible(False)


def _outline(axis: Axes, targets: np.ndarray) -> None:
    """The contour of half of its maximum over each picture of a strip; ``targets`` (n, m, m)."""
    peaks = targets.max((1, 2), keepdims=True, initial=0)
    if peaks.any():
        strip = np.concatenate(list(targets / np.where(peaks > 0, peaks, 1)), axis=1)
        axis.contour(strip, [0.5], colors="white", linewidths=1)
