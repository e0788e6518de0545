from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from aupipe.fer_models.metrics.within_class import (
    LEAST_FACES,
    area_interval,
    area_under_curve,
    pair_count,
    pooled_area,
    resampled_faces,
    units_in_classes,
)

RNG = np.random.default_rng(3)


@pytest.mark.parametrize("levels", [3, 1000])
def test_the_area_is_scikit_learn_s(levels: int) -> None:
    scores, positive = RNG.integers(0, levels, 80) / levels, RNG.random(80) < 0.3
    weight = RNG.integers(0, 4, 80).astype(float)
    assert area_under_curve(scores, positive) == pytest.approx(roc_auc_score(positive, scores))
    assert area_under_curve(scores, positive, weight) == pytest.approx(
        roc_auc_score(positive, scores, sample_weight=weight)
    )
    assert np.isnan(area_under_curve(scores, np.zeros(80, bool)))


def test_an_action_unit_counts_in_classes_with_enough_faces_of_both_kinds() -> None:
    label = np.repeat([0, 1, 2], 2 * LEAST_FACES)
    shown = np.zeros((len(label), 2), bool)
    shown[:LEAST_FACES, 0] = True  # half of the first class
    shown[2 * LEAST_FACES : 3 * LEAST_FACES - 1, 0] = True  # one too few of the second
    shown[4 * LEAST_FACES :, 1] = True  # all of the third
    found = units_in_classes(shown, label)
    assert [(one.unit, one.label, len(one.rows)) for one in found] == [(0, 0, 2 * LEAST_FACES)]
    assert pair_count(found, shown) == LEAST_FACES**2
    known = np.ones_like(shown)
    known[0, 0] = False
    assert units_in_classes(shown, label, known) == []


def test_knowing_the_class_alone_is_worth_nothing_within_it() -> None:
    label = RNG.integers(0, 3, 600)
    shown = RNG.random((600, 4)) < np.array([[0.1, 0.5, 0.9, 0.3], [0.8, 0.2, 0.4, 0.6], [0.3, 0.7, 0.1, 0.5]])[label]
    shares = np.stack([shown[label == number].mean(0) for number in range(3)])[label]
    found = units_in_classes(shown, label)
    assert np.mean([area_under_curve(shares[:, unit], shown[:, unit]) for unit in range(4)]) > 0.7
    assert pooled_area(found, shares, shown)[0] == pytest.approx(0.5)
    assert pooled_area(found, shown.astype(float), shown)[0] == 1


def test_the_pooled_area_weighs_by_pairs_and_its_interval_resamples_persons() -> None:
    label, person = RNG.integers(0, 2, 200), RNG.integers(0, 25, 200)
    shown, scores = RNG.random((200, 3)) < 0.4, RNG.random((200, 3))
    found = units_in_classes(shown, label)
    areas = [area_under_curve(scores[one.rows, one.unit], shown[one.rows, one.unit]) for one in found]
    pairs = [pair_count([one], shown) for one in found]
    assert pooled_area(found, scores, shown)[0] == pytest.approx(np.average(areas, weights=pairs))
    weight = resampled_faces(person, 40)
    assert all(len(np.unique(weight[:, person == one], axis=1).T) == 1 for one in range(25))  # all of a person's faces
    resampled = pooled_area(found, scores, shown, weight)
    rows = np.repeat(np.arange(200), weight[0].astype(int))
    again = units_in_classes(shown[rows], label[rows])
    assert resampled[0] == pytest.approx(pooled_area(again, scores[rows], shown[rows])[0])
    low, high = area_interval(resampled) or (1, 0)
    assert low < np.average(areas, weights=pairs) < high


def test_without_a_pair_there_is_no_area() -> None:
    shown = np.zeros((8, 1), bool)
    assert np.isnan(pooled_area([], np.zeros((8, 1)), shown)).all()
    assert area_interval(np.full(5, np.nan)) is None
