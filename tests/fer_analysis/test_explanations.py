from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from aupipe.fer_analysis.evaluation import evaluate
from aupipe.fer_analysis.explanations import explain_batch
from aupipe.fer_data.errors import RunError
from aupipe.fer_data.shards import Store
from aupipe.fer_demo.page import comparison_table, example_rows, write_demo_page
from aupipe.fer_models.training.config import TrainConfig
from aupipe.fer_models.training.run import train

CONFIG = TrainConfig(backbone="test_resnet", epochs=1, batch_size=14, crop_size=48, max_steps=1, device="cpu")


@pytest.fixture(scope="module")
def runs(store: Store, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("compared")
    runs = {"without AUs": folder / "a", "with AUs": folder / "b"}
    for run, weight in zip(runs.values(), (0.0, 4.0), strict=True):
        train(store.folder, run, replace(CONFIG, align_weight=weight))
    evaluate(runs["without AUs"])
    return runs


def test_an_explanation_shows_the_rows_it_was_asked_for(runs: dict[str, Path], store: Store) -> None:
    rows = [5, 2]
    said = explain_batch(runs["without AUs"], store, rows)
    reader = store.split("test")
    for slot, row in enumerate(rows):
        assert np.abs(said.images[slot].astype(int) - reader.image(row)[8:56, 8:56]).max() <= 1
        assert np.allclose(said.au_maps[slot], reader.au_map(row)[2:14, 2:14], atol=1e-6)
        assert np.allclose(said.landmarks[slot], reader.landmarks[row] - 8, atol=1e-4)
    assert said.label.tolist() == reader.labels[rows].tolist()
    assert said.attention.min() >= 0 and said.cam.min() >= 0
    finer = explain_batch(runs["without AUs"], store, rows, layer=2)
    assert finer.attention.shape == (2, 12, 12)


def test_the_page_needs_no_network_and_shows_every_expression(
    runs: dict[str, Path], store: Store, tmp_path: Path
) -> None:
    with pytest.raises(RunError, match="aupipe evaluate"):
        comparison_table(runs)
    for run in runs.values():
        evaluate(run)
    write_demo_page(tmp_path / "demo.html", store.folder, runs)
    page = (tmp_path / "demo.html").read_text()
    assert not re.search(r"https?://|src=\"(?!data:)", page)
    assert page.count("<section>") == len(store.index.classes)
    assert page.count("<img") == 7 * 6
    assert "prefers-color-scheme: dark" in page and 'name="viewport"' in page
    table = comparison_table(runs)
    assert table[1].startswith("without AUs")
    assert len({len(line) for line in table}) == 1
    assert example_rows(store, "test", 2)[:2] == [0, 7]
    assert torch.is_grad_enabled()
