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

PATIENCE = timedelta(hours=2)
"""How long a rank waits for the others: the first one validates while they wait."""

SETTLE = 0.2
"""Seconds without any exchange before the ranks part."""


@dataclass(frozen=True)
class Ranks:
    """This process among those of the run. ``local`` numbers the processes of one machine."""

    rank: int = 0
    size: int = 1
    local: int = 0

    @property
    def first(self) -> bool:
        """Whether this process writes the files and speaks to the user."""
        return self.rank == 0

    def device(self, name: str) -> torch.device:
        """The device of ``--device``; where there are several processes, each has a GPU of its own."""
        device = resolve_device(name)
        if self.size == 1 or device.type != "cuda":
            return device
        return resolve_device(f"cuda:{self.local}")

    def mean(self, values: Tensor) -> Tensor:
        """Mean of all ranks' values, the same on every rank."""
        if self.size == 1:
            return values
        total = values.clone()
        dist.all_reduce(total)
        return total / self.size

    def most(self, value: int, device: torch.device) -> int:
        """The largest of all ranks' numbers."""
        if self.size == 1:
            return value
        largest = torch.tensor(value, device=device)
        dist.all_reduce(largest, dist.ReduceOp.MAX)
        return int(largest)

    def share_with_map(self, has_map: Tensor) -> Tensor:
        """Share of the whole batch's samples that have a map."""
        return self.mean(has_map.to(torch.float32).mean())

    def from_first(self, value: T | None) -> T:
        """What the first rank says; the others give None."""
        if self.size == 1:
            return value  # type: ignore[return-value]
        told = [value]
        dist.broadcast_object_list(told, src=0)
        return told[0]  # type: ignore[return-value]

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module with gradients averaged over the ranks."""
        if self.size == 1:
            return module
        # The same parameters take part in every step, though not necessarily all of them.
        return nn.parallel.DistributedDataParallel(module, static_graph=True)


def ranks_of(environment: Mapping[str, str]) -> Ranks:
    """What torchrun's variables RANK, WORLD_SIZE and LOCAL_RANK say; without them one process alone.

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
    """The ranks of this run, connected for the time of the context: by NCCL on CUDA, by gloo elsewhere."""
    ranks = ranks_of(os.environ)
    if ranks.size == 1 or dist.is_initialized():
        yield ranks
        return
    where = ranks.device(device)
    if where.type == "cuda":
        torch.cuda.set_device(where)
    dist.init_process_group(
        "nccl" if where.type == "cuda" else "gloo", rank=ranks.rank, world_size=ranks.size, timeout=PATIENCE
    )
    try:
        yield ranks
    finally:
        # Gloo's threads drop the tensors of the last exchange under Python's lock. The group's destructor holds that
        # lock while it waits for these threads (torch 2.13), so they must have let go before.
        time.sleep(SETTLE)
        dist.destroy_process_group()
