"""Classifiers whose reasons are known, to be found out by explanations; built as a user's own module would be."""

from __future__ import annotations

import torch
from torch import Tensor, nn

MOUTH = (0.36, 0.64, 0.61, 0.77)
"""Where the mean face's mouth lies in an aligned crop: x from and to, y from and to, in shares."""


class MouthReader(nn.Module):
    """The brighter the mouth, the less neutral: all other classes share what neutral (the last) loses."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.gain = nn.Parameter(torch.tensor(3.0))

    def forward(self, images: Tensor) -> Tensor:
        size = images.shape[-1]
        left, right, top, bottom = (round(share * size) for share in MOUTH)
        level = self.gain * images[:, :, top:bottom, left:right].mean((1, 2, 3))
        return torch.cat([level[:, None].expand(-1, self.num_classes - 1), torch.zeros_like(level)[:, None]], 1)


def mouth_reader(num_classes: int) -> nn.Module:
    return MouthReader(num_classes)


def wrong_size() -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 5))


def no_module() -> str:
    return "not a model"


def fixed_size(num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, num_classes))
