"""How much each action unit weighs in a face's map: by its label, by people's codes, by an estimate, or by both.

========== ====================================== =================================================
mode       weight of an action unit               what it knows of the face's label
========== ====================================== =================================================
class      the codebook's, for the label          all
annotated  1 where people coded it, else 0        none, but for faces that nobody coded (``missing``)
estimated  its estimated probability              none: it serves faces without a label
fused      the label's share and the estimate     the prior of each action unit
========== ====================================== =================================================

``fused``: logit(weight) = logit(share) + beta * evidence. The share is the codebook's weight, kept within ``floor`` and
``ceiling`` because neither 0 nor 1 is a frequency; the evidence is the estimate's logit less that of how common the
action unit is. An action unit that the estimate does not tell keeps its share, and has no weight in ``estimated``. On a
face of a class without action units (neutral) only those weigh whose estimate is ``sure``; a class that the codebook
does not know has no shares: its faces have their estimate.

Sides come from people's codes alone: estimates of left and right differ as much where the expression is two-sided.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, UInt8

from aupipe.fer_data.action_units.estimates import UnitEstimates
from aupipe.fer_data.action_units.estimator import Fusion
from aupipe.fer_data.action_units.facs import FacsCode
from aupipe.fer_data.action_units.modes import AU_SOURCES, SIDES, WIDTH, AuMissing, AuMode


@dataclass(frozen=True)
class ObservedFaces:
    """What is known of n faces; ``codes`` None: nobody coded the face."""

    expressions: Sequence[str]
    codes: Sequence[Sequence[FacsCode] | None]
    estimates: UnitEstimates


@dataclass(frozen=True)
class FaceWeights:
    """Weights of n faces' action units and their source, as stored.

    Attributes:
        weights: 255 = 1.0, by FACS number and side (:data:`SIDES`).
        source: The place in :data:`AU_SOURCES`; a face of another source than ``none`` may show no action unit.
    """

    weights: UInt8[np.ndarray, "n 99 2"]
    source: UInt8[np.ndarray, "n"]


def weigh_faces(
    faces: ObservedFaces,
    expressions: Mapping[str, Mapping[int, float]],
    fusion: Fusion,
    mode: AuMode = "class",
    missing: AuMissing = "fused",
) -> FaceWeights:
    """Weigh the action units of each face.

    Args:
        faces: The faces.
        expressions: The codebook's weights of each expression.
        fusion: How an estimate becomes a weight.
        mode: See the module.
        missing: The mode of faces that nobody coded, where the mode is ``annotated``.
    """
    coded = np.array([codes is not None for codes in faces.codes], bool)
    told = faces.estimates.told
    modes = np.full(len(told), mode, object)
    if mode == "annotated":
        modes[~coded] = missing
    modes[(modes == "fused") & ~told] = "class"
    modes[(modes == "class") & np.array([name not in expressions for name in faces.expressions])] = "none"
    modes[(modes == "estimated") & ~told] = "none"
    weights = np.zeros((len(told), WIDTH, len(SIDES)))
    of_mode: dict[AuMode, Callable[[], Float64[np.ndarray, "n 99 2"]]] = {
        "class": lambda: class_weights(faces.expressions, expressions),
        "annotated": lambda: coded_weights(faces.codes),
        "estimated": lambda: estimated_weights(faces.estimates, fusion),
        "fused": lambda: fused_weights(faces, expressions, fusion),
    }
    for name, weigh in of_mode.items():
        if (rows := modes == name).any():
            weights[rows] = weigh()[rows]
    stored = np.rint(weights * 255).astype(np.uint8)
    return FaceWeights(stored, np.array([AU_SOURCES.index(name) for name in modes], np.uint8))


def class_weights(
    labels: Sequence[str], expressions: Mapping[str, Mapping[int, float]]
) -> Float64[np.ndarray, "n 99 2"]:
    """Give each face the codebook's weights of its label; none for a class that the codebook does not know."""
    weights = np.zeros((len(labels), WIDTH, len(SIDES)))
    for row, label in enumerate(labels):
        for number, weight in expressions.get(label, {}).items():
            weights[row, number] = weight
    return weights


def coded_weights(codes: Sequence[Sequence[FacsCode] | None]) -> Float64[np.ndarray, "n 99 2"]:
    """Give 1 to each action unit that people coded, of any intensity, on the side they coded."""
    weights = np.zeros((len(codes), WIDTH, len(SIDES)))
    for row, code in ((row, code) for row, found in enumerate(codes) for code in found or ()):
        weights[row, code.number, SIDES.index(code.side) if code.side else slice(None)] = 1
    return weights


def estimated_weights(estimates: UnitEstimates, fusion: Fusion) -> Float64[np.ndarray, "n 99 2"]:
    """Give each action unit that is told its probability, where it is at least ``floor``."""
    likely = _spread(estimates.probability, estimates)
    return np.where(likely >= fusion.floor, likely, 0)


def fused_weights(
    faces: ObservedFaces, expressions: Mapping[str, Mapping[int, float]], fusion: Fusion
) -> Float64[np.ndarray, "n 99 2"]:
    """Move the share of each action unit among faces of this label by what is estimated of the face."""
    by_label, known = class_weights(faces.expressions, expressions), faces.estimates
    share = np.clip(by_label, fusion.floor, fusion.ceiling)
    evidence = _spread(known.logits - np.log(known.common / (1 - known.common)), known)
    logits = np.log(share / (1 - share)) + fusion.beta * evidence
    fused = np.where(np.isfinite(evidence), 1 / (1 + np.exp(-logits)), np.where(by_label > 0, share, 0))
    fused[fused < fusion.least] = 0
    likely = estimated_weights(known, fusion)
    # Of a class that the codebook does not know there is no share; of one without action units the face must be sure.
    for row in np.flatnonzero(~by_label.any((1, 2))).tolist():
        least = fusion.sure if faces.expressions[row] in expressions else 0
        fused[row] = np.where(likely[row] >= least, likely[row], 0)
    return fused


def _spread(values: Float64[np.ndarray, "n k"], estimates: UnitEstimates) -> Float64[np.ndarray, "n 99 2"]:
    """Put the action units at the places of their FACS numbers, alike on both sides; NaN at all others."""
    spread = np.full((len(values), WIDTH, len(SIDES)), np.nan)
    spread[:, list(estimates.numbers)] = values[:, :, None]
    return spread
