from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from fer_data.augment import AugmentConfig
from fer_data.errors import StoreError, UserInputError
from fer_data.loader import Batch, TripletLoader, order
from fer_data.shards import SplitReader, Store
from synthetic import synthetic_store

CONFIG = AugmentConfig(56)


def loader_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("aupipe-loader")]


def same(a: Batch, b: Batch) -> bool:
    return all(torch.equal(value, getattr(b, name)) for name, value in vars(a).items())


@pytest.mark.parametrize("mode", ["none", "full", "block"])
@pytest.mark.parametrize("n", [0, 1, 5, 1000])
def test_order_is_a_permutation(mode: str, n: int) -> None:
    rows = order(n, 3, 1, mode, block=64)  # type: ignore[arg-type]
    assert rows.dtype == np.int64
    assert np.array_equal(np.sort(rows), np.arange(n))
    assert np.array_equal(rows, order(n, 3, 1, mode, block=64))  # type: ignore[arg-type]


def test_order_depends_on_seed_and_epoch() -> None:
    base = order(500, 0, 0)
    assert not np.array_equal(base, order(500, 0, 1))
    assert not np.array_equal(base, order(500, 1, 0))
    assert abs(np.corrcoef(base, np.arange(500))[0, 1]) < 0.15


def test_block_order_keeps_blocks_together() -> None:
    blocks = order(1000, 0, 0, "block", block=100) // 100
    assert (np.diff(blocks) != 0).sum() == 9
    assert not np.array_equal(np.unique(blocks, return_index=True)[1], np.arange(10) * 100)


def test_unknown_order_is_refused() -> None:
    with pytest.raises(UserInputError, match="none, full or block"):
        order(5, 0, 0, "random")  # type: ignore[arg-type]


def test_batches_hold_the_rows_they_name(store: Store) -> None:
    reader = store.split("train")
    loader = TripletLoader(reader, 10, AugmentConfig(64, enabled=False))
    seen = []
    for batch in loader.epoch(0):
        seen += batch.index.tolist()
        for slot, row in enumerate(batch.index.tolist()):
            picture = batch.image[slot].permute(1, 2, 0) * 0.2 + 0.45
            assert np.allclose(picture.numpy() * 255, reader.image(row), atol=0.01)
            assert np.allclose(batch.au_map[slot].numpy(), reader.au_map(row), atol=1e-6)
            assert batch.label[slot] == reader.labels[row]
            assert batch.has_map[slot] == bool(reader.has_map[row])
            assert np.allclose(batch.landmarks[slot].numpy(), reader.landmarks[row], atol=1e-4)
    assert sorted(seen) == list(range(56))
    assert len(loader) == 6
    assert 0 <= loader.wait_fraction <= 1


def test_samples_do_not_depend_on_the_batch_size(store: Store) -> None:
    reader = store.split("train")
    small = {
        int(i): x
        for b in TripletLoader(reader, 3, CONFIG, seed=5).epoch(2)
        for i, x in zip(b.index, b.image, strict=True)
    }
    for batch in TripletLoader(reader, 20, CONFIG, seed=5).epoch(2):
        for row, picture in zip(batch.index.tolist(), batch.image, strict=True):
            assert torch.allclose(picture, small[row], atol=1e-5)


def test_drop_last_and_limit(store: Store) -> None:
    reader = store.split("train")
    assert [len(b) for b in TripletLoader(reader, 25, CONFIG, drop_last=True).epoch(0)] == [25, 25]
    assert [len(b) for b in TripletLoader(reader, 100, CONFIG, drop_last=True).epoch(0)] == [56]
    limited = TripletLoader(reader, 4, CONFIG, mode="none", limit=6)
    assert [b.index.tolist() for b in limited.epoch(0)] == [[0, 1, 2, 3], [4, 5]]


def test_resume_continues_with_the_same_batches(store: Store) -> None:
    reader = store.split("train")
    whole = list(TripletLoader(reader, 8, CONFIG, seed=1).epoch(4))
    interrupted = TripletLoader(reader, 8, CONFIG, seed=1)
    iterator = interrupted.epoch(4)
    for _ in range(3):
        next(iterator)
    state = interrupted.state_dict()
    iterator.close()
    fresh = TripletLoader(reader, 8, CONFIG, seed=1)
    fresh.load_state_dict(state)
    rest = list(fresh.resume())
    assert state["batches_done"] == 3 and len(rest) == 4
    assert all(same(a, b) for a, b in zip(whole[3:], rest, strict=True))


def test_state_of_another_store_or_order_is_refused(store: Store, tmp_path: Path) -> None:
    state = TripletLoader(store.split("train"), 8, CONFIG).state_dict()
    other = synthetic_store(tmp_path, train=14, val=0, test=0, seed=9)
    with pytest.raises(StoreError, match="store_digest"):
        TripletLoader(other.split("train"), 8, CONFIG).load_state_dict(state)
    with pytest.raises(StoreError, match="batch_size"):
        TripletLoader(store.split("train"), 4, CONFIG).load_state_dict(state)


def test_an_error_while_reading_reaches_the_consumer(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def broken(self: SplitReader, rows: np.ndarray, images: np.ndarray, maps: np.ndarray) -> None:
        calls.append(threading.current_thread().name)
        if len(calls) > 2:
            raise StoreError("the disk is gone")

    monkeypatch.setattr(SplitReader, "gather", broken)
    with pytest.raises(StoreError, match="the disk is gone"):
        list(TripletLoader(store.split("train"), 4, CONFIG).epoch(0))
    assert calls[0].startswith("aupipe-loader")
    assert not loader_threads()


def test_abandoning_the_iterator_ends_the_thread(store: Store) -> None:
    iterator = TripletLoader(store.split("train"), 4, CONFIG).epoch(0)
    next(iterator)
    assert loader_threads()
    del iterator
    deadline = time.monotonic() + 5
    while loader_threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not loader_threads()


def test_bad_sizes_are_refused(store: Store) -> None:
    with pytest.raises(UserInputError, match="batch size"):
        TripletLoader(store.split("train"), 0, CONFIG)
    with pytest.raises(UserInputError, match="does not fit"):
        TripletLoader(store.split("train"), 4, AugmentConfig(65))
