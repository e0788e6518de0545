"""The action units that blendshapes tell, beside where the attention lies."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from test_units import BOOK, regions

from aupipe.fer_analysis.explain.action_units import ActionUnitCard, action_unit_card
from aupipe.fer_analysis.explain.observed import ObservedAus, observe, observed_sentences
from aupipe.fer_analysis.explain.page import unit_table
from aupipe.fer_data.action_units.blendshapes import BLENDSHAPES

SMILE = {"browDown": 0.3, "eyeBlink": 0.26, "eyeSquint": 0.51, "jawOpen": 0.025, "mouthLowerDown": 0.25,
         "mouthPress": 0.085, "mouthSmile": 0.92, "mouthStretch": 0.075, "mouthUpperUp": 0.61}  # fmt: skip
REST = {"browDown": 0.1, "eyeBlink": 0.15, "eyeSquint": 0.25, "mouthPress": 0.1, "mouthSmile": 0.1}
"""Blendshapes of both sides as faces have them."""


def moved(features: Mapping[str, float]) -> np.ndarray:
    return np.array(
        [features.get(name.removesuffix("Left").removesuffix("Right"), 0) for name in BLENDSHAPES], np.float32
    )


def looking_at(au: int) -> ActionUnitCard:
    drawn = regions()
    return action_unit_card(drawn, BOOK, drawn.maps[au] ** 2)


def seen(au: int, blendshapes: np.ndarray) -> ObservedAus:
    observed = observe(blendshapes, looking_at(au))
    assert observed is not None
    return observed


def test_a_smile_is_seen_and_looked_at_or_not() -> None:
    at_mouth, at_brow = seen(12, moved(SMILE)), seen(2, moved(SMILE))
    assert 12 in at_mouth.shown and at_mouth.probability[12] > 0.9 and at_mouth.not_told == (10, 16)
    assert 12 in at_mouth.looked_at and 12 in at_brow.passed_over
    assert at_mouth.probability == at_brow.probability, "the estimate does not know the network"
    (said,) = observed_sentences(at_brow)
    assert "the face shows" in said and "AU 12 (9" in said and "no more than chance at " in said
    assert "the attention is more than chance at " in observed_sentences(at_mouth)[0]


def test_a_face_that_shows_nothing_surely_is_said_to() -> None:
    observed = seen(12, moved(REST))
    assert observed.shown == observed.looked_at == observed.passed_over == ()
    assert observed_sentences(observed) == ["Its blendshapes tell no action unit surely."]


def test_without_blendshapes_nothing_is_said() -> None:
    card = looking_at(12)
    assert observe(None, card) is None and observed_sentences(None) == []
    assert all(cells[3] == "–" for _, _, cells in unit_table(card).rows)


def test_the_table_has_the_probability_of_each() -> None:
    card, observed = looking_at(12), seen(12, moved(SMILE))
    by_name = {name: cells for name, _, cells in unit_table(card, observed).rows}
    twelve = next(cells for name, cells in by_name.items() if name.startswith("AU 12 "))
    assert twelve[3] == f"{observed.probability[12]:.2f}"
