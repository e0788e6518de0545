"""What is left of an epoch after a stop: the very same samples and augmentations, for any threads and world size."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aupipe.fer_data.errors import StoreError, UserInputError
from aupipe.fer_data.loading.augment import AugmentConfig
from aupipe.fer_data.loading.loader import Batch, TripletLoader
from aupipe.fer_data.loading.plan import EpochPlan, Mode, balanced, order
from aupipe.fer_data.shards import Store
from synthetic import synthetic_store

CONFIG = AugmentConfig(24)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return synthetic_store(tmp_path_factory.mktemp("small"), train=40, val=0, test=0, size=32, map_size=8)


def merged(ranks: list[list[Batch]]) -> list[tuple[int, torch.Tensor, torch.Tensor]]:
    """All samples in the global order, whoever had them."""
    assert len({len(batches) for batches in ranks}) == 1
    return [
        (int(row), batch.image[i], batch.au_map[i])
        for together in zip(*ranks, strict=True)
        for batch in together
        for i, row in enumerate(batch.index)
    ]


def divisors(batch: int) -> list[int]:
    return [count for count in range(1, batch + 1) if batch % count == 0]


@st.composite
def interruptions(draw: st.DrawFn) -> tuple[EpochPlan, int, tuple[int, int], tuple[int, int]]:
    """A plan, the batches before the stop, and (world size, threads) before and after."""
    batch = draw(st.integers(1, 20))
    even, mode = draw(st.booleans()), draw(st.sampled_from(["none", "full", "block"]))
    plan = EpochPlan(40, batch, draw(st.integers(0, 3)), mode, not even, even=even)
    worlds = [count for count in divisors(batch) if not even or count <= 40 // len(plan)]
    runs = [(draw(st.sampled_from(worlds)), draw(st.integers(1, 4))) for _ in range(2)]
    return plan, draw(st.integers(0, len(plan))), runs[0], runs[1]


def loaders(store: Store, plan: EpochPlan, world: int, threads: int) -> list[TripletLoader]:
    return [
        TripletLoader(
            store.split("train"), plan.batch_size, CONFIG, seed=plan.seed, mode=plan.mode, drop_last=plan.drop_last,
            rank=rank, world_size=world, threads=threads, even=plan.even,
        )
        for rank in range(world)
    ]  # fmt: skip


@pytest.mark.slow
@settings(deadline=None, max_examples=40)
@given(interruptions())
def test_a_resumed_epoch_has_the_samples_that_were_left(
    small: Store, case: tuple[EpochPlan, int, tuple[int, int], tuple[int, int]]
) -> None:
    plan, stop, before, after = case
    whole = merged([list(loaders(small, plan, 1, 1)[0].epoch(2))])
    states, seen = [], []
    for loader in loaders(small, plan, *before):
        batches = loader.epoch(2)
        seen.append([next(batches) for _ in range(stop)])
        batches.close()
        states.append(json.dumps(loader.state_dict()) if stop else json.dumps(_at_start(loader)))
    assert len(set(states)) == 1, "every rank has the same state"
    left = []
    for loader in loaders(small, plan, *after):
        loader.load_state_dict(json.loads(states[0]))
        left.append(list(loader.resume()))
    found = merged(seen) + merged(left)
    assert [row for row, *_ in found] == [row for row, *_ in whole]
    for (_, *expected), (_, *got) in zip(whole, found, strict=True):
        # The same arithmetic on batches of other sizes: equal up to the order of additions.
        assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(expected, got, strict=True))


def _at_start(loader: TripletLoader) -> dict[str, object]:
    return {**loader.state_dict(), "epoch": 2}


def test_a_resumed_epoch_is_bit_identical_in_the_same_batches(small: Store) -> None:
    loader = TripletLoader(small.split("train"), 8, CONFIG, seed=1)
    whole = list(loader.epoch(4))
    batches = loader.epoch(4)
    for _ in range(3):
        next(batches)
    state = loader.state_dict()
    assert state["samples_done"] == 24 and state["epoch"] == 4
    batches.close()
    fresh = TripletLoader(small.split("train"), 8, CONFIG, seed=1, threads=3)
    fresh.load_state_dict(state)
    for a, b in zip(whole[3:], fresh.resume(), strict=True):
        assert all(torch.equal(value, getattr(b, name)) for name, value in vars(a).items() if name != "aus")


@settings(deadline=None, max_examples=200)
@given(
    st.integers(1, 300), st.integers(1, 60), st.sampled_from(["short", "drop", "even"]),
    st.sampled_from(["none", "full", "block"]), st.data(),
)  # fmt: skip
def test_ranks_share_out_every_batch(rows: int, batch: int, rest: str, mode: Mode, data: st.DataObject) -> None:
    world = data.draw(st.sampled_from(divisors(batch)))
    drop, even = rest == "drop", rest == "even"
    plans = [EpochPlan(rows, batch, 5, mode, drop, rank, world, even=even) for rank in range(world)]
    try:
        plans[0].check()
    except UserInputError:
        assert (
            (batch > rows)
            if drop
            else (batch > rows or rows // len(plans[0]) < world)
            if even
            else (0 < rows % batch < world)
        )
        return
    whole = EpochPlan(rows, batch, 5, mode, drop, even=even).batches(3)
    shares = [plan.batches(3) for plan in plans]
    assert all(len(share) == len(whole) == len(plans[0]) for share in shares)
    for number, expected in enumerate(whole):
        parts = [share[number] for share in shares]
        assert np.array_equal(np.concatenate(parts), expected)
        assert max(map(len, parts)) - min(map(len, parts)) <= 1 and min(map(len, parts)) > 0
    assert sum(map(len, whole)) == (rows - rows % batch if drop else rows) == plans[0].samples(len(whole))
    assert [plans[0].batches_done(plans[0].samples(done)) for done in range(len(whole) + 1)] == [*range(len(whole) + 1)]


@settings(deadline=None, max_examples=300)
@given(st.integers(1, 400), st.integers(1, 60), st.integers(0, 5))
def test_even_batches_use_every_row_once_and_leave_none_alone(rows: int, batch: int, epoch: int) -> None:
    plan = EpochPlan(rows, batch, 1, even=True)
    if batch > rows:
        with pytest.raises(UserInputError, match="larger than the split"):
            plan.check()
        return
    batches = plan.batches(epoch)
    sizes = [len(one) for one in batches]
    assert np.array_equal(np.concatenate(batches), order(rows, 1, epoch))
    assert max(sizes) - min(sizes) <= 1 and max(sizes) == plan.largest
    assert max(sizes) <= batch or (batch == 2 and sorted(sizes)[-2:] in ([2, 3], [3]))
    assert min(sizes) >= min(2, batch) and min(sizes) >= batch / 2
    assert rows % batch or set(sizes) == {batch}


def test_even_batches_drop_nothing(small: Store) -> None:
    with pytest.raises(UserInputError, match="no last one to drop"):
        TripletLoader(small.split("train"), 8, CONFIG, drop_last=True, even=True)
    with pytest.raises(UserInputError, match=r"smallest batch .* has 10 rows for 12 processes.*batch size of 24"):
        TripletLoader(small.split("train"), 12, CONFIG, world_size=12, even=True)
    assert [len(one) for one in TripletLoader(small.split("train"), 12, CONFIG, even=True).epoch(0)] == [10] * 4
    assert [len(one) for one in TripletLoader(small.split("train"), 39, CONFIG, even=True).epoch(0)] == [20, 20]


def test_state_after_an_epoch_leaves_nothing(small: Store) -> None:
    loader = TripletLoader(small.split("train"), 16, CONFIG)
    list(loader.epoch(0))
    assert loader.state_dict()["samples_done"] == 40
    fresh = TripletLoader(small.split("train"), 16, CONFIG)
    fresh.load_state_dict(loader.state_dict())
    assert list(fresh.resume()) == []


def test_state_of_another_store_order_or_augmentation_is_refused(small: Store, tmp_path: Path) -> None:
    state = TripletLoader(small.split("train"), 8, CONFIG).state_dict()
    other = synthetic_store(tmp_path, train=40, val=0, test=0, size=32, map_size=8, seed=9)
    with pytest.raises(StoreError, match=r"another store.*store_digest"):
        TripletLoader(other.split("train"), 8, CONFIG).load_state_dict(state)
    for name, loader in {
        "batch_size": TripletLoader(small.split("train"), 4, CONFIG),
        "mode": TripletLoader(small.split("train"), 8, CONFIG, mode="block"),
        "seed": TripletLoader(small.split("train"), 8, CONFIG, seed=1),
        "rows": TripletLoader(small.split("train"), 8, CONFIG, limit=39),
        "augmentation": TripletLoader(small.split("train"), 8, AugmentConfig(24, flip=0.4)),
    }.items():
        with pytest.raises(StoreError, match=name):
            loader.load_state_dict(state)


@pytest.mark.parametrize("done", [3, -8, 48, "8", None])
def test_a_damaged_state_is_refused(small: Store, done: object) -> None:
    loader = TripletLoader(small.split("train"), 8, CONFIG)
    with pytest.raises(StoreError, match=r"state is damaged.*a multiple of 8 up to 40"):
        loader.load_state_dict({**loader.state_dict(), "samples_done": done})


def test_world_sizes_that_do_not_fit_are_refused(small: Store) -> None:
    reader = small.split("train")
    with pytest.raises(UserInputError, match=r"batch of 8 cannot.*among 3 processes.*batch size of 9, or 2 processes"):
        TripletLoader(reader, 8, CONFIG, world_size=3)
    with pytest.raises(UserInputError, match="no such rank"):
        TripletLoader(reader, 8, CONFIG, rank=2, world_size=2)
    with pytest.raises(UserInputError, match=r"last batch of an epoch has 4 rows for 6 processes.*drop_last"):
        TripletLoader(reader, 36, CONFIG, world_size=6)
    assert len(TripletLoader(reader, 36, CONFIG, world_size=6, drop_last=True)) == 1


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(0, 3), st.integers(0, 5))
def test_balanced_epochs_show_each_class_equally_often(labels: list[int], seed: int, epoch: int) -> None:
    numbers = np.array(labels, np.uint8)
    n, share = len(labels), len(labels) // len(set(labels))
    draws = balanced(numbers, seed, epoch)
    assert len(set(draws)) == len(draws), "no draw comes twice: repetitions have numbers of their own"
    assert np.array_equal(draws, balanced(numbers, seed, epoch))
    rows = draws % n
    for label in set(labels):
        assert (numbers[rows] == label).sum() == share
        times = np.bincount(rows, minlength=n)[numbers == label]
        # Two rounds may meet in an epoch: a row comes at most once in each.
        assert times.max() <= -(-share // len(times)) + 1
    # Across epochs nobody is drawn twice more often than anybody else of the class.
    total = sum(np.bincount(balanced(numbers, seed, e) % n, minlength=n) for e in range(epoch + 1))
    for label in set(labels):
        assert np.ptp(total[numbers == label]) <= 1


def test_a_balanced_loader_continues_and_repeats_with_other_augmentations(tmp_path: Path) -> None:
    store = synthetic_store(tmp_path, train=15, val=0, test=0, size=32, map_size=8)
    reader = store.split("train")
    reader.__dict__["labels"] = np.array([0] * 12 + [1] * 3, np.uint8)
    loader = TripletLoader(reader, 4, CONFIG, mode="balanced")
    whole = list(loader.epoch(0))
    labels, rows = (torch.cat([getattr(batch, name) for batch in whole]) for name in ("label", "index"))
    assert torch.bincount(labels).tolist() == [7, 7] and len(loader) == 4
    images = torch.cat([batch.image for batch in whole])
    again = [(a, b) for a in range(14) for b in range(a) if rows[a] == rows[b]]
    assert again and not any(torch.equal(images[a], images[b]) for a, b in again)
    ranks = [
        list(TripletLoader(reader, 4, CONFIG, mode="balanced", rank=rank, world_size=2).epoch(0, 1)) for rank in (0, 1)
    ]
    assert [row for row, *_ in merged(ranks)] == rows[4:].tolist()
    plain = TripletLoader(reader, 4, CONFIG)
    with pytest.raises(StoreError, match="mode"):
        plain.load_state_dict(loader.state_dict())
    with pytest.raises(UserInputError, match="no map-style data set"):
        loader.as_torch_dataset()


def test_numpy_s_whole_numbers_are_whole_numbers(small: Store) -> None:
    reader, crop = small.split("train"), AugmentConfig(24)
    numbers: Any = {"limit": np.int64(30), "seed": np.int64(3), "threads": np.int32(2)}
    loader = TripletLoader(reader, np.int64(8), crop, **numbers)
    assert sum(map(len, loader.epoch(0))) == 30
    state = json.loads(json.dumps(loader.state_dict()))
    TripletLoader(reader, 8, crop, limit=30, seed=3).load_state_dict(state)
    loader.load_state_dict(state)


@pytest.mark.parametrize(
    ("rows", "batch", "world", "even", "way"),
    [
        (41, 8, 4, False, "a batch size of 12 or drop_last=True"),
        (9, 4, 4, False, "drop_last=True"),
        (5, 4, 4, True, "fewer processes"),
    ],
)
def test_the_advised_way_to_share_is_one_that_works(rows: int, batch: int, world: int, even: bool, way: str) -> None:
    with pytest.raises(UserInputError, match=rf"rows for {world} processes.*Use {way}\.$"):
        EpochPlan(rows, batch, world_size=world, even=even).check()
    EpochPlan(rows, batch, drop_last=not even, world_size=1 if even else world, even=even).check()
    if "size" in way:
        EpochPlan(rows, int(re.findall(r"\d+", way)[0]), world_size=world, even=even).check()


def test_the_state_of_another_split_is_refused(tmp_path: Path) -> None:
    store = synthetic_store(tmp_path / "store", train=14, val=14, test=0, size=32, map_size=8)
    train, val = (TripletLoader(store.split(name), 7, CONFIG) for name in ("train", "val"))
    with pytest.raises(StoreError, match="split"):
        val.load_state_dict(train.state_dict())
