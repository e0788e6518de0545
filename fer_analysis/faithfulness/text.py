"""The summary for people: three small tables, each figure beside its control."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aupipe.fer_analysis.evaluation.text import shown, span
from aupipe.fer_analysis.faithfulness.summary import CONSTANT, CURVES, why_no_face
from aupipe.fer_display.tables import text_table

REMOVED_TITLES = {
    "inside": "AU regions",
    "outside_face": "as much elsewhere on the face",
    "outside_anywhere": "as much anywhere else",
}


def map_title(name: str) -> str:
    """Name a curve's map for people: ``random_7x7`` -> ``control: random order (7 x 7)``."""
    if name.startswith("random_"):
        return f"control: random order ({name.removeprefix('random_').replace('x', ' x ')})"
    titles = {
        "attention": "attention of the last layer",
        "cam": "CAM of the prediction",
        "given": "maps made elsewhere",
        "centre": "control: centred Gaussian",
        "au_map": "control: AU map",
    }
    return titles[name]


def page_lines(run: Path, c: Mapping[str, Any]) -> list[str]:
    """Write the lines that ``aupipe faithfulness`` prints for the content of ``faithfulness.json``."""
    p = c["probability"]
    lines = [
        f"{run}: {c['n']} images of {c['split']}, {c['n_with_map']} with a map, epoch {c['epoch']}, accuracy "
        f"{c['accuracy']:.1%}",
        f"probability of the prediction: {shown(p['whole'])}, on the {c['baseline']} baseline alone "
        f"{shown(p['baseline'])}, where {p['baseline_keeps_prediction']:.0%} keep it",
        "",
    ]
    if not c["depends_on_picture"]:
        return [*lines, f"{CONSTANT}."]
    return [
        *lines,
        "Deletion (lower is better) and insertion (higher is better): area under the probability, difference to random",
        *text_table(_curve_rows(c["curves"])),
        "",
        *_region_lines(c["regions"]),
        "",
        *_randomisation_lines(c["randomisation"]),
        *_given_lines(c.get("maps_from")),
    ]


def _given_lines(given: Mapping[str, str] | None) -> list[str]:
    """Say which maps were made elsewhere, and what cannot be known of them."""
    if given is None:
        return []
    return [
        f"maps made elsewhere: those of {given['name']}. Whether they depend on the weights is unknown: they cannot be "
        "made anew here for random ones."
    ]


def _curve_rows(curves: Mapping[str, Any]) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = [("", "deletion", "over random", "insertion", "over random", "faces")]
    for name, entry in curves.items():
        cells = [
            text for curve in CURVES for text in (shown(entry[curve]["auc"]), _with_span(entry[curve]["over_random"]))
        ]
        rows.append((map_title(name), *cells, str(entry["n"])))
    return rows


def _region_lines(entry: Mapping[str, Any]) -> list[str]:
    if not entry["n"]:
        return [f"{why_no_face(entry)}: what the decision owes to AUs is unknown."]
    rows: list[Sequence[str]] = [("removed", "share of the probability", "change of accuracy", "change of pixels")]
    for kind, figures in entry["removed"].items():
        figure = (_with_span(figures["fall"]), _with_span(figures["accuracy_change"]), shown(figures["strength"]))
        rows.append((REMOVED_TITLES[kind], *figure))
    for kind, difference in entry["fall_inside_over"].items():
        rows.append((f"AU regions over {REMOVED_TITLES[kind]}", _with_span(difference)))
    return [
        f"Removal of the AU regions: {entry['n']} faces that are predicted rightly and add {entry['room']:g} or more "
        f"to the baseline's probability (of {entry['n_with_region']} with a region, {entry['n_right']} right); falls "
        f"are shares of that. {entry['region_share']:.1%} of the pixels; of as much elsewhere on the face "
        f"{entry['outside_face_in_face']:.0%} found room in it",
        *text_table(rows),
    ]


def _randomisation_lines(entry: Mapping[str, Any]) -> list[str]:
    rows: list[Sequence[str]] = [("random from the head down to", *entry["stages"], "two faces", "")]
    for name, figures in entry["maps"].items():
        if figures["spearman"] is None:
            rows.append((name, *["-"] * (len(entry["stages"]) + 1), "no map has a positive value"))
            continue
        verdict = "depends on the weights" if figures["passes"] else "FAILS: hardly depends on the weights"
        rows.append((name, *map(shown, figures["spearman"]), shown(figures["other_face"]), verdict))
    return [
        f"Spearman with the map of the trained network, {entry['faces']} faces, {entry['draws']} random networks; a "
        f"map fails from {entry['fails_from']:g} with everything random. two faces: the same between the maps of two "
        "different faces, both of the trained network",
        *text_table(rows),
    ]


def _with_span(figure: Mapping[str, Any] | None) -> str:
    """Format a mean and its interval, or a dash."""
    return "-" if figure is None else f"{shown(figure['mean'])} ({span(figure['ci95'])})"
