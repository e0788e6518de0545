from __future__ import annotations

import numpy as np
import pytest

from aupipe.fer_models.metrics.resampling import bootstrap_interval, mcnemar, weighted_mean

RNG = np.random.default_rng(3)
LABEL = np.repeat([0, 1, 4], [150, 40, 60])
VALUES = RNG.normal(0, 1, 250) * np.array([1.0, 3.0, 0, 0, 0.5])[LABEL] + LABEL


@pytest.mark.parametrize("weighting", ["classes", "samples"])
def test_the_interval_is_that_of_a_stratified_mean(weighting: str) -> None:
    interval = bootstrap_interval(VALUES, LABEL, weighting)  # type: ignore[arg-type]
    assert interval is not None
    variance = middle = 0.0
    for number in (0, 1, 4):
        own = VALUES[number == LABEL]
        share = 1 / 3 if weighting == "classes" else len(own) / 250
        variance += share**2 * own.var() / len(own)
        middle += share * own.mean()
    assert weighted_mean(VALUES, LABEL, weighting) == pytest.approx(middle)  # type: ignore[arg-type]
    assert interval == pytest.approx((middle - 1.96 * variance**0.5, middle + 1.96 * variance**0.5), abs=0.02)


def test_what_differs_between_the_classes_is_no_uncertainty() -> None:
    with_strata = bootstrap_interval(VALUES, LABEL, "samples")
    without = bootstrap_interval(VALUES, np.zeros(250, np.int64), "samples")
    assert with_strata is not None and without is not None
    assert without[1] - without[0] > 1.2 * (with_strata[1] - with_strata[0])


def test_it_covers_the_truth_as_often_as_it_says() -> None:
    label = np.repeat([0, 1], [30, 20])
    covered = 0
    for seed in range(100):
        values = np.random.default_rng([9, seed]).normal(0, 1, 50) + label
        interval = bootstrap_interval(values, label, "classes")
        assert interval is not None
        covered += interval[0] <= 0.5 <= interval[1]
    assert 86 <= covered <= 99


def test_it_is_reproducible_and_seeded() -> None:
    first = bootstrap_interval(VALUES, LABEL, "classes")
    assert first == bootstrap_interval(VALUES, LABEL, "classes")
    assert first != bootstrap_interval(VALUES, LABEL, "classes", seed=1)


def test_a_class_of_one_keeps_its_value_and_adds_no_spread() -> None:
    label = np.array([0, 1, 1, 1])
    assert bootstrap_interval(np.array([10.0, 2, 2, 2]), label, "classes") == pytest.approx((6, 6))
    assert bootstrap_interval(np.array([10.0, 2, 2, 2]), label, "samples") == pytest.approx((4, 4))
    assert bootstrap_interval(np.array([1.0, 2.0]), np.array([0, 1]), "classes") is None


def test_mcnemar_against_a_table_computed_by_hand() -> None:
    first = np.array([1] * 20 + [1] * 8 + [0] * 2 + [0] * 5, bool)
    second = np.array([1] * 20 + [0] * 8 + [1] * 2 + [0] * 5, bool)
    table = mcnemar(first, second)
    # Of 10 faces that only one gets right, at most 2 on one side: twice (1 + 10 + 45) of 1024 ways.
    assert table.as_json() == {
        "both": 20, "first_only": 8, "second_only": 2, "neither": 5, "p_value": pytest.approx(112 / 1024)
    }  # fmt: skip
    assert mcnemar(first, first).p_value == 1
