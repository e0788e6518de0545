"""The reading of a run: its figures in sentences, what they show, and what they do not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aupipe.fer_analysis.evaluation.text import shown, span


def reading(content: Mapping[str, Any]) -> list[str]:
    """Write sentences about the content of ``metrics.json``; each is decided by an interval, not by a point."""
    return [_accuracy(content), *_attention(content), *_confidence(content)]


def _accuracy(content: Mapping[str, Any]) -> str:
    low, high = content["accuracy_ci95"]
    largest = max(map(sum, content["confusion"]["matrix"])) / content["n"]
    verdict = "more" if low > largest else "not clearly more"
    return (
        f"It names {content['accuracy']:.1%} of {content['n']:,} faces rightly (95 %: {low:.1%} to {high:.1%}), "
        f"{verdict} than the {largest:.1%} of always naming the most frequent expression."
    )


def _attention(content: Mapping[str, Any]) -> list[str]:
    interval = content["intervals"]["att_cos"]
    if interval is None:
        return ["No face has an AU map, so these figures do not say where it looks."]
    value, controls = content["att_cos"][max(content["att_cos"], key=int)], content["controls"]
    uniform, mean_map = controls["uniform"], controls["mean_map"]
    start = f"Its attention has a cosine of {shown(value)} (95 %: {span(interval)}) with the AU maps"
    if interval[0] <= uniform:
        verdict = f", no more than an even map ({shown(uniform)}): it does not point at action units."
    elif interval[0] <= mean_map:
        verdict = (
            f", more than an even map ({shown(uniform)}) but no more than one map for all expressions "
            f"({shown(mean_map)}): it points at where faces move, not at what this expression moves."
        )
    else:
        verdict = (
            f", more than one map for all expressions ({shown(mean_map)}): it points at the action units of "
            "the expression."
        )
    return [start + verdict, *_specificity(content["intervals"]["att_specificity"])]


def _specificity(interval: list[float] | None) -> list[str]:
    if interval is None:
        return []
    if interval[0] > 0:
        return [f"On the same face it is closer to the expression's own map than to the others' (by {span(interval)})."]
    return [f"On the same face it is no closer to the expression's own map than to the others' ({span(interval)})."]


def _confidence(content: Mapping[str, Any]) -> list[str]:
    error = content["calibration"]["ece"]
    return [f"Its stated confidence is off by {error:.0%} on average (expected calibration error)."]
