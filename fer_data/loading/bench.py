"""Measuring the loader on a store, for ``aupipe bench-loader``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aupipe.fer_data.loading.augment import AugmentConfig
from aupipe.fer_data.loading.loader import LoadReport, Mode, TripletLoader
from aupipe.fer_data.loading.speed import memcpy_limit
from aupipe.fer_data.shards import SplitReader, open_store
from aupipe.fer_data.shards.preview import open_previewed, preview_store
from aupipe.fer_data.types import Progress

MEASURES = ("images_per_second", "gigabytes_per_second", "memcpy_fraction", "wait_fraction", "first_batch_seconds")


@dataclass(frozen=True)
class Measured:
    """Median figures per setting, and what they are to be compared with."""

    store: Path
    encoding: str
    rows: int
    batch_size: int
    memcpy_gigabytes_per_second: float
    settings: tuple[dict[str, Any], ...]

    def as_json(self) -> dict[str, Any]:
        """Return the object that ``--json`` prints."""
        return {**vars(self), "store": str(self.store), "settings": list(self.settings)}

    def lines(self) -> list[str]:
        """Format the figures as a table."""
        head = f"{'setting':<28}{'images/s':>10}{'GB/s':>8}{'of memcpy':>11}{'waiting':>9}{'first batch':>13}"
        rows = [
            f"{one['setting']:<28}{one['images_per_second']:>10,.0f}{one['gigabytes_per_second']:>8.2f}"
            f"{one['memcpy_fraction']:>11.0%}{one['wait_fraction']:>9.0%}{one['first_batch_seconds']:>11.3f} s"
            for one in self.settings
        ]
        what = f"{self.store}: {self.rows} rows, {self.encoding}, batches of {self.batch_size}"
        return [what, f"copying memory, one thread: {self.memcpy_gigabytes_per_second:.2f} GB/s", "", head, *rows]


def measure_store(
    place: Path | str,
    *,
    split: str = "train",
    batch_size: int = 128,
    threads: Sequence[int] = (1, 2),
    mode: Mode = "full",
    device: str = "cpu",
    repeats: int = 3,
    progress: Progress | None = None,
) -> Measured:
    """Read a split with each setting in turn, ``repeats`` times over after a first epoch that warms the cache.

    ``first_batch_seconds`` is that of the first epoch, with nothing opened before. The settings take turns, so that a
    busy moment of the machine does not fall on one of them alone.

    Raises:
        StoreError: There is no such store or split.
        UserInputError: A setting is impossible.
    """
    preview = preview_store(place)
    preview.split(split)
    store = open_previewed(place, preview, progress)
    folder, index = store.folder, store.index
    size = index.image_size
    loaders = dict(_loaders(folder, split, batch_size, threads, mode, device))
    found: dict[str, list[dict[str, float]]] = {name: [] for name in loaders}
    for epoch in range(repeats + 1):
        for name, (loader, finished) in loaders.items():
            found[name].append(_read(loader, epoch, finished).as_json(size * size * 3))
    settings = []
    for name, rounds in found.items():
        medians = {key: float(np.median([one[key] for one in rounds[1:]])) for key in MEASURES}
        settings.append({"setting": name, **medians, "first_batch_seconds": rounds[0]["first_batch_seconds"]})
    limit = round(memcpy_limit(size * size * 3), 3)
    return Measured(folder, index.encoding, index.rows(split), batch_size, limit, tuple(settings))


def _loaders(
    folder: Path, split: str, batch_size: int, threads: Sequence[int], mode: Mode, device: str
) -> Iterator[tuple[str, tuple[TripletLoader, bool]]]:
    def reader() -> SplitReader:
        return open_store(folder).split(split)

    size = reader().store.index.image_size
    whole, augmented = AugmentConfig(size, enabled=False), AugmentConfig(size * 7 // 8)
    for count in threads:
        name = f"read, {count} thread" + "s" * (count > 1)
        yield name, (TripletLoader(reader(), batch_size, whole, mode=mode, threads=count), False)
    loader = TripletLoader(reader(), batch_size, whole, mode=mode, device=device, resident=True)
    yield f"resident on {device}", (loader, False)
    for count in threads:
        name = f"training batches, {count} thread" + "s" * (count > 1)
        yield name, (TripletLoader(reader(), batch_size, augmented, mode=mode, device=device, threads=count), True)


def _read(loader: TripletLoader, epoch: int, finished: bool) -> LoadReport:
    for _ in loader.epoch(epoch) if finished else loader.uint8_epoch(epoch):
        pass
    return loader.report
