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
    even = shown(controls["uniform"])
    if _not_above(over["uniform"]):
        verdict = f", no more than an even map ({even}): it resembles no AU map."
    elif not _above(over["uniform"]):
        verdict = f", which is not shown to be more than an even map has ({even})."
    elif over["mean_map"] is None:
        verdict = f", more than an even map ({even}); there is no mean AU map to compare it with."
    else:
        verdict = _beside_the_mean(over["mean_map"], even, shown(controls["mean_map"]), _whose(content))
    return [start + verdict, *_after_the_fact(content), *_specificity(content)]


def _beside_the_mean(over: list[float], even: str, mean: str, whose: str) -> str:
    if _above(over):
        return f", more than one map for all expressions ({mean}): it resembles a map of {whose} AUs."
    if _not_above(over):
        return (
            f", more than an even map ({even}) but no more than one map for all expressions ({mean}): it resembles "
            "where faces move, not what this expression moves."
        )
    return (
        f", more than an even map ({even}), and not shown to be more than one map for all expressions ({mean}): that "
        f"it resembles {whose} AUs rather than where faces move is not shown."
    )


def _whose(content: Mapping[str, Any]) -> str:
    """Say whose action units the store's maps show."""
    return "the expression's" if content.get("aus", "class") == "class" else "the face's"


def _above(interval: list[float] | None) -> bool:
    """Return whether a paired difference is more than chance makes it; what has no interval is not."""
    return interval is not None and interval[0] > 0


def _not_above(interval: list[float] | None) -> bool:
    """Return whether a paired difference is nothing or less; what may be either is not."""
    return interval is not None and interval[1] <= 0


def _after_the_fact(content: Mapping[str, Any]) -> list[str]:
    """Compare with the AU map of the prediction, which any network can draw."""
    over, prediction = content["intervals"]["att_cos_over"], shown(content["controls"]["predicted_map"])
    lead = over["predicted_map"]
    if lead is None:
        return []
    start = f"The AU map of the predicted expression, drawn after the fact, has {prediction}"
    if _above(lead):
        return [f"{start}: the attention resembles the face's AU map more than that (by {span(lead)})."]
    if content["align_weight"] and _above(over["uniform"]):
        return [f"{start}: this cosine shows that guidance took, not that attention explains the prediction."]
    no_more = (
        "resembles the face's AU map no more than that" if _not_above(lead) else "is not shown to resemble it more"
    )
    return [f"{start}: the attention {no_more}."]


def _specificity(content: Mapping[str, Any]) -> list[str]:
    interval = content["intervals"]["att_specificity"]
    if interval is None:
        return []
    attainable = content["localisation"]["controls"]["au_map"]["all"]["specificity"]
    own = f"{_whose(content)} own map than to the other expressions'"
    if _above(interval):
        more = f"by {span(interval)}, of {shown(attainable)} that a perfect map has"
        return [f"On the same face it is closer to {own} ({more})."]
    how = "no closer" if _not_above(interval) else "not shown to be closer"
    return [f"On the same face it is {how} to {own} ({span(interval)})."]


def _confidence(content: Mapping[str, Any]) -> list[str]:
    error = content["calibration"]["ece"]
    if not knows_something(content):
        return ["Its stated confidence means nothing: its predictions are no better than a constant."]
    return [f"Its stated confidence is off by {error:.0%} on average (expected calibration error)."]
