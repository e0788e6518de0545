"""Uncertainty of figures: bootstrap intervals stratified by class, and McNemar's test for two classifiers (SciPy)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy import stats

RESAMPLES = 2000
LEVEL = 0.95
SEED = 0
BATCH_VALUES = 4_000_000
"""Values drawn at once: bounds the memory on large splits."""

Weighting = Literal["classes", "samples"]


def percentile_interval(statistics: Float64[np.ndarray, "r"]) -> tuple[float, float]:
    """Take the 95 % interval from a statistic's values on resampled data."""
    low, high = np.quantile(statistics, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
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
) -> tuple[float, float] | None:
    """Bootstrap the 95 % percentile interval of a mean, with :data:`RESAMPLES` resamples within each class.

    Resampling within the classes keeps their counts, which the split fixed. A class with a single sample contributes no
    spread. The same call gives the same interval. For two runs on the same samples, give the differences of their
    values: the interval is then the paired one.

    Args:
        values: One value a sample.
        label: The class of each sample; None: all are of one class.
        weighting: ``classes``: the mean over the classes of each class's mean (macro figures, balanced accuracy);
            ``samples``: the mean over all samples (accuracy).
        seed: Of the resamples.

    Returns:
        Both ends of the interval; None where no class has two samples: there is nothing to resample.
    """
    label = np.zeros(len(values), np.int64) if label is None else label
    groups = [values[label == number] for number in np.unique(label)]
    shares = [1 / len(groups) if weighting == "classes" else len(group) / len(values) for group in groups]
    drawn = [(group, share) for group, share in zip(groups, shares, strict=True) if len(group) > 1]
    fixed = sum(float(group[0]) * share for group, share in zip(groups, shares, strict=True) if len(group) == 1)
    if not drawn:
        return None

    def statistic(*samples: np.ndarray, axis: int) -> np.ndarray:
        means = [share * sample.mean(axis) for sample, (_, share) in zip(samples, drawn, strict=True)]
        return np.asarray(np.sum(means, 0) + fixed)

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


def weighted_mean(values: Float64[np.ndarray, "n"], label: Int64[np.ndarray, "n"], weighting: Weighting) -> float:
    """Compute the mean that :func:`bootstrap_interval` is the interval of. ``n`` must be 1 or more."""
    if weighting == "samples":
        return float(values.mean())
    return float(np.mean([values[label == number].mean() for number in np.unique(label)]))


@dataclass(frozen=True)
class McNemar:
    """Paired predictions of two classifiers: both right, only the first, only the second, neither; exact p-value."""

    both: int
    first_only: int
    second_only: int
    neither: int
    p_value: float

    def as_json(self) -> dict[str, Any]:
        """Return plain content."""
        return dict(vars(self))


def mcnemar(first: Bool[np.ndarray, "n"], second: Bool[np.ndarray, "n"]) -> McNemar:
    """Compute McNemar's exact test (two-sided binomial): are the samples that only one gets right split evenly?

    ``first, second``: whether each classifier is right, sample by sample. The p-value is 1 when they never differ.
    """
    only_first, only_second = int((first & ~second).sum()), int((~first & second).sum())
    differ = only_first + only_second
    p_value = float(stats.binomtest(only_first, differ).pvalue) if differ else 1.0
    return McNemar(int((first & second).sum()), only_first, only_second, int((~first & ~second).sum()), p_value)
