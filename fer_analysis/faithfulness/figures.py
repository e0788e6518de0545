"""The picture of ``faithfulness.json``: curves, removal of the AU regions, randomised weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aupipe.fer_analysis.faithfulness.summary import CURVES, two, why_no_face
from aupipe.fer_analysis.faithfulness.text import map_title
from aupipe.fer_display.curves import COLOURS, QUIET, Curve, IntervalBar, Panel, draw_bars, draw_panel
from aupipe.fer_display.figures import new_figure

STYLES = {
    "attention": (COLOURS[0], "-"),
    "cam": (COLOURS[1], "-"),
    "given": (COLOURS[1], "-"),
    "au_map": (COLOURS[2], "-."),
    "centre": (QUIET, ":"),
}
RANDOM_STYLE = ("#333333", "--")
BARS = {"inside": "AU regions", "outside_face": "elsewhere\non the face", "outside_anywhere": "anywhere\nelse"}


def draw_faithfulness(content: Mapping[str, Any]) -> Figure:
    """Draw deletion and insertion above, removal of the AU regions and randomised weights below."""
    figure = new_figure(13, 10)
    figure.suptitle(
        f"Faithfulness of {content['method']} on {content['backbone']}: {content['n']} faces of {content['split']}, "
        f"removed pixels become the {'blurred picture' if content['baseline'] == 'blur' else 'mean colour'}"
    )
    axes = figure.subplots(2, 2)
    for axis, curve, better in zip(axes[0], CURVES, ("low", "high"), strict=True):
        draw_panel(axis, _curve_panel(content, curve, better))
    _draw_regions(axes[1, 0], content["regions"])
    _draw_randomisation(axes[1, 1], content["randomisation"])
    return figure


AGAINST = {
    **BARS,
    "inside_over_outside_face": "AU regions over\nelsewhere\non the face",
    "inside_over_outside_anywhere": "AU regions over\nanywhere\nelse",
}


def draw_against(content: Mapping[str, Any]) -> Figure:
    """Draw the differences between two runs with their paired intervals, and both figures behind each."""
    figure = new_figure(11, 6)
    figure.suptitle(f"{Path(content['run']).name} (run) less {Path(content['other']).name} (other)")
    axis = figure.subplots()
    if not content["differences"]:
        axis.set_axis_off()
        axis.text(0.5, 0.5, "No face counts for both.", ha="center", va="center", transform=axis.transAxes)
        return figure
    bars = []
    for kind, name in AGAINST.items():
        one = content["differences"][kind]
        low, high = one["ci95"] or (one["difference"],) * 2
        text = f"{two(one['difference'])}\nrun {two(one['run'])}, other {two(one['other'])}"
        colour = QUIET if low <= 0 <= high else COLOURS[1]
        bars.append(IntervalBar(name, one["difference"], low, high, text, colour))
    draw_bars(
        axis,
        bars,
        title=f"Removing pixels: {content['n']} faces of {content['split']} that both name rightly ("
        f"{content['n_groups']} persons), 95 % paired; grey: 0 is within",
        across="pixels removed, as many each time",
        up="difference of the shares of what the face adds to the probability",
    )
    return figure


def _curve_panel(content: Mapping[str, Any], curve: str, better: str) -> Panel:
    drawn = []
    for name, entry in content["curves"].items():
        colour, line = STYLES.get(name, RANDOM_STYLE)
        n = "" if entry["n"] == content["n"] else f", {entry['n']} faces"
        label = f"{map_title(name).removeprefix('control: ')}  {two(entry[curve]['auc'])}{n}"
        width = 2.4 if line == "-" else 1.6
        shares = content["shares_removed"]
        drawn.append(Curve(label, shares, entry[curve]["curve"], colour=colour, line=line, width=width))
    return Panel(
        f"{curve.capitalize()}: a faithful map is {better}",
        drawn,
        across=f"share of the pixels {'removed' if curve == 'deletion' else 'shown'}, the strongest of the map first",
        up="mean probability of the predicted class",
        x_limits=(0, 1),
        y_limits=(0, min(1.5 * max(max(one.y) for one in drawn), 1.02)),
        legend="order of the pixels, area under the curve",
    )


def _draw_regions(axis: Axes, entry: Mapping[str, Any]) -> None:
    if not entry["n"]:
        axis.set_title("Removing the AU regions")
        axis.set_axis_off()
        axis.text(0.5, 0.5, why_no_face(entry), wrap=True, ha="center", va="center", transform=axis.transAxes)
        return
    bars = []
    for kind, name in BARS.items():
        fall, change = entry["removed"][kind]["fall"], entry["removed"][kind]["accuracy_change"]["mean"]
        low, high = fall["ci95"] or (fall["mean"], fall["mean"])
        text = f"{two(fall['mean'])}\naccuracy {100 * change:+.0f} points"
        bars.append(IntervalBar(name, fall["mean"], low, high, text, COLOURS[1] if kind == "inside" else QUIET))
    draw_bars(
        axis,
        bars,
        title=f"Removing the AU regions: {entry['n']} faces, {entry['region_share']:.0%} of the pixels",
        across="pixels removed, as many each time",
        up="share of what the face adds to the probability",
    )


def _draw_randomisation(axis: Axes, entry: Mapping[str, Any]) -> None:
    stages = ["trained", *entry["stages"]]
    places, last = list(range(len(stages))), len(stages) - 1
    shown = {name: figures for name, figures in entry["maps"].items() if figures["spearman"] is not None}
    drawn = []
    for number, (name, figures) in enumerate(shown.items()):
        above = len(shown) - number - 1
        mean, low, high = ([1.0, *figures[key]] for key in ("spearman", "low", "high"))
        label = f"{name}  {two(figures['final'])}{'' if figures['passes'] else '  FAILS'}"
        # Methods that agree lie on one another: each its own marker and a width that lets the ones below be seen.
        drawn.append(
            Curve(
                label, places, mean, low, high,
                width=1.5 + 0.9 * above, marker="osD^vP"[number % 6], marker_size=5 + 1.5 * above,
            )
        )  # fmt: skip
    axis.fill_between([last - 0.3, last + 0.3], entry["fails_from"], 1, color=QUIET, alpha=0.25)
    axis.text(last, (entry["fails_from"] + 1) / 2, "fails\nhere", ha="center", va="center", fontsize="small")
    axis.axhline(0, color="black", linewidth=0.8)
    draw_panel(
        axis,
        Panel(
            "Random weights, from the head down: a faithful map falls",
            drawn,
            across=f"random down to (mean and range of {entry['draws']} random networks, {entry['faces']} faces)",
            up="Spearman with the trained network's map",
            ticks=list(zip(places, stages, strict=True)),
            y_limits=(-1, 1.05),
            legend="map, Spearman with everything random",
            place="lower left",
        ),
    )
