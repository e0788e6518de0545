"""Landmark detectors: the face they report, the Protocol they fulfil, and the registry they are found in.

A detector turns one RGB image into every face it sees, in that image's pixels. Trying harder (padding, lower
confidence) is :mod:`aupipe.pipeline.landmarks.faces`'s business, guided by the detector's own ladder; so is choosing
one face.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Float64, UInt8

from aupipe.fer_data.errors import UserInputError, unknown_name


@dataclass(frozen=True)
class Face:
    """One detected face, in pixels of the image it was found in (integer coordinates at pixel centres).

    What a detector adds to chosen faces only (see :meth:`LandmarkDetector.complete`) is 0 before.

    Attributes:
        points: (68, 2) float64, iBUG-68.
        pose: (3,) float32 yaw, pitch, roll in degrees; yaw is positive when the face turns to image right, pitch when
            it looks down, roll when it leans clockwise on screen.
        score: The detector's own confidence; its scale is the detector's (see its class). A low one flags a failure;
            among good faces it does not rank how exact the points are.
        mesh: (478, 3) float32, z in pixels, smaller is nearer, where the detector gives it.
        blendshapes: (52,) float32 in [0, 1], where the detector gives them.
    """

    points: Float64[np.ndarray, "68 2"]
    pose: Float32[np.ndarray, "3"]
    score: float = 0.0
    mesh: Float32[np.ndarray, "478 3"] | None = None
    blendshapes: Float32[np.ndarray, "52"] | None = None


@dataclass(frozen=True)
class Attempt:
    """One attempt of a ladder.

    Attributes:
        padding: Constant border around the image, as a multiple of its longer side.
        confidence: Detection threshold.
        grey: Grey value of the border.
        twice: Believe a face only when the mirrored image gives the same points: what the first attempt did not see is
            often no face, or a face whose points cannot be trusted.
        tiles: Detect in overlapping pieces of the image instead, for faces that are small in it.
        min_score: Believe only a face whose score is at least this.
        turns: Clockwise quarter turns of the image before it is looked at, for a face that lies or stands on its head.
            Tried after the others, and only for what `below` says.
        below: A turned attempt may take the place of a face found before whose score is lower than this and than its
            own; where there is none, it needs a score above this.
    """

    padding: float
    confidence: float
    grey: int = 0
    twice: bool = False
    tiles: bool = False
    min_score: float = 0.0
    turns: int = 0
    below: float = 0.0


@runtime_checkable
class LandmarkDetector(Protocol):
    """A detector of faces and their 68 points.

    Attributes:
        ladder: The attempts that make sense with it, the plain one first.
        reach: The share of the picture's longer side from which on it sees a face well; smaller ones are detected again
            from close by (0: size does not matter to it).
        uses_known: True where it reads the points that ship with a dataset.
        packages: The distributions that its results depend on, those that may take each other's place too.
    """

    @property
    def ladder(self) -> tuple[Attempt, ...]:
        """The attempts, in order."""

    @property
    def reach(self) -> float:
        """Smallest face it sees well, as a share of the picture's longer side."""

    @property
    def uses_known(self) -> bool:
        """True where ``known`` matters to :meth:`detect`."""

    @property
    def packages(self) -> tuple[str, ...]:
        """Distributions that decide the result, as pip names them; a class attribute."""

    def identity(self) -> dict[str, Any]:
        """Return what determines the result, as JSON, for the plan's digest."""

    def detect(
        self, image: UInt8[np.ndarray, "h w 3"], confidence: float, known: Float64[np.ndarray, "68 2"] | None = None
    ) -> list[Face]:
        """Detect every face in an RGB image.

        Args:
            image: RGB pixels.
            confidence: An attempt's threshold.
            known: The 68 points that ship with the dataset, in this image's pixels, where there are any.
        """

    def complete(self, image: UInt8[np.ndarray, "h w 3"], face: Face) -> Face:
        """Complete the chosen face, in this image's pixels, by what is too dear to compute for every face."""

    def close(self) -> None:
        """Free native resources; the detector is not used afterwards."""


Factory = Callable[[Path | None], LandmarkDetector]
_FACTORIES: dict[str, Factory] = {}


def register_detector(name: str) -> Callable[[type], type]:
    """Make a detector known under ``name`` (class decorator); its constructor takes the model file or None.

    Raises:
        UserInputError: The name is taken.
    """

    def add(kind: type) -> type:
        if name in _FACTORIES:
            raise UserInputError(f"A landmark detector named {name!r} is registered already.")
        _FACTORIES[name] = kind
        return kind

    return add


def detector_names() -> list[str]:
    """List the names of the registered detectors, sorted."""
    return sorted(_FACTORIES)


def detector_packages() -> dict[str, tuple[str, ...]]:
    """List by detector the packages that its results depend on."""
    return {name: tuple(getattr(_FACTORIES[name], "packages", ())) for name in detector_names()}


def create_detector(name: str, model: Path | None = None) -> LandmarkDetector:
    """Build a registered detector.

    Args:
        name: One of :func:`detector_names`.
        model: The detector's model file; None looks for it.

    Raises:
        UserInputError: The name is unknown.
        ModelFileError: Its model or its library is missing.
    """
    if name not in _FACTORIES:
        raise UserInputError(unknown_name("detector", name, detector_names()))
    return _FACTORIES[name](model)
