from __future__ import annotations

import numpy as np
import pytest

from aupipe.fer_models.metrics import resampling
from aupipe.fer_models.metrics.classification import wilson_interval
from aupipe.fer_models.metrics.resampling import (
    accuracy_interval,
    bootstrap_interval,
    paired_test,
    two_level_means,
    weighted_mean,
)

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
    table = paired_test(first, second, np.arange(35))
    # Of 10 faces that only one gets right, at most 2 on one side: twice (1 + 10 + 45) of 1024 ways.
    assert table.as_json() == {
        "both": 20, "first_only": 8, "second_only": 2, "neither": 5, "p_value": pytest.approx(112 / 1024),
        "method": "McNemar, exact",
    }  # fmt: skip
    assert paired_test(first, second) == table and paired_test(first, first).p_value == 1


def test_persons_are_resampled_as_wholes() -> None:
    """Ten persons with four equal faces each are ten observations, not forty."""
    person = np.repeat(np.arange(10), 4)
    values = np.repeat(np.random.default_rng(1).normal(0, 1, 10), 4)
    by_face = bootstrap_interval(values)
    by_person = bootstrap_interval(values, group=person)
    ten = bootstrap_interval(values[::4])
    assert by_face is not None and by_person is not None and ten is not None
    assert np.diff(by_person)[0] == pytest.approx(2 * np.diff(by_face)[0], rel=0.1)
    assert by_person == pytest.approx(ten, abs=0.1)
    assert bootstrap_interval(values, group=np.arange(40)) == by_face
    assert bootstrap_interval(values, group=np.zeros(40, np.int64)) is None


@pytest.mark.parametrize("weighting", ["classes", "samples"])
def test_by_person_it_covers_the_truth_as_often_as_it_says(weighting: str) -> None:
    """Every person shows both classes and has a level of his own; by face it covers far less."""
    person, label = np.repeat(np.arange(20), 6), np.tile([0, 0, 0, 1, 1, 1], 20)
    covered = {"person": 0, "face": 0}
    for seed in range(100):
        rng = np.random.default_rng([4, seed])
        values = rng.normal(0, 1, 20)[person] + rng.normal(0, 0.5, 120) + label
        for name, group in (("person", person), ("face", None)):
            interval = bootstrap_interval(values, label, weighting, group=group)  # type: ignore[arg-type]
            assert interval is not None
            covered[name] += interval[0] <= 0.5 <= interval[1]
    assert 84 <= covered["person"] <= 99 and covered["face"] < 75


def test_the_test_by_person_against_all_flips() -> None:
    first = np.array([1, 1, 1, 1, 1, 0, 1, 1, 0, 1], bool)
    second = np.array([0, 0, 1, 0, 1, 1, 1, 0, 0, 0], bool)
    person = np.array([7, 7, 7, 2, 2, 2, 5, 5, 9, 9])
    difference = np.array([2, 0, 1, 1])  # persons 7, 2, 5, 9
    flips = [np.dot(signs, difference) for signs in np.stack(np.meshgrid(*[[-1, 1]] * 4), -1).reshape(-1, 4)]
    found = paired_test(first, second, person)
    assert found.method == "permutation by person"
    assert found.p_value == pytest.approx(np.mean(np.abs(flips) >= 4))
    assert paired_test(first, first, person).p_value == 1


def test_an_accuracy_without_a_miss_is_not_certain_where_persons_repeat() -> None:
    group, label = np.repeat([0, 1], 3), np.zeros(6, np.int64)
    for right in (np.ones(6, bool), np.zeros(6, bool)):
        assert resampling.accuracy_interval(right, label, group) == wilson_interval(2 * int(right[0]), 2)


def test_trainings_and_persons_are_drawn_apart() -> None:
    drawn = two_level_means(np.eye(8), np.arange(8))
    assert drawn.mean() == pytest.approx(1 / 8, abs=0.01)  # the same draws for both would give 15/64


def test_persons_of_many_faces_weigh_as_many() -> None:
    group = np.repeat([0, 1, 2], [1, 5, 9])
    np.testing.assert_allclose(two_level_means(np.ones((3, 15)), group), 1)


def test_a_class_that_a_resample_lacks_is_left_out_of_it() -> None:
    group, label = np.array([0, 0, 1, 1]), np.array([0, 0, 1, 1])
    assert bootstrap_interval(np.ones(4), label, "classes", group=group) == (1, 1)


def test_the_interval_of_an_accuracy_is_of_persons_and_of_all_faces() -> None:
    rng = np.random.default_rng(5)
    right = np.repeat(rng.random(100) < 0.5, 4)
    low, high = accuracy_interval(right, np.zeros(400, np.int64), np.repeat(np.arange(100), 4))
    assert high - low == pytest.approx(2 * 1.96 * 0.05, rel=0.15)  # by face it would be half of that
    label = np.repeat([0, 1], [180, 20])  # all of a common class right, none of a rare one
    low, high = accuracy_interval(label == 0, label, np.repeat(np.arange(100), 2))
    assert low < 0.9 < high and low > 0.7  # the mean over the classes is .5
