"""Detection passes over an image: with a border, from close by, in tiles, twice; and the test of what is seen.

A face detector works on a picture of fixed, small size (MediaPipe's: 128 pixels), so what it sees depends on how much
of the picture a face fills. Measured with faces of known points pasted into larger pictures: from a quarter of the
longer side on every face is found and the points are as good as they get; at 0.13 one in seven is missed and some
meshes slip down to the neck, with a high score; at 0.08 no face is found. A second pass from close by repairs all of
those that were found.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float64, UInt8

from aupipe.fer_data import geometry
from aupipe.pipeline.detectors.base import Attempt, Face, LandmarkDetector
from aupipe.pipeline.landmarks.turning import turn_face, turn_image

Image = UInt8[np.ndarray, "h w 3"]
Known = Float64[np.ndarray, "68 2"] | None

MAX_MIRROR_GAP = 0.12
"""Largest mean distance between the passes of a ``twice`` attempt, as a share of the face's size (root of its box)."""

MAX_CLOSE_GAP = 0.5
"""Largest distance between the middles of a small face and of the face seen from close by, as a share of its size."""

MAX_LEAN = 50.0
"""Largest roll in degrees, to either side, of a face in a turned image: what leans more is more upright elsewhere."""

CLOSE_UP = 2.2
"""Side of a pass from close by, as a multiple of the face's size."""

MIN_TILE = 200
"""Smallest side of a tile in pixels."""

MAX_PIXELS = 25_000_000
"""A larger image is reduced to so many for a look at the whole of it; what is small in it is seen in full from close
by."""

STRIP = 4.0
"""An image so many times as long as it is high is searched in windows along its length: a border as wide as a share of
its length would take gigabytes, and in the picture that the detector works on its faces would be specks."""

MIN_WINDOW = 640
"""Smallest length of a window in pixels; else it is twice the strip's shorter side."""


def passes_config() -> dict[str, Any]:
    """Return the limits as JSON, for the plan's digest."""
    return {
        "max_mirror_gap": MAX_MIRROR_GAP,
        "max_close_gap": MAX_CLOSE_GAP,
        "close_up": CLOSE_UP,
        "max_lean": MAX_LEAN,
        "min_tile": MIN_TILE,
        "max_pixels": MAX_PIXELS,
        "strip": [STRIP, MIN_WINDOW],
    }


def detect_pass(
    image: Image, detector: LandmarkDetector, attempt: Attempt, known: Known = None
) -> tuple[list[Face], bool]:
    """Detect the faces of one attempt that are believed, in pixels of ``image``; tell whether anything was seen.

    A face that several windows of a strip show is taken from the one in whose middle it lies.
    """
    if attempt.turns:
        turned = turn_image(image, attempt.turns)
        faces, seen = detect_pass(turned, detector, replace(attempt, turns=0))
        upright = [face for face in faces if abs(np.degrees(geometry.roll(face.points))) <= MAX_LEAN]
        return [turn_face(face, turned.shape, -attempt.turns) for face in upright], seen
    height, width = image.shape[:2]
    if max(height, width) <= max(STRIP * min(height, width), MIN_WINDOW):
        return _detect_at_once(image, detector, attempt, known)
    found, seen, side = list[tuple[float, Face]](), False, max(2 * min(height, width), MIN_WINDOW)
    for x, y in _tile_corners(width, height, side):
        window = np.ascontiguousarray(image[y : y + side, x : x + side])
        faces, some = _detect_at_once(window, detector, attempt, None if known is None else known - (x, y))
        middle = np.array(window.shape[1::-1]) / 2
        found += [(float(np.linalg.norm(face_centre(face) - middle)), shift_face(face, x, y)) for face in faces]
        seen = seen or some
    return merge_faces([], [face for _, face in sorted(found, key=lambda one: one[0])]), seen


