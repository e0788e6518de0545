"""Summary of per-face values: the content of ``faithfulness.json``; None where no face stands behind a figure.

Means are over faces. Intervals are percentile bootstraps of the mean over the faces, resampled within each true class
(:func:`aupipe.fer_models.metrics.resampling.bootstrap_interval`); of differences they are paired by face.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

from aupipe.fer_analysis.faithfulness import randomising, regions
from aupipe.fer_analysis.faithfulness.measuring import PerturbedFaces
from aupipe.fer_analysis.faithfulness.perturbing import removal_counts
from aupipe.fer_analysis.faithfulness.randomising import Correlations
from aupipe.fer_models.metrics.resampling import bootstrap_interval

CURVES = ("deletion", "insertion")

ROOM = 0.1
"""A face's fall is a share of what its pixels add to the probability, and means something from this much on."""

NO_DEPENDENCE = 0.01
"""A prediction whose probability changes less than this, over all faces and their baselines, is a constant."""


def summarise(faces: PerturbedFaces) -> dict[str, Any]:
    """Summarise what comes from the faces: curves and regions."""
    steps = next(iter(faces.curves.values())).shape[-1] - 1
    return {
        "n": len(faces.label),
        "n_with_map": int(faces.has_map.sum()),
        "accuracy": float((faces.label == faces.predicted).mean()),
        "depends_on_picture": depends_on_picture(faces),
        "probability": {
            "whole": float(faces.whole.mean()),
            "baseline": float(faces.empty.mean()),
            "baseline_keeps_prediction": float(faces.kept.mean()),
        },
        "shares_removed": [count / faces.pixels for count in removal_counts(faces.pixels, steps)],
        "curves": {kind: _curve(faces, kind) for kind in faces.curves if faces.rows(kind).any()},
        "regions": _regions(faces),
    }


def depends_on_picture(faces: PerturbedFaces) -> bool:
    """Return whether the network says different things about different pictures, or about a face and its baseline."""
    probabilities = np.concatenate([faces.whole, faces.empty])
    others = len(np.unique(faces.predicted)) > 1 or not faces.kept.all()
    return others or bool(np.ptp(probabilities) >= NO_DEPENDENCE)


def _curve(faces: PerturbedFaces, kind: str) -> dict[str, Any]:
    """Average one map's curves, their areas, and how far these are from those of the random order on the same faces."""
    rows, control = faces.rows(kind), faces.controls.get(kind)
    entry: dict[str, Any] = {"n": int(rows.sum()), "control": control}
    for number, curve in enumerate(CURVES):
        own = faces.areas(kind)[:, number]
        entry[curve] = {
            "auc": float(own[rows].mean()),
            "curve": faces.curves[kind][rows, number].mean(0).tolist(),
            "over_random": None if control is None else _mean(faces, own - faces.areas(control)[:, number], rows),
        }
    return entry


def _regions(faces: PerturbedFaces) -> dict[str, Any]:
    """Average the falls inside and outside of the AU regions; all None where no face can be used.

    A fall counts as a share of what the face's pixels add to the baseline's probability, on faces that are right.
    """
    right = faces.removable & (faces.label == faces.predicted)
    rows, room = right & (faces.whole - faces.empty >= ROOM), np.maximum(faces.whole - faces.empty, ROOM)
    share = {kind: faces.fall[kind] / room for kind in regions.REMOVALS}
    removed = {
        kind: {
            "fall": _mean(faces, share[kind], rows),
            "accuracy_change": _mean(faces, faces.correct[kind] - 1, rows),
            "strength": _plain(faces.strength[kind], rows),
        }
        for kind in regions.REMOVALS
    }
    return {
        "n": int(rows.sum()),
        "n_with_region": int(faces.removable.sum()),
        "n_right": int(right.sum()),
        "room": ROOM,
        "region_share": _plain(faces.region_share, rows),
        "outside_face_in_face": _plain(faces.in_face, rows),
        "draws": regions.DRAWS,
        "removed": removed,
        "fall_inside_over": {
            kind: _mean(faces, share["inside"] - share[kind], rows) for kind in regions.REMOVALS if kind != "inside"
        },
    }


def _plain(values: Float64[np.ndarray, "n"], rows: Bool[np.ndarray, "n"]) -> float | None:
    return float(values[rows].mean()) if rows.any() else None


def _mean(
    faces: PerturbedFaces, values: Float64[np.ndarray, "n"], rows: Bool[np.ndarray, "n"]
) -> dict[str, Any] | None:
    """Compute mean and 95 % interval over the chosen faces."""
    if not rows.any():
        return None
    interval = bootstrap_interval(values[rows], faces.label[rows], "samples", group=faces.group_number[rows])
    return {"mean": float(values[rows].mean()), "ci95": None if interval is None else list(interval)}


