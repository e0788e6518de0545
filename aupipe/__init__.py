"""Interpretable facial expression recognition: landmarks, action-unit maps, a triplet store, and guided training.

The usual order is :func:`build_manifest`, :func:`detect_landmarks`, :func:`build_maps`, :func:`train`,
:func:`evaluate`; then :func:`load_run` to ask a trained network about images. Each does what the command of its name
does; ``docs/api.md`` shows them all. Names are loaded when they are first used, so ``import aupipe`` itself loads
nothing and changes nothing in the process.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aupipe.analyses import compare, evaluate, explain, study
    from aupipe.fer_data.au_maps.codebook import load_codebook
    from aupipe.fer_data.au_maps.heatmaps import render_maps
    from aupipe.fer_data.loading.augment import AugmentConfig
    from aupipe.fer_data.loading.loader import TripletLoader
    from aupipe.fer_data.manifest import build_manifest, read_manifest
    from aupipe.fer_data.shards import open_store
    from aupipe.runs import load_run
    from aupipe.stages import build_maps, detect_landmarks, train

__all__ = [
    "AugmentConfig",
    "TripletLoader",
    "build_manifest",
    "build_maps",
    "compare",
    "detect_landmarks",
    "evaluate",
    "explain",
    "load_codebook",
    "load_run",
    "open_store",
    "read_manifest",
    "render_maps",
    "study",
    "train",
]

_HOMES = {
    "AugmentConfig": "aupipe.fer_data.loading.augment",
    **dict.fromkeys(("compare", "evaluate", "explain", "study"), "aupipe.analyses"),
    "TripletLoader": "aupipe.fer_data.loading.loader",
    "build_manifest": "aupipe.fer_data.manifest",
    "load_codebook": "aupipe.fer_data.au_maps.codebook",
    "load_run": "aupipe.runs",
    "open_store": "aupipe.fer_data.shards",
    "read_manifest": "aupipe.fer_data.manifest",
    "render_maps": "aupipe.fer_data.au_maps.heatmaps",
}
"""Where a public name lives, if not in :mod:`aupipe.stages`."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES.get(name, "aupipe.stages")), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
