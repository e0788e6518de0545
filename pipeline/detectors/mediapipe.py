"""MediaPipe's Tasks FaceLandmarker: the default detector."""

from __future__ import annotations

import contextlib
import os
import weakref
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float32, Float64, UInt8

from aupipe.fer_data.versions import installed_version
from aupipe.pipeline.detectors.base import Attempt, Face, register_detector
from aupipe.pipeline.detectors.mesh68 import MAPPING, mesh_to_68
from aupipe.pipeline.detectors.model_file import MODEL_SHA256, find_model

SCORE_CROP = 2.2
"""Side of the square that the score is taken on, as a multiple of the points' longer side."""
MIN_SCORE = 0.45
"""Smallest score of a face that only a low threshold finds: below it the mesh is mostly wrong, though the mirror
image agrees."""
TURNED_BELOW, TURNED_MIN_SCORE = 0.75, 0.6
"""A face of a lower score, or none, is looked for in the turned image, too; the least score of what is found there.
A mesh on a face that stands on its head mostly has .45 to .74, and so have 16 % of FER2013's upright ones."""
_SCORE_SIDE = 128  # the face detector's own input


@register_detector("mediapipe")
class MediaPipeDetector:
    """MediaPipe Tasks ``FaceLandmarker``; one native landmarker per confidence level, made on first use.

    The landmarker keeps its confidence to itself, so ``score`` is asked of the face detector inside the same model
    bundle: its confidence in [0, 1] on the face's own crop, 0.0 where it sees no face there. The crop makes scores of
    small and large faces comparable.
    """

    ladder = (
        Attempt(0.0, 0.5),
        Attempt(0.25, 0.5, twice=True),
        Attempt(0.5, 0.5, twice=True),
        Attempt(0.0, 0.5, tiles=True),
        Attempt(0.25, 0.2, twice=True, min_score=MIN_SCORE),
        Attempt(0.0, 0.1, twice=True, min_score=MIN_SCORE),
        Attempt(0.5, 0.1, twice=True, min_score=MIN_SCORE),
        Attempt(0.25, 0.05, grey=128, twice=True, min_score=MIN_SCORE),
        *(
            Attempt(0.25, 0.5, twice=True, min_score=TURNED_MIN_SCORE, turns=turns, below=TURNED_BELOW)
            for turns in (2, 1, 3)
        ),
    )
    reach = 0.25
    uses_known = False
    packages = ("mediapipe", "opencv-python")
    MAX_FACES = 8

    def __init__(self, model: Path | None = None) -> None:
        self._model = find_model(model)
        self._native: dict[float | str, Any] = {}
        # Collected together with the thread it waits for, a native object would wait for ever: keep them apart.
        weakref.finalize(self, _close_all, self._native)

    def identity(self) -> dict[str, Any]:
        """Return model hash, library version, mapping and where the score comes from."""
        return {
            "detector": "mediapipe",
            "mediapipe": installed_version("mediapipe"),
            "model_sha256": MODEL_SHA256,
            "mapping": MAPPING,
            "max_faces": self.MAX_FACES,
            "score_crop": SCORE_CROP,
        }

    def detect(
        self, image: UInt8[np.ndarray, "h w 3"], confidence: float, known: Float64[np.ndarray, "68 2"] | None = None
    ) -> list[Face]:
        """Detect every face in an RGB image; see :class:`Face`."""
        with _native_stderr_silenced():
            result = self._landmarker(confidence).detect(_frame(image))
            return [
                _face(landmarks, blendshapes, matrix, image.shape[0], image.shape[1])
                for landmarks, blendshapes, matrix in zip(
                    result.face_landmarks,
                    result.face_blendshapes,
                    result.facial_transformation_matrixes,
                    strict=True,
                )
            ]

    def complete(self, image: UInt8[np.ndarray, "h w 3"], face: Face) -> Face:
        """Return the face with its score."""
        with _native_stderr_silenced():
            return replace(face, score=self._score(image, face.points))

    def close(self) -> None:
        """Close every native object: leaving that to interpreter shutdown can hang."""
        _close_all(self._native)

    def _score(self, image: UInt8[np.ndarray, "h w 3"], points: Float64[np.ndarray, "68 2"]) -> float:
        low, high = points.min(0), points.max(0)
        side = max(SCORE_CROP * float((high - low).max()), 1.0)
        scale = _SCORE_SIDE / side
        offset = (_SCORE_SIDE - 1) / 2 - scale * (low + high) / 2
        to_crop = np.array([[scale, 0, offset[0]], [0, scale, offset[1]]])
        crop = cv2.warpAffine(image, to_crop, (_SCORE_SIDE, _SCORE_SIDE), flags=cv2.INTER_LINEAR)
        return max(
            (
                float(found.categories[0].score)
                for found in self._face_detector().detect(_frame(np.asarray(crop, np.uint8))).detections
            ),
            default=0.0,
        )

    def _landmarker(self, confidence: float) -> Any:
        if confidence not in self._native:
            from mediapipe.tasks.python import BaseOptions, vision

            options = vision.FaceLandmarkerOptions(
                base_options=BaseOptions(model_asset_buffer=self._model.read_bytes()),
                num_faces=self.MAX_FACES,
                min_face_detection_confidence=confidence,
                min_face_presence_confidence=confidence,
                output_face_blendshapes=True,
                output_facial_transformation_matrixes=True,
            )
            self._native[confidence] = vision.FaceLandmarker.create_from_options(options)
        return self._native[confidence]

    def _face_detector(self) -> Any:
        if "score" not in self._native:
            from mediapipe.tasks.python import BaseOptions, vision

            with zipfile.ZipFile(self._model) as bundle:
                network = bundle.read("face_detector.tflite")
            options = vision.FaceDetectorOptions(
                base_options=BaseOptions(model_asset_buffer=network), min_detection_confidence=0.05
            )
            self._native["score"] = vision.FaceDetector.create_from_options(options)
        return self._native["score"]


def _close_all(native: dict[float | str, Any]) -> None:
    with _native_stderr_silenced():
        while native:
            native.popitem()[1].close()


def _face(landmarks: Any, blendshapes: Any, matrix: Any, height: int, width: int) -> Face:
    normalised = np.array([(p.x, p.y, p.z) for p in landmarks], np.float64)
    # MediaPipe's normalised coordinates put 0 and 1 on the frame's outer edges; ours count from pixel centres.
    mesh = normalised * (width, height, width) - (0.5, 0.5, 0.0)
    return Face(
        points=mesh_to_68(mesh),
        pose=_pose(np.asarray(matrix, np.float64)),
        mesh=mesh.astype(np.float32),
        blendshapes=np.array([category.score for category in blendshapes], np.float32),
    )


def _frame(image: UInt8[np.ndarray, "h w 3"]) -> Any:
    import mediapipe

    return mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(image))


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
