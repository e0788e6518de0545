"""Weights of the action units of single faces."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from aupipe.fer_data.action_units.blendshapes import BLENDSHAPES
from aupipe.fer_data.action_units.estimates import blendshape_estimates, table_estimates
from aupipe.fer_data.action_units.estimator import load_estimator
from aupipe.fer_data.action_units.face_weights import FaceWeights, ObservedFaces, weigh_faces
from aupipe.fer_data.action_units.facs import FacsCode, parse_facs
from aupipe.fer_data.action_units.modes import AU_SOURCES, AuMissing, AuMode
from aupipe.fer_data.au_maps.codebook import load_codebook

DU = load_codebook("du2014").expressions
SMILE = {"mouthSmileLeft": 0.9, "mouthSmileRight": 0.9, "cheekPuff": 0.1}


def faces(
    labels: Sequence[str],
    codes: Sequence[str] | None = None,
    mesh: Sequence[bool] | None = None,
    yaw: float = 0.0,
    **shown: float,
) -> ObservedFaces:
    """ObservedFaces that all move alike."""
    blendshapes = np.zeros((len(labels), 52), np.float32)
    for name, value in shown.items():
        blendshapes[:, BLENDSHAPES.index(name)] = value
    found: list[tuple[FacsCode, ...] | None] = [parse_facs(text) for text in codes or [""] * len(labels)]
    has_mesh = np.array([True] * len(labels) if mesh is None else mesh)
    estimates = blendshape_estimates(blendshapes, has_mesh, np.full(len(labels), yaw), load_estimator())
    return ObservedFaces(list(labels), found, estimates)


def weigh(known: ObservedFaces, mode: AuMode, missing: AuMissing = "fused") -> FaceWeights:
    return weigh_faces(known, DU, load_estimator().fusion, mode, missing)


def sources(face: FaceWeights) -> list[str]:
    return [AU_SOURCES[at] for at in face.source]


def test_the_class_has_the_weights_of_the_codebook() -> None:
    face = weigh(faces(["happiness", "neutral", "boredom"], **SMILE), "class")
    assert {number: face.weights[0, number].tolist() for number in np.flatnonzero(face.weights[0].any(1))} == {
        6: [130, 130],
        12: [255, 255],
        25: [255, 255],
    }
    assert not face.weights[1:].any() and sources(face) == ["class", "class", "none"]


def test_people_s_codes_count_whatever_their_intensity_on_their_side() -> None:
    face = weigh(faces(["fear", "fear", "fear"], ["1+5A+R14E", "0", ""]), "annotated", "none")
    assert face.weights[0, [1, 5, 14, 2]].tolist() == [[255, 255], [255, 255], [0, 255], [0, 0]]
    assert not face.weights[1:].any()
    assert sources(face) == ["annotated", "annotated", "none"], "coded, none; and not coded"


@pytest.mark.parametrize("missing", ["class", "fused"])
def test_faces_that_nobody_coded_are_weighed_as_told(missing: AuMissing) -> None:
    known = faces(["fear", "happiness"], ["1", ""], **SMILE)
    face = weigh(known, "annotated", missing)
    assert sources(face) == ["annotated", missing]
    np.testing.assert_array_equal(face.weights[1], weigh(known, missing).weights[1])


def test_an_estimate_does_not_know_the_label() -> None:
    face = weigh(faces(["happiness", "anger", "neutral", "boredom"], **SMILE), "estimated")
    assert (face.weights == face.weights[0]).all() and face.weights[0, 12].min() > 230
    assert not face.weights[:, [10, 16]].any(), "not told by blendshapes"
    assert 0 < face.weights[face.weights > 0].min() / 255 >= load_estimator().fusion.floor - 0.01


def test_fused_weights_follow_label_and_face() -> None:
    smiling, still = (weigh(faces(["happiness", "surprise"], **shown), "fused").weights for shown in (SMILE, {}))
    assert smiling[0, 12, 0] > still[0, 12, 0] and smiling[1, 12, 0] > still[1, 12, 0]
    assert smiling[0, 12, 0] > smiling[1, 12, 0], "the label's share counts too"
    assert smiling[0, 25, 0] > 100, "the smile takes nothing of what the label says elsewhere"


def test_what_is_not_told_keeps_its_share() -> None:
    fused = weigh(faces(["disgust"], **SMILE), "fused").weights[0]
    assert fused[10].tolist() == [round(255 * load_estimator().fusion.ceiling)] * 2


def test_a_neutral_face_has_only_what_is_sure() -> None:
    neutral = weigh(faces(["neutral"], **SMILE), "fused").weights[0]
    estimated = weigh(faces(["neutral"], **SMILE), "estimated").weights[0]
    assert neutral[12].min() == estimated[12].min() and neutral[neutral > 0].min() >= 0.9 * 255 - 1
    still = weigh(
        faces(["neutral"], browDownLeft=0.05, browDownRight=0.05, eyeSquintLeft=0.5, eyeSquintRight=0.5), "fused"
    )
    assert sources(still) == ["fused"] and not still.weights.any()


def test_a_class_of_the_user_s_own_is_weighed_by_the_face() -> None:
    known = faces(["boredom"], **SMILE)
    np.testing.assert_array_equal(weigh(known, "fused").weights, weigh(known, "estimated").weights)


def test_without_a_mesh_there_is_the_label_or_nothing() -> None:
    known = faces(["happiness", "happiness"], mesh=[False, True], **SMILE)
    assert sources(weigh(known, "fused")) == ["class", "fused"]
    assert sources(weigh(known, "estimated")) == ["none", "estimated"]
    np.testing.assert_array_equal(weigh(known, "fused").weights[0], weigh(known, "class").weights[0])


@pytest.mark.parametrize(("yaw", "near"), [(80.0, "Right"), (-80.0, "Left")])
def test_the_half_that_is_turned_away_has_no_say(yaw: float, near: str) -> None:
    """Turned to image right, a face hides the person's left."""
    shown = {"mouthSmileLeft": 0.9, "mouthSmileRight": 0.0}
    both = {"mouthSmileLeft": shown[f"mouthSmile{near}"], "mouthSmileRight": shown[f"mouthSmile{near}"]}
    turned = weigh(faces(["anger"], yaw=yaw, **shown), "estimated").weights
    np.testing.assert_array_equal(turned, weigh(faces(["anger"], yaw=yaw, **both), "estimated").weights)
    frontal = weigh(faces(["anger"], **shown), "estimated").weights
    assert (turned != frontal).any()
    np.testing.assert_array_equal(weigh(faces(["anger"], yaw=yaw / 2, **shown), "estimated").weights, frontal)


