"""The coded faces for people: two tables, and sentences that intervals decide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aupipe.fer_analysis.evaluation.coded_summary import CODED_CONTROLS, ROWS
from aupipe.fer_analysis.evaluation.text import shown, span
from aupipe.fer_data.errors import paragraph
from aupipe.fer_display.tables import text_table

CHANCE = 0.5
PEOPLE = "FACS"
"""Scale of codes that are not those of a program."""


def coded_lines(coded: Mapping[str, Any]) -> list[str]:
    """Write the lines that ``aupipe evaluate --aus`` adds, from the part ``coded`` of ``metrics.json``."""
    by_unit = [*text_table(unit_rows(coded)), ""] if coded["by_unit"] else []
    return [faces_line(coded), "", *text_table(coded_rows(coded)), "", *by_unit, *sentences(coded), *remarks(coded)]


def faces_line(coded: Mapping[str, Any]) -> str:
    """Say which faces are behind the figures, and how many are not."""
    source = coded["source"]
    name = f"{source['name'] or 'the dataset'}, {source['scale']}"
    return (
        f"action units coded on the faces ({name}): {coded['n']} faces of {coded['n_groups']} persons, of which "
        f"{coded['n_without']} show none that the codebook draws; {coded['n_uncoded']} were not coded; accuracy on the "
        f"coded ones {coded['accuracy']:.1%}"
    )


def coded_rows(coded: Mapping[str, Any]) -> list[Sequence[str]]:
    """List every map and control with its figures, the heads first."""
    rows: list[Sequence[str]] = [("", "cosine", "95 %", "within a class", "95 %", "pairs")]
    for name, title in ROWS.items():
        one = coded["maps"][name]
        cells = (shown(one["cosine"]), span(one["cosine_ci95"]), shown(one["within"]), span(one["within_ci95"]))
        heading = f"control: {title}" if name in CODED_CONTROLS else title
        rows.append((heading, *cells, str(one["pairs"]) if one["pairs"] else "-"))
    return rows


def unit_rows(coded: Mapping[str, Any]) -> list[Sequence[str]]:
    """List the action units with the attention's area within a class, and what it is read against."""
    columns = {"unit_maps": "its map", "untrained": "untrained", "estimate": "estimate", "true_map": "true map"}
    rows: list[Sequence[str]] = [("AU", "attention", "95 %", *columns.values(), "pairs", "persons")]
    for number, one in _by_number(coded["by_unit"]):
        controls = (shown(one[name]) for name in columns)
        cells = (shown(one["within"]), span(one["within_ci95"]), *controls, str(one["pairs"]), str(one["persons"]))
        rows.append((number, *cells))
    return rows


