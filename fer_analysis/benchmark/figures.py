"""The figures. Colours stay apart for colour-blind readers (Okabe and Ito), and every spread names its seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aupipe.fer_analysis.benchmark import state
from aupipe.fer_analysis.benchmark.collect import FIGURES, Result, Results
from aupipe.fer_analysis.benchmark.plan import Cell, GridRequest
from aupipe.fer_analysis.benchmark.tables import ARROW, CONTROLS, MAIN, Table, control_values
from aupipe.fer_analysis.evaluation.averages import AVERAGES
from aupipe.fer_display.figures import new_figure
from aupipe.fer_models.methods import method_title

WITHOUT, WITH, OTHER = "#D55E00", "#0072B2", "#009E73"
QUIET, INK = "#6b7280", "#1b1f24"
DASHES = ("-", "--", "-.", ":", (0, (1, 3)))
DPI = 110


def draw_table(table: Table) -> Figure:
    """A table as a picture, to put on a slide; of a pair only the better figure is bold, and its arrows lie in line."""
    columns = [_Column.of(cells) for cells in zip(table.head, *table.rows, strict=True)]
    right = np.cumsum([column.width + 2 for column in columns])
    lines, total = len(table.rows) + 1, max(int(right[-1]), len(table.title))
    figure = new_figure(0.074 * total + 0.4, 0.26 * (lines + 2), dpi=DPI)
    axis = figure.subplots()
    axis.set_axis_off()
    axis.set_xlim(0, total)
    axis.set_ylim(lines + 0.2, -1.2)
    axis.text(0, -0.8, table.title, fontsize=10, weight="bold", va="center")
    for line in (0, 1, lines):
        axis.axhline(line, color=INK, linewidth=0.8)
    for number, row in enumerate([table.head, *table.rows]):
        style: dict[str, Any] = {"fontsize": 8, "va": "center", "color": QUIET if row[0].startswith("control") else INK}
        axis.text(0, number + 0.5, _plain(row[0]), weight=_weight(row[0], number), **style)
        for cell, column, edge in zip(row[1:], columns[1:], right[1:], strict=True):
            for side, place in zip(reversed(cell.split(ARROW)), (edge - 0.5, edge - 0.5 - column.after), strict=False):
                axis.text(place, number + 0.5, _plain(side), ha="right", weight=_weight(side, number), **style)
            if ARROW in cell:
                middle = edge - 0.5 - column.after + len(ARROW) / 2
                axis.text(middle, number + 0.5, ARROW.strip(), ha="center", **style)
    return figure


@dataclass(frozen=True)
class _Column:
    """Room in characters: of the whole column, and from the left side of an arrow to the column's right edge."""

    width: int
    after: int

    @staticmethod
    def of(cells: Sequence[str]) -> _Column:
        sides = [_plain(cell).split(ARROW) for cell in cells]
        pairs = [side for side in sides if len(side) == 2]
        after = max((len(ARROW) + len(second) for _, second in pairs), default=0)
        whole = max((len(first) for first, _ in pairs), default=0) + after
        return _Column(max(whole, *(len(side[0]) for side in sides if len(side) == 1)), after)


def _plain(cell: str) -> str:
    return cell.replace("**", "")


def _weight(cell: str, line: int) -> str:
    return "bold" if line == 0 or cell.startswith("**") else "normal"


def draw_methods(request: GridRequest, results: Results, weight: float) -> Figure:
    """Accuracy and cosines of every method, without and with AUs: mean, deviation, every seed, and the controls."""
    methods = list(request.methods)
    figure = new_figure(12.5, 1.9 + 0.5 * len(methods), dpi=DPI)
    for axis, name in zip(figure.subplots(1, len(MAIN), sharey=True), MAIN, strict=True):
        for shift, (cell_weight, colour, label) in zip(
            (-0.14, 0.14), ((0.0, WITHOUT, "without AUs"), (weight, WITH, f"with AUs, λ = {weight:g}")), strict=True
        ):
            for number, method in enumerate(methods):
                cell = Cell(method, cell_weight)
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


def _dots(axis: Axes, results: Results, cell: Cell, name: str, at: float, colour: str, label: str) -> None:
    """One row: small dots are seeds, the large one their mean, the line one standard deviation to each side."""
    values, mean = list(results.values(cell, name).values()), results.mean(cell, name)
    if mean is None:
        return
    axis.errorbar(
        [mean.mean], [at], xerr=[mean.sd or 0.0], fmt="o", color=colour, markersize=6.5, capsize=3, linewidth=1.6,
        label=f"{label} (mean ± sd, dots: seeds)" if label else None,
    )  # fmt: skip
    axis.plot(values, [at] * len(values), "o", color="white", markeredgecolor=colour, markersize=3, markeredgewidth=0.9)


