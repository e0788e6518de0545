"""Batches for training: a pure order, one thread that gathers rows into reused buffers, exact resume.

No worker processes: copying raw pixels between processes is slower than reading them (see the benchmarks). The order
and the augmentation depend on (seed, epoch, row) alone, so a resumed epoch continues with the very batches it had left.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor

from fer_data import augment
from fer_data.augment import AugmentConfig
from fer_data.errors import StoreError, UserInputError, paragraph
from fer_data.shards import SplitReader

Mode = Literal["none", "full", "block"]
BLOCK = 1024
"""Rows of a block in block order: about a shard's worth of neighbouring reads."""

BUFFERS = 3
"""Batches in flight: one used, one ready, one being filled."""


def order(n: int, seed: int, epoch: int, mode: Mode = "full", block: int = BLOCK) -> Int64[np.ndarray, "n"]:
    """The rows 0 .. n-1 in the order of an epoch: a pure function of its arguments.

    ``none`` keeps them sorted, ``full`` is a random permutation, ``block`` shuffles blocks of neighbouring rows and the
    rows inside each block. Raises :class:`UserInputError` on another mode.
    """
    rows = np.arange(n, dtype=np.int64)
    if mode == "none":
        return rows
    if mode not in ("full", "block"):
        raise UserInputError(paragraph("Unknown order.", expected="none, full or block", got=repr(mode)))
    # Another stream than the augmentation's, whose draws must not depend on the place in the order.
    keys = augment.counter_hash(~seed, epoch, rows, 2)
    if mode == "full":
        return np.argsort(keys[:, 0], kind="stable")
    blocks = rows // block
    return np.lexsort((keys[:, 0], blocks, keys[blocks, 1])).astype(np.int64)


@dataclass(frozen=True)
class Batch:
    """One batch on the loader's device.

    image: normalised, channels last. label: class index. au_map: [0, 1]. has_map: whether au_map is meaningful.
    landmarks: pixels of the crop. index: row in the split.
    """

    image: Float32[Tensor, "b 3 c c"]
    label: Int64[Tensor, "b"]
    au_map: Float32[Tensor, "b m m"]
    has_map: Bool[Tensor, "b"]
    landmarks: Float32[Tensor, "b 68 2"]
    index: Int64[Tensor, "b"]

    def __len__(self) -> int:
        return len(self.label)


class _Slot:
    """A reused pair of buffers; on CUDA pinned, and not refilled before the copy out of it has ended."""

    def __init__(self, size: int, image_size: int, map_size: int, device: torch.device) -> None:
        pinned = device.type == "cuda"
        self.images = torch.empty((size, image_size, image_size, 3), dtype=torch.uint8, pin_memory=pinned)
        self.maps = torch.empty((size, map_size, map_size), dtype=torch.uint8, pin_memory=pinned)
        self.copied = torch.cuda.Event() if pinned else None  # type: ignore[no-untyped-call]

    def fill(self, reader: SplitReader, rows: Int64[np.ndarray, "b"]) -> None:
        if self.copied is not None:
            self.copied.synchronize()
        reader.gather(rows, self.images[: len(rows)].numpy(), self.maps[: len(rows)].numpy())

    def on_device(self, count: int, device: torch.device) -> tuple[Tensor, Tensor]:
        images = self.images[:count].to(device, non_blocking=True)
        maps = self.maps[:count].to(device, non_blocking=True)
        if self.copied is not None:
            self.copied.record()
        return images, maps


