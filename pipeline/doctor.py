"""``aupipe doctor``: the check of an installation.

Every check says how to repair what it finds.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from aupipe.fer_data.errors import ModelFileError, RunError
from aupipe.fer_data.pretrained_files import EXTRA, list_cached, list_carried
from aupipe.fer_data.versions import REQUIRED, installed_version, installed_versions


@dataclass(frozen=True)
class Check:
    """One check: passed or not, what was found, and how to repair it."""

    name: str
    ok: bool
    found: str
    repair: str = ""


def run_checks() -> list[Check]:
    """Check Python, packages, the two OpenCV distributions, other detectors, the face model, pretrained weights."""
    python = ".".join(map(str, sys.version_info[:3]))
    checks = [Check("python", sys.version_info >= (3, 11), python, "aupipe needs Python 3.11 or newer")]
    for name in REQUIRED:
        found = installed_version(name)
        checks.append(Check(name, found is not None, found or "not installed", f"pip install {name}"))
    try:
        return [*checks, _opencv(), *_detectors(), _model(), _pretrained()]
    except ImportError as error:
        return [*checks, _opencv(), Check("loading", False, f"{error.name or 'a library'}: {error}", _LIBRARIES)]


_LIBRARIES = (
    "install the package that is missing; where it is a file such as libGL.so.1, the system's library: on Debian and "
    "Ubuntu apt-get install libgl1 libglib2.0-0 libegl1 libgles2"
)


def _opencv() -> Check:
    """Opencv-python (ours) and opencv-contrib-python (mediapipe's) both own the folder ``cv2``: versions must agree."""
    plain, contrib = installed_version("opencv-python"), installed_version("opencv-contrib-python")
    found = f"opencv-python {plain}, opencv-contrib-python {contrib}"
    repair = (
        "pip uninstall -y opencv-python opencv-contrib-python opencv-python-headless && "
        f"pip install opencv-python=={plain or contrib} opencv-contrib-python=={plain or contrib}"
    )
    headless = installed_version("opencv-python-headless")
    if headless is not None:
        found += f", opencv-python-headless {headless}"
    return Check("one OpenCV", contrib in (None, plain) and headless in (None, plain), found, repair)


def _detectors() -> list[Check]:
    """Detectors that need more than an installation must have; nothing is wrong where they are absent."""
    # The detectors load OpenCV, which may be what is to be found out.
    from aupipe.pipeline.detectors import detector_packages

    checks = []
    for name, packages in detector_packages().items():
        if own := [package for package in packages if package not in REQUIRED]:
            present = [f"{one} {version}" for one, version in installed_versions(own, "").items() if version]
            checks.append(Check(name, True, ", ".join(present) or f"not installed (optional: {', '.join(own)})"))
    return checks


def _model() -> Check:
    """Look for the model; nothing is downloaded."""
    from aupipe.pipeline.detectors.model_file import present_model, remedies

    try:
        found = present_model()
        return Check("face model", found is not None, str(found or "not on this machine"), remedies())
    except ModelFileError as error:
        return Check("face model", False, "not found or not the official file", str(error))


def _pretrained() -> Check:
    """List the weights that ``--pretrained`` finds without a network; nothing is wrong where there are none."""
    try:
        found = [*list_cached(), *list_carried()]
    except RunError as error:
        return Check("pretrained", False, "not the published file", str(error))
    return Check("pretrained", True, ", ".join(found) or f"no weights on this machine (optional: {EXTRA})")
