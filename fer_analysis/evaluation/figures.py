"""Pictures of an evaluation: confusion, cosines by class and map, average maps, coded action units."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from aupipe.fer_analysis.evaluation.averages import AverageMaps
from aupipe.fer_analysis.evaluation.coded_summary import CODED_CONTROLS, ROWS
from aupipe.fer_analysis.evaluation.summary import CONTROLS
from aupipe.fer_display.curves import COLOURS, QUIET, Curve, Panel, draw_panel
from aupipe.fer_display.figures import new_figure
from aupipe.fer_display.map_rows import MAP_COLOURS, MapRow, draw_map_rows
from aupipe.fer_display.matrices import Matrix, draw_matrix

TITLES = {
    "cam": "CAM",
    "cam_predicted": "CAM of prediction",
    **CONTROLS,
}


def draw_confusion(classes: Sequence[str], matrix: Sequence[Sequence[int]]) -> Figure:
    """Draw the confusion matrix as row shares, with counts written in the cells."""
    counts = np.asarray(matrix, np.int64)
    return draw_matrix(
        Matrix(
            counts / np.maximum(counts.sum(1, keepdims=True), 1),
            [f"{name} (n={n})" for name, n in zip(classes, counts.sum(1), strict=True)],
            classes,
            "Confusion: faces, coloured by share of the row",
            texts=[list(map(str, row)) for row in counts.tolist()],
            across="predicted",
            down="true",
        )
    )


def draw_cosines(matrix: Mapping[str, Any], cam: str = TITLES["cam"]) -> Figure:
    """Draw ``cosine_matrix`` of ``metrics.json``: classes down, layers, CAM and controls across; colours of 0 to 1.

    ``cam``: title of the CAM, or of the maps in its place.
    """
    titles = {**TITLES, "cam": cam}
    classes, maps = matrix["classes"], matrix["maps"]
    return draw_matrix(
        Matrix(
            np.asarray(matrix["values"], np.float64).reshape(len(classes), len(maps)),
            [f"{name} (n={n})" for name, n in zip(classes, matrix["counts"], strict=True)],
            [f"layer {name}" if name.isdecimal() else titles[name] for name in maps],
            "Mean cosine with the AU map, by true class",
            colours=MAP_COLOURS,
            bar="cosine",
            divider=len(maps) - sum(name in CONTROLS for name in maps),
            cell=(0.75, 0.45),
            empty="no face has an AU map",
        )
    )


def draw_averages(averages: AverageMaps, classes: Sequence[str], n_layers: int, cam: str = TITLES["cam"]) -> Figure:
    """Draw average face, AU map, attention of the last layer and CAM of every class that has faces.

    The line over the maps is where the class's average AU map reaches half of its maximum. ``cam``: as for
    :func:`draw_cosines`.
    """
    shown = [number for number in range(len(classes)) if averages.count[number]]
    au_maps = averages.au_map[shown]
    outlines = list(au_maps / np.maximum(au_maps.max((1, 2), keepdims=True), 1e-9))
    maps = {f"attention,\nlayer {n_layers}": averages.maps[str(n_layers)]}
    own = cam == TITLES["cam"]
    maps |= (
        {"CAM of\nthe label" if own else cam.replace(" of ", " of\n"): averages.maps["cam"]}
        if "cam" in averages.maps
        else {}
    )
    return draw_map_rows(
        [classes[number].replace("_", "\n") + f"\nn={averages.count[number]}" for number in shown],
        [
            MapRow("average\nface", list(averages.face[shown])),
            MapRow(
                "AU map",
                [averages.au_map[number] if averages.count_with_map[number] else None for number in shown],
                outlines,
                missing="no AU map",
            ),
            *(MapRow(title, list(values[shown]), outlines) for title, values in maps.items()),
        ],
        bar="mean of maps, each scaled to its maximum",
    )


def draw_coded(coded: Mapping[str, Any]) -> Figure:
    """Draw the areas within a class of ``coded`` of ``metrics.json``: of every map, then of each action unit."""
    figure = new_figure(17, 5)
    figure.suptitle(
        f"Does a map tell faces of one class that show an AU from those that do not? {coded['n']} coded faces of "
        f"{coded['n_groups']} persons, 95 % by resampling persons"
    )
    maps = {name: coded["maps"][name] for name in ROWS if coded["maps"][name]["within"] is not None}
    titles = [textwrap.fill(ROWS[name], 12) for name in maps]
    controls = [name in CODED_CONTROLS or name == "true_map" for name in maps]
    curves = [
        _points(list(maps.values()), [at for at, quiet in enumerate(controls) if quiet is told], colour, name)
        for told, colour, name in ((False, COLOURS[0], "of the network"), (True, QUIET, "controls"))
    ]
    numbers = sorted(coded["by_unit"], key=int)
    units = [coded["by_unit"][number] for number in numbers]
    by_unit = [
        _points(units, range(len(units)), COLOURS[0], "attention"),
        *_marks(units, "unit_maps", Curve("its map of the AU", (), (), colour=COLOURS[1], line=" ", marker="x")),
        *_marks(units, "true_map", Curve("the AUs' own map", (), (), colour=QUIET, line=" ", marker="_")),
    ]
    panels = (
        Panel("All action units", curves, up="area under the curve within a class", ticks=_ticks(titles)),
        Panel("By action unit", by_unit, across="AU", ticks=_ticks(numbers)),
    )
    for axis, panel in zip(figure.subplots(1, 2, width_ratios=(3, 2)), panels, strict=True):
        axis.axhline(0.5, color="black", linewidth=0.8)
        draw_panel(axis, panel)
        axis.set_ylim(0, 1.02)
        axis.tick_params(axis="x", labelsize="small")
    return figure


def _ticks(names: Sequence[str]) -> list[tuple[float, str]]:
    return [(float(place), name) for place, name in enumerate(names)]


def _points(entries: Sequence[Mapping[str, Any]], places: Sequence[int], colour: str, name: str) -> Curve:
    """Points with intervals at these places of the x axis; what has no interval has one of no length."""
    chosen = [entries[place] for place in places]
    ends = [one["within_ci95"] or (one["within"],) * 2 for one in chosen]
    return Curve(
        name, [float(place) for place in places], [one["within"] for one in chosen],
        low=[low for low, _ in ends], high=[high for _, high in ends],
        caps=True, colour=colour, line=" ", marker="o",
    )  # fmt: skip


def _marks(units: Sequence[Mapping[str, Any]], name: str, look: Curve) -> list[Curve]:
    """Points of the action units that have this figure; no curve where none has it."""
    there = {float(place): one[name] for place, one in enumerate(units) if one[name] is not None}
    return [replace(look, x=list(there), y=list(there.values()))] if there else []
