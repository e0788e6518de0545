"""The reading of a run: its figures in sentences, what they show, and what they do not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aupipe.fer_analysis.evaluation.coded_text import sentences
from aupipe.fer_analysis.evaluation.occluded_text import occluded_sentences
from aupipe.fer_analysis.evaluation.text import beside_the_majority, knows_something, shown, span, whose_maps


def reading(content: Mapping[str, Any]) -> list[str]:
    """Write sentences about the content of ``metrics.json``; each is decided by an interval, not by a point."""
    coded = content.get("coded")
    looks = [*whose_maps(content), *_attention(content), *(sentences(coded) if coded else [])]
    hidden = occluded_sentences(content) if content.get("occluded") else []
    return [_accuracy(content), *hidden, *looks, *_confidence(content)]


def _accuracy(content: Mapping[str, Any]) -> str:
    low, high = content["accuracy_ci95"]
    return (
        f"It names {content['accuracy']:.1%} of {content['n']:,} faces rightly (95 %: {low:.1%} to {high:.1%}), "
        f"{beside_the_majority(content)}."
    )


def _attention(content: Mapping[str, Any]) -> list[str]:
    interval, over = content["intervals"]["att_cos"], content["intervals"]["att_cos_over"]
    value, controls = content["att_cos"][max(content["att_cos"], key=int)], content["controls"]
    if value is None:
        return ["No face has an AU map, so these figures do not say where it looks."]
    if interval is None:
        few = "The faces with an AU map are too few, or of one person, to compare it with anything."
        return [f"Its attention has a cosine of {shown(value)} with the AU maps. {few}"]
    start = f"Its attention has a cosine of {shown(value)} (95 %: {span(interval)}) with the AU maps"
    if not _above(over["uniform"]):
        verdict = f", no more than an even map ({shown(controls['uniform'])}): it resembles no AU map."
    elif over["mean_map"] is None:
        even = shown(controls["uniform"])
        verdict = f", more than an even map ({even}); there is no mean AU map to compare it with."
    elif not _above(over["mean_map"]):
        verdict = (
            f", more than an even map ({shown(controls['uniform'])}) but no more than one map for all expressions "
            f"({shown(controls['mean_map'])}): it resembles where faces move, not what this expression moves."
        )
    else:
        whose = "the expression's" if content.get("aus", "class") == "class" else "the face's"
        mean = shown(controls["mean_map"])
        verdict = f", more than one map for all expressions ({mean}): it resembles a map of {whose} AUs."
    return [start + verdict, *_after_the_fact(over, controls), *_specificity(content)]


def _above(interval: list[float] | None) -> bool:
    """Return whether a paired difference is more than chance makes it; what has no interval is not."""
    return interval is not None and interval[0] > 0


def _after_the_fact(over: Mapping[str, Any], controls: Mapping[str, Any]) -> list[str]:
    """Compare with the AU map of the prediction, which any network can draw."""
    if over["predicted_map"] is None:
        return []
    start = f"The AU map of the predicted expression, drawn after the fact, has {shown(controls['predicted_map'])}"
    if _above(over["predicted_map"]):
        return [
            f"{start}: the attention resembles the face's AU map more than that (by {span(over['predicted_map'])})."
        ]
    return [f"{start}: this cosine shows that guidance took, not that attention explains the prediction."]


def _specificity(content: Mapping[str, Any]) -> list[str]:
    interval = content["intervals"]["att_specificity"]
    if interval is None:
        return []
    attainable = content["localisation"]["controls"]["au_map"]["all"]["specificity"]
    if interval[0] > 0:
        more = f"by {span(interval)}, of {shown(attainable)} that a perfect map has"
        return [f"On the same face it is closer to the expression's own map than to the others' ({more})."]
    return [f"On the same face it is no closer to the expression's own map than to the others' ({span(interval)})."]


def _confidence(content: Mapping[str, Any]) -> list[str]:
    error = content["calibration"]["ece"]
    if not knows_something(content):
        return ["Its stated confidence means nothing: its predictions are no better than a constant."]
    return [f"Its stated confidence is off by {error:.0%} on average (expected calibration error)."]
