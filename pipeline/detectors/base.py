"""What a landmark detector is: the face it reports, the Protocol it fulfils, and the registry it is found in.

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

    points: (68, 2) float64, iBUG-68. pose: (3,) float32 yaw, pitch, roll in degrees; yaw is positive when the face
    turns to image right, pitch when it looks down, roll when it leans clockwise on screen. score: the detector's own
    confidence, larger is surer; its scale is the detector's (see its class). mesh: (478, 3) float32, z in pixels,
    smaller is nearer, and blendshapes: (52,) float32 in [0, 1], where the detector gives them. What a detector adds to
    chosen faces only (see :meth:`LandmarkDetector.complete`) is 0 before.
    """

    points: Float64[np.ndarray, "68 2"]
    pose: Float32[np.ndarray, "3"]
    score: float = 0.0
    mesh: Float32[np.ndarray, "478 3"] | None = None
    blendshapes: Float32[np.ndarray, "52"] | None = None


@dataclass(frozen=True)
class Rung:
    """One try of a ladder: a constant border of ``padding`` x the longer side in ``grey``, a detection threshold.

    What was not seen at the first look is often no face, or a face whose points cannot be trusted, so a ``twice`` rung
    is believed only when the mirrored image gives the same points. A ``tiles`` rung looks at overlapping pieces of the
    image instead, for faces that are small in it.
    """

    padding: float
    confidence: float
    grey: int = 0
    twice: bool = False
    tiles: bool = False


@runtime_checkable
class LandmarkDetector(Protocol):
    """Finds faces and their 68 points.

    ``ladder`` lists the tries that make sense with it, the first one being the plain look. ``reach`` is the share of
    the picture's longer side from which on it sees a face well; smaller ones are looked at again from close by (0: size
    does not matter to it). ``uses_known`` says whether it reads the points that ship with a dataset. ``packages`` names
    the distributions that its results depend on, those that may take each other's place too.
    """

    @property
    def ladder(self) -> tuple[Rung, ...]:
        """The tries, in order."""

    @property
    def reach(self) -> float:
        """Smallest face it sees well, as a share of the picture's longer side."""

    @property
    def uses_known(self) -> bool:
        """Whether ``known`` matters to :meth:`detect`."""

    @property
    def packages(self) -> tuple[str, ...]:
        """Distributions that decide the result, as pip names them; a class attribute."""

    def identity(self) -> dict[str, Any]:
        """What determines the result, as JSON: goes into the plan's digest."""

    def detect(
        self, image: UInt8[np.ndarray, "h w 3"], confidence: float, known: Float64[np.ndarray, "68 2"] | None = None
    ) -> list[Face]:
        """Every face in an RGB image.

        ``confidence`` is a rung's threshold; ``known`` the 68 points that ship with the dataset, in this image's
        pixels, where there are any.
        """

    def complete(self, image: UInt8[np.ndarray, "h w 3"], face: Face) -> Face:
        """The chosen face, in this image's pixels, with all that is too dear to compute for every face that is seen."""

    def close(self) -> None:
        """Free native resources; the detector is not used afterwards."""


Factory = Callable[[Path | None], LandmarkDetector]
_FACTORIES: dict[str, Factory] = {}


def register_detector(name: str) -> Callable[[type], type]:
    """Class decorator: make a detector known under ``name``; its constructor takes the model file or None.

    Raises :class:`UserInputError` when the name is taken.
    """

    def add(kind: type) -> type:
        if name in _FACTORIES:
            raise UserInputError(f"A landmark detector named {name!r} is registered already.")
        _FACTORIES[name] = kind
        return kind

    return add


def detector_names() -> list[str]:
    """Names of the registered detectors, sorted."""
    return sorted(_FACTORIES)


def detector_packages() -> dict[str, tuple[str, ...]]:
    """List by detector the packages that its results depend on."""
    return {name: tuple(getattr(_FACTORIES[name], "packages", ())) for name in detector_names()}


def create_detector(name: str, model: Path | None = None) -> LandmarkDetector:
    """Build a registered detector.

    Raises :class:`UserInputError` on an unknown name, :class:`ModelFileError` when its model or its library is
    missing.
    """
    if name not in _FACTORIES:
        raise UserInputError(unknown_name("detector", name, detector_names()))
    return _FACTORIES[name](model)
