"""Figures of a benchmark.

Colours stay apart for colour-blind readers (Okabe and Ito), and every spread names its seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aupipe.fer_analysis.benchmark import state
from aupipe.fer_analysis.benchmark.collect import FIGURES, Result, Results
from aupipe.fer_analysis.benchmark.plan import GridCell, GridRequest
from aupipe.fer_analysis.benchmark.tables import CONTROLS, MAIN, control_values
from aupipe.fer_analysis.evaluation.averages import AVERAGES, read_averages
from aupipe.fer_display.curves import Curve, Panel, draw_panel
from aupipe.fer_display.figures import new_figure
from aupipe.fer_display.map_rows import MapRow, draw_map_rows
from aupipe.fer_display.matrices import Matrix, draw_matrices
from aupipe.fer_display.overlays import overlay
from aupipe.fer_models.methods import method_title

WITHOUT, WITH, OTHER = "#D55E00", "#0072B2", "#009E73"
QUIET, INK = "#6b7280", "#1b1f24"
DASHES = ("--", "-.", ":", (0, (9, 3)), (0, (1, 3)))
"""One for each control."""
DPI = 110


def draw_methods(request: GridRequest, results: Results, weight: float) -> Figure:
    """Draw every method's accuracy and cosines, without and with AUs: mean, deviation, every seed, and the controls."""
    methods = list(request.methods)
    figure = new_figure(12.5, 1.9 + 0.5 * len(methods), dpi=DPI)
    for axis, name in zip(figure.subplots(1, len(MAIN), sharey=True), MAIN, strict=True):
        for shift, (cell_weight, colour, label) in zip(
            (-0.14, 0.14), ((0.0, WITHOUT, "without AUs"), (weight, WITH, f"with AUs, λ = {weight:g}")), strict=True
        ):
            for number, method in enumerate(methods):
                cell = GridCell(method, cell_weight)
                _dots(axis, results, cell, name, number + shift, colour, label if number == 0 else "")
        axis.set_title(FIGURES[name].title, fontsize=11)
        if name != "cl":
            _control_lines(axis, results, vertical=True)
        axis.grid(axis="y", color="#e5e7eb", linewidth=0.8)
        axis.set_axisbelow(True)
        axis.spines[["top", "right", "left"]].set_visible(False)
        axis.tick_params(left=False)
        axis.set_yticks(range(len(methods)), [method_title(method) for method in methods])
        axis.set_ylim(len(methods) - 0.5, -0.5)
    _legend(figure)
    return figure


def _dots(axis: Axes, results: Results, cell: GridCell, name: str, at: float, colour: str, label: str) -> None:
    """Draw one row: small dots are seeds, the large one their mean, the line one standard deviation to each side."""
    values, mean = list(results.values(cell, name).values()), results.mean(cell, name)
    if mean is None:
        return
    axis.errorbar(
        [mean.mean], [at], xerr=[mean.sd or 0.0], fmt="o", color=colour, markersize=6.5, capsize=3, linewidth=1.6,
        label=f"{label} (mean ± sd, dots: seeds)" if label else None,
    )  # fmt: skip
    axis.plot(values, [at] * len(values), "o", color="white", markeredgecolor=colour, markersize=3, markeredgewidth=0.9)


def _control_lines(axis: Axes, results: Results, *, vertical: bool) -> None:
    """Draw the controls' cosines; of several ceilings the span is what matters, so each is drawn."""
    styles = dict(zip(CONTROLS.values(), DASHES, strict=True))
    ceilings: set[float] = set()
    for title, value in control_values(results).items():
        ceiling = title not in styles
        label = "" if ceiling and ceilings else "ceiling of the last layer" if ceiling else title
        ceilings |= {value.mean} if ceiling else set()
        draw = axis.axvline if vertical else axis.axhline
        draw(
            value.mean, color=INK if ceiling else QUIET, linewidth=1.0, zorder=0,
            linestyle=styles.get(title, "-"), label=label or None,
        )  # fmt: skip


def _legend(figure: Figure) -> None:
    entries: dict[str, Any] = {}
    for axis in figure.axes:
        handles, labels = axis.get_legend_handles_labels()
        entries |= {label: handle for label, handle in zip(labels, handles, strict=True) if label not in entries}
    figure.legend(list(entries.values()), list(entries), loc="outside lower center", ncols=4, frameon=False, fontsize=9)


def draw_lambdas(request: GridRequest, results: Results) -> Figure:
    """Draw accuracy and cosines against the align weight, equally spaced, with standard deviations."""
    cells = list(request.lambda_cells())
    figure = new_figure(10, 4.2, dpi=DPI)
    left, right = figure.subplots(1, 2)
    accuracy = Panel(
        "",
        [_sweep(cells, results, "cl", INK, "o")],
        across=f"align weight λ ({method_title(request.ablation)})",
        up="CL %",
        ticks=[(place, f"{cell.weight:g}") for place, cell in enumerate(cells)],
        grid=False,
        legend=None,
    )
    cosines = [_sweep(cells, results, "att_cos", WITH, "o"), _sweep(cells, results, "cam_cos", OTHER, "s")]
    draw_panel(left, accuracy)
    draw_panel(right, replace(accuracy, curves=cosines, up="cosine with the AU map"))
    _control_lines(right, results, vertical=False)
    _legend(figure)
    return figure


