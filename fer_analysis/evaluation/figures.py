"""Pictures of an evaluation: confusion, cosines by class and map, average maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from aupipe.fer_analysis.evaluation.averages import AverageMaps
from aupipe.fer_analysis.evaluation.summary import CONTROLS
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