class TripletLoader:
    """Iterates over a split's triplets, epoch by epoch.

    ``loader.epoch(3)`` yields the batches of epoch 3; ``loader.epoch(3, skip_batches=10)`` the same without the first
    ten. After an epoch ``wait_fraction`` is the share of its time that was spent waiting for data. Raises
    :class:`UserInputError` for a crop that does not fit.
    """

    def __init__(
        self,
        reader: SplitReader,
        batch_size: int,
        config: AugmentConfig,
        *,
        seed: int = 0,
        device: torch.device | str = "cpu",
        mode: Mode = "full",
        drop_last: bool = False,
        limit: int | None = None,
    ) -> None:
        index = reader.store.index
        config.check(index.image_size)
        if batch_size < 1:
            raise UserInputError(paragraph("The batch size is not positive.", got=batch_size))
        self.reader, self.batch_size, self.config = reader, batch_size, config
        self.seed, self.mode, self.device = seed, mode, torch.device(device)
        self.rows = len(reader) if limit is None else min(limit, len(reader))
        # A split smaller than one batch would otherwise have no batch at all.
        self.drop_last = drop_last and self.rows >= batch_size
        self.mean = torch.tensor(index.channel_mean, dtype=torch.float32, device=self.device)
        self.std = torch.tensor(index.channel_std, dtype=torch.float32, device=self.device).clamp_min(1e-6)
        self.wait_fraction = 0.0
        self._progress = (0, 0)
        self._slots: list[_Slot] = []

    def __len__(self) -> int:
        """Batches in an epoch."""
        return self.rows // self.batch_size if self.drop_last else -(-self.rows // self.batch_size)

    def batches(self, number: int) -> list[Int64[np.ndarray, "b"]]:
        """The rows of every batch of an epoch."""
        rows = order(self.rows, self.seed, number, self.mode)
        return [rows[i * self.batch_size : (i + 1) * self.batch_size] for i in range(len(self))]

    def epoch(self, number: int, skip_batches: int = 0) -> Generator[Batch]:
        """The batches of an epoch from ``skip_batches`` on; closing or dropping the iterator ends its thread."""
        todo = deque(self.batches(number)[skip_batches:])
        if not self._slots:
            index = self.reader.store.index
            size = min(self.batch_size, max(self.rows, 1))
            self._slots = [_Slot(size, index.image_size, index.map_size, self.device) for _ in range(BUFFERS)]
        free, pending = deque(self._slots), deque[tuple[Future[None], _Slot, np.ndarray]]()
        started, waited = time.perf_counter(), 0.0
        self._progress = (number, skip_batches)
        pool = ThreadPoolExecutor(1, thread_name_prefix="aupipe-loader")
        try:
            while todo or pending:
                while todo and free:
                    slot, rows = free.popleft(), todo.popleft()
                    pending.append((pool.submit(slot.fill, self.reader, rows), slot, rows))
                future, slot, rows = pending.popleft()
                before = time.perf_counter()
                future.result()
                waited += time.perf_counter() - before
                batch = self._finish(slot, rows, number)
                free.append(slot)
                self._progress = (number, self._progress[1] + 1)
                yield batch
                self.wait_fraction = waited / max(time.perf_counter() - started, 1e-9)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _finish(self, slot: _Slot, rows: Int64[np.ndarray, "b"], number: int) -> Batch:
        reader, config = self.reader, self.config
        images, maps = slot.on_device(len(rows), self.device)
        parameters = augment.sample_parameters(config, self.seed, number, rows, reader.store.index.image_size)
        image, au_map = augment.apply(config, parameters, images, maps, self.mean, self.std)
        points = augment.crop_landmarks(reader.landmarks[rows], parameters, config.crop_size)

        def put(values: np.ndarray) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(values)).to(self.device)

        return Batch(
            image=image,
            label=put(reader.labels[rows].astype(np.int64)),
            au_map=au_map,
            has_map=put(reader.has_map[rows].astype(bool)),
            landmarks=put(points),
            index=put(rows),
        )

    def _identity(self) -> dict[str, Any]:
        return {
            "split": self.reader.split,
            "seed": self.seed,
            "mode": self.mode,
            "batch_size": self.batch_size,
            "drop_last": self.drop_last,
            "rows": self.rows,
        }

    def state_dict(self) -> dict[str, Any]:
        """Where the loader is: enough to continue with exactly the batches that are left."""
        number, done = self._progress
        digest = self.reader.store.index.digest
        return {"store_digest": digest, "epoch": number, "batches_done": done, **self._identity()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from :meth:`state_dict`: then iterate :meth:`resume`.

        Raises :class:`StoreError` when the state belongs to another store or another order.
        """
        mine = {"store_digest": self.reader.store.index.digest, **self._identity()}
        different = sorted(name for name, value in mine.items() if state.get(name) != value)
        if different:
            raise StoreError(
                paragraph(
                    "The loader's state belongs to another store or another order of batches.",
                    expected={name: mine[name] for name in different},
                    got={name: state.get(name) for name in different},
                    fix="Open the store the state was saved with, and the same loader settings.",
                )
            )
        self._progress = (int(state["epoch"]), int(state["batches_done"]))

    def resume(self) -> Generator[Batch]:
        """What is left of the epoch that :meth:`load_state_dict` was given."""
        return self.epoch(*self._progress)