def _sweep(cells: Sequence[GridCell], results: Results, name: str, colour: str, marker: str) -> Curve:
    """Make the curve of a figure over the cells, with the values of every seed behind it."""
    found = [(place, mean) for place, cell in enumerate(cells) if (mean := results.mean(cell, name))]
    return Curve(
        f"{FIGURES[name].title} (mean ± sd)",
        [place for place, _ in found],
        [mean.mean for _, mean in found],
        [mean.mean - (mean.sd or 0.0) for _, mean in found],
        [mean.mean + (mean.sd or 0.0) for _, mean in found],
        caps=True,
        singles=[(at, value) for at, cell in enumerate(cells) for value in results.values(cell, name).values()],
        colour=colour,
        marker=marker,
    )


def draw_method_matrices(method: str, weights: Sequence[float], results: Results) -> Figure | None:
    """Draw confusions (row shares) above, cosines of every class with every layer below; a column an align weight."""
    shown = [(weight, list(results.of(GridCell(method, weight)).values())) for weight in weights]
    shown = [(weight, runs) for weight, runs in shown if runs]
    if not shown:
        return None
    classes = list(shown[0][1][0].metrics["confusion"]["classes"])
    columns = [_matrices(method, weight, runs, classes) for weight, runs in shown]
    counts = "/".join(dict.fromkeys(str(len(runs)) for _, runs in shown))
    note = f"{counts} {'seed' if counts == '1' else 'seeds'}: counts summed, cosines averaged"
    return draw_matrices(list(zip(*columns, strict=True)), note, dpi=DPI)


def _matrices(method: str, weight: float, runs: Sequence[Result], classes: Sequence[str]) -> tuple[Matrix, Matrix]:
    condition = "without AUs" if weight == 0 else f"with AUs, λ = {weight:g}"
    counts = np.asarray([run.metrics["confusion"]["matrix"] for run in runs], np.float64).sum(0)
    shares = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    title = f"{method_title(method)} {condition}: predicted, % of each true class"
    values, layers = class_by_layer(runs, classes)
    mapped = np.isfinite(values).any(1)
    kept = [name for name, keep in zip(classes, mapped, strict=True) if keep]
    return (
        Matrix(shares, classes, classes, title, decimals=0, high=100),
        Matrix(values[mapped], kept, layers, "cosine with the AU map", colours="Greens", empty="no face has one"),
    )


def class_by_layer(runs: Sequence[Result], classes: Sequence[str]) -> tuple[Float[np.ndarray, "k l"], list[str]]:
    """Average each class's cosines over runs: attention of layers 1 .., then CAM; NaN where there is none."""
    layers = sorted(runs[0].metrics["att_cos"], key=int)
    table = []
    for run in runs:
        entries = [run.metrics["per_class"][name] for name in classes]
        table.append([[entry["att_cos"][layer] for layer in layers] + [entry["cam_cos"]] for entry in entries])
    values = np.asarray(table, np.float64).mean(0)
    return values, [*(f"layer {layer}" for layer in layers), "CAM"]


def draw_average_maps(method: str, weights: Sequence[float], results: Results, out: Path) -> Figure | None:
    """Draw, per class, the mean AU map, then attention and CAM of every align weight, averaged over faces and seeds.

    Returns:
        The figure; None where the runs left no average maps.
    """
    loaded = {weight: mean_maps(list(results.of(GridCell(method, weight)).values()), out) for weight in weights}
    found = {weight: maps for weight, maps in loaded.items() if maps is not None}
    if not found:
        return None
    first = next(iter(found.values()))
    names = {weight: "without AUs" if weight == 0 else f"with AUs\nλ = {weight:g}" for weight in found}
    rows = [("AU map", first["au_map"])]
    for key, title in (("attention", "attention"), ("cam", "CAM")):
        rows += [(f"{title}\n{names[weight]}", maps[key]) for weight, maps in found.items() if key in maps]
    shown = [number for number in range(len(first["classes"])) if first["au_map"][number].any()]
    greys = (first["face"][number].mean(2, keepdims=True) for number in shown)
    faces = [np.rint(255 * np.repeat(grey, 3, 2)).astype(np.uint8) for grey in greys]
    return draw_map_rows(
        [str(first["classes"][number]) for number in shown],
        [
            MapRow(title, [overlay(face, maps[number]) for face, number in zip(faces, shown, strict=True)])
            for title, maps in rows
        ],
        title=f"{method_title(method)}: averages over the faces of each class",
        dpi=DPI,
    )


def mean_maps(runs: Sequence[Result], out: Path) -> Mapping[str, np.ndarray] | None:
    """Average a cell's average maps over its seeds, every seed weighted by the faces behind it.

    Returns:
        ``classes (k)``, ``face (k c c 3)``, ``au_map, attention (k m m)`` (last layer), ``cam (k m m)`` where there is
        one; None when a run has none.
    """
    files = [out / state.RUNS / run.spec.output / AVERAGES for run in runs]
    if not files or not all(path.is_file() for path in files):
        return None
    classes = runs[0].metrics["confusion"]["classes"]
    loaded = [read_averages(path, classes) for path in files]
    weights = np.stack([one.count for one in loaded]).astype(np.float64)
    share = weights / np.maximum(weights.sum(0), 1)
    maps = {"face": [one.face for one in loaded], "au_map": [one.au_map for one in loaded]}
    maps["attention"] = [one.attention for one in loaded]
    if "cam" in loaded[0].maps:
        maps["cam"] = [one.maps["cam"] for one in loaded]
    means = {name: sum(_weigh(part, value) for part, value in zip(share, values, strict=True))
             for name, values in maps.items()}  # fmt: skip
    return {"classes": np.array(classes), **{name: np.asarray(value) for name, value in means.items()}}


def _weigh(share: Float[np.ndarray, "k"], values: Float[np.ndarray, "k ..."]) -> Float[np.ndarray, "k ..."]:
    return np.asarray(values * share.reshape(-1, *[1] * (values.ndim - 1)))
