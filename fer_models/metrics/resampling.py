"""Uncertainty of figures: bootstrap intervals, and a paired test for two classifiers (SciPy).

Faces of one person are no independent observations. Where persons repeat, whole persons are resampled (the cluster
bootstrap: Field and Welsh, 2007); by face the intervals would be too narrow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeGuard

import numpy as np
from jaxtyping import Bool, Float64, Int64

from aupipe.fer_models.metrics.classification import wilson_interval

RESAMPLES = 2000
PERMUTATIONS = 9999
LEVEL = 0.95
SEED = 0
BATCH_VALUES = 4_000_000
"""Values drawn at once: bounds the memory on large splits."""

Weighting = Literal["classes", "samples"]


def percentile_interval(statistics: Float64[np.ndarray, "r"], level: float = LEVEL) -> tuple[float, float]:
    """Take the interval from a statistic's values on resampled data, 95 % of them where nothing else is said."""
    low, high = np.quantile(statistics, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def draw_counts(n: int, resamples: int, seed: int = SEED) -> Float64[np.ndarray, "r n"]:
    """Draw how often each of ``n`` samples is in each resample, for statistics that are computed from weighted sums.

    Means of whole pictures then are one matrix product, where :func:`scipy.stats.bootstrap` would copy all pictures
    for every resample.
    """
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), resamples)
    return np.asarray(drawn, np.float64)


