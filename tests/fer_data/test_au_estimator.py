"""The estimate of action units from blendshapes: its file, its sides, and what it says of a face."""

from __future__ import annotations

from importlib import resources

import numpy as np
import pytest

from aupipe.fer_data.action_units.blendshapes import (
    BLENDSHAPES,
    DEAD,
    GAZE,
    blendshape_features,
    feature_values,
    features_near,
)
from aupipe.fer_data.action_units.estimator import AuEstimator, load_estimator, parse_estimator
from aupipe.fer_data.action_units.facs import NUMBERS

RNG = np.random.default_rng(0)


@pytest.fixture
def estimator() -> AuEstimator:
    return load_estimator()


def faces(**values: float) -> np.ndarray:
    """One face that looks ahead with its features at rest, some blendshapes set."""
    rest = {"browInnerUp": 0.05, "browOuterUp": 0.12, "eyeBlink": 0.09, "eyeSquint": 0.26, "mouthPucker": 0.09}
    face = np.full((1, 52), 0.003)
    values = {**rest, "mouthShrugLower": 0.02, "mouthRollLower": 0.02, "browDown": 0.02, "mouthPress": 0.02, **values}
    for name, value in values.items():
        for at, other in enumerate(BLENDSHAPES):
            if other in (name, f"{name}Left", f"{name}Right"):
                face[0, at] = value
    return face


def chance(estimator: AuEstimator, number: int, side: str = "", **values: float) -> float:
    return float(estimator.probabilities(faces(**values), side)[0, estimator.numbers.index(number)])


def test_features_are_pairs_and_single_blendshapes() -> None:
    names = blendshape_features()
    assert len(set(names)) == len(names) and not set(names) & {"_neutral", *DEAD, *GAZE}
    assert "mouthSmile" in names and "browInnerUp" in names and "mouthSmileLeft" not in names
    face = faces(mouthSmileLeft=0.8, mouthSmileRight=0.2, jawOpen=0.6)
    smile, jaw = names.index("mouthSmile"), names.index("jawOpen")
    found = {side: feature_values(face, side)[0, [smile, jaw]].tolist() for side in ("", "L", "R")}
    assert found == {"": [pytest.approx(0.5), 0.6], "L": [0.8, 0.6], "R": [0.2, 0.6]}


def test_the_shipped_file(estimator: AuEstimator) -> None:
    assert set(estimator.numbers) <= NUMBERS and list(estimator.numbers) == sorted(estimator.numbers)
    for unit in estimator.units:
        assert unit.interval[0] <= unit.auc <= unit.interval[1] and 0 < unit.share < 1 and unit.persons >= 5
        assert max(map(abs, unit.coefficients.values())) < 20  # none rests on a feature that hardly moves
    assert [unit.number for unit in estimator.units if not unit.told] == [10, 16]
    assert len(estimator.digest) == 64


@pytest.mark.parametrize(
    ("number", "moved"),
    [
        (1, {"browInnerUp": 0.9, "browOuterUp": 0.8}),
        (2, {"browInnerUp": 0.9, "browOuterUp": 0.8}),
        (5, {"eyeWide": 0.6}),
        (12, {"mouthSmile": 0.9}),
        (17, {"mouthShrugLower": 0.8}),
        (25, {"mouthLowerDown": 0.6, "jawOpen": 0.3}),
        (27, {"jawOpen": 0.9}),
    ],
)
def test_a_moved_face_shows_it_more(estimator: AuEstimator, number: int, moved: dict[str, float]) -> None:
    assert chance(estimator, number, **moved) > 2 * chance(estimator, number)


def test_sides(estimator: AuEstimator) -> None:
    left = {"mouthSmileLeft": 0.9, "mouthSmileRight": 0.02}
    assert chance(estimator, 12, "L", **left) > chance(estimator, 12, "", **left) > chance(estimator, 12, "R", **left)
    mirrored = {"mouthSmileLeft": 0.02, "mouthSmileRight": 0.9}
    assert chance(estimator, 12, "L", **left) == chance(estimator, 12, "R", **mirrored)
    assert chance(estimator, 12, "", **left) == pytest.approx(chance(estimator, 12, "", **mirrored))


def test_probabilities_are_those_of_the_logits(estimator: AuEstimator) -> None:
    blendshapes = RNG.random((5, 52))
    logits = estimator.logits(blendshapes)
    np.testing.assert_allclose(estimator.probabilities(blendshapes), 1 / (1 + np.exp(-logits)))


def test_only_the_half_of_the_face_counts_in_which_it_acts(estimator: AuEstimator) -> None:
    assert chance(estimator, 1, mouthSmile=0.9, jawOpen=0.9) == chance(estimator, 1)
    assert chance(estimator, 12, browInnerUp=0.9, eyeWide=0.9) == chance(estimator, 12)
    assert {"browDown", "mouthUpperUp"} <= set(features_near(9)) and "jawOpen" not in features_near(9)


def test_a_file_made_for_other_features_is_refused() -> None:
    text = resources.files("aupipe.fer_data.action_units").joinpath("estimator.toml").read_text()
    with pytest.raises(ValueError, match=r"not known: .*jawDropped"):
        parse_estimator(text.replace("jawOpen", "jawDropped", 1))
