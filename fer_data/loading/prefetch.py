"""Reused buffers that threads fill ahead of the consumer."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from aupipe.fer_data.loading.fetch import Cuts, fill, pieces
from aupipe.fer_data.shards import SplitReader

BUFFERS = 3
"""Batches in memory: one in the consumer's hands, one ready, one being filled."""


class PrefetchBuffer:
    """Buffers of one batch; on CUDA pinned, and not refilled before the copy out of them has ended."""

    def __init__(self, size: int, image_size: int, map_size: int | None, device: torch.device) -> None:
        pinned = device.type == "cuda"
        self.images = torch.empty((size, image_size, image_size, 3), dtype=torch.uint8, pin_memory=pinned)
        shape = None if map_size is None else (size, map_size, map_size)
        self.maps = None if shape is None else torch.empty(shape, dtype=torch.uint8, pin_memory=pinned)
        self.copied = torch.cuda.Event() if pinned else None  # type: ignore[no-untyped-call]

    def fill(self, reader: SplitReader, rows: Int64[np.ndarray, "b"], cuts: Cuts | None, piece: slice) -> None:
        """Read a piece of the batch, in one thread."""
        if self.copied is not None:
            self.copied.synchronize()
        maps = None if self.maps is None else self.maps[piece].numpy()
        fill(reader, rows[piece], self.images[piece].numpy(), maps, None if cuts is None else cuts.part(piece))

    def batch(self, count: int) -> tuple[UInt8[Tensor, "b c c 3"], UInt8[Tensor, "b m m"] | None]:
        """Return the filled part of the buffers."""
        return self.images[:count], None if self.maps is None else self.maps[:count]


@dataclass(frozen=True)
class Request:
    """A request for one batch.

    Attributes:
        rows: The rows of the batch.
        cuts: How to cut them; None: whole images.
        ahead: Rows first - last that the disk should fetch by then.
    """

    rows: Int64[np.ndarray, "b"]
    cuts: Cuts | None
    ahead: tuple[int, int] | None = None


class Prefetcher:
    """Buffers filled in threads; each belongs to the consumer until it asks for the next one."""

    def __init__(self, reader: SplitReader, buffers: list[PrefetchBuffer], threads: int) -> None:
        self._reader, self._buffers, self._threads = reader, buffers, threads
        self.wait_seconds = 0.0

    def run(self, requests: Iterable[Request]) -> Generator[PrefetchBuffer]:
        """Yield one buffer per request, in order; closing the generator ends the threads."""
        todo, free = iter(requests), deque(self._buffers)
        pending: deque[tuple[list[Future[None]], PrefetchBuffer]] = deque()
        with ThreadPoolExecutor(self._threads, thread_name_prefix="aupipe-loader") as pool:
            try:
                while True:
                    while free and (request := next(todo, None)) is not None:
                        buffer = free.popleft()
                        pending.append((self._submit(pool, buffer, request), buffer))
                    if not pending:
                        return
                    futures, buffer = pending.popleft()
                    before = time.perf_counter()
                    for future in futures:
                        future.result()
                    self.wait_seconds += time.perf_counter() - before
                    yield buffer
                    free.append(buffer)
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _submit(self, pool: ThreadPoolExecutor, buffer: PrefetchBuffer, request: Request) -> list[Future[None]]:
        if request.ahead is not None:
            pool.submit(self._reader.will_need, *request.ahead)
        parts = pieces(len(request.rows), self._threads)
        return [pool.submit(buffer.fill, self._reader, request.rows, request.cuts, piece) for piece in parts]
