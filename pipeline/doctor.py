"""``aupipe doctor``: is this installation sound?

Every check says how to repair what it finds.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib import metadata

from aupipe.fer_data.errors import ModelFileError
from aupipe.pipeline.detectors.model_file import find_model

PACKAGES = ("torch", "timm", "numpy", "h5py", "opencv-python", "mediapipe", "dask", "click", "scikit-image")


@dataclass(frozen=True)
class Check:
    """One check: passed or not, what was found, and how to repair it."""

    name: str
    ok: bool
    found: str
    repair: str = ""


def run_checks() -> list[Check]:
    """Python, packages, the two OpenCV distributions, and the face model."""
    python = ".".join(map(str, sys.version_info[:3]))
    checks = [Check("python", sys.version_info >= (3, 11), python, "aupipe needs Python 3.11 or newer")]
    for name in PACKAGES:
        found = _version(name)
        checks.append(Check(name, found is not None, found or "not installed", f"pip install {name}"))
    return [*checks, _opencv(), _model()]


def _opencv() -> Check:
    """Opencv-python (ours) and opencv-contrib-python (mediapipe's) both own the folder ``cv2``: versions must agree."""
    plain, contrib = _version("opencv-python"), _version("opencv-contrib-python")
    found = f"opencv-python {plain}, opencv-contrib-python {contrib}"
    repair = (
        "pip uninstall -y opencv-python opencv-contrib-python opencv-python-headless && "
        f"pip install opencv-python=={plain or contrib} opencv-contrib-python=={plain or contrib}"
    )
    headless = _version("opencv-python-headless")
    if headless is not None:
        found += f", opencv-python-headless {headless}"
    return Check("one OpenCV", contrib in (None, plain) and headless in (None, plain), found, repair)


def _model() -> Check:
    try:
        return Check("face model", True, str(find_model()))
    except ModelFileError as error:
        return Check("face model", False, "not found or not the official file", str(error))


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
