"""Versions of the software that results depend on: the one place that names packages and asks for what is installed."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

ABSENT = "absent"

BYTES = ("aupipe", "h5py", "numpy", "opencv-python")
"""What decides the bytes of landmark parts and shards, besides the packages of the landmark detector."""

REQUIRED = ("torch", "timm", "numpy", "h5py", "opencv-python", "mediapipe", "dask", "click", "scikit-image")
"""What an installation cannot do without."""


def installed_version(name: str) -> str | None:
    """Find the version of an installed package; None where it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def installed_versions(names: Iterable[str], absent: str = ABSENT) -> dict[str, str]:
    """List versions by package, in the order given; ``absent`` for those that are not installed."""
    return {name: installed_version(name) or absent for name in names}


def installed_file(package: str, name: str) -> Path | None:
    """Find a file that an installed package carries, by its file list, never importing it; None where there is none."""
    try:
        files = metadata.files(package) or []
    except metadata.PackageNotFoundError:
        return None
    return next((Path(str(file.locate())) for file in files if file.name == name), None)