def _control_lines(axis: Axes, results: Results, *, vertical: bool) -> None:
    """The controls' cosines; of several ceilings the span is what matters, so each is drawn."""
    styles = dict(zip(CONTROLS.values(), DASHES, strict=False))
    ceilings: set[float] = set()
    for title, value in control_values(results).items():
        ceiling = title not in styles
        label = "" if ceiling and ceilings else "ceiling of the last layer" if ceiling else title
        ceilings |= {value.mean} if ceiling else set()
        draw = axis.axvline if vertical else axis.axhline
        draw(
            value.mean, color=INK if ceiling else QUIET, linewidth=1.0, zorder=0,
            linestyle="-" if ceiling else DASHES[1:][list(styles).index(title)], label=label or None,
        )  # fmt: skip


def _legend(figure: Figure) -> None:
    entries: dict[str, Any] = {}
    for axis in figure.axes:
        handles, labels = axis.get_legend_handles_labels()
        entries |= {label: handle for label, handle in zip(labels, handles, strict=True) if label not in entries}
    figure.legend(list(entries.values()), list(entries), loc="outside lower center", ncols=4, frameon=False, fontsize=9)


def draw_lambdas(request: GridRequest, results: Results) -> Figure:
    """Accuracy and cosines against the align weight, equally spaced, with standard deviations."""
    cells = list(request.lambda_cells())
    figure = new_figure(10, 4.2, dpi=DPI)
    left, right = figure.subplots(1, 2)
    for axis, names in ((left, {"cl": INK}), (right, {"att_cos": WITH, "cam_cos": OTHER})):
        for name, colour in names.items():
            found = [(place, mean) for place, cell in enumerate(cells) if (mean := results.mean(cell, name))]
            axis.errorbar(
                [place for place, _ in found], [mean.mean for _, mean in found],
                yerr=[mean.sd or 0.0 for _, mean in found], color=colour, marker="o" if name != "cam_cos" else "s",
                capsize=3, label=f"{FIGURES[name].title} (mean ± sd)",
            )  # fmt: skip
            for place, cell in enumerate(cells):
                seeds = list(results.values(cell, name).values())
                axis.plot([place] * len(seeds), seeds, ".", color=colour, alpha=0.5, markersize=4)
        axis.set_xticks(range(len(cells)), [f"{cell.weight:g}" for cell in cells])
        axis.set_xlabel(f"align weight λ ({method_title(request.ablation)})")
        axis.spines[["top", "right"]].set_visible(False)
    left.set_ylabel("CL %")
    right.set_ylabel("cosine with the AU map")
    _control_lines(right, results, vertical=False)
    _legend(figure)
    return figure


def draw_matrices(method: str, weights: Sequence[float], results: Results) -> Figure | None:
    """Confusions (row shares) above, cosines of every class with every layer below; one column an align weight."""
    shown = [(weight, list(results.of(Cell(method, weight)).values())) for weight in weights]
    shown = [(weight, runs) for weight, runs in shown if runs]
    if not shown:
        return None
    classes = list(shown[0][1][0].metrics["confusion"]["classes"])
    figure = new_figure(1.2 + 5.2 * len(shown), 9.6, dpi=DPI)
    axes = np.asarray(figure.subplots(2, len(shown), squeeze=False))
    for column, (weight, runs) in enumerate(shown):
        condition = "without AUs" if weight == 0 else f"with AUs, λ = {weight:g}"
        counts = np.asarray([run.metrics["confusion"]["matrix"] for run in runs], np.float64).sum(0)
        shares = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
        _matrix(axes[0, column], shares, classes, classes, "Blues", 100, 0)
        axes[0, column].set_title(f"{method_title(method)} {condition}: predicted, % of each true class", fontsize=10)
        values, layers = class_by_layer(runs, classes)
        mapped = np.isfinite(values).any(1)
        kept = [name for name, keep in zip(classes, mapped, strict=True) if keep]
        _matrix(axes[1, column], values[mapped], kept, layers, "Greens", 1, 2)
        axes[1, column].set_title("cosine with the AU map", fontsize=10)
    plural = "seed" if len(shown[0][1]) == 1 else "seeds"
    figure.suptitle(f"{len(shown[0][1])} {plural}: counts summed, cosines averaged", fontsize=9, color=QUIET)
    return figure


