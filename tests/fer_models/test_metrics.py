from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, log_loss

from aupipe.fer_models import metrics
from aupipe.fer_models.targets import resize_maps

RNG = np.random.default_rng(0)
LABEL = RNG.integers(0, 4, 200)
PREDICTED = np.where(RNG.random(200) < 0.6, LABEL, RNG.integers(0, 4, 200))


def test_confusion_and_accuracies_against_their_definitions() -> None:
    matrix = metrics.confusion_matrix(LABEL, PREDICTED, 5)
    assert matrix.sum() == 200
    assert np.array_equal(matrix.sum(1), np.bincount(LABEL, minlength=5))
    assert np.array_equal(matrix.sum(0), np.bincount(PREDICTED, minlength=5))
    assert matrix[2, 3] == ((LABEL == 2) & (PREDICTED == 3)).sum()
    assert metrics.accuracy(matrix) == pytest.approx((LABEL == PREDICTED).mean())
    recalls = [(PREDICTED[c == LABEL] == c).mean() for c in range(4)]
    assert metrics.balanced_accuracy(matrix) == pytest.approx(np.mean(recalls))


def test_class_report_is_null_where_there_is_nothing_to_measure() -> None:
    report = metrics.class_report(metrics.confusion_matrix(LABEL, PREDICTED, 5), list("abcde"))
    assert report["e"] == {"n": 0, "accuracy": None, "precision": None, "f1": None}
    a = report["a"]
    assert a["f1"] == pytest.approx(2 * a["accuracy"] * a["precision"] / (a["accuracy"] + a["precision"]))


def test_wilson_interval() -> None:
    # Newcombe (1998), table I: 81 of 263 -> 0.2553, 0.3662; 0 of 20 -> 0, 0.1611.
    assert metrics.wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert metrics.wilson_interval(0, 20) == pytest.approx((0, 0.1611), abs=5e-5)
    assert metrics.wilson_interval(0, 0) == (0, 1)


def test_macro_mean_weighs_expressions_not_samples() -> None:
    label = np.array([0] * 9 + [1] + [2] * 5)
    values = np.array([0.2] * 9 + [0.8] + [5.0] * 5)
    has_map = label < 2
    assert metrics.macro_mean(values, label, has_map, 4) == pytest.approx(0.5)
    assert metrics.per_class_mean(values, label, has_map, 4)[2:] == [None, None]
    assert metrics.macro_mean(values, label, np.zeros(15, bool), 4) is None


def test_uniform_control_has_a_closed_form() -> None:
    maps = RNG.random((5, 12, 12))
    expected = maps.sum((1, 2)) / (12 * np.sqrt((maps**2).sum((1, 2))))
    assert np.allclose(metrics.cosines(maps, metrics.uniform_map(12)), expected)


def test_centre_control_is_centred_and_has_its_sigma() -> None:
    centre = metrics.centre_map(40)
    assert np.allclose(centre, centre[::-1, ::-1]) and np.allclose(centre, centre.T)
    assert centre[20, 30] / centre[20, 20] == pytest.approx(np.exp(-0.5 * ((10.5**2 - 0.5**2) / 10**2)))


def test_cosine_of_a_zero_map_is_zero() -> None:
    assert np.array_equal(metrics.cosines(np.zeros((2, 3, 3)), np.ones((2, 3, 3))), [0, 0])
    assert np.array_equal(metrics.ceilings(np.zeros((2, 8, 8)), 2, 2), [0, 0])


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000), st.sampled_from([1, 2, 4, 7, 14, 28, 56, 112]))
def test_no_map_of_that_size_beats_the_ceiling_and_one_reaches_it(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    target = rng.random((28, 28)) ** 3
    ceiling = metrics.ceilings(target[None], size, size)[0]
    guesses = torch.from_numpy(rng.random((20, size, size)))
    pooled = F.adaptive_avg_pool2d(torch.from_numpy(target)[None], (size, size))
    grown = resize_maps(torch.cat([guesses, pooled]), (28, 28)).numpy()
    reached = metrics.cosines(grown, target)
    assert reached.max() <= ceiling + 1e-9 <= 1 + 2e-9
    # Least squares over every map of that size, through the resizing that the metric itself uses.
    basis = (
        resize_maps(torch.eye(size * size, dtype=torch.float64).reshape(-1, size, size), (28, 28)).flatten(1).numpy()
    )
    if size <= 7:
        best = np.linalg.lstsq(basis.T, target.ravel(), rcond=None)[0] @ basis
        assert metrics.cosines(best.reshape(1, 28, 28), target)[0] == pytest.approx(ceiling, abs=1e-6)


def test_calibration_against_scikit_learn_and_a_loop() -> None:
    probability = RNG.dirichlet(np.ones(4) / 2, 200)
    found = metrics.calibration(probability, LABEL)
    assert found["nll"] == pytest.approx(log_loss(LABEL, probability, labels=range(4)))
    brier = brier_score_loss(LABEL, probability, labels=range(4), scale_by_half=False)
    assert found["brier"] == pytest.approx(brier)
    confidence, right = probability.max(1), probability.argmax(1) == LABEL
    gap = 0.0
    for number in range(15):
        rows = (confidence > number / 15) & (confidence <= (number + 1) / 15)
        if rows.any():
            gap += rows.mean() * abs(right[rows].mean() - confidence[rows].mean())
    assert found["ece"] == pytest.approx(gap) and found["ece_bins"] == 15


def test_calibration_of_a_sure_model() -> None:
    sure = np.eye(4)[[0, 1, 2, 3]]
    right = metrics.calibration(sure, np.arange(4))
    assert (right["ece"], right["nll"], right["brier"]) == (0, 0, 0)
    wrong = metrics.calibration(sure, np.array([1, 1, 2, 3]))
    assert (wrong["ece"], wrong["brier"]) == (0.25, 0.5) and np.isfinite(wrong["nll"])


def test_normalised_score() -> None:
    assert metrics.normalised(0.4, 0.4, 0.9) == 0
    assert metrics.normalised(0.9, 0.4, 0.9) == 1
    assert metrics.normalised(0.3, 0.4, 0.9) == pytest.approx(-0.2)
    assert metrics.normalised(0.3, 0.4, 0.4) is metrics.normalised(None, 0.4, 0.9) is None
