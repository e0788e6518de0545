"""Pure metrics: of classification, of maps (cosines, localisation), and how sure they are (resampling)."""

from aupipe.fer_models.metrics.classification import (
    accuracy,
    balanced_accuracy,
    calibration,
    class_report,
    confusion_matrix,
    wilson_interval,
)
from aupipe.fer_models.metrics.cosines import (
    ceilings,
    centre_map,
    cosines,
    macro_mean,
    normalised,
    per_class_mean,
    uniform_map,
)

__all__ = [
    "accuracy",
    "balanced_accuracy",
    "calibration",
    "ceilings",
    "centre_map",
    "class_report",
    "confusion_matrix",
    "cosines",
    "macro_mean",
    "normalised",
    "per_class_mean",
    "uniform_map",
    "wilson_interval",
]
