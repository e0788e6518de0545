"""What a study found, as tables: what each network recognises, its folds beside one another, the clusters."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from aupipe.fer_analysis.comparison.global_maps import GlobalMap
from aupipe.fer_analysis.comparison.map_comparison import ExtraTable
from aupipe.fer_analysis.comparison.map_files import MaskSet
from aupipe.fer_analysis.comparison.scores import count_levels, otsu_iou
from aupipe.fer_analysis.study.clusters import ClusterTest
from aupipe.fer_analysis.study.plan import StudyNetwork


@dataclass(frozen=True)
class Recognition:
    """What a network recognises on the test faces of all its folds, each tested once.

    ``accuracies``: of the folds. ``precision``, ``recall``, ``f1``: unweighted means over the classes.
    """

    n: int
    accuracy: float
    accuracies: tuple[float, ...]
    precision: float
    recall: float
    f1: float


def recognition(metrics: Sequence[Mapping[str, Any]]) -> Recognition | None:
    """Pool the figures of a network's folds; None where no fold was measured."""
    if not metrics:
        return None
    matrix = np.sum([np.asarray(one["confusion"]["matrix"], np.int64) for one in metrics], 0)
    precision, recall, f1 = _class_figures(matrix)
    return Recognition(
        n=int(matrix.sum()),
        accuracy=float(np.trace(matrix) / matrix.sum()),
        accuracies=tuple(float(one["accuracy"]) for one in metrics),
        precision=float(precision.mean()),
        recall=float(recall.mean()),
        f1=float(f1.mean()),
    )


def _class_figures(matrix: Int64[np.ndarray, "k k"]) -> tuple[Float64[np.ndarray, "c"], ...]:
    """Compute precision, recall and F1 of every class that has faces; rows of the matrix are the true classes."""
    right, there, named = np.diag(matrix), matrix.sum(1), matrix.sum(0)
    kept = there > 0
    figures = []
    for top, bottom in ((right, named), (right, there), (2 * right, named + there)):
        figures.append(np.divide(top, bottom, out=np.zeros(len(right)), where=bottom > 0)[kept])
    return tuple(figures)


def network_table(networks: Sequence[StudyNetwork], found: Mapping[str, Recognition | None]) -> ExtraTable:
    """Tabulate what the networks recognise."""
    rows = []
    for network in networks:
        one = found[network.name]
        if one is None:
            rows.append((network.name, network.start, *[""] * 6))
            continue
        spread = f"{statistics.stdev(one.accuracies):.4f}" if len(one.accuracies) > 1 else ""
        figures = (f"{value:.4f}" for value in (one.precision, one.recall, one.f1))
        rows.append((network.name, network.start, str(one.n), f"{one.accuracy:.4f}", spread, *figures))
    header = ("network", "start", "faces", "accuracy", "sd_over_folds", "precision", "recall", "f1")
    title = "What the networks recognise, each face tested once; precision, recall and F1 are means over the classes"
    return ExtraTable("recognition", title, header, tuple(rows))


def face_table(networks: Sequence[StudyNetwork], maps: Mapping[tuple[str, str], GlobalMap | str]) -> ExtraTable:
    """Tabulate how many faces the merged maps stand on, and how well the surrogates fit (a poor one says nothing)."""
    rows = []
    for network in networks:
        for (name, expression), one in maps.items():
            if name == network.name and isinstance(one, GlobalMap):
                fit = "" if one.fit is None else f"{one.fit:.4f}"
                rows.append((name, expression, str(one.available), str(one.used), fit))
    header = ("network", "expression", "available", "used", "mean_r2")
    return ExtraTable("faces", "Faces explained, of all folds; fit of the surrogates", header, tuple(rows))


def fold_table(
    networks: Sequence[StudyNetwork],
    expressions: Sequence[str],
    masks: MaskSet,
    folds: Mapping[tuple[str, str], Sequence[GlobalMap | str]],
) -> ExtraTable:
    """Tabulate the IoU of each fold's own map: how far a map depends on the faces that were explained."""
    rows = []
    for network in networks:
        for name in expressions:
            parts = folds[network.name, name]
            mask = masks.masks[[masks.expressions.index(name)]]
            scores = [_iou(part, mask) for part in parts]
            there = [score for score in scores if score is not None]
            used = sum(part.used for part in parts if isinstance(part, GlobalMap))
            spread = f"{statistics.stdev(there):.4f}" if len(there) > 1 else ""
            cells = ("" if score is None else f"{score:.4f}" for score in scores)
            rows.append((network.name, name, str(used), *cells, spread))
    count = max((len(parts) for parts in folds.values()), default=0)
    header = ("network", "expression", "faces", *(f"fold_{number}" for number in range(1, count + 1)), "sd")
    return ExtraTable("folds", "IoU of each fold's own map", header, tuple(rows))


def _iou(part: GlobalMap | str, mask: np.ndarray) -> float | None:
    if not isinstance(part, GlobalMap) or part.picture.max() == part.picture.min():
        return None
    return float(otsu_iou(count_levels(part.picture[None], mask))[0, 0])


def cluster_table(tests: Sequence[ClusterTest]) -> ExtraTable:
    """Tabulate whether the two clusters of each tree are the pretrained networks and those from scratch."""
    rows = [(one.name, f"{one.rand:.3f}", f"{one.p:.4f}", f"{one.ways:,}", f"{one.least:.4f}") for one in tests]
    title = "Two clusters against pretrained and from scratch: adjusted Rand index, and its p"
    return ExtraTable("clusters", title, ("tree", "adjusted_rand", "p", "deals", "smallest_p"), tuple(rows))


def cluster_sentence(tests: Sequence[ClusterTest], networks: Sequence[StudyNetwork], overall: str) -> str:
    """Say what the study's claim is worth here: that pretrained networks cluster apart from those from scratch."""
    if not tests:
        alike = len({network.pretrained for network in networks}) == 1
        why = "all networks start alike" if alike else "of one of the two kinds no network has a map"
        return f"Whether pretrained networks stand apart cannot be asked here: {why}."
    split = [one.name for one in tests if one.rand == 1 and one.name != overall]
    single = [one for one in tests if one.name != overall]
    whole = next((one for one in tests if one.name == overall), None)
    parts = [
        f"In {len(split)} of {len(single)} expressions the last merge divides the networks exactly into pretrained "
        "ones and those from scratch"
    ]
    if whole is not None:
        surely = "do" if whole.rand > 0 and whole.p <= 0.05 else "are not shown to"
        parts.append(
            f"over all expressions the two kinds {surely} cluster apart (adjusted Rand index {whole.rand:.2f}, "
            f"p = {whole.p:.3f}; so few networks allow {whole.least:.3f} at best)"
        )
    return "; ".join(parts) + "."
