"""Several processes that train one model: who they are (from torchrun's environment) and what they tell each other.

One process alone is the same with a world of 1: nothing is exchanged. Each rank computes its share of every batch.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from aupipe.fer_data.errors import UserInputError, paragraph
from aupipe.fer_models.devices import resolve_device

T = TypeVar("T")

RANK_TIMEOUT = timedelta(hours=2)
"""Longest wait of a rank for the others: the first one validates while they wait."""

SETTLE_SECONDS = 0.2
"""Seconds without any exchange before the ranks part."""


@dataclass(frozen=True)
class Ranks:
    """This process among those of the run. ``local`` numbers the processes of one machine."""

    rank: int = 0
    size: int = 1
    local: int = 0

    @property
    def first(self) -> bool:
        """True for the process that writes the files and speaks to the user."""
        return self.rank == 0

    def device(self, name: str) -> torch.device:
        """Return the device of ``--device``; where there are several processes, each has a GPU of its own."""
        device = resolve_device(name)
        if self.size == 1 or device.type != "cuda":
            return device
        return resolve_device(f"cuda:{self.local}")

    def mean(self, values: Tensor) -> Tensor:
        """Average a tensor over all ranks; the same on every rank."""
        if self.size == 1:
            return values
        total = values.clone()
        dist.all_reduce(total)
        return total / self.size

    def maximum(self, value: int, device: torch.device) -> int:
        """Return the largest of all ranks' numbers."""
        if self.size == 1:
            return value
        largest = torch.tensor(value, device=device)
        dist.all_reduce(largest, dist.ReduceOp.MAX)
        return int(largest)

    def share_with_map(self, has_map: Tensor) -> Tensor:
        """Compute the share of the whole batch's samples that have a map; the ranks' parts may differ in size."""
        mapped = has_map.sum(dtype=torch.float32)
        return self.mean(mapped) / self.mean(torch.full_like(mapped, len(has_map)))

    def broadcast(self, value: T | None) -> T:
        """Hand the first rank's value to all ranks; the others give None."""
        if self.size == 1:
            return value  # type: ignore[return-value]
        told = [value]
        dist.broadcast_object_list(told, src=0)
        return told[0]  # type: ignore[return-value]

    def wrap(self, module: nn.Module) -> nn.Module:
        """Wrap a module so that its gradients are averaged over the ranks."""
        if self.size == 1:
            return module
        # The same parameters take part in every step, though not necessarily all of them.
        return nn.parallel.DistributedDataParallel(module, static_graph=True)


def ranks_from_environment(environment: Mapping[str, str]) -> Ranks:
    """Read torchrun's variables RANK, WORLD_SIZE and LOCAL_RANK; without them one process is alone.

    Raises :class:`UserInputError` when they contradict each other.
    """
    texts = {name: environment.get(name) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    if texts["WORLD_SIZE"] in (None, "1"):
        return Ranks()
    numbers = {name: int(text) for name, text in texts.items() if text is not None and text.isdecimal()}
    if len(numbers) < len(texts) or not 0 <= numbers["RANK"] < numbers["WORLD_SIZE"]:
        raise UserInputError(
            paragraph(
                "The variables of a run with several processes are incomplete or contradict each other.",
                expected="RANK (below WORLD_SIZE), WORLD_SIZE and LOCAL_RANK, as torchrun sets them",
                got=", ".join(f"{name}={text}" for name, text in texts.items()),
                fix="Start the run with torchrun, or unset WORLD_SIZE for a single process.",
            )
        )
    return Ranks(numbers["RANK"], numbers["WORLD_SIZE"], numbers["LOCAL_RANK"])


@contextlib.contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """Connect the ranks of this run for the time of the context: by NCCL on CUDA, by gloo elsewhere."""
    ranks = ranks_from_environment(os.environ)
    if ranks.size == 1 or dist.is_initialized():
        yield ranks
        return
    where = ranks.device(device)
    if where.type == "cuda":
        torch.cuda.set_device(where)
    dist.init_process_group(
        "nccl" if where.type == "cuda" else "gloo", rank=ranks.rank, world_size=ranks.size, timeout=RANK_TIMEOUT
    )
    try:
        yield ranks
    finally:
        # Gloo's threads drop the tensors of the last exchange under Python's lock. The group's destructor holds that
        # lock while it waits for these threads (torch 2.13), so they must have let go before.
        time.sleep(SETTLE_SECONDS)
        dist.destroy_process_group()
