"""Choosing where to compute."""

from __future__ import annotations

import torch

from aupipe.fer_data.errors import UserInputError, paragraph


def resolve_device(name: str) -> torch.device:
    """Resolve ``auto`` (CUDA where there is one, else the CPU), ``cpu``, ``cuda`` or ``cuda:1`` to a device.

    Raises :class:`UserInputError` for a device that this machine or this build of torch does not have.
    """
    available = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda" if available else "cpu")
    known = ["cpu", *(["cuda"] if available else []), *(f"cuda:{number}" for number in range(available))]
    if name not in known:
        raise UserInputError(
            paragraph(
                f"The device {name!r} is not available.",
                expected=f"auto, {', '.join(known)}",
                fix=None if available else "This torch sees no CUDA device: use --device cpu.",
            )
        )
    return torch.device(name)
