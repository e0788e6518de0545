from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aupipe.fer_data import geometry
from aupipe.fer_data.au_maps.mean_face import mean_face

angles = st.floats(-3.1, 3.1)
scales = st.floats(0.1, 10)
points_2d = st.tuples(st.floats(-500, 500), st.floats(-500, 500)).map(np.array)


def test_the_mirror_permutation_is_an_involution() -> None:
    assert sorted(geometry.FLIP_68) == list(range(68))
    np.testing.assert_array_equal(geometry.FLIP_68[geometry.FLIP_68], np.arange(68))
    fixed = {8, 27, 28, 29, 30, 33, 51, 57, 62, 66}
    assert {int(i) for i in np.flatnonzero(np.arange(68) == geometry.FLIP_68)} == fixed


def test_the_mirror_permutation_names_the_opposite_point_of_a_symmetric_face() -> None:
    face = mean_face(100)
    np.testing.assert_allclose(geometry.flip_points(face, 100), face, atol=1e-9)
    other = face.copy()
    other[48] += (3, 1)  # a crooked mouth corner must change sides
    flipped = geometry.flip_points(other, 100)
    np.testing.assert_allclose(flipped[54], (99 - other[48, 0], other[48, 1]))
    np.testing.assert_allclose(geometry.flip_points(flipped, 100), other)


def test_flipped_points_lie_on_the_flipped_pixels() -> None:
    image = np.zeros((20, 30), np.uint8)
    face = np.full((68, 2), 5.0)
    face[36], face[45] = (4, 7), (21, 9)
    image[7, 4] = 255
    x, y = geometry.flip_points(face, 30)[45]
    assert image[:, ::-1][int(y), int(x)] == 255


@settings(deadline=None)
@given(angles, scales, points_2d, points_2d)
def test_a_similarity_turns_scales_and_moves(
    angle: float, scale: float, source: np.ndarray, target: np.ndarray
) -> None:
    matrix = geometry.similarity(angle, scale, source, target)
    np.testing.assert_allclose(geometry.apply_affine(matrix, source), target, atol=1e-8)
    along = source + 7 * np.array([np.cos(angle), np.sin(angle)])
    np.testing.assert_allclose(geometry.apply_affine(matrix, along) - target, [7 * scale, 0], atol=1e-8)
    np.testing.assert_allclose(np.linalg.det(matrix[:, :2]), scale**2)


@settings(deadline=None)
@given(angles, scales, points_2d, points_2d)
def test_invert_undoes_apply(angle: float, scale: float, source: np.ndarray, target: np.ndarray) -> None:
    matrix = geometry.similarity(angle, scale, source, target)
    face = mean_face(200)
    back = geometry.apply_affine(geometry.invert_affine(matrix), geometry.apply_affine(matrix, face))
    np.testing.assert_allclose(back, face, atol=1e-6)


def test_apply_agrees_with_opencv_s_warp() -> None:
    image = np.zeros((80, 80), np.float32)
    image[30, 20] = 1
    matrix = geometry.similarity(0.4, 1.5, np.array([20.0, 30.0]), np.array([41.0, 52.0]))
    warped = cv2.warpAffine(image, matrix, (80, 80), flags=cv2.INTER_LINEAR)
    weight = warped / warped.sum()
    y, x = np.mgrid[:80, :80]
    np.testing.assert_allclose([(weight * x).sum(), (weight * y).sum()], [41, 52], atol=0.1)


@pytest.mark.parametrize("factor", [0.25, 0.5, 2.0, 3.0])
def test_rescaled_points_follow_a_resized_image(factor: float) -> None:
    """Pixel centres are integers on both sides: the corner -0.5, not 0, is the fixed point."""
    np.testing.assert_allclose(geometry.rescale_points(np.array([-0.5, -0.5]), factor), [-0.5, -0.5])
    size = 64
    y, x = np.mgrid[:size, :size].astype(np.float32)
    blob = np.exp(-((x - 25.3) ** 2 + (y - 38.6) ** 2) / 72)
    small = cv2.resize(
        blob, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    )
    weight = small / small.sum()
    y, x = np.mgrid[: small.shape[0], : small.shape[1]]
    centre = [(weight * x).sum(), (weight * y).sum()]
    np.testing.assert_allclose(geometry.rescale_points(np.array([25.3, 38.6]), factor), centre, atol=0.05)


@settings(deadline=None)
@given(angles)
def test_roll_axes_and_eye_distance(angle: float) -> None:
    face = mean_face(100)
    turned = geometry.apply_affine(geometry.similarity(-angle, 2, np.zeros(2), np.array([5.0, 9.0])), face)
    np.testing.assert_allclose(geometry.roll(turned), angle, atol=1e-9)
    np.testing.assert_allclose(geometry.inter_ocular(turned), 2 * geometry.inter_ocular(face))
    right, down = geometry.face_axes(turned)
    np.testing.assert_allclose((turned[45] - turned[36]) @ down, 0, atol=1e-9)
    assert (turned[45] - turned[36]) @ right > 0
    assert (turned[8] - turned[27]) @ down > 0  # the chin is down


def test_functions_take_batches() -> None:
    faces = np.stack([mean_face(100), mean_face(50)])
    np.testing.assert_allclose(geometry.inter_ocular(faces), [geometry.inter_ocular(face) for face in faces])
    np.testing.assert_allclose(geometry.roll(faces), 0, atol=1e-9)
    np.testing.assert_allclose(geometry.flip_points(faces, 100)[1], geometry.flip_points(faces[1], 100))