def _detect_at_once(
    image: Image, detector: LandmarkDetector, attempt: Attempt, known: Known
) -> tuple[list[Face], bool]:
    seen = _in_tiles(image, detector, attempt) if attempt.tiles else _padded(image, detector, attempt, known)
    faces = [face for face in seen if is_plausible(face, image.shape[0], image.shape[1])]
    if attempt.twice and faces:
        faces = _confirmed(faces, image, detector, attempt)
    near = [_from_close_by(face, image, detector, attempt) if _is_small(face, image, detector, attempt) else face
            for face in faces]  # fmt: skip
    return merge_faces([], [face for face in near if face is not None]), bool(seen)


def mirror_average(face: Face, image: Image, detector: LandmarkDetector, attempt: Attempt) -> Face:
    """Average a face's points with those seen in the mirror image: so found, points know no side.

    Where the mirror image shows no such face, or one that disagrees, the face comes back as it is. The mesh and all
    else stay those of the first pass.
    """
    if _is_small(face, image, detector, attempt):
        x, y, around = _surroundings(face, image)
        whole = replace(attempt, padding=0.0)
        again = [points + np.array([x, y]) for points in _mirror_points(around, detector, whole)]
    else:
        again = _mirror_points(image, detector, attempt)
    nearest = min(again, key=lambda points: _gap(points, face), default=None)
    if nearest is None or _gap(nearest, face) > MAX_MIRROR_GAP * face_size(face):
        return face
    return replace(face, points=(face.points + nearest) / 2)


def merge_faces(faces: Sequence[Face], more: Sequence[Face]) -> list[Face]:
    """Merge ``faces`` and those of ``more`` that are not one of them seen again."""
    kept = list(faces)
    for face in more:
        gaps = [(other, np.linalg.norm(face_centre(face) - face_centre(other))) for other in kept]
        if all(gap > 0.5 * min(face_size(face), face_size(other)) for other, gap in gaps):
            kept.append(face)
    return kept


def face_size(face: Face) -> float:
    """Compute the root of the area of the points' box, in pixels."""
    return float(np.sqrt(np.prod(np.ptp(face.points, axis=0))))


def face_centre(face: Face) -> Float64[np.ndarray, "2"]:
    """Compute the centre of the points' box."""
    return np.asarray((face.points.min(0) + face.points.max(0)) / 2)


def shift_face(face: Face, x: float, y: float) -> Face:
    """Move the face to a picture whose origin lies at (-x, -y) of the one it was found in."""
    mesh = None if face.mesh is None else face.mesh + np.array([x, y, 0], np.float32)
    return replace(face, points=face.points + np.array([x, y]), mesh=mesh)


def _enlarged(face: Face, factor: Float64[np.ndarray, "2"]) -> Face:
    """Move the face to a picture that is ``factor`` (x, y) times as large as the one it was found in."""
    corner, mesh = np.array([0.5, 0.5, 0.0]), None
    if face.mesh is not None:
        mesh = ((face.mesh + corner) * (*factor, factor[0]) - corner).astype(np.float32)
    return replace(face, points=(face.points + 0.5) * factor - 0.5, mesh=mesh)


