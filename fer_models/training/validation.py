"""Measuring a model on the validation split, between two epochs."""

from __future__ import annotations

import contextlib

import numpy as np
import torch

from aupipe.fer_data.loading.loader import TripletLoader
from aupipe.fer_models import metrics
from aupipe.fer_models.losses import TERMS, Objective
from aupipe.fer_models.methods import Method


@torch.no_grad()
def validate(model: Method, loader: TripletLoader, objective: Objective, *, amp: bool) -> dict[str, float]:
    """Measure accuracies and the mean loss terms, each named ``val_...``."""
    model.eval()
    k = model.n_classes
    confusion = np.zeros((k, k), np.int64)
    sums = torch.zeros(len(TERMS), dtype=torch.float64, device=loader.device)
    with contextlib.closing(loader.epoch(0)) as batches:
        for batch in batches:
            with torch.autocast(loader.device.type, enabled=amp):
                out = model(batch.image)
                terms = objective(out.logits, out.features, batch.label, batch.au_map, batch.has_map)
            sums += terms.stacked() * len(batch)
            confusion += metrics.confusion_matrix(batch.label.cpu().numpy(), out.logits.argmax(1).cpu().numpy(), k)
    means = (sums / loader.rows).tolist()
    return {
        "val_accuracy": metrics.accuracy(confusion),
        "val_balanced_accuracy": metrics.balanced_accuracy(confusion),
        **{f"val_{name}": value for name, value in zip(TERMS, means, strict=True)},
    }