def class_by_layer(runs: Sequence[Result], classes: Sequence[str]) -> tuple[Float[np.ndarray, "k l"], list[str]]:
    """Mean over runs of each class's cosines: attention of layers 1 .., then CAM; NaN where there is none."""
    layers = sorted(runs[0].metrics["att_cos"], key=int)
    table = []
    for run in runs:
        entries = [run.metrics["per_class"][name] for name in classes]
        table.append([[entry["att_cos"][layer] for layer in layers] + [entry["cam_cos"]] for entry in entries])
    values = np.asarray(table, np.float64).mean(0)
    return values, [*(f"layer {layer}" for layer in layers), "CAM"]


def _matrix(
    axis: Axes, values: np.ndarray, rows: Sequence[str], columns: Sequence[str], colours: str, top: float, decimals: int
) -> None:
    axis.imshow(np.nan_to_num(values), cmap=colours, vmin=0, vmax=top, aspect="auto")
    axis.set_xticks(range(len(columns)), list(columns), rotation=35, ha="right")
    axis.set_yticks(range(len(rows)), list(rows))
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    for place, value in np.ndenumerate(values):
        text = f"{value:.{decimals}f}" if np.isfinite(value) else "–"
        dark = np.isfinite(value) and value > 0.55 * top
        axis.text(place[1], place[0], text, ha="center", va="center", fontsize=8, color="white" if dark else INK)


def draw_average_maps(method: str, weights: Sequence[float], results: Results, out: Path) -> Figure | None:
    """Per class: the mean AU map, then attention and CAM of every align weight, averaged over faces and seeds.

    None where the runs left no average maps.
    """
    loaded = {weight: mean_maps(list(results.of(Cell(method, weight)).values()), out) for weight in weights}
    found = {weight: maps for weight, maps in loaded.items() if maps is not None}
    if not found:
        return None
    first = next(iter(found.values()))
    names = {weight: "without AUs" if weight == 0 else f"with AUs\nλ = {weight:g}" for weight in found}
    rows = [("AU map", first["au_map"])]
    for key, title in (("attention", "attention"), ("cam", "CAM")):
        rows += [(f"{title}\n{names[weight]}", maps[key]) for weight, maps in found.items() if key in maps]
    shown = [number for number in range(len(first["classes"])) if first["au_map"][number].any()]
    figure = new_figure(1.3 + 1.35 * len(shown), 0.5 + 1.35 * len(rows), dpi=DPI)
    axes = np.asarray(figure.subplots(len(rows), len(shown), squeeze=False))
    for line, (title, maps) in enumerate(rows):
        for column, number in enumerate(shown):
            axis = axes[line, column]
            _over_face(axis, first["face"][number], maps[number])
            if line == 0:
                axis.set_title(str(first["classes"][number]), fontsize=10)
            if column == 0:
                axis.set_ylabel(title, fontsize=9, rotation=0, ha="right", va="center")
    figure.suptitle(f"{method_title(method)}: averages over the faces of each class", fontsize=10)
    return figure


def _over_face(axis: Axes, face: np.ndarray, values: np.ndarray) -> None:
    """A map over the class's mean face, scaled to its own maximum."""
    side = face.shape[0]
    axis.imshow(face.mean(2), cmap="gray", vmin=0, vmax=1, extent=(0, side, side, 0))
    top = max(float(values.max()), 1e-9)
    axis.imshow(
        values / top, cmap="inferno", vmin=0, vmax=1, alpha=0.6, extent=(0, side, side, 0), interpolation="bilinear"
    )
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set_visible(False)


def mean_maps(runs: Sequence[Result], out: Path) -> Mapping[str, np.ndarray] | None:
    """A cell's average maps over its seeds, every seed weighted by the faces behind it.

    ``classes (k)``, ``face (k c c 3)``, ``au_map, attention (k m m)`` (last layer), ``cam (k m m)`` where there is one;
    None when a run has none.
    """
    files = [out / state.RUNS / run.spec.output / AVERAGES for run in runs]
    if not files or not all(path.is_file() for path in files):
        return None
    loaded = []
    for path in files:
        with np.load(path) as content:
            loaded.append({name: content[name] for name in content.files})
    weights = np.stack([one["count"] for one in loaded]).astype(np.float64)
    share = weights / np.maximum(weights.sum(0), 1)
    maps = {name: [one[name] for one in loaded] for name in ("face", "au_map", "cam") if name in loaded[0]}
    maps["attention"] = [one["attention"][-1] for one in loaded]
    means = {name: sum(_weigh(part, value) for part, value in zip(share, values, strict=True))
             for name, values in maps.items()}  # fmt: skip
    return {"classes": loaded[0]["classes"], **{name: np.asarray(value) for name, value in means.items()}}


def _weigh(share: Float[np.ndarray, "k"], values: Float[np.ndarray, "k ..."]) -> Float[np.ndarray, "k ..."]:
    return np.asarray(values * share.reshape(-1, *[1] * (values.ndim - 1)))
