"""A whole split on the device, for stores that fit: after loading, a batch is one indexing operation."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from aupipe.fer_data.errors import UserInputError, paragraph
from aupipe.fer_data.loading.fetch import Cuts, cut
from aupipe.fer_data.machine import available_memory
from aupipe.fer_data.shards import SplitReader

STEP = 256
"""Rows that are read at a time on the way to the device."""

SHARE = 0.8
"""Part of the free memory that a split may take."""


class ResidentSplit:
    """The uint8 images and maps of a split's first ``rows`` rows, on one device.

    Raises :class:`UserInputError` when they do not fit.
    """

    def __init__(self, reader: SplitReader, rows: int, device: torch.device, *, with_maps: bool) -> None:
        index = reader.store.index
        shape, small = (index.image_size, index.image_size, 3), (index.map_size, index.map_size)
        _check_fits(rows * (int(np.prod(shape)) + with_maps * int(np.prod(small))), device)
        self.images = torch.empty((rows, *shape), dtype=torch.uint8, device=device)
        self.maps = torch.empty((rows, *small), dtype=torch.uint8, device=device) if with_maps else None
        for start in range(0, rows, STEP):
            some = np.arange(start, min(start + STEP, rows))
            images = np.empty((len(some), *shape), np.uint8)
            maps = np.empty((len(some), *small), np.uint8) if with_maps else None
            reader.gather(some, images, maps)
            self.images[start : start + STEP].copy_(torch.from_numpy(images))
            if self.maps is not None and maps is not None:
                self.maps[start : start + STEP].copy_(torch.from_numpy(maps))

    def take(
        self, rows: Int64[np.ndarray, "b"], cuts: Cuts | None, crop: int
    ) -> tuple[UInt8[Tensor, "b c c 3"], UInt8[Tensor, "b m m"] | None]:
        """Copy the rows' images (cut and mirrored as ``cuts`` say) and maps."""
        device = self.images.device
        where = torch.from_numpy(rows).to(device)
        maps = None if self.maps is None else self.maps.index_select(0, where)
        if device.type == "cpu":
            return torch.from_numpy(self._copied(rows, cuts, crop)), maps
        if cuts is None:
            return self.images.index_select(0, where), maps
        steps = np.arange(crop)
        across = np.where(cuts.flip[:, None], crop - 1 - steps, steps) + cuts.x[:, None]
        x = torch.from_numpy(across).to(device)[:, None, :]
        y = torch.from_numpy(steps + cuts.y[:, None]).to(device)[:, :, None]
        return self.images[where[:, None, None], y, x], maps

    def _copied(self, rows: Int64[np.ndarray, "b"], cuts: Cuts | None, crop: int) -> UInt8[np.ndarray, "b c c 3"]:
        """On the CPU NumPy copies rows faster than indexing pixel by pixel, and needs no second thread."""
        images = self.images.numpy()
        if cuts is None:
            return np.take(images, rows, 0)
        out = np.empty((len(rows), crop, crop, 3), np.uint8)
        for place, (x, y, flip) in enumerate(cuts.at(np.arange(len(rows)))):
            cut(images[rows[place], y : y + crop], x, flip, out[place])
        return out


def _check_fits(needed: int, device: torch.device) -> None:
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else available_memory()
    if needed > SHARE * free:
        raise UserInputError(
            paragraph(
                f"The split does not fit on the device {device}.",
                expected=f"at most {SHARE * free / 1e9:.3g} GB, {SHARE:.0%} of the free memory",
                got=f"{needed / 1e9:.3g} GB",
                fix="Leave out --resident (resident=True): it is then read as it is needed.",
            )
        )
