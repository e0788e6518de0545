"""Landmark detectors.

To add one: a module here with a class that fulfils :class:`LandmarkDetector`, decorated with
``@register_detector("name")``, and an import line below. The conformance suite runs over every registered one.
"""

from aupipe.pipeline.detectors import dataset, dlib, mediapipe
from aupipe.pipeline.detectors.base import (
    Attempt,
    Face,
    LandmarkDetector,
    create_detector,
    detector_names,
    detector_packages,
    register_detector,
)

__all__ = [
    "Attempt",
    "Face",
    "LandmarkDetector",
    "create_detector",
    "dataset",
    "detector_names",
    "detector_packages",
    "dlib",
    "mediapipe",
    "register_detector",
]
