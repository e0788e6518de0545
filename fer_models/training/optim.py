"""Optimizer, learning rate, and the moving average of the weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from aupipe.fer_models.methods import Method
from aupipe.fer_models.training.config import TrainConfig

RMSPROP_DECAY = 0.9
"""Of the mean square of gradients: what Keras has, and Hinton's lecture; torch's default is .99."""


def learning_rate(config: TrainConfig, step: int, steps_per_epoch: int) -> float:
    """Compute the rate of an optimisation step: linear warm-up, then cosine to 0 over all epochs, steps, or nothing."""
    warmup = config.warmup_epochs * steps_per_epoch
    total = max(config.epochs * steps_per_epoch, 1)
    ramp = min((step + 1) / (warmup + 1), 1.0)
    if config.schedule == "constant":
        return config.learning_rate * ramp
    if config.schedule == "step":
        return config.learning_rate * ramp * config.step_gamma ** (step // steps_per_epoch // config.step_epochs)
    return config.learning_rate * ramp * 0.5 * (1 + math.cos(math.pi * min(step / total, 1)))


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Make the optimizer: SGD has Nesterov momentum; biases and norms (vectors) are not decayed."""
    groups = [
        {"params": list(_parameters(model, decayed)), "weight_decay": config.weight_decay if decayed else 0.0}
        for decayed in (True, False)
    ]
    lr = config.learning_rate
    match config.optimizer:
        case "adamw":
            return torch.optim.AdamW(groups, lr=lr)
        case "adam":
            return torch.optim.Adam(groups, lr=lr)
        case "rmsprop":
            return torch.optim.RMSprop(groups, lr=lr, alpha=RMSPROP_DECAY)
    return torch.optim.SGD(groups, lr=lr, momentum=config.momentum, nesterov=config.momentum > 0)


def _parameters(model: nn.Module, decayed: bool) -> Iterator[nn.Parameter]:
    return (parameter for parameter in model.parameters() if (parameter.ndim > 1) == decayed)


class MovingAverage:
    """Exponential moving average of a model's weights and floating-point buffers; counters are copied.

    The first steps count more, ``decay`` at most ``(1 + step) / (10 + step)``, so that the random start is forgotten.
    """

    def __init__(self, model: Method, decay: float) -> None:
        self.decay = decay
        self.model: Method = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: Method, step: int) -> None:
        """Take in the weights after optimisation step number ``step``, counted from 1."""
        average, now = self.model.state_dict(), model.state_dict()
        moving = [name for name, value in average.items() if value.is_floating_point()]
        weight = min(self.decay, (1 + step) / (10 + step))
        blend: Any = get_ema_multi_avg_fn(weight)  # type: ignore[no-untyped-call]
        blend([average[name] for name in moving], [now[name] for name in moving], step)
        for name in average.keys() - set(moving):
            average[name].copy_(now[name])
