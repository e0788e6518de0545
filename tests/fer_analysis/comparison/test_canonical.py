from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from aupipe.fer_analysis.comparison.canonical import (
    CHIN,
    FACE_WIDTH,
    HEIGHT,
    WIDTH,
    CanonicalFace,
    anchors,
    canonical_face,
)
from aupipe.fer_analysis.comparison.map_files import read_masks
from aupipe.fer_analysis.comparison.masks import codebook_masks, study_masks
from aupipe.fer_data.au_maps.codebook import load_codebook
from aupipe.fer_data.au_maps.mean_face import mean_face
from aupipe.fer_data.errors import UserInputError

OWN, UIB = canonical_face("own"), canonical_face("uib")
AREAS = {"anger": 15376, "disgust": 14444, "fear": 18478, "happiness": 13205, "sadness": 19038, "surprise": 14614}


@pytest.mark.parametrize("face", [OWN, UIB], ids=["own", "uib"])
def test_the_canonical_face_stays_as_it_is(face: CanonicalFace) -> None:
    values = np.random.default_rng(0).random((HEIGHT, WIDTH), np.float32)
    moved, valid = face.normalise(values, face.points)
    assert valid.all() and np.abs(moved - values).max() < 1e-5


def test_landmarks_land_on_landmarks() -> None:
    """Maps that hold the pixel's own x and y say where each canonical pixel came from."""
    rng = np.random.default_rng(1)
    points = (mean_face(96) + rng.normal(0, 0.4, (68, 2))).astype(np.float32)
    ys, xs = np.mgrid[:96, :96].astype(np.float32)
    for axis, field in enumerate((xs, ys)):
        moved, valid = UIB.normalise(field, points)
        for point, (x, y) in zip(points, UIB.points.astype(int), strict=True):
            assert valid[y, x] and moved[y, x] == pytest.approx(point[axis], abs=1e-2)


def test_edges_go_to_edges() -> None:
    all_anchors = anchors(UIB.points, HEIGHT, WIDTH)
    assert np.array_equal(all_anchors[68:85, 0], UIB.points[:17, 0]) and not all_anchors[68:85, 1].any()
    assert all_anchors[85:].tolist() == [[0, 0], [223, 0], [0, 274], [223, 274]]
    xs = np.tile(np.arange(96, dtype=np.float32), (96, 1))
    moved, valid = OWN.normalise(xs, mean_face(96).astype(np.float32))
    assert valid[[0, 0, -1, -1], [0, -1, 0, -1]].all()
    assert moved[[0, 0, -1, -1], [0, -1, 0, -1]] == pytest.approx([0, 95, 0, 95], abs=1e-3)


def test_what_is_turned_over_or_outside_is_invalid_not_zero() -> None:
    values = np.ones((96, 96), np.float32)
    points = mean_face(96)
    straight, valid = OWN.normalise(values, points)
    assert valid.mean() > 0.99 and (straight[valid] == 1).all()
    crossed = points.copy()
    crossed[[37, 41]] = crossed[[41, 37]]  # the left eye is turned over
    moved, valid = OWN.normalise(values, crossed)
    invalid = np.argwhere(~valid)[:, ::-1]
    assert len(invalid) > 50 and not moved[~valid].any() and (moved[valid] == 1).all()
    assert np.linalg.norm(invalid - OWN.points[36:42].mean(0), axis=1).max() < 40
    half_out = points - np.array([40.0, 0.0])
    _, valid = OWN.normalise(values, half_out)
    left, right = OWN.points[2].round().astype(int), OWN.points[13].round().astype(int)
    assert not valid[left[1], left[0] + 1] and valid[right[1], right[0] - 2]


def test_our_own_shape_is_symmetric_and_as_large_as_the_frame_wants() -> None:
    from aupipe.fer_data.geometry import flip_points

    assert np.allclose(flip_points(OWN.points, WIDTH), OWN.points, atol=1e-9)
    assert OWN.points[16, 0] - OWN.points[0, 0] == pytest.approx(FACE_WIDTH) and OWN.points[8, 1] == CHIN
    assert (OWN.points > 0).all() and (OWN.points < [WIDTH - 1, HEIGHT - 1]).all()
    assert OWN.face.sum() == pytest.approx(OWN.face[:, ::-1].sum()) and OWN.face[150, 112] and not OWN.face[20, 112]
    with pytest.raises(UserInputError, match="own, uib"):
        canonical_face("dlib")


def test_the_study_masks_have_the_published_areas() -> None:
    masks = study_masks(UIB)
    assert {name: int(mask.sum()) for name, mask in zip(masks.expressions, masks.masks, strict=True)} == AREAS


@pytest.mark.shared
def test_the_study_masks_are_the_published_ones_to_the_pixel(shared: Path) -> None:
    published, drawn = read_masks(shared / "comparison_maps"), study_masks(UIB)
    assert drawn.expressions == published.expressions
    assert np.array_equal(drawn.masks, published.masks)


def test_masks_on_our_shape_are_nearly_symmetric_and_hold_what_they_should() -> None:
    masks = study_masks(OWN)
    for name, mask in zip(masks.expressions, masks.masks, strict=True):
        assert (mask != mask[:, ::-1]).mean() < 0.02, name
    held = dict(zip(masks.expressions, masks.masks, strict=True))
    inner_lip, brow = OWN.points[62].round().astype(int), OWN.points[19].round().astype(int)
    assert held["surprise"][inner_lip[1], inner_lip[0]] and not held["happiness"][inner_lip[1], inner_lip[0]]
    assert held["anger"][brow[1], brow[0]] and not held["disgust"][brow[1], brow[0]]


def test_codebook_masks_lie_where_the_action_units_do() -> None:
    masks = codebook_masks(OWN, load_codebook("default"))
    assert "neutral" not in masks.expressions and "contempt" in masks.expressions
    held = dict(zip(masks.expressions, masks.masks, strict=True))
    corner, brow = OWN.points[48].round().astype(int), OWN.points[21].round().astype(int)
    assert held["happiness"][corner[1] - 5, corner[0] - 5] and not held["happiness"][brow[1] - 12, brow[0]]
    assert held["surprise"][brow[1] - 25, brow[0]]
    small = codebook_masks(OWN, load_codebook("default"), 0.9)
    assert (small.masks.sum((1, 2)) < masks.masks.sum((1, 2))).all() and not (small.masks & ~masks.masks).any()
