"""Which weights of a run become ``best.pt``, in words, and whether the choice is worth its name."""

from __future__ import annotations

from aupipe.fer_models.training.config import TrainConfig

FEW_FACES = 300
"""Fewer validation faces than these choose an epoch with a standard error of 3 points of accuracy or more."""


def describe_selection(config: TrainConfig, faces: int) -> str:
    """Say what decided on the weights that are kept, where there are so many validation ``faces`` (0: not known)."""
    average = "moving average of the weights" if config.ema and config.select != "last" else "weights"
    if not config.chooses:
        return f"{average} after the last epoch, chosen by nothing"
    by = config.select.replace("_", " ")
    number = f"{faces:,} faces of " if faces else ""
    note = few_choose(config, faces)
    return f"{average} of the epoch with the best {by} on {number}the validation split{f' ({note})' if note else ''}"


def few_choose(config: TrainConfig, faces: int) -> str | None:
    """Note that so few validation faces choose the epoch that the choice is largely chance; None: they do not."""
    if not config.chooses or not 0 < faces < FEW_FACES or config.epochs == 1:
        return None
    return (
        f"only {faces} validation faces choose the epoch: their accuracy alone has a standard error of up to "
        f"{50 / faces**0.5:.0f} points; --select last, or --select ema with --ema 0.999, chooses nothing"
    )
