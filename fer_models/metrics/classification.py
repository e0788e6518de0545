"""Accuracy and its interval, confusion, figures by class, calibration (NumPy)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

ECE_BINS = 15
"""Bins of equal width over [0, 1] in :func:`calibration`, as in Guo et al. (2017)."""


def confusion_matrix(
    label: Int64[np.ndarray, "n"], predicted: Int64[np.ndarray, "n"], k: int
) -> Int64[np.ndarray, "k k"]:
    """Count predictions by class; rows are true classes, columns predicted ones."""
    return np.asarray(np.bincount(label * k + predicted, minlength=k * k).reshape(k, k), np.int64)


def accuracy(confusion: Int64[np.ndarray, "k k"]) -> float:
    """Compute the share of correct predictions."""
    return float(np.trace(confusion) / max(int(confusion.sum()), 1))


def balanced_accuracy(confusion: Int64[np.ndarray, "k k"]) -> float:
    """Compute the mean recall over the classes that have samples."""
    counts = confusion.sum(1)
    present = counts > 0
    if not present.any():
        return 0.0
    return float((np.diag(confusion)[present] / counts[present]).mean())


def wilson_interval(correct: int, n: int) -> tuple[float, float]:
    """Compute the 95 % interval of a proportion (Wilson, 1927): stays inside [0, 1] and is sound for small ``n``."""
    if n == 0:
        return 0.0, 1.0
    from scipy import stats  # half a second that training does not need

    interval = stats.binomtest(correct, n).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def class_report(confusion: Int64[np.ndarray, "k k"], classes: Sequence[str]) -> dict[str, dict[str, Any]]:
    """List ``n, accuracy`` (recall)``, precision, f1`` by class; None where a figure has no samples to stand on."""
    report: dict[str, dict[str, Any]] = {}
    for row, name in enumerate(classes):
        hits, n, claimed = (int(v) for v in (confusion[row, row], confusion[row].sum(), confusion[:, row].sum()))
        report[name] = {
            "n": n,
            "accuracy": hits / n if n else None,
            "precision": hits / claimed if claimed else None,
            "f1": 2 * hits / (n + claimed) if n else None,
        }
    return report


def calibration(probability: Float64[np.ndarray, "n k"], label: Int64[np.ndarray, "n"]) -> dict[str, float | int]:
    """Measure how far the probabilities can be believed: 0 is perfect for each figure.

    ``ece``: expected calibration error (Guo et al., 2017): the gap between accuracy and mean confidence in each of
    :data:`ECE_BINS` bins of the confidence, open below and closed above, weighted by the bin's samples. ``nll``: mean
    cross-entropy in nats. ``brier``: mean squared distance of the probabilities from the one-hot label, summed over the
    classes (0 to 2). ``n`` must be 1 or more.
    """
    rows = np.arange(len(label))
    confidence = probability.max(1)
    right = probability.argmax(1) == label
    number = np.clip(np.ceil(confidence * ECE_BINS).astype(np.int64) - 1, 0, ECE_BINS - 1)
    gaps = np.bincount(number, weights=right - confidence, minlength=ECE_BINS)
    own = probability[rows, label]
    one_hot = np.zeros_like(probability)
    one_hot[rows, label] = 1
    return {
        "ece": float(np.abs(gaps).sum() / len(label)),
        "ece_bins": ECE_BINS,
        "nll": float(-np.log(np.maximum(own, np.finfo(np.float64).tiny)).mean()),
        "brier": float(((probability - one_hot) ** 2).sum(1).mean()),
    }
