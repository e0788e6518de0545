"""The loader in other processes: forked, spawned, pickled, under a plain ``DataLoader``; and its memory."""

from __future__ import annotations

import multiprocessing
import pickle
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from aupipe.fer_data.loading.augment import AugmentConfig
from aupipe.fer_data.loading.loader import TripletLoader
from aupipe.fer_data.loading.plan import Mode
from aupipe.fer_data.shards import Store, open_store
from aupipe.fer_data.shards import rows as rows_module
from synthetic import synthetic_store

CONFIG = AugmentConfig(56)


def checksum(loader: TripletLoader) -> list[tuple[list[int], float]]:
    return [(batch.index.tolist(), round(float(batch.image.double().sum()), 3)) for batch in loader.epoch(1)]


def child(loader: TripletLoader, answer: Connection) -> None:
    torch.set_num_threads(1)  # as DataLoader's workers do: OpenMP's threads do not survive a fork
    answer.send(checksum(loader))
    answer.close()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_used_loader_works_in_another_process(store: Store, method: str) -> None:
    loader = TripletLoader(store.split("train"), 12, CONFIG, threads=2)
    expected = checksum(loader)  # files and buffers are open now
    context = multiprocessing.get_context(method)
    mine, theirs = context.Pipe()
    process = context.Process(target=child, args=(loader, theirs))  # type: ignore[attr-defined]
    process.start()
    theirs.close()
    assert mine.poll(60)
    found = mine.recv()
    process.join(10)
    assert process.exitcode == 0
    assert [rows for rows, _ in found] == [rows for rows, _ in expected]
    assert [value for _, value in found] == pytest.approx([value for _, value in expected], abs=0.5)
    assert checksum(loader) == expected


def test_a_pickled_loader_keeps_its_place_not_its_buffers(store: Store) -> None:
    loader = TripletLoader(store.split("train"), 8, CONFIG)
    batches = loader.epoch(1)
    next(batches)
    data = pickle.dumps(loader)
    rest = [batch.index.tolist() for batch in batches]
    assert len(data) < 20_000
    assert [batch.index.tolist() for batch in pickle.loads(data).resume()] == rest


@pytest.mark.parametrize(
    ("workers", "choices"),
    [
        (0, {}), (2, {}), (0, {"target": "mean"}), (0, {"target": "shuffled"}), (2, {"target": "landmarks"}),
        (0, {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4)}), (0, {"maps": "rendered"}),
        (0, {"neutral": "uniform"}), (0, {"maps": "rendered", "neutral": "uniform"}),
    ],
)  # fmt: skip
def test_as_torch_dataset_under_a_plain_dataloader(store: Store, workers: int, choices: dict[str, Any]) -> None:
    loader = TripletLoader(store.split("train"), 12, CONFIG, seed=4, **choices)
    dataset = loader.as_torch_dataset()
    dataset.set_epoch(3)
    plain = torch.utils.data.DataLoader(dataset, batch_sampler=loader.plan.batches(3), num_workers=workers)
    count = 0
    for ours, theirs in zip(loader.epoch(3), plain, strict=True):
        count += 1
        tensors = {name: value for name, value in vars(ours).items() if name != "aus"}
        assert set(theirs) == set(tensors)
        for name, value in tensors.items():
            assert theirs[name].dtype == value.dtype and theirs[name].shape == value.shape, name
            assert torch.allclose(theirs[name].double(), value.double(), atol=1e-5), name
    assert count == 5


def test_the_dataset_is_a_picklable_sequence(store: Store) -> None:
    dataset = TripletLoader(store.split("train"), 8, AugmentConfig(48, scale=(1, 1), rotation_p=0)).as_torch_dataset()
    first = dataset[0]
    again = pickle.loads(pickle.dumps(dataset))
    assert len(again) == 56 and torch.equal(again[0]["image"], first["image"])
    assert torch.equal(again[-56]["image"], first["image"])
    with pytest.raises(IndexError, match="row 56 of 56"):
        again[56]
    dataset.set_epoch(1)
    assert not torch.equal(dataset[0]["image"], first["image"])


def reading(folder: Path, mode: Mode, mapped: bool, answer: Connection) -> None:
    process = psutil.Process()
    if not mapped:
        rows_module.MAPPED_SHARE = 0.0
    loader = TripletLoader(open_store(folder).split("train"), 16, AugmentConfig(256, enabled=False), mode=mode)

    def memory() -> tuple[int, int]:
        found = process.memory_info()
        return found.rss, found.rss - found.shared

    def use(epoch: int) -> tuple[int, int]:
        for _ in loader.uint8_epoch(epoch):
            pass
        return memory()

    for batch in loader.epoch(0):  # libraries and buffers take their memory
        del batch
        break
    found = [memory(), *(use(epoch) for epoch in range(4))]
    answer.send((found, any(Path(one.path).parent == folder for one in process.memory_maps())))


@pytest.mark.slow
@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("mode", ["block", "full"])
def test_memory_stays_flat_while_a_store_is_read(tmp_path: Path, mode: Mode, mapped: bool) -> None:
    """The store is 59 MB; mapped, it is all counted after one epoch, but none of it is the process's own."""
    store = synthetic_store(tmp_path, train=300, val=0, test=0, size=256, map_size=16, rows_per_shard=128)
    size = sum(entry.bytes for entry in store.index.shards)
    assert size > 59e6
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe()
    process = context.Process(target=reading, args=(tmp_path, mode, mapped, theirs))
    process.start()
    assert mine.poll(120)
    found, has_maps = mine.recv()
    resident, own = np.array(found).T
    process.join(10)
    assert np.ptp(own) < 10e6
    assert np.ptp(resident[1:]) < 10e6
    assert np.ptp(resident) < (size + 10e6 if mapped else 20e6)
    assert has_maps == mapped


def test_files_are_closed_with_the_reader(store: Store) -> None:
    def opened() -> int:
        return len([1 for name in Path("/proc/self/fd").iterdir() if _target(name).endswith(".h5")])

    before = opened()
    loader = TripletLoader(store.split("train"), 8, CONFIG)
    list(loader.epoch(0))
    assert opened() == before + 2  # of the two shards' maps
    del loader
    assert opened() == before


def _target(name: Path) -> str:
    try:
        return str(name.readlink())
    except OSError:
        return ""
