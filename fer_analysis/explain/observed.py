"""The action units that a face's blendshapes tell, beside where the attention lies on it.

The estimate knows neither the label nor the network (:mod:`aupipe.fer_data.action_units.estimator`). One is said to be
shown where it is sure: on faces at rest a probability above one half is common.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from aupipe.fer_analysis.explain.action_units import ActionUnitCard, named
from aupipe.fer_data.action_units.estimator import load_estimator


@dataclass(frozen=True)
class ObservedAus:
    """What blendshapes tell of one face.

    Attributes:
        probability: Of each action unit that they tell, by FACS number.
        not_told: Action units that they do not tell.
        shown: Those whose probability is sure.
        looked_at: Of these, the ones that get more attention than chance.
        passed_over: Of these, the ones that get no more.
    """

    probability: Mapping[int, float]
    not_told: tuple[int, ...]
    shown: tuple[int, ...]
    looked_at: tuple[int, ...]
    passed_over: tuple[int, ...]


def observe(blendshapes: Float32[np.ndarray, "52"] | None, card: ActionUnitCard) -> ObservedAus | None:
    """Estimate a face's action units and compare them with its card; None where no blendshapes are known."""
    if blendshapes is None:
        return None
    estimator = load_estimator()
    likely = estimator.probabilities(blendshapes[None])[0]
    probability = {estimator.numbers[at]: float(likely[at]) for at in estimator.told}
    shown = tuple(number for number, value in probability.items() if value >= estimator.fusion.sure)
    lift = {unit.number: unit.lift for unit in card.action_units}
    return ObservedAus(
        probability=probability,
        not_told=tuple(unit.number for unit in estimator.units if not unit.told),
        shown=shown,
        looked_at=tuple(number for number in shown if lift.get(number, 0) > 1),
        passed_over=tuple(number for number in shown if number in lift and lift[number] <= 1),
    )


def observed_sentences(observed: ObservedAus | None) -> list[str]:
    """Say which action units the face surely shows, and at which of them the network looks."""
    if observed is None:
        return []
    if not observed.shown:
        return ["Its blendshapes tell no action unit surely."]
    units = ", ".join(f"AU {number} ({observed.probability[number]:.0%})" for number in observed.shown)
    where = []
    if observed.looked_at:
        where.append(f"the attention is more than chance at {named(observed.looked_at)}")
    if observed.passed_over:
        where.append(f"no more than chance at {named(observed.passed_over)}")
    sentence = f"By its blendshapes, which know neither label nor network, the face shows {units}"
    return [f"{sentence}: {', and '.join(where)} on this face." if where else f"{sentence}."]
