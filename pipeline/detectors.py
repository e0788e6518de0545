"""Landmark detectors: the Protocol, the registry, and MediaPipe's Tasks FaceLandmarker.

A detector turns one RGB image into every face it sees, in that image's pixels. Trying harder (padding, lower
confidence) is the ladder's business, choosing one face is :mod:`pipeline.faces`'s.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Float64, UInt8

from fer_data.errors import UserInputError, unknown_name
from pipeline.mesh68 import MAPPING, mesh_to_68
from pipeline.model_file import MODEL_SHA256, find_model


@dataclass(frozen=True)
class Face:
    """One detected face, in pixels of the image it was found in (integer coordinates at pixel centres).

    points: (68, 2) float64, iBUG-68. mesh: (478, 3) float32; z in pixels, smaller is nearer.
    blendshapes: (52,) float32 in [0, 1]. pose: (3,) float32 yaw, pitch, roll in degrees; yaw is positive when the face
    turns to image right, pitch when it looks down, roll when it leans clockwise on screen.
    """

    points: Float64[np.ndarray, "68 2"]
    mesh: Float32[np.ndarray, "478 3"]
    blendshapes: Float32[np.ndarray, "52"]
    pose: Float32[np.ndarray, "3"]


@runtime_checkable
class LandmarkDetector(Protocol):
    """Finds faces and their 68 points.

    ``confidence`` is the detection threshold in [0, 1].
    """

    def identity(self) -> dict[str, Any]:
        """What determines the result, as JSON: goes into the plan's digest."""

    def detect(self, image: UInt8[np.ndarray, "h w 3"], confidence: float) -> list[Face]:
        """Every face in an RGB image."""

    def close(self) -> None:
        """Free native resources; the detector is not used afterwards."""


class MediaPipeDetector:
    """MediaPipe Tasks ``FaceLandmarker``; one native landmarker per confidence level, made on first use."""

    MAX_FACES = 8

    def __init__(self, model: Path | None = None) -> None:
        self._model = find_model(model)
        self._landmarkers: dict[float, Any] = {}

    def identity(self) -> dict[str, Any]:
        """Model hash, library version and mapping."""
        from importlib.metadata import version

        return {
            "detector": "mediapipe",
            "mediapipe": version("mediapipe"),
            "model_sha256": MODEL_SHA256,
            "mapping": MAPPING,
            "max_faces": self.MAX_FACES,
        }

    def detect(self, image: UInt8[np.ndarray, "h w 3"], confidence: float) -> list[Face]:
        """Every face in an RGB image; see :class:`Face`."""
        import mediapipe

        frame = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(image))
        with _native_stderr_silenced():
            result = self._landmarker(confidence).detect(frame)
        height, width = image.shape[:2]
        return [
            _face(landmarks, blendshapes, matrix, height, width)
            for landmarks, blendshapes, matrix in zip(
                result.face_landmarks,
                result.face_blendshapes,
                result.facial_transformation_matrixes,
                strict=True,
            )
        ]

    def close(self) -> None:
        """Close every native landmarker: leaving that to interpreter shutdown can hang."""
        for landmarker in self._landmarkers.values():
            landmarker.close()
        self._landmarkers.clear()

    def _landmarker(self, confidence: float) -> Any:
        if confidence not in self._landmarkers:
            from mediapipe.tasks.python import BaseOptions, vision

            options = vision.FaceLandmarkerOptions(
                base_options=BaseOptions(model_asset_buffer=self._model.read_bytes()),
                num_faces=self.MAX_FACES,
                min_face_detection_confidence=confidence,
                min_face_presence_confidence=confidence,
                output_face_blendshapes=True,
                output_facial_transformation_matrixes=True,
            )
            with _native_stderr_silenced():
                self._landmarkers[confidence] = vision.FaceLandmarker.create_from_options(options)
        return self._landmarkers[confidence]


DETECTORS: dict[str, Callable[[Path | None], LandmarkDetector]] = {"mediapipe": MediaPipeDetector}


def create_detector(name: str, model: Path | None = None) -> LandmarkDetector:
    """Build a registered detector.

    Raises :class:`UserInputError` on an unknown name.
    """
    if name not in DETECTORS:
        raise UserInputError(unknown_name("detector", name, sorted(DETECTORS)))
    return DETECTORS[name](model)


def _face(landmarks: Any, blendshapes: Any, matrix: Any, height: int, width: int) -> Face:
    normalised = np.array([(p.x, p.y, p.z) for p in landmarks], np.float64)
    # MediaPipe's normalised coordinates put 0 and 1 on the frame's outer edges; ours count from pixel centres.
    mesh = normalised * (width, height, width) - (0.5, 0.5, 0.0)
    return Face(
        points=mesh_to_68(mesh),
        mesh=mesh.astype(np.float32),
        blendshapes=np.array([category.score for category in blendshapes], np.float32),
        pose=_pose(np.asarray(matrix, np.float64)),
    )


def _pose(matrix: Float64[np.ndarray, "4 4"]) -> Float32[np.ndarray, "3"]:
    """Yaw, pitch, roll in degrees of R = Ry(yaw) Rx(pitch) Rz(roll); the axes are x right, y up, z to the camera."""
    rotation = matrix[:3, :3] / np.cbrt(np.linalg.det(matrix[:3, :3]))
    yaw = np.arctan2(rotation[0, 2], rotation[2, 2])
    pitch = np.arcsin(np.clip(-rotation[1, 2], -1, 1))
    clockwise = -np.arctan2(rotation[1, 0], rotation[1, 1])
    return np.degrees([yaw, pitch, clockwise]).astype(np.float32)


@contextlib.contextmanager
def _native_stderr_silenced() -> Iterator[None]:
    """MediaPipe's C++ logging writes start-up chatter straight to file descriptor 2; keep it off the user's screen."""
    saved = os.dup(2)
    sink = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(sink)
        os.close(saved)
