"""A run trained for one epoch, and its faithfulness measured once."""

from __future__ import annotations

from pathlib import Path

import pytest

from aupipe.fer_data.shards import Store
from aupipe.fer_models.training.config import TrainConfig
from aupipe.fer_models.training.run import train


@pytest.fixture(scope="session")
def quick() -> TrainConfig:
    return TrainConfig(
        backbone="test_resnet", epochs=1, batch_size=14, crop_size=56, output_stride=8, lr=0.01, device="cpu"
    )


@pytest.fixture(scope="session")
def run(store: Store, quick: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tests only read it, and write elsewhere."""
    folder = tmp_path_factory.mktemp("faithful")
    train(store.folder, folder, quick)
    return folder
