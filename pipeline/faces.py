"""From an image to one trusted face, and from a face to its aligned crop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from fer_data import geometry
from fer_data.types import Reason
from pipeline.detectors import Face, LandmarkDetector


@dataclass(frozen=True)
class Rung:
    """One try of the ladder: a constant border of ``padding`` x the longer side in ``grey``, a detection threshold.

    Below the detector's usual threshold its answers on non-faces look like faces, so a ``twice`` rung is believed
    only when the mirrored image gives the same points.
    """

    padding: float
    confidence: float
    grey: int = 0
    twice: bool = False


LADDER = (
    Rung(0.0, 0.5),
    Rung(0.25, 0.5),
    Rung(0.5, 0.5),
    Rung(0.25, 0.2, twice=True),
    Rung(0.0, 0.1, twice=True),
    Rung(0.5, 0.1, twice=True),
    Rung(0.25, 0.05, grey=128, twice=True),
)
"""Tight crops are missed as they are and found with a constant border around them."""

MAX_MIRROR_GAP = 0.12
"""Largest mean distance between the two looks of a ``twice`` rung, as a share of the face's size (root of its box)."""

MIN_FACE_SIZE = 16.0
"""Smallest face (root of the points' box area) in pixels: below it an error of one pixel moves an AU to its
neighbour."""


@dataclass(frozen=True)
class Detection:
    """The outcome for one image: ``face`` in source pixels when ``reason`` is OK; which rung found it; faces seen."""

    reason: Reason
    face: Face | None = None
    rung: int = 0
    faces_seen: int = 0


def detection_config() -> dict[str, Any]:
    """The ladder and its limits as JSON, for the plan's digest."""
    return {
        "ladder": [asdict(rung) for rung in LADDER],
        "max_mirror_gap": MAX_MIRROR_GAP,
        "min_face_size": MIN_FACE_SIZE,
        "faces": "largest",
    }


def find_face(image: UInt8[np.ndarray, "h w 3"], detector: LandmarkDetector) -> Detection:
    """Climb the ladder until a rung yields a believable face; take the largest one of that rung.

    The reason of a failure is the best thing seen on the way up: a face too small, an implausible one, nothing.
    """
    reason = Reason.NO_FACE
    for number, rung in enumerate(LADDER):
        seen = _detect_padded(image, detector, rung)
        faces = [face for face in seen if is_plausible(face, image.shape[0], image.shape[1])]
        if rung.twice and faces:
            faces = _confirmed(faces, image, detector, rung)
        large = [face for face in faces if _size(face) >= MIN_FACE_SIZE]
        if large:
            return Detection(Reason.OK, max(large, key=_size), number, len(faces))
        if faces:
            reason = Reason.FACE_TOO_SMALL
        elif seen and reason is Reason.NO_FACE:
            reason = Reason.IMPLAUSIBLE_FACE
    return Detection(reason)


def _confirmed(
    faces: Sequence[Face], image: UInt8[np.ndarray, "h w 3"], detector: LandmarkDetector, rung: Rung
) -> list[Face]:
    mirrored = _detect_padded(np.ascontiguousarray(image[:, ::-1]), detector, rung)
    looks = [geometry.flip_points(face.points, image.shape[1]) for face in mirrored]
    return [
        face
        for face in faces
        if any(np.linalg.norm(look - face.points, axis=1).mean() <= MAX_MIRROR_GAP * _size(face) for look in looks)
    ]


def is_plausible(face: Face, height: int, width: int) -> bool:
    """Whether the mesh can be a face: eyes above mouth in the face's own axes, human proportions, mostly in the image.

    Keeps out the detector's answers on drawings, hands and patterns.
    """
    points = face.points
    if not np.isfinite(points).all():
        return False
    _, down = geometry.face_axes(points)
    eyes, mouth, chin = points[36:48].mean(0), points[48:60].mean(0), points[8]
    eyes_to_mouth, mouth_to_chin = (mouth - eyes) @ down, (chin - mouth) @ down
    face_height = (chin - points[17:27].mean(0)) @ down
    if eyes_to_mouth <= 0 or mouth_to_chin <= 0 or face_height <= 0:
        return False
    proportions = 0.3 < eyes_to_mouth / face_height < 0.8 and 0.2 < np.ptp(points, 0)[0] / face_height < 2.5
    inside = ((points >= -0.5) & (points <= (width - 0.5, height - 0.5))).all(-1)
    return bool(proportions and inside.mean() >= 0.5)


def _size(face: Face) -> float:
    return float(np.sqrt(np.prod(np.ptp(face.points, axis=0))))


def _detect_padded(image: UInt8[np.ndarray, "h w 3"], detector: LandmarkDetector, rung: Rung) -> Sequence[Face]:
    border = round(rung.padding * max(image.shape[:2]))
    if border == 0:
        return detector.detect(image, rung.confidence)
    padded = cv2.copyMakeBorder(image, border, border, border, border, cv2.BORDER_CONSTANT, value=(rung.grey,) * 3)
    shift = np.array([border, border, 0], np.float32)
    return [
        replace(face, points=face.points - border, mesh=face.mesh - shift)
        for face in detector.detect(np.asarray(padded, np.uint8), rung.confidence)
    ]
