"""Names for the help: read from where they are registered, without loading torch, MediaPipe or anything else heavy."""

from __future__ import annotations

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

REGISTERED = re.compile(r'^@register\w*\("([\w-]+)"\)', re.MULTILINE)


@cache
def registered(module: str) -> tuple[str, ...]:
    """List what a module, or the modules of a package, register with a decorator: ``@register...("name")``.

    Nothing is imported but the packages above ``module``.
    """
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(module)
    own = Path(spec.origin)
    files = own.parent.glob("*.py") if spec.submodule_search_locations else [own]
    return tuple(sorted(name for file in files for name in REGISTERED.findall(file.read_text(encoding="utf-8"))))


def methods() -> tuple[str, ...]:
    """List the methods, by name."""
    return registered("aupipe.fer_models.methods")


def detectors() -> tuple[str, ...]:
    """List the landmark detectors, by name."""
    return registered("aupipe.pipeline.detectors")


def explainers() -> tuple[str, ...]:
    """List the explainers, by name."""
    return registered("aupipe.fer_analysis.comparison.explainers")


@cache
def layouts() -> tuple[str, ...]:
    """List the dataset layouts, by name: each is described by a file of its name."""
    spec = find_spec("aupipe.manifests")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("aupipe.manifests")
    return tuple(sorted(path.stem for path in Path(spec.origin).parent.glob("*.toml")))
