"""Confidence that means something: one temperature, fitted on the validation split (Guo et al., ICML 2017).

Dividing the logits by a temperature changes no prediction, only how sure it sounds. One that makes held-out images
worse is kept, so that it is not fitted again, and not applied.
"""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64, Int64
from scipy import optimize, special

from aupipe.fer_data.errors import FerError, RunError
from aupipe.fer_data.files import json_bytes
from aupipe.fer_data.recorded import read_recorded, write_recorded
from aupipe.fer_data.shards import Store
from aupipe.fer_data.typed import UnreadableTextError, parse_json
from aupipe.fer_models import metrics
from aupipe.fer_models.methods import Method
from aupipe.fer_models.training import measured_run, run_record

CALIBRATION_FILE = "calibration.json"
TEMPERATURE_RANGE = (0.25, 8.0)
"""Temperatures looked at: a split without an error has its optimum at 0, which would claim certainty."""

FEW_ROWS = 200
"""With fewer validation rows a calibration error is mostly noise."""


@dataclass(frozen=True)
class Calibration:
    """A run's temperature and what it does to the expected calibration error and to the cross-entropy (nats).

    Attributes:
        temperature: The temperature, fitted on all validation rows.
        n: Number of validation rows.
        ece_before: Expected calibration error in [0, 1], at temperature 1.
        ece_after: The same held out: each half of the rows at the temperature of the other half.
        nll_before: Cross-entropy at temperature 1.
        nll_after: The same held out.
        checkpoint: SHA-256 of the weights it belongs to.
    """

    temperature: float
    n: int
    ece_before: float
    ece_after: float
    nll_before: float
    nll_after: float
    checkpoint: str

    @property
    def helps(self) -> bool:
        """Whether held-out confidence gets no worse by it, in neither measure; otherwise it is not applied."""
        return self.ece_after <= self.ece_before and self.nll_after <= self.nll_before

    def sentence(self) -> str:
        """Say it for people."""
        few = " So few images make it rough." if self.n < FEW_ROWS else ""
        fitted = f"temperature {self.temperature:.2f}, fitted on {self.n} validation images"
        if not self.helps:
            return (
                f"Confidence is not calibrated: {fitted}, makes held-out images worse (expected calibration error "
                f"{self.ece_before:.3f} before, {self.ece_after:.3f} after; cross-entropy {self.nll_before:.3f} and "
                f"{self.nll_after:.3f}), so it is not applied.{few}"
            )
        return (
            f"Confidence: {fitted}; expected calibration error {self.ece_before:.3f} before, {self.ece_after:.3f} "
            f"after (held out).{few}"
        )


def softmax(logits: Float64[np.ndarray, "n k"], temperature: float = 1.0) -> Float64[np.ndarray, "n k"]:
    """Turn logits into probabilities at a temperature."""
    return np.asarray(special.softmax(logits / temperature, axis=1))


def fit_temperature(logits: Float64[np.ndarray, "n k"], label: Int64[np.ndarray, "n"]) -> float:
    """Find the temperature of the least cross-entropy within :data:`TEMPERATURE_RANGE`.

    The cross-entropy is convex in 1 / T, so there is one minimum.
    """

    def loss(log_temperature: float) -> float:
        return float(metrics.calibration(softmax(logits, float(np.exp(log_temperature))), label)["nll"])

    found = optimize.minimize_scalar(loss, bounds=np.log(TEMPERATURE_RANGE), method="bounded")
    return float(np.exp(found.x))


def calibrate(logits: Float64[np.ndarray, "n k"], label: Int64[np.ndarray, "n"], weights: str) -> Calibration:
    """Fit the temperature on all rows, and measure each half at the other half's. Needs at least two rows.

    Args:
        logits: Class scores of the validation rows.
        label: Their class indices.
        weights: SHA-256 of the checkpoint they come from.
    """
    held_out = np.empty_like(logits)
    for half in (0, 1):
        held_out[half::2] = logits[half::2] / fit_temperature(logits[1 - half :: 2], label[1 - half :: 2])
    before, after = metrics.calibration(softmax(logits), label), metrics.calibration(softmax(held_out), label)
    return Calibration(
        temperature=fit_temperature(logits, label),
        n=len(label),
        ece_before=float(before["ece"]),
        ece_after=float(after["ece"]),
        nll_before=float(before["nll"]),
        nll_after=float(after["nll"]),
        checkpoint=weights,
    )


def run_calibration(
    run_folder: Path,
    record: run_record.RunRecord,
    model: Method,
    weights: str,
    store: Store | None,
    device: torch.device,
) -> Calibration | None:
    """Read a run's calibration from RUN/calibration.json, or fit it on the store's validation split and keep it there.

    Args:
        run_folder: The run.
        record: Its record.
        model: Its best model.
        weights: SHA-256 of the model's checkpoint.
        store: Its store; None: it is gone.
        device: Where the model is.

    Returns:
        The calibration; None when it is not there and cannot be fitted: no store, or no two validation rows.
    """
    kept = _read(run_folder / CALIBRATION_FILE)
    if kept is not None and kept.checkpoint == weights:
        return kept
    if store is None or store.index.digest != record.store_digest or store.index.rows("val") < 2:
        return None
    calibration = calibrate(*validation_logits(record, model, store, device), weights)
    with contextlib.suppress(FerError):  # a run on a read-only disk is calibrated again each time
        write_recorded(run_folder / CALIBRATION_FILE, json_bytes(asdict(calibration)))
    return calibration


def _read(path: Path) -> Calibration | None:
    """Read a calibration that can be believed; a damaged one is as good as none, for it is fitted again."""
    try:
        found = parse_json(read_recorded(path, ""), Calibration)
    except (RunError, UnreadableTextError):
        return None
    low, high = TEMPERATURE_RANGE
    return found if low <= found.temperature <= high and found.n >= 2 else None


@torch.no_grad()
def validation_logits(
    record: run_record.RunRecord, model: Method, store: Store, device: torch.device
) -> tuple[Float64[np.ndarray, "n k"], Int64[np.ndarray, "n"]]:
    """Compute logits and labels of the validation split, as the evaluation does."""
    loader = measured_run.measuring_loader(record, store, "val", device)
    logits, label = [], []
    with contextlib.closing(loader.epoch(0)) as batches:
        for batch in batches:
            logits.append(model(batch.image).logits.double().cpu().numpy())
            label.append(batch.label.cpu().numpy())
    return np.concatenate(logits), np.concatenate(label)
