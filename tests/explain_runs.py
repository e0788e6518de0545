"""A run trained for one step on the embedded faces."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from aupipe.fer_models.training.config import TrainConfig
from offline import Built

CONFIG = TrainConfig(backbone="test_resnet", epochs=1, max_steps=1, batch_size=8, crop_size=56, device="cpu")


@dataclass(frozen=True)
class Trained:
    """A run with its store and photos. Tests only read them."""

    built: Built
    run: Path
