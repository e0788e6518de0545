from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from aupipe.fer_data.au_maps.mean_face import mean_face
from aupipe.fer_data.files import sha256_file
from aupipe.fer_data.geometry import FLIP_68, flip_points, inter_ocular
from aupipe.pipeline.detectors.mediapipe import MediaPipeDetector
from aupipe.pipeline.detectors.mesh68 import _INNER_51, _JAW_LEFT, _JAW_RIGHT, MAPPING, map_plain, mesh_to_68
from aupipe.pipeline.detectors.mesh68_correction import (
    CORRECTION_FILE,
    apply_correction,
    format_correction,
    mirrored,
    parse_correction,
    place,
    shipped_correction,
)
from aupipe.pipeline.detectors.pose68 import rotation_of, shipped_face
from fit_mesh68 import Sample, cross_validated, errors, fit_samples, look_at_all

VERSIONS = {"E+1": "44097b9cac177f8d596908aa3a1f9a5ef46e2adcd926c186fc4e604927e55588"}
"""Other coefficients are another mapping: stores made with one must not be continued with the other."""


def mesh_of(points: np.ndarray) -> np.ndarray:
    """A mesh whose plain mapping is (nearly, in the jaw) ``points``."""
    mesh = np.zeros((478, 3))
    mesh[list(_INNER_51), :2] = points[17:]
    at = np.linspace(0, 8, len(_JAW_LEFT))
    for axis in (0, 1):
        mesh[list(_JAW_LEFT), axis] = np.interp(at, range(9), points[:9, axis])
        mesh[list(_JAW_RIGHT), axis] = np.interp(at, range(9), points[16:7:-1, axis])
    return mesh


def mesh_mirror() -> np.ndarray:
    """Permutation of the vertices that the mapping reads."""
    permutation = np.arange(478)
    permutation[list(_JAW_LEFT)], permutation[list(_JAW_RIGHT)] = _JAW_RIGHT, _JAW_LEFT
    permutation[list(_INNER_51)] = np.array(_INNER_51)[FLIP_68[17:] - 17]
    return permutation


def some_face(seed: int = 0) -> np.ndarray:
    return mean_face(200.0) + np.random.default_rng(seed).normal(0, 2.0, (68, 2))


def turned(yaw: float, pitch: float = 0.0) -> np.ndarray:
    return shipped_face().points @ rotation_of(np.array([yaw, pitch, 0.0]))[:2].T


def shift(points: np.ndarray) -> float:
    """Largest correction of a point, in units of the face's size."""
    moved = np.linalg.norm(apply_correction(points, shipped_correction()) - points, axis=1)
    placed = place(points, shipped_correction().template)
    assert placed is not None
    return float(moved.max() / abs(placed.unit))


def test_points_follow_a_similarity_of_the_mesh() -> None:
    mesh, angle = mesh_of(some_face()), 2.1
    turn = 3.7 * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved = mesh.copy()
    moved[:, :2] = mesh[:, :2] @ turn.T + (1000, -30)
    np.testing.assert_allclose(mesh_to_68(moved), mesh_to_68(mesh) @ turn.T + (1000, -30), atol=1e-8)


@pytest.mark.parametrize("seed", range(3))
def test_mirrored_mesh_gives_mirrored_points(seed: int) -> None:
    mesh = mesh_of(some_face(seed))
    other = mesh[mesh_mirror()]
    other[:, 0] = 199 - other[:, 0]
    np.testing.assert_allclose(mesh_to_68(other), flip_points(mesh_to_68(mesh), 200), atol=1e-9)
    assert np.abs(mesh_to_68(mesh) - flip_points(mesh_to_68(mesh), 200)).max() > 1  # the face itself is not symmetric


def test_faces_are_corrected() -> None:
    mesh = mesh_of(some_face())
    gap = np.linalg.norm(mesh_to_68(mesh) - map_plain(mesh), axis=1) / inter_ocular(map_plain(mesh))
    assert 0.01 < gap.mean() < 0.1


def test_correction_is_bounded_in_every_pose() -> None:
    assert max(shift(turned(yaw, pitch)) for yaw in range(-90, 91, 10) for pitch in (-60, -30, 0, 30, 60)) < 0.75


