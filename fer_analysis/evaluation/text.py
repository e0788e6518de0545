"""The summary for people: one table of figures, with what they must be read against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aupipe.fer_analysis.evaluation.per_face import headings
from aupipe.fer_analysis.evaluation.summary import CONTROLS, WRONG_CLASS
from aupipe.fer_display.tables import text_table

ATTAINABLE = ("cosine", "specificity", "specificity_nearest")
"""Figures whose largest possible value is worth knowing: that of the face's own AU map."""


def shown(value: float | None) -> str:
    """Format a figure with three decimals, or a dash for one that does not exist."""
    return "-" if value is None else f"{value:.3f}".replace("-0.000", "0.000")


def span(interval: Sequence[float] | None) -> str:
    """Format an interval as ``.. to ..``, or a dash."""
    return "-" if interval is None else f"{shown(interval[0])} to {shown(interval[1])}"


def knows_something(c: Mapping[str, Any]) -> bool:
    """Return whether the accuracy is surely above that of always naming the most frequent class."""
    return bool(c["accuracy_ci95"][0] > _majority(c)[1])


def beside_the_majority(c: Mapping[str, Any]) -> str:
    """Compare the accuracy with what needs no picture, as the end of a sentence; its interval decides."""
    name, share = _majority(c)
    if knows_something(c):
        return f"more than the {share:.1%} of always naming {name}"
    return f"no better than always naming {name} ({share:.1%})"


def _majority(c: Mapping[str, Any]) -> tuple[str, float]:
    counts = [sum(row) for row in c["confusion"]["matrix"]]
    return c["confusion"]["classes"][counts.index(max(counts))], max(counts) / c["n"]


def summary_lines(run: Path, c: Mapping[str, Any]) -> list[str]:
    """Write the lines that ``aupipe evaluate`` prints for the content of ``metrics.json``."""
    low, high = c["accuracy_ci95"]
    calibration, intervals = c["calibration"], c["intervals"]
    balanced = intervals["balanced_accuracy"]
    return [
        f"{run}: {c['n']} images of {c['split']}{_persons(c)}, {c['n_with_map']} with a map, epoch {c['epoch']}",
        f"accuracy {c['accuracy']:.1%} (95 %: {low:.1%} to {high:.1%}), balanced {c['balanced_accuracy']:.1%}"
        + ("" if balanced is None else f" (95 %: {balanced[0]:.1%} to {balanced[1]:.1%})"),
        f"that is {beside_the_majority(c)}",
        f"calibration error {calibration['ece']:.1%}, cross-entropy {shown(calibration['nll'])}, "
        f"Brier {shown(calibration['brier'])}",
        "",
        *text_table(figure_rows(c)),
        "",
        *whose_maps(c),
        f"95 % by bootstrap  ATT-COS {span(intervals['att_cos'])}, specificity {span(intervals['att_specificity'])}; "
        f"{_cam_name(c)} {span(intervals['cam_cos'])}, specificity {span(intervals['cam_specificity'])}",
        *_too_few(intervals["classes_of_one_face"]),
        *_by_outcome(c),
        "normalised: 0 a uniform map, 1 the ceiling. specificity: cosine with the face's own AU map less that with the "
        "other expressions', on average and less the nearest one's. AU map of the prediction: drawn after the fact; "
        "what does not beat it says no more than the prediction does.",
    ]


WHOSE = {
    "annotated": "action units that people coded on each face, where they did",
    "estimated": "action units estimated from each face alone",
    "fused": "action units by the label and each face together",
}


def whose_maps(c: Mapping[str, Any]) -> list[str]:
    """Say whose action units the store's maps show, where these are not the label's."""
    mode = c.get("aus", "class")
    return [f"The AU maps of this store show {WHOSE[mode]} (--aus {mode})."] if mode in WHOSE else []


def _persons(c: Mapping[str, Any]) -> str:
    """Say how many independent persons the images show, where there are fewer."""
    return f" of {c['n_groups']} persons, whom the intervals resample" if c["n_groups"] < c["n"] else ""


def figure_rows(c: Mapping[str, Any]) -> list[Sequence[str]]:
    """List every map and control with its figures, the heads first, as ``metrics.json`` has them."""
    where = c["localisation"]
    last = max(where["attention"], key=int)
    titles: list[tuple[str, Any]] = [
        *((f"ATT-COS layer {layer}", entry) for layer, entry in where["attention"].items()),
        *_cam_rows(c),
        *((f"control: {title}", where["controls"][name]) for name, title in CONTROLS.items()),
    ]
    columns = headings()
    rows: list[Sequence[str]] = [("", *columns.values())]
    for title, entry in titles:
        figures = entry["all"] if entry else {}
        rows.append((title, *(shown(figures.get(name)) for name in columns)))
    controls, chance = c["controls"], where["chance"]
    attainable = where["controls"]["au_map"]["all"] if where["controls"]["au_map"] else {}
    return [
        *rows,
        (f"control: {WRONG_CLASS}", shown(controls["wrong_class"])),
        ("the AU map itself", *(shown(attainable.get(name)) if name in ATTAINABLE else "" for name in columns)),
        (f"ceiling of layer {last}", shown(controls["ceiling"])),
        ("chance", *(shown(chance[name]) if name in chance else "" for name in columns)),
    ]


def _cam_rows(c: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Choose the rows of the CAM, or of the maps made elsewhere in its place."""
    where = c["localisation"]
    if given := c.get("maps_from"):
        return [(f"maps of {given['name']}", where["cam"])]
    return [("CAM-COS of the label", where["cam"]), ("CAM-COS of the prediction", where["cam_predicted"])]


def _cam_name(c: Mapping[str, Any]) -> str:
    return f"maps of {c['maps_from']['name']}" if c.get("maps_from") else "CAM-COS"


def _by_outcome(c: Mapping[str, Any]) -> list[str]:
    """Write attention and CAM where the prediction is right, and where it is wrong."""
    where = c["localisation"]
    last = where["attention"][max(where["attention"], key=int)]
    lines = []
    for outcome in ("correct", "wrong"):
        cam = where["cam"][outcome]["cosine"] if where["cam"] else None
        figures = f"ATT-COS {shown(last[outcome]['cosine'])}, {_cam_name(c)} {shown(cam)}"
        lines.append(f"{outcome} predictions (n={last[outcome]['n']})  {figures}")
    return lines


def _too_few(classes: Sequence[str]) -> list[str]:
    """Warn where a class has one face: intervals are too narrow, as nothing can be resampled there."""
    return [f"too narrow: {', '.join(classes)} with a single face add no spread"] if classes else []