def told_by_a_table(labels: Sequence[str], *rows: Sequence[float | None] | None) -> ObservedFaces:
    """Faces of which another program tells AU 1 and AU 12, each common to one face in five."""
    return ObservedFaces(list(labels), [None] * len(labels), table_estimates((1, 12), rows, (0.2, 0.2), 0.9))


def test_another_program_s_probability_is_the_weight() -> None:
    known = told_by_a_table(["anger"] * 4, (0.5, 1.0), (0.05, 0.1), (None, 0.8), None)
    face = weigh(known, "estimated")
    assert face.weights[:, [1, 12], 0].tolist() == [[128, 255], [0, 26], [0, 204], [0, 0]]
    assert sources(face) == ["estimated"] * 3 + ["none"]


def test_another_program_s_evidence_moves_the_share_and_is_never_certain() -> None:
    """Of fear, AU 1 (and 2, which this program does not tell) is common, AU 12 is not."""
    known = told_by_a_table(["fear"] * 4, (0.0, 1.0), (0.2, 0.2), (None, None), (1.0, 0.0))
    face = weigh(known, "fused")
    assert sources(face) == ["fused", "fused", "class", "fused"]
    absent, usual, _, sure = face.weights[:, 1, 0].tolist()
    assert 0 < absent < usual < sure < 255
    ceiling = load_estimator().fusion.ceiling
    assert usual == round(255 * min(DU["fear"][1], ceiling)), "as common as ever: no evidence"
    assert face.weights[0, 2].tolist() == [round(255 * min(DU["fear"][2], ceiling))] * 2
    assert face.weights[0, 12, 0] > face.weights[1, 12, 0]