def test_correction_has_no_jumps() -> None:
    for faces in (
        [turned(yaw) for yaw in np.arange(-90, 90.1, 0.5)],
        [turned(0, p) for p in np.arange(-90, 90.1, 0.5)],
    ):
        moves = np.array([apply_correction(face, shipped_correction()) - face for face in faces])
        assert np.linalg.norm(np.diff(moves, axis=0), axis=-1).max() < 0.05
        assert np.linalg.norm(moves, axis=-1).max() > 0.1


def test_what_is_no_face_is_left_alone() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        mesh = rng.normal(0, 100, (478, 3))
        np.testing.assert_array_equal(mesh_to_68(mesh), map_plain(mesh))


def test_points_without_extent_come_back() -> None:
    np.testing.assert_array_equal(mesh_to_68(np.full((478, 3), 7.0)), np.full((68, 2), 7.0))
    broken = some_face()
    broken[3, 0] = np.inf
    np.testing.assert_array_equal(apply_correction(broken, shipped_correction()), broken)


def test_data_file_belongs_to_the_mapping() -> None:
    assert sha256_file(CORRECTION_FILE) == VERSIONS[MAPPING]
    correction = shipped_correction()
    assert correction.components.shape == (12, 68, 2)
    assert correction.directions.shape == (13, 68, 2)
    assert set(correction.parities.tolist()) == {1, -1}


def test_fields_have_their_parity_exactly() -> None:
    correction = shipped_correction()
    for field in (correction.template, correction.offset, correction.directions[-1]):
        np.testing.assert_array_equal(mirrored(field), field)
    for i, parity in enumerate(correction.parities):
        np.testing.assert_array_equal(mirrored(correction.components[i]), parity * correction.components[i])
        np.testing.assert_array_equal(mirrored(correction.directions[i]), parity * correction.directions[i])


def test_data_file_is_what_its_own_formatter_writes() -> None:
    text = CORRECTION_FILE.read_text(encoding="utf-8")
    heading = [line.removeprefix("# ") for line in text.splitlines() if line.startswith("#")]
    assert format_correction(parse_correction(text), heading) == text


@pytest.fixture(scope="module")
def samples(shared: Path, model: Path) -> list[Sample]:
    detector = MediaPipeDetector()
    found = look_at_all(shared / "landmarks68", detector)
    detector.close()
    return found


@pytest.mark.shared
def test_error_on_faces_the_fit_has_not_seen(samples: list[Sample]) -> None:
    assert len(samples) == 120
    plain = errors(np.array([s.plain for s in samples]), samples)
    held_out = errors(cross_validated(samples)[0], samples)
    assert held_out.mean() < 3.55 < 0.82 * plain.mean()
    assert held_out[:, 17:].mean() < 2.63 < 0.78 * plain[:, 17:].mean()


@pytest.mark.shared
def test_correction_carries_over_to_another_source(samples: list[Sample]) -> None:
    helen = [s for s in samples if "helen" in s.source]
    afw = [s for s in samples if "afw" in s.source]
    for known, new in ((helen, afw), (afw, helen)):
        correction = fit_samples(known)
        corrected = errors(np.array([apply_correction(s.plain, correction) for s in new]), new)
        assert corrected.mean() < 0.87 * errors(np.array([s.plain for s in new]), new).mean()


@pytest.mark.shared
def test_shipped_correction_is_the_fit_of_all_faces(samples: list[Sample]) -> None:
    fitted, shipped = fit_samples(samples), shipped_correction()
    for one, other in zip((fitted.template, fitted.offset), (shipped.template, shipped.offset), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-4)
    corrected = [apply_correction(s.plain, fitted) - apply_correction(s.plain, shipped) for s in samples]
    assert np.abs(corrected).max() < 0.1


@pytest.mark.shared
def test_mirrored_photo_gives_mirrored_points(samples: list[Sample]) -> None:
    """The mapping adds nothing here: it is the detector that sees a mirrored photo otherwise."""
    gaps = []
    for s in samples:
        one, two = (apply_correction(p, shipped_correction()) for p in (s.plain, s.plain_mirror))
        gaps.append(np.linalg.norm(one - two, axis=1).mean() / inter_ocular(s.truth))
    assert np.mean(gaps) < 0.015
    assert np.median(gaps) < 0.0135