def _by_number(by_unit: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """List entries in the order of the action units, which a file does not keep."""
    return sorted(by_unit.items(), key=lambda item: int(item[0]))


def sentences(coded: Mapping[str, Any]) -> list[str]:
    """Say whether the attention tells the faces of a class apart by their action units, and is near this face's own."""
    return [*_within(coded), *_cosine(coded)]


def _within(coded: Mapping[str, Any]) -> list[str]:
    maps, least = coded["maps"], coded["least_faces"]
    if maps["attention"]["within"] is None:
        return [
            paragraph(
                "Whether attention tells the faces of a class apart by their action units cannot be measured here.",
                expected=f"an action unit that {least} coded faces of one class show and {least} do not",
                got=f"none among {coded['n']} coded faces",
                fix="Measure a split with more coded faces.",
            )
        ]
    said = [_telling("Its attention is", "Its attention tells", maps, "attention")]
    if _tells(maps["attention"]):
        said.append(_untrained(coded, "untrained"))
    if maps["unit_maps"]["within"] is not None:
        whose = "Its maps of single action units"
        said.append(_telling(f"{whose} are", f"{whose} tell", maps, "unit_maps"))
        if _tells(maps["unit_maps"]):
            said.append(_untrained(coded, "untrained_unit_maps"))
    return said


def _tells(one: Mapping[str, Any]) -> bool:
    """Return whether a map's area within a class is surely above chance."""
    return one["within_ci95"] is not None and bool(one["within_ci95"][0] > CHANCE)


def _telling(be: str, tell: str, maps: Mapping[str, Any], name: str) -> str:
    """Say whether a map tells faces apart; ``be`` and ``tell`` begin the sentence."""
    one, interval = maps[name], maps[name]["within_ci95"]
    figures = f"area under the curve {shown(one['within'])} (95 %: {span(interval)}; .5 is chance)"
    of = "faces of one class that show an action unit from those that do not"
    ceiling = f"the coded AUs' own map at that size has {shown(maps['true_map']['within'])}"
    if _tells(one):
        return f"{tell} {of}: {figures}; {ceiling}."
    if interval is not None and interval[1] < CHANCE:
        return f"{be} weaker in an action unit's region where a face shows it, within a class: {figures}."
    return f"{be} not shown to tell {of}: {figures}; {ceiling}."


def _untrained(coded: Mapping[str, Any], name: str) -> str:
    lead, value = coded["lead_over"][name]["within"], shown(coded["maps"][name]["within"])
    if lead is not None and lead[0] > 0:
        return f"An untrained network of its architecture has {value}, less by {span(lead)}."
    return f"An untrained network of its architecture has {value}: that it was trained is not shown to matter."


def _cosine(coded: Mapping[str, Any]) -> list[str]:
    maps, over = coded["maps"], coded["lead_over"]
    value, interval = maps["attention"]["cosine"], maps["attention"]["cosine_ci95"]
    if value is None:
        return []
    start = f"Its attention has a cosine of {shown(value)} (95 %: {span(interval)}) with the map of the coded AUs"
    other, lead = maps["another"]["cosine"], over["another"]["cosine"]
    if other is None or lead is None:
        verdict = "; there is no other face of the class, of another person, to compare it with."
    elif lead[0] > 0:
        verdict = f", and less with that of another face of the class ({shown(other)}, by {span(lead)})."
    elif lead[1] <= 0:
        less = f", and no less with that of another face of the class ({shown(other)})"
        verdict = f"{less}: by this figure nothing in it is this face's own."
    else:
        verdict = f", and that it has less with that of another face of the class ({shown(other)}) is not shown."
    label, interval = shown(maps["label_map"]["cosine"]), over["label_map"]["cosine"]
    return [start + verdict, f"The AU map of the class has {label}, which the attention {_compared(interval)}."]


def _compared(lead: Sequence[float] | None) -> str:
    """Say whether a paired difference is more or less than nothing."""
    if lead is None or lead[0] <= 0 <= lead[1]:
        return "is not shown to differ from"
    return f"exceeds by {span(lead)}" if lead[0] > 0 else f"falls short of by {span((-lead[1], -lead[0]))}"


def remarks(coded: Mapping[str, Any]) -> list[str]:
    """Say what the figures do not: what is missing, left out, or cannot be told apart."""
    missing = coded["maps"]["estimate"]["within"] is None
    undrawn = ", ".join(f"AU {number} ({count} faces)" for number, count in _by_number(coded["undrawn"]))
    groups = "; ".join(" and ".join(map(str, group)) for group in coded["same_place"])
    scale = coded["source"]["scale"]
    return [
        *([f"these codes are another program's ({scale}), not people's"] if scale != PEOPLE else []),
        *(["no estimate of the action units was given (--estimate), or it has no score for them"] if missing else []),
        *([f"coded, but not drawn by the store's codebook: {undrawn}"] if undrawn else []),
        *([f"share a place, so that no map tells which of them it means: AU {groups}"] if groups else []),
        *coded["notes"],
        "within a class: area under the curve of the faces with an action unit against those without, by the mean of "
        "the map in its region over the mean of all the map; pooled over action units and classes. Of single action "
        "units one interval in twenty leaves out .5 by chance, and more where few persons are behind it.",
    ]
