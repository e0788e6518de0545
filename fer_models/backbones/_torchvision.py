"""A stand-in for torchvision's operators: timm imports torchvision, which the tool does not use.

PyPI's torchvision wheels register their operators in a compiled library that a CPU-only build of torch cannot load;
torchvision then fails on its own import ("operator torchvision::nms does not exist") because it attaches shape
functions to operators nobody declared. Declaring the two schemas it asks for is enough: nothing here ever calls them.
"""

from __future__ import annotations

import importlib
import sys

import torch

_DECLARED: list[torch.library.Library] = []
"""Keeps the declarations alive: a collected library takes its schemas with it."""


def ensure_torchvision() -> None:
    """Import torchvision, declaring its missing operator schemas first where that is what it takes."""
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")  # type: ignore[no-untyped-call]
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")  # type: ignore[no-untyped-call]
        _DECLARED.append(library)
        importlib.import_module("torchvision")
