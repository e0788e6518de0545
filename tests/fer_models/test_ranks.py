"""Two processes train the model that one would: same samples, same loss, same weights up to rounding."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from aupipe.fer_data.errors import UserInputError
from aupipe.fer_data.shards import Store
from aupipe.fer_models.training.config import TrainConfig
from aupipe.fer_models.training.ranks import Ranks, ranks_from_environment
from aupipe.fer_models.training.run import train
from forked import CONTEXT
from synthetic import synthetic_store

# Without batch norm, whose statistics each process takes of its own share.
CONFIG = TrainConfig(
    backbone="test_convnext", align_layers="2", align_average="valid", epochs=2, batch_size=14, crop_size=32,
    device="cpu", optimizer="sgd", lr=0.05,
)  # fmt: skip


# Of 27 images: batches of 13 and 14, so that the two processes have 6 and 7 of the first one.
@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return synthetic_store(tmp_path_factory.mktemp("store"), train=27, val=9, test=0, size=32, map_size=8)


def _rank(rank: int, size: int, port: int, store: Path, run: Path, config: TrainConfig) -> None:
    torch.set_num_threads(1)
    os.environ.update(
        RANK=str(rank), WORLD_SIZE=str(size), LOCAL_RANK=str(rank), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )
    train(store, run, config)


def torchrun(size: int, store: Store, run: Path, config: TrainConfig) -> None:
    """What torchrun does: processes that find each other by their environment."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    arguments = (size, port, store.folder, run, config)
    children = [CONTEXT.Process(target=_rank, args=(rank, *arguments)) for rank in range(size)]
    for child in children:
        child.start()
    for child in children:
        child.join(120)
    assert [child.exitcode for child in children] == [0] * size


def log(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def test_two_processes_do_the_work_of_one(small: Store, tmp_path: Path) -> None:
    """And what two began in the middle of an epoch, one continues."""
    train(small.folder, tmp_path / "one", CONFIG)
    torchrun(2, small, tmp_path / "two", CONFIG)
    torchrun(2, small, tmp_path / "both", replace(CONFIG, max_steps=3))
    assert train(small.folder, tmp_path / "both", CONFIG).resumed
    for run in ("two", "both"):
        for row, expected in zip(log(tmp_path / run), log(tmp_path / "one"), strict=True):
            for name in ("train_ce", "train_align", "train_total", "val_ce", "val_align", "step"):
                assert row[name] == pytest.approx(expected[name], abs=2e-4), (run, name)
        ours, whole = (torch.load(tmp_path / name / "last.pt", weights_only=True)["model"] for name in (run, "one"))
        for name, value in whole.items():
            assert torch.allclose(ours[name], value, atol=2e-4), (run, name)


def test_the_environment_says_who_is_who() -> None:
    assert ranks_from_environment({}) == ranks_from_environment({"WORLD_SIZE": "1", "RANK": "0"}) == Ranks()
    whole = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}
    assert ranks_from_environment(whole) == Ranks(3, 4, 1)
    assert ranks_from_environment({**whole, "RANK": "0"}).first and not ranks_from_environment(whole).first
    for wrong in ({"RANK": "4"}, {"LOCAL_RANK": ""}, {"WORLD_SIZE": "many"}):
        with pytest.raises(UserInputError, match=r"incomplete or contradict.*torchrun"):
            ranks_from_environment({**whole, **wrong})


def test_a_batch_that_cannot_be_shared_out_is_refused(
    small: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aupipe.fer_models.training import run as training

    monkeypatch.setattr(training, "joined", lambda device: contextlib.nullcontext(Ranks(0, 4, 0)))
    with pytest.raises(UserInputError, match=r"batch of 14 cannot be shared out.*4 processes.*batch size of 16"):
        train(small.folder, tmp_path, CONFIG)
    assert not (tmp_path / "config.json").exists()
