"""A classifier that reads one known patch of the picture, and stores of faces that carry it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from aupipe.fer_data.loading.augment import AugmentConfig
from aupipe.fer_data.loading.loader import TripletLoader
from aupipe.fer_data.shards import Store, TripletRow
from aupipe.fer_models.backbones import Backbone
from aupipe.fer_models.methods import Method, Prediction
from synthetic import synthetic_store

SIZE, CELL = 64, 8
PATCH = (slice(40, 56), slice(24, 40))
"""Pixels that the classifier reads: rows and columns, on the mouth."""
AWAY = (slice(16, 32), slice(16, 32))
"""As many pixels that it does not."""


class Info:
    def channels(self) -> list[int]:
        return [1]

    def reduction(self) -> list[int]:
        return [CELL]


class Body(nn.Module):
    """Its only features: the patch, on a coarse grid, whatever the picture."""

    feature_info = Info()

    def forward(self, images: Tensor) -> list[Tensor]:
        return [grid(PATCH).expand(len(images), 1, -1, -1)]


def grid(place: tuple[slice, slice]) -> Tensor:
    """1 on the cells of a place."""
    cells = torch.zeros(SIZE // CELL, SIZE // CELL)
    rows, columns = (slice(part.start // CELL, part.stop // CELL) for part in place)
    cells[rows, columns] = 1
    return cells


class PatchReader(Method):
    """The brighter the patch, the more class 0. Its attention is the patch, its CAM everything else."""

    def __init__(self) -> None:
        super().__init__(Backbone("planted", Body()), 7)

    def forward(self, images: Tensor) -> Prediction:
        level = 3 * images[:, :, *PATCH].mean((1, 2, 3)) - 3
        logits = torch.cat([level[:, None], torch.zeros(len(images), 6)], 1)
        return Prediction(logits, self.backbone(images))

    def logits(self, features: tuple[Tensor, ...]) -> Tensor:
        raise NotImplementedError

    def cam(self, prediction: Prediction, class_index: Tensor) -> Tensor:
        return (1 - grid(PATCH)).expand(len(class_index), -1, -1)


def planted_store(folder: Path, au_region: tuple[slice, slice] | None, count: int = 14) -> Store:
    """Grey faces with a bright patch; their AU region is where it is told to be, or there is none."""

    def change(row: TripletRow) -> TripletRow:
        image = np.full((SIZE, SIZE, 3), 115, np.uint8)
        image[PATCH] = 225 + row.label
        au_map = np.zeros((16, 16), np.uint8)
        if au_region is not None:
            au_map[tuple(slice(part.start // 4, part.stop // 4) for part in au_region)] = 255
        return replace(row, image=image, au_map=au_map, has_map=au_region is not None)

    return synthetic_store(folder, train=7, val=7, test=count, change=change)


def planted_loader(folder: Path, au_region: tuple[slice, slice] | None, batch_size: int = 14) -> TripletLoader:
    config = AugmentConfig(crop_size=SIZE, enabled=False)
    return TripletLoader(planted_store(folder, au_region).split("test"), batch_size, config, mode="none")