def summarise_randomisation(
    stages: Sequence[str],
    maps: Mapping[str, Correlations],
    faces: int,
    null: Mapping[str, Float64[np.ndarray, "_"]] | None = None,
) -> dict[str, Any]:
    """Summarise the randomisation test.

    Args:
        stages: What was randomised, step by step.
        maps: Correlations by map, from :func:`~aupipe.fer_analysis.faithfulness.randomising.cascade`.
        faces: How many were looked at.
        null: By map, its correlations between two faces under the trained network, from
            :func:`~aupipe.fer_analysis.faithfulness.randomising.between_faces`.

    Returns:
        The object ``randomisation`` of ``faithfulness.json``.
    """
    return {
        "stages": list(stages),
        "faces": faces,
        "draws": randomising.DRAWS,
        "fails_from": randomising.FAILS_FROM,
        "maps": {
            name: {**_randomised(values), "other_face": _average((null or {}).get(name))}
            for name, values in maps.items()
        },
    }


def _average(values: Float64[np.ndarray, "n"] | None) -> float | None:
    return None if values is None or not len(values) else float(values.mean())


def _randomised(values: Correlations) -> dict[str, Any]:
    """Average the correlation after each stage, with its range over the random networks, and judge the last one."""
    n = values.shape[2]
    if n == 0:
        return {"n": 0, "spearman": None, "low": None, "high": None, "final": None, "passes": None}
    by_draw = values.mean(2)
    final = float(by_draw[:, -1].mean())
    return {
        "n": n,
        "spearman": by_draw.mean(0).tolist(),
        "low": by_draw.min(0).tolist(),
        "high": by_draw.max(0).tolist(),
        "final": final,
        "passes": final < randomising.FAILS_FROM,
    }


def summary_line(content: Mapping[str, Any]) -> str:
    """Write one line for a report.

    It says whether the decision rests on the AU regions and on the map, and the map on the weights.
    """
    if not content["depends_on_picture"]:
        return CONSTANT
    randomised = content["randomisation"]["maps"]["attention"]
    weights, other = randomised["final"], randomised["other_face"]
    return "; ".join(
        [
            _regions_part(content["regions"]),
            _curves_part(content["curves"]),
            "attention is empty on every face"
            if weights is None
            else f"randomised weights: Spearman {two(weights)} with the attention before"
            + ("" if other is None else f", which between two faces is {two(other)}"),
        ]
    )


def decided(interval: Sequence[float] | None, above: str, below: str, neither: str) -> str:
    """Choose the words that a paired interval allows; without one, or with 0 inside, those that claim nothing."""
    if interval is None or interval[0] <= 0 <= interval[1]:
        return neither
    return above if interval[0] > 0 else below


def _curves_part(curves: Mapping[str, Any]) -> str:
    """Compare deletion and insertion in the order of attention with those in random order, face by face."""
    attention = curves["attention"]
    parts = []
    for curve in CURVES:
        over = attention[curve]["over_random"]
        words = decided(over["ci95"], "above", "below", "not told apart from")
        parts.append(
            f"{curve} {two(attention[curve]['auc'])}, {words} random order's "
            f"{two(curves[attention['control']][curve]['auc'])}"
        )
    return "in the order of attention " + " and ".join(parts)


def _regions_part(entry: Mapping[str, Any]) -> str:
    if not entry["n"]:
        return f"{why_no_face(entry)}, so what the decision owes to AU regions is unknown"
    falls = {kind: figures["fall"]["mean"] for kind, figures in entry["removed"].items()}
    over = entry["fall_inside_over"]["outside_face"]
    span = "" if over["ci95"] is None else f", 95 % {two(over['ci95'][0])} to {two(over['ci95'][1])}"
    words = decided(over["ci95"], "more than", "less than", "no more than can be told from")
    return (
        f"Removing the AU regions takes {two(falls['inside'])} of what the face adds to the probability, {words} the "
        f"same area elsewhere on it, {two(falls['outside_face'])} (difference {two(over['mean'])}{span}; {entry['n']} "
        "faces that are predicted rightly)"
    )


CONSTANT = (
    "The prediction does not depend on the picture: all faces get the same class with the same probability, with their "
    "pixels and without. There is nothing that a map could be faithful to"
)


def why_no_face(entry: Mapping[str, Any]) -> str:
    """Say why the removal of AU regions has no face to stand on."""
    if not entry["n_with_region"]:
        return "No face has an AU region (no AU map that reaches one half)"
    if not entry["n_right"]:
        return "No face with an AU region is predicted rightly"
    return f"No rightly predicted face adds {entry['room']:g} or more to the probability that its baseline has"


def two(value: float) -> str:
    """Format two decimals without the leading zero: ``.31``, ``-.05``, ``1.00``; ``-.00`` is a little below nothing."""
    text = f"{value:.2f}"
    return text.replace("0.", ".", 1) if abs(value) < 0.995 else text
