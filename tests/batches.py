"""Small batches made in memory, for tests of training steps."""

from __future__ import annotations

import torch

from aupipe.fer_data.loading.loader import Batch


def random_batch(count: int = 6, size: int = 64, map_size: int = 16, seed: int = 0, *, mapped: bool = True) -> Batch:
    """Noise with blobs for AU maps; every third sample has no map, or none has."""
    generator = torch.Generator().manual_seed(seed)
    place = torch.arange(map_size) - torch.rand(2, count, 1, generator=generator) * map_size
    blob = torch.exp(-(place**2) / map_size)
    has_map = (torch.arange(count) % 3 != 2) & torch.tensor(mapped)
    return Batch(
        image=torch.randn(count, 3, size, size, generator=generator),
        label=torch.arange(count) % 7,
        au_map=blob[0][:, :, None] * blob[1][:, None] * has_map[:, None, None],
        has_map=has_map,
        landmarks=torch.zeros(count, 68, 2),
        index=torch.arange(count),
    )
