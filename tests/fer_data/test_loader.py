from __future__ import annotations

import dataclasses
import errno
import itertools
import os
import resource
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from aupipe.fer_data.errors import StoreError, UserInputError
from aupipe.fer_data.loading import augment, prefetch, resident
from aupipe.fer_data.loading.augment import AugmentConfig
from aupipe.fer_data.loading.counters import counter_hash
from aupipe.fer_data.loading.loader import Batch, TripletLoader, order
from aupipe.fer_data.loading.speed import memcpy_limit
from aupipe.fer_data.shards import SplitReader, Store, TripletRow
from aupipe.fer_data.shards import rows as rows_module
from jpeg_store import jpeg_copy
from synthetic import synthetic_store

CONFIG = AugmentConfig(56)


def loader_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("aupipe-loader")]


@pytest.fixture(params=[True, False], ids=["mapped", "not mapped"])
def mapped(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether files fit into memory, and are mapped."""
    if not request.param:
        monkeypatch.setattr(rows_module, "usable_memory", lambda: 1000)
    return bool(request.param)


def maps_in_use(folder: Path) -> set[str]:
    """Names of the files under a folder that this process has mapped."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    return {Path(line.split(maxsplit=5)[5]).name for line in lines if str(folder) in line}


def samples(batches: Iterable[Batch]) -> dict[int, tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Image, map and landmarks by row, in the order of arrival."""
    return {
        int(row): (batch.image[i], batch.au_map[i], batch.landmarks[i])
        for batch in batches
        for i, row in enumerate(batch.index)
    }


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
    assert [len(b) for b in TripletLoader(reader, 100, CONFIG).epoch(0)] == [56]
    limited = TripletLoader(reader, 4, CONFIG, mode="none", limit=6)
    assert [b.index.tolist() for b in limited.epoch(0)] == [[0, 1, 2, 3], [4, 5]]


def test_two_epochs_side_by_side_do_not_mix(store: Store) -> None:
    loader = TripletLoader(store.split("train"), 8, AugmentConfig(56))
    expected = [[batch.image.clone() for batch in loader.epoch(number)] for number in range(2)]
    for number, both in enumerate(zip(loader.epoch(0), loader.epoch(1), strict=True)):
        assert all(torch.equal(batch.image, expected[epoch][number]) for epoch, batch in enumerate(both))


def test_maps_of_faces_that_have_none_are_never_used(tmp_path: Path) -> None:
    def loud(row: TripletRow) -> TripletRow:
        return replace(row, has_map=False, au_map=np.full_like(row.au_map, 200))

    store = synthetic_store(tmp_path / "loud", change=loud)
    assert all(not batch.au_map.any() for batch in TripletLoader(store.split("train"), 8, AugmentConfig(56)).epoch(0))


def test_an_error_while_reading_reaches_the_consumer(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def broken(self: SplitReader, rows: np.ndarray, images: np.ndarray, maps: np.ndarray | None) -> None:
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
    for name in ("batch_size", "seed", "limit", "rank", "world_size", "threads"):
        for value in (2.5, "2", True):
            with pytest.raises(UserInputError, match=f"{name} must be a whole number. Got: {value!r}"):
                TripletLoader(store.split("train"), **{name: value})
    with pytest.raises(UserInputError, match="batch size"):
        TripletLoader(store.split("train"), 0, CONFIG)
    with pytest.raises(UserInputError, match="does not fit"):
        TripletLoader(store.split("train"), 4, AugmentConfig(65))
    with pytest.raises(UserInputError, match=r"batch of 57 is larger than the split.*--batch-size 56"):
        TripletLoader(store.split("train"), 57, CONFIG, drop_last=True)
    with pytest.raises(UserInputError, match="There are no rows to load"):
        TripletLoader(store.split("train"), 4, CONFIG, limit=0)
    with pytest.raises(UserInputError, match="needs a thread"):
        TripletLoader(store.split("train"), 4, CONFIG, threads=0)
    with pytest.raises(UserInputError, match="one of stored, rendered"):
        TripletLoader(store.split("train"), 4, CONFIG, maps="drawn")  # type: ignore[arg-type]


def test_splits_and_stores_without_rows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no rows in the split 'test'.*one of train, val"):
        synthetic_store(tmp_path / "a", train=7, val=7, test=0).split("test")
    with pytest.raises(StoreError, match="the store is empty"):
        synthetic_store(tmp_path / "b", train=0, val=0, test=0).split("train")


MOVES = AugmentConfig(48, scale=(1, 1), rotation_p=0)
FLIPS = AugmentConfig(64, scale=(1, 1), rotation_p=0)


@pytest.mark.parametrize("config", [CONFIG, MOVES, FLIPS, AugmentConfig(48, enabled=False)])
@pytest.mark.parametrize("options", [{"threads": 3}, {"resident": True}, {"batch_size": 5}, {"threads": 60}])
def test_every_way_of_reading_gives_the_same_samples(
    store: Store, config: AugmentConfig, options: dict[str, Any]
) -> None:
    reader = store.split("train")
    expected = samples(TripletLoader(reader, 12, config, seed=3).epoch(1))
    found = samples(TripletLoader(reader, **{"batch_size": 12, "config": config, "seed": 3, **options}).epoch(1))
    assert list(found) == list(expected)
    for row, values in expected.items():
        assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(values, found[row], strict=True)), row


def test_cutting_while_reading_equals_the_affine(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = store.split("train")
    cut = samples(TripletLoader(reader, 8, MOVES, seed=3).epoch(1))
    monkeypatch.setattr(augment, "pixel_cuts", lambda *_: None)
    monkeypatch.setattr(AugmentConfig, "only_moves", property(lambda _: False))
    monkeypatch.setattr(augment, "sample_parameters", on_pixels(augment.sample_parameters))
    sampled = samples(TripletLoader(reader, 8, MOVES, seed=3).epoch(1))
    assert any(not torch.equal(cut[row][0], sampled[row][0]) for row in cut)  # the other way was taken
    for row in cut:
        assert torch.allclose(cut[row][0], sampled[row][0], atol=2e-3)
        assert torch.allclose(cut[row][1], sampled[row][1], atol=1e-5)


def on_pixels(parameters: Callable[..., augment.AugmentParameters]) -> Callable[..., augment.AugmentParameters]:
    """Parameters whose crops start on whole pixels, whatever the configuration says of itself."""

    def wrapped(config: AugmentConfig, seed: int, epoch: int, rows: np.ndarray, size: int) -> augment.AugmentParameters:
        found, u = parameters(config, seed, epoch, rows, size), counter_hash(seed, epoch, rows, augment.DRAWS)[:, 1:3]
        share = (u >> np.uint64(11)).astype(np.float64) * 2.0**-53
        corner = np.floor(share * (size - config.crop_size + 1))
        return dataclasses.replace(found, centre=corner + (config.crop_size - 1) / 2)

    return wrapped


def test_uint8_batches_hold_the_bytes_of_the_store(store: Store) -> None:
    reader = store.split("train")
    seen = []
    for batch in TripletLoader(reader, 9, AugmentConfig(64, enabled=False), threads=2).uint8_epoch(0):
        assert batch.maps is not None
        for place, row in enumerate(batch.rows.tolist()):
            seen.append(row)
            assert np.array_equal(batch.images[place].numpy(), reader.image(row))
            assert np.allclose(batch.maps[place].numpy() / 255, reader.au_map(row), atol=1e-6)
    assert sorted(seen) == list(range(56))


def test_the_report_counts_what_was_delivered(store: Store) -> None:
    loader = TripletLoader(store.split("train"), 16, AugmentConfig(64, enabled=False))
    for _ in loader.epoch(0):
        time.sleep(0.01)
    report = loader.report
    assert report.images == 56 and report.bytes == 56 * (64 * 64 * 3 + 16 * 16)
    assert report.seconds >= 0.04 and report.images_per_second == pytest.approx(56 / report.seconds)
    assert report.gigabytes_per_second == pytest.approx(report.bytes / report.seconds / 1e9)
    assert 0 < report.first_batch_seconds < report.seconds
    assert loader.wait_fraction == report.wait_seconds / report.seconds < 0.9
    assert report.memcpy_fraction(64 * 64 * 3) == pytest.approx(report.gigabytes_per_second / memcpy_limit(64 * 64 * 3))


def test_waiting_for_slow_reads_is_seen(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    gather, asked, looks = SplitReader.gather, threading.Semaphore(0), itertools.count()

    def look_at_the_clock() -> float:
        if next(looks) % 2 == 0:  # before each wait, and after it
            asked.release()
        return time.perf_counter()

    def slow(self: SplitReader, *arguments: Any) -> None:
        assert asked.acquire(timeout=60)
        time.sleep(0.02)
        gather(self, *arguments)

    monkeypatch.setattr(prefetch, "time", SimpleNamespace(perf_counter=look_at_the_clock))
    monkeypatch.setattr(SplitReader, "gather", slow)
    loader = TripletLoader(store.split("train"), 8, AugmentConfig(64, enabled=False))
    for _ in loader.uint8_epoch(0):
        pass
    assert loader.report.wait_seconds > 7 * 0.02 * 0.9
    assert loader.wait_fraction > 0.2


def test_jpeg_stores_load_alike_on_any_number_of_threads(store: Store, tmp_path: Path) -> None:
    reader = jpeg_copy(store, tmp_path).split("train")
    assert reader.encoding == "jpeg"
    one, three = (samples(TripletLoader(reader, 8, CONFIG, threads=n).epoch(0)) for n in (1, 3))
    assert all(torch.allclose(a, b, atol=1e-5) for row in one for a, b in zip(one[row], three[row], strict=True))
    plain = TripletLoader(reader, 8, AugmentConfig(64, enabled=False), mode="none")
    first = next(iter(plain.uint8_epoch(0)))
    assert np.array_equal(first.images[3].numpy(), reader.image(3))


def test_a_block_is_asked_for_whole_and_in_stretches(
    store: Store, monkeypatch: pytest.MonkeyPatch, mapped: bool
) -> None:
    """Of one long stretch Linux would fetch the beginning alone."""
    reader, asked = store.split("train"), set[tuple[int, int]]()
    monkeypatch.setattr(rows_module, "STRETCH", 5000)

    def advise(descriptor: int, offset: int, length: int, advice: int) -> None:
        assert advice == os.POSIX_FADV_WILLNEED and 0 < length <= 5000
        asked.update((os.fstat(descriptor).st_ino, byte) for byte in range(offset, offset + length))

    monkeypatch.setattr(os, "posix_fadvise", advise)
    first, last = 3, reader.entries[0].rows + 2  # ends in the second shard
    reader.will_need(first, last)
    expected: set[tuple[int, int]] = set()
    for entry, start, stop in ((reader.entries[0], first, last - 2), (reader.entries[1], 0, 2)):
        file = (store.folder / entry.name).stat().st_ino
        for name, size in (("image", 64 * 64 * 3), ("au_map", reader.au_map(0).size)):
            begin = entry.offsets[name]
            expected.update((file, byte) for byte in range(begin + start * size, begin + stop * size))
    assert asked == expected


def test_rows_come_alike_from_mapped_files_and_from_others(tmp_path: Path, mapped: bool) -> None:
    store = synthetic_store(tmp_path / "raw", train=21, val=0, test=0, rows_per_shard=16)
    for reader in (store.split("train"), jpeg_copy(store, tmp_path).split("train")):
        folder, loader = reader.store.folder, TripletLoader(reader, 8, AugmentConfig(56, scale=(1, 1), rotation_p=0))
        expected = {entry.name for entry in reader.entries}
        for batch in loader.uint8_epoch(0):
            for place, row in enumerate(batch.rows.tolist()):
                with h5py.File(folder / reader.entries[row // 16].name) as file:
                    image = file["image"][row % 16] if "image" in file else reader.image(row)
                    assert np.array_equal(batch.maps[place], file["au_map"][row % 16])
                x, y = np.rint(batch.parameters.centre[place] - 27.5).astype(int)
                crop = image[y : y + 56, x : x + 56]
                assert np.array_equal(batch.images[place], crop[:, ::-1] if batch.parameters.flip[place] else crop)
        assert maps_in_use(folder) == (expected if mapped else set())


@pytest.mark.parametrize("error", [OSError(errno.ENODEV, "No such device"), ValueError("cannot mmap an empty file")])
@pytest.mark.parametrize("most", [0, 1])
def test_where_files_cannot_be_mapped_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int, error: Exception
) -> None:
    """Those that were mapped before the refusal are still looked at before they are used."""
    store = synthetic_store(tmp_path, train=21, val=0, test=0, rows_per_shard=8)
    expected = samples(TripletLoader(store.split("train"), 8, CONFIG).epoch(0))
    real = rows_module.mmap.mmap

    def refusing(*arguments: Any, **options: Any) -> object:
        if len(maps_in_use(tmp_path)) >= most:
            raise error
        return real(*arguments, **options)

    monkeypatch.setattr(rows_module.mmap, "mmap", refusing)
    reader = store.split("train")
    found = samples(TripletLoader(reader, 8, CONFIG).epoch(0))
    assert all(torch.equal(a, b) for row in expected for a, b in zip(expected[row], found[row], strict=True))
    assert len(maps_in_use(tmp_path)) == most
    with (tmp_path / "train-00000.h5").open("r+b") as file:
        file.truncate(10_000)
    with pytest.raises(StoreError, match="ended while it was read"):
        reader.image(7)


def test_an_index_that_points_behind_the_end_of_a_file_is_an_error(store: Store, mapped: bool) -> None:
    first, *others = store.index.shards
    for name in ("image", "au_map"):
        wrong = dataclasses.replace(first, offsets={**first.offsets, name: first.bytes - 10})
        index = dataclasses.replace(store.index, shards=(wrong, *others))
        with pytest.raises(StoreError, match="lies elsewhere in the file"):
            list(TripletLoader(Store(store.folder, index).split("train"), 8, CONFIG, mode="none").epoch(0))


def test_some_lines_of_an_image(store: Store, tmp_path: Path, mapped: bool) -> None:
    for reader in (store.split("train"), jpeg_copy(store, tmp_path).split("train")):
        buffer, small = np.zeros((64, 64, 3), np.uint8), np.zeros((3, *reader.au_map(0).shape), np.uint8)
        for row, top, count in ((0, 0, 64), (3, 5, 48), (len(reader) - 1, 63, 1)):
            ((shard, places, local),) = reader.in_file_order(np.array([row]))
            lines = shard.lines(int(local[0]), top, count, buffer)
            assert np.array_equal(lines, reader.image(row)[top : top + count])
            assert not (mapped and reader.encoding == "raw" and lines.flags.writeable)
            shard.read_maps(local, small, places + 1)
            assert np.array_equal(small[1], np.rint(reader.au_map(row) * 255)) and not small[[0, 2]].any()
        with pytest.raises(IndexError, match=f"row {len(reader)} of"):
            list(reader.in_file_order(np.array([0, len(reader)])))


def test_rows_are_visited_in_file_order(store: Store) -> None:
    reader = store.split("train")
    first = reader.entries[0].rows
    rows = np.array([first + 1, 2, first, 0, 2])
    visits = list(reader.in_file_order(rows))
    assert [shard.entry for shard, *_ in visits] == list(reader.entries[:2])
    assert [places.tolist() for _, places, _ in visits] == [[3, 1, 4], [2, 0]]
    assert [local.tolist() for *_, local in visits] == [[0, 2, 2], [0, 1]]
    assert list(reader.in_file_order(np.array([], np.int64))) == []


@pytest.mark.parametrize("crop", [64, 56])
def test_a_shard_cut_short_is_an_error_not_a_crash(tmp_path: Path, mapped: bool, crop: int) -> None:
    store = synthetic_store(tmp_path, train=21, val=0, test=0)
    reader = store.split("train")
    loader = TripletLoader(reader, 7, AugmentConfig(crop, scale=(1, 1), rotation_p=0), mode="none")
    list(loader.epoch(0))
    with (tmp_path / "train-00000.h5").open("r+b") as file:
        file.truncate(store.index.shards[0].offsets["image"] + 10_000)
    with pytest.raises(StoreError, match="ended while it was read"):
        list(loader.epoch(1))
    with pytest.raises(StoreError, match="ended while it was read"):
        reader.image(7)


def test_a_split_that_does_not_fit_the_device_is_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resident, "available_memory", lambda: 100_000)
    with pytest.raises(UserInputError, match=r"does not fit.*0\.00007|does not fit.*8e-05"):
        list(TripletLoader(store.split("train"), 8, CONFIG, resident=True).epoch(0))


def open_files(folder: Path) -> set[str]:
    """List this process's open descriptors of files in a folder; others may come and go meanwhile."""
    links = Path("/proc/self/fd").iterdir()
    return {link.name for link in links if Path(os.path.realpath(link)).is_relative_to(folder.resolve())}


def test_many_shards_are_read_without_keeping_them_open(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = samples(TripletLoader(store.split("train"), 8, CONFIG).epoch(0))
    monkeypatch.setattr(resource, "getrlimit", lambda _: (2, 2))
    before = open_files(store.folder)
    reader = store.split("train")
    found = samples(TripletLoader(reader, 8, CONFIG, mode="full").epoch(0))
    assert open_files(store.folder) <= before
    assert all(torch.equal(a, b) for row in expected for a, b in zip(expected[row], found[row], strict=True))


def test_rendered_maps_equal_the_stored_ones(store: Store) -> None:
    reader = store.split("train")
    stored, rendered = (TripletLoader(reader, 20, CONFIG, maps=source).epoch(1) for source in ("stored", "rendered"))  # type: ignore[arg-type]
    for a, b in zip(stored, rendered, strict=True):
        assert torch.equal(a.index, b.index) and a.au_map.amax() > 0.5
        assert torch.allclose(a.au_map, b.au_map, atol=1.01 / 255)


def test_rendered_maps_are_not_read(store: Store) -> None:
    loader = TripletLoader(store.split("train"), 20, CONFIG, maps="rendered")
    assert all(batch.maps is None for batch in loader.uint8_epoch(0))
