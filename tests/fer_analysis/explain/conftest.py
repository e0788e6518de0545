"""A run trained for one step on the embedded faces, and what prepares photos for it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from aupipe.fer_analysis.explain import OpenRun, open_run
from aupipe.fer_models.training.run import train
from aupipe.pipeline.photos import PhotoPreparer
from explain_runs import CONFIG, Trained
from offline import Built


@pytest.fixture(scope="session")
def trained(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    run = tmp_path_factory.mktemp("trained") / "run"
    train(built.store, run, CONFIG)
    return Trained(built, run)


@pytest.fixture(scope="session")
def opened(trained: Trained) -> OpenRun:
    return open_run(trained.run, device="cpu")


@pytest.fixture(scope="session")
def preparer(opened: OpenRun) -> Iterator[PhotoPreparer]:
    made = PhotoPreparer(opened.preparation)
    yield made
    made.close()


@pytest.fixture
def moved(trained: Trained, opened: OpenRun, tmp_path: Path) -> Path:
    """A private copy of the run, calibrated, whose store cannot be found any more."""
    shutil.copytree(trained.run, tmp_path / "elsewhere" / "run")
    return tmp_path / "elsewhere" / "run"
