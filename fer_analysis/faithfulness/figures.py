"""The picture of ``faithfulness.json``: curves, removal of the AU regions, randomised weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aupipe.fer_analysis.faithfulness.summary import CURVES, two
from aupipe.fer_analysis.faithfulness.text import map_title
from aupipe.fer_display.figures import new_figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
"""Told apart by colour-blind eyes too (Okabe and Ito)."""

CONTROL_STYLES = {"centre": ("#999999", ":"), "au_map": ("#009E73", "-.")}
RANDOM_STYLE = ("#333333", "--")
BARS = {"inside": "AU regions", "outside_face": "elsewhere\non the face", "outside_anywhere": "anywhere\nelse"}


def draw_faithfulness(content: Mapping[str, Any]) -> Figure:
    """Deletion and insertion above, removal of the AU regions and randomised weights below."""
    figure = new_figure(13, 10)
    figure.suptitle(
        f"Faithfulness of {content['method']} on {content['backbone']}: {content['n']} faces of {content['split']}, "
        f"removed pixels become the {'blurred picture' if content['baseline'] == 'blur' else 'mean colour'}"
    )
    axes = figure.subplots(2, 2)
    for axis, curve, better in zip(axes[0], CURVES, ("low", "high"), strict=True):
        _draw_curves(axis, content, curve, better)
    _draw_regions(axes[1, 0], content["regions"])
    _draw_randomisation(axes[1, 1], content["randomisation"])
    return figure


def _draw_curves(axis: Axes, content: Mapping[str, Any], curve: str, better: str) -> None:
    verb = "removed" if curve == "deletion" else "shown"
    for name, entry in content["curves"].items():
        colour, line = _style(name)
        n = "" if entry["n"] == content["n"] else f", {entry['n']} faces"
        label = f"{map_title(name).removeprefix('control: ')}  {two(entry[curve]['auc'])}{n}"
        width = 2.4 if line == "-" else 1.6
        axis.plot(content["shares_removed"], entry[curve]["curve"], line, color=colour, linewidth=width, label=label)
    axis.set_title(f"{curve.capitalize()}: a faithful map is {better}")
    axis.set_xlabel(f"share of the pixels {verb}, the strongest of the map first")
    axis.set_ylabel("mean probability of the predicted class")
    axis.set_xlim(0, 1)
    highest = max(max(entry[curve]["curve"]) for entry in content["curves"].values())
    axis.set_ylim(0, min(1.5 * highest, 1.02))
    _tidy(axis)
    axis.legend(title="order of the pixels, area under the curve", fontsize="small", title_fontsize="small")


def _style(name: str) -> tuple[str, str]:
    if name in CONTROL_STYLES:
        return CONTROL_STYLES[name]
    return RANDOM_STYLE if name.startswith("random") else ({"attention": COLOURS[0], "cam": COLOURS[1]}[name], "-")


def _draw_regions(axis: Axes, entry: Mapping[str, Any]) -> None:
    if not entry["n"]:
        axis.set_title("Removing the AU regions")
        axis.set_axis_off()
        axis.text(0.5, 0.5, "no face has an AU region", ha="center", va="center", transform=axis.transAxes)
        return
    axis.set_title(f"Removing the AU regions: {entry['n']} faces, {entry['region_share']:.0%} of the pixels")
    for place, kind in enumerate(BARS):
        fall = entry["removed"][kind]["fall"]
        change = entry["removed"][kind]["accuracy_change"]["mean"]
        low, high = fall["ci95"] or (fall["mean"], fall["mean"])
        errors = np.array([[max(fall["mean"] - low, 0)], [max(high - fall["mean"], 0)]])
        colour = COLOURS[1] if kind == "inside" else "#999999"
        axis.bar(place, fall["mean"], 0.62, color=colour, yerr=errors, capsize=5)
        text = f"{two(fall['mean'])}\naccuracy {100 * change:+.0f} points"
        axis.annotate(text, (place, max(high, 0)), (0, 4), textcoords="offset points", ha="center", va="bottom")
    axis.axhline(0, color="black", linewidth=0.8)
    axis.margins(y=0.22)
    low, high = axis.get_ylim()
    axis.set_ylim(min(low, -0.02), max(high, 0.1))  # a fall of nothing is not to look like one of much
    axis.set_xticks(range(len(BARS)), list(BARS.values()))
    axis.set_xlabel("pixels removed, as many each time")
    axis.set_ylabel("fall of the predicted class's probability")
    _tidy(axis)


def _draw_randomisation(axis: Axes, entry: Mapping[str, Any]) -> None:
    places = np.arange(1 + len(entry["stages"]))
    shown = {name: figures for name, figures in entry["maps"].items() if figures["spearman"] is not None}
    for number, (name, figures) in enumerate(shown.items()):
        colour = COLOURS[number % len(COLOURS)]
        label = f"{name}  {two(figures['final'])}{'' if figures['passes'] else '  FAILS'}"
        # Methods that agree lie on one another: each its own marker and a width that lets the ones below be seen.
        above = len(shown) - number - 1
        drawn = axis.plot(places, [1.0, *figures["spearman"]], color=colour, marker="osD^vP"[number % 6], label=label)
        drawn[0].set(linewidth=1.5 + 0.9 * above, markersize=5 + 1.5 * above)
        axis.fill_between(places, [1.0, *figures["low"]], [1.0, *figures["high"]], color=colour, alpha=0.08)
    axis.fill_between([places[-1] - 0.3, places[-1] + 0.3], entry["fails_from"], 1, color="#999999", alpha=0.25)
    axis.text(places[-1], (entry["fails_from"] + 1) / 2, "fails\nhere", ha="center", va="center", fontsize="small")
    axis.axhline(0, color="black", linewidth=0.8)
    axis.set_title("Random weights, from the head down: a faithful map falls")
    axis.set_xticks(places, ["trained", *entry["stages"]])
    axis.set_xlabel(f"random down to (mean and range of {entry['draws']} random networks, {entry['faces']} faces)")
    axis.set_ylabel("Spearman with the trained network's map")
    axis.set_ylim(-1, 1.05)
    _tidy(axis)
    axis.legend(
        title="map, Spearman with everything random",
        fontsize="small",
        title_fontsize="small",
        loc="lower left",
        markerscale=0.6,
    )


def _tidy(axis: Axes) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(alpha=0.25)
    axis.set_axisbelow(True)
