"""Landmark detectors, one file each; importing the package registers them all.

To add one: a module here with a class that fulfils :class:`LandmarkDetector`, decorated with
``@register_detector("name")``. The conformance suite runs over every registered one.
"""

import importlib
import pkgutil

from aupipe.pipeline.detectors.base import (
    Attempt,
    Face,
    LandmarkDetector,
    create_detector,
    detector_names,
    detector_packages,
    register_detector,
)

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = [
    "Attempt",
    "Face",
    "LandmarkDetector",
    "create_detector",
    "detector_names",
    "detector_packages",
    "register_detector",
]