def is_plausible(face: Face, height: int, width: int) -> bool:
    """Tell whether the mesh can be a face: eyes above mouth in the face's axes, human proportions, mostly in the image.

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


def _padded(image: Image, detector: LandmarkDetector, attempt: Attempt, known: Known) -> list[Face]:
    factor = float(np.sqrt(MAX_PIXELS / (image.shape[0] * image.shape[1])))
    if factor < 1:
        height, width = (max(1, int(factor * side)) for side in image.shape[:2])
        small = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
        back = np.array([image.shape[1] / width, image.shape[0] / height])
        found = _padded(small, detector, attempt, None if known is None else (known + 0.5) / back - 0.5)
        return [_enlarged(face, back) for face in found]
    border = round(attempt.padding * max(image.shape[:2]))
    if border == 0:
        return detector.detect(image, attempt.confidence, known)
    padded = cv2.copyMakeBorder(image, border, border, border, border, cv2.BORDER_CONSTANT, value=(attempt.grey,) * 3)
    shifted = None if known is None else known + border
    found = detector.detect(np.asarray(padded, np.uint8), attempt.confidence, shifted)
    return [shift_face(face, -border, -border) for face in found]


def _confirmed(faces: Sequence[Face], image: Image, detector: LandmarkDetector, attempt: Attempt) -> list[Face]:
    again = _mirror_points(image, detector, attempt)
    return [face for face in faces if any(_gap(points, face) <= MAX_MIRROR_GAP * face_size(face) for points in again)]


def _mirror_points(image: Image, detector: LandmarkDetector, attempt: Attempt) -> list[Float64[np.ndarray, "68 2"]]:
    """The points of every face in the mirror image, mirrored back."""
    mirrored = _padded(np.ascontiguousarray(image[:, ::-1]), detector, attempt, None)
    return [geometry.flip_points(face.points, image.shape[1]) for face in mirrored]


def _gap(points: Float64[np.ndarray, "68 2"], face: Face) -> float:
    return float(np.linalg.norm(points - face.points, axis=1).mean())


def _is_small(face: Face, image: Image, detector: LandmarkDetector, attempt: Attempt) -> bool:
    """Tell whether a face must be seen from close by. Always in a tile, which may cut a face in two."""
    return attempt.tiles or face_size(face) < detector.reach * max(image.shape[:2]) * (1 + 2 * attempt.padding)


def _surroundings(face: Face, image: Image) -> tuple[float, float, UInt8[np.ndarray, "_ _ 3"]]:
    """Cut out the part of the image around a face; return its origin first."""
    half = CLOSE_UP / 2 * face_size(face)
    x0, y0 = np.maximum(0, np.round(face_centre(face) - half)).astype(int)
    x1, y1 = np.round(face_centre(face) + half).astype(int)
    return float(x0), float(y0), np.ascontiguousarray(image[y0:y1, x0:x1])


def _from_close_by(face: Face, image: Image, detector: LandmarkDetector, attempt: Attempt) -> Face | None:
    """The same face seen larger; None when it is not seen again."""
    x, y, around = _surroundings(face, image)
    again = [shift_face(found, x, y) for found in detector.detect(around, attempt.confidence)]
    again = [found for found in again if is_plausible(found, image.shape[0], image.shape[1])]
    nearest = min(again, key=lambda found: float(np.linalg.norm(face_centre(found) - face_centre(face))), default=None)
    if nearest is None or np.linalg.norm(face_centre(nearest) - face_centre(face)) > MAX_CLOSE_GAP * face_size(face):
        return None
    return nearest


def _in_tiles(image: Image, detector: LandmarkDetector, attempt: Attempt) -> list[Face]:
    """Faces in half-size tiles that overlap by half; in quarter-size ones when those show none."""
    for share in (2, 4):
        side = -(-max(image.shape[:2]) // share)
        if side < MIN_TILE:
            break
        found: list[Face] = []
        for x, y in _tile_corners(image.shape[1], image.shape[0], side):
            tile = np.ascontiguousarray(image[y : y + side, x : x + side])
            found += [shift_face(face, x, y) for face in detector.detect(tile, attempt.confidence)]
        if found:
            return found
    return []


def _tile_corners(width: int, height: int, side: int) -> Iterator[tuple[int, int]]:
    for y in _starts(height, side):
        for x in _starts(width, side):
            yield x, y


def _starts(length: int, side: int) -> list[int]:
    """Starts of tiles that cover ``length`` and overlap by half or more.

    >>> _starts(100, 50), _starts(40, 50), _starts(60, 50)
    ([0, 25, 50], [0], [0, 10])
    """
    last = max(0, length - side)
    return sorted({*range(0, last, max(1, side // 2)), last})