def bootstrap_interval(
    values: Float64[np.ndarray, "n"],
    label: Int64[np.ndarray, "n"] | None = None,
    weighting: Weighting = "samples",
    seed: int = SEED,
    group: Int64[np.ndarray, "n"] | None = None,
) -> tuple[float, float] | None:
    """Bootstrap the 95 % percentile interval of a mean, with :data:`RESAMPLES` resamples.

    Where each sample is a group of its own, it is resampled within its class, which keeps the counts that the split
    fixed; a class with a single sample contributes no spread. Where groups repeat, whole groups are resampled, and the
    classes with them. The same call gives the same interval. For two runs on the same samples, give the differences of
    their values: the interval is then the paired one.

    Args:
        values: One value a sample.
        label: The class of each sample; None: all are of one class.
        weighting: ``classes``: the mean over the classes of each class's mean (macro figures, balanced accuracy);
            ``samples``: the mean over all samples (accuracy).
        seed: Of the resamples.
        group: The person of each sample; None: each is another one.

    Returns:
        Both ends of the interval; None where there is nothing to resample: no class has two samples, or all are of one
        group.
    """
    label = np.zeros(len(values), np.int64) if label is None else label
    if repeats(group):
        return _interval_by_group(values, label, weighting, seed, group)
    groups = [values[label == number] for number in np.unique(label)]
    shares = [1 / len(groups) if weighting == "classes" else len(group) / len(values) for group in groups]
    drawn = [(group, share) for group, share in zip(groups, shares, strict=True) if len(group) > 1]
    fixed = sum(float(group[0]) * share for group, share in zip(groups, shares, strict=True) if len(group) == 1)
    if not drawn:
        return None

    def statistic(*samples: np.ndarray, axis: int) -> np.ndarray:
        means = [share * sample.mean(axis) for sample, (_, share) in zip(samples, drawn, strict=True)]
        return np.asarray(np.sum(means, 0) + fixed)

    from scipy import stats  # half a second that training does not need

    interval = stats.bootstrap(
        [group for group, _ in drawn],
        statistic,
        n_resamples=RESAMPLES,
        batch=max(1, BATCH_VALUES // len(values)),
        vectorized=True,
        confidence_level=LEVEL,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def two_level_means(
    values: Float64[np.ndarray, "s n"], group: Int64[np.ndarray, "n"], seed: int = SEED
) -> Float64[np.ndarray, "r"]:
    """Resample the trainings and the persons, each among themselves, and take the mean each time.

    An interval of these holds for other trainings and other faces, where one by faces alone holds for these trainings.
    Of few trainings it is too narrow: two of them resample to the same one half of the time.

    Args:
        values: A row a training, a column a face, the same faces in all.
        group: The person of each face.
        seed: Of the resamples.
    """
    persons, at = np.unique(group, return_inverse=True)
    sums, counts = np.stack([np.bincount(at, row) for row in values]), np.bincount(at)
    trainings = draw_counts(len(values), RESAMPLES, seed) / len(values)
    drawn = draw_counts(len(persons), RESAMPLES, seed + 1)
    return np.asarray(((trainings @ sums) * drawn).sum(1) / (drawn @ counts))


def accuracy_interval(
    right: Bool[np.ndarray, "n"], label: Int64[np.ndarray, "n"], group: Int64[np.ndarray, "n"]
) -> tuple[float, float]:
    """Compute the 95 % interval of an accuracy: Wilson's or, where persons repeat, the bootstrap's.

    Where all or no faces are named rightly every resample is alike, and Wilson's interval counts each person once.

    Args:
        right: Whether each face is named rightly; at least one.
        label: The class of each.
        group: The person of each.
    """
    if not repeats(group):
        return wilson_interval(int(right.sum()), len(right))
    persons, alike = len(np.unique(group)), right.all() or not right.any()
    drawn = None if alike else bootstrap_interval(right.astype(np.float64), label, "samples", group=group)
    return drawn or wilson_interval(round(float(right.mean()) * persons), persons)


def repeats(group: Int64[np.ndarray, "n"] | None) -> TypeGuard[Int64[np.ndarray, "n"]]:
    """Return whether some samples share a group."""
    return group is not None and len(np.unique(group)) < len(group)


def _interval_by_group(
    values: Float64[np.ndarray, "n"],
    label: Int64[np.ndarray, "n"],
    weighting: Weighting,
    seed: int,
    group: Int64[np.ndarray, "n"],
) -> tuple[float, float] | None:
    """Resample groups; a class that a resample lacks is left out of that resample's mean over the classes."""
    groups, at = np.unique(group, return_inverse=True)
    classes, of = np.unique(label, return_inverse=True)
    if len(groups) < 2:
        return None
    sums, counts = (np.zeros((len(groups), len(classes))) for _ in range(2))
    np.add.at(sums, (at, of), values)
    np.add.at(counts, (at, of), 1.0)
    drawn = draw_counts(len(groups), RESAMPLES, seed)
    total, size = drawn @ sums, drawn @ counts
    if weighting == "samples":
        return percentile_interval(total.sum(1) / size.sum(1))
    means = np.divide(total, size, out=np.zeros_like(total), where=size > 0)
    return percentile_interval(means.sum(1) / (size > 0).sum(1))


def weighted_mean(values: Float64[np.ndarray, "n"], label: Int64[np.ndarray, "n"], weighting: Weighting) -> float:
    """Compute the mean that :func:`bootstrap_interval` is the interval of. ``n`` must be 1 or more."""
    if weighting == "samples":
        return float(values.mean())
    return float(np.mean([values[label == number].mean() for number in np.unique(label)]))


@dataclass(frozen=True)
class PairedTest:
    """Paired predictions of two classifiers: both right, only the first, only the second, neither; p-value.

    ``method``: ``McNemar, exact``, or ``permutation by person`` where persons repeat.
    """

    both: int
    first_only: int
    second_only: int
    neither: int
    p_value: float
    method: str

    def as_json(self) -> dict[str, Any]:
        """Return plain content."""
        return dict(vars(self))


def paired_test(
    first: Bool[np.ndarray, "n"], second: Bool[np.ndarray, "n"], group: Int64[np.ndarray, "n"] | None = None
) -> PairedTest:
    """Test whether two classifiers are equally often right on the same samples, two-sided.

    Each sample another group: McNemar's exact test, whether those that only one gets right are split evenly. Where
    groups repeat: the difference summed over each group, its signs flipped at random (all ways where these are at most
    :data:`PERMUTATIONS`).

    Args:
        first: Whether the first classifier is right, sample by sample.
        second: Whether the second is.
        group: The person of each sample; None: each is another one.

    Returns:
        The table and the p-value, 1 where they never differ.
    """
    only_first, only_second = int((first & ~second).sum()), int((~first & second).sum())
    p_value, differ = 1.0, only_first + only_second
    if repeats(group):
        method = "permutation by person"
        difference = np.bincount(np.unique(group, return_inverse=True)[1], first.astype(np.float64) - second)
        if difference.any():
            p_value = _sign_flips(difference[difference != 0])
    else:
        method = "McNemar, exact"
        from scipy import stats  # half a second that training does not need

        p_value = float(stats.binomtest(only_first, differ).pvalue) if differ else 1.0
    return PairedTest(
        int((first & second).sum()), only_first, only_second, int((~first & ~second).sum()), p_value, method
    )


def _sign_flips(difference: Float64[np.ndarray, "g"]) -> float:
    if len(difference) == 1:
        return 1.0
    from scipy import stats  # half a second that training does not need

    found = stats.permutation_test(
        (difference,),
        lambda values, axis: values.sum(axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=PERMUTATIONS,
        rng=np.random.default_rng(SEED),
    )
    return float(found.pvalue)
