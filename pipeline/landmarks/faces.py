"""The search in an image for the one face that is meant."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float64, UInt8

from aupipe.fer_data.types import Box, Reason
from aupipe.pipeline.detectors.base import Attempt, Face, LandmarkDetector
from aupipe.pipeline.landmarks.passes import (
    detect_pass,
    face_centre,
    face_size,
    merge_faces,
    mirror_average,
    passes_config,
    shift_face,
)
from aupipe.pipeline.landmarks.turning import turn_face, turn_image

POLICIES = {
    "auto": "the face in the manifest's box; where it has none, the one that is large and near the middle",
    "box": "the face in the manifest's box; where it has none, the largest",
    "largest": "the largest face",
    "central": "the face nearest to the middle of the image",
    "error": "the only face; an image with several is left out as several_faces",
}
"""Which face of an image is meant."""

BOXED = frozenset({"auto", "box"})
"""The policies that look into the manifest's box."""

BOX_MARGIN = 0.3
"""A box is searched with this share of its longer side around it: boxes are often drawn from brow to chin."""

MIN_FACE_SIZE = 16.0
"""Smallest face (root of the points' box area) in pixels: below it an error of one pixel moves an AU to its
neighbour."""

LATER_SETTINGS = frozenset({"min_score", "turns", "below"})
"""Settings of an attempt that came later."""

UNSEEN = frozenset({Reason.NO_FACE, Reason.IMPLAUSIBLE_FACE})
"""Reasons that may be a face that lies or stands on its head."""


@dataclass(frozen=True)
class Detection:
    """The outcome for one image: ``face`` in source pixels when ``reason`` is OK; its attempt; the faces seen."""

    reason: Reason
    face: Face | None = None
    attempt: int = 0
    faces_seen: int = 0


def detection_config(detector: LandmarkDetector, faces: str, mirror: bool = False) -> dict[str, Any]:
    """Return the ladder, the policy and their limits as JSON, for the plan's digest."""
    return {
        "ladder": [_attempt_config(attempt) for attempt in detector.ladder],
        "reach": detector.reach,
        **passes_config(),
        "min_face_size": MIN_FACE_SIZE,
        "faces": faces,
        **({"box_margin": BOX_MARGIN} if faces in BOXED else {}),
        **({"mirror": True} if mirror else {}),
    }


def _attempt_config(attempt: Attempt) -> dict[str, Any]:
    """Its settings; a later one that it does not have is left out, as before there was one."""
    return {name: value for name, value in asdict(attempt).items() if name not in LATER_SETTINGS or value}


def find_face(
    image: UInt8[np.ndarray, "h w 3"],
    detector: LandmarkDetector,
    policy: str = "auto",
    box: Box | None = None,
    known: Float64[np.ndarray, "68 2"] | None = None,
    mirror: bool = False,
) -> Detection:
    """Find the one face that is meant.

    Args:
        image: RGB pixels.
        detector: What detects faces.
        policy: Choice among several faces, a key of :data:`POLICIES`.
        box: The manifest's box, used by the policies ``auto`` and ``box``: only its surroundings are searched,
            and the face found must have its middle inside.
        known: The points that ship with the dataset, for a detector that uses them.
        mirror: Detect the face in the mirror image, too; its points are the mean of both passes.

    Returns:
        The face in pixels of ``image``, or the reason why there is none.
    """
    even = mirror and known is None

    def look(numbers: Sequence[int]) -> list[Detection]:
        if policy in BOXED and box is not None:
            found = _find_in_box(image, detector, box, known, numbers)
        else:
            seen = _climb(image, detector, None, known, numbers)
            found = _chosen(seen, "largest" if policy == "box" else policy, image.shape, None)
        return [_completed(image, detector, found, even)]

    return _upright_or_turned(image, detector, look)[0]


def find_faces(
    image: UInt8[np.ndarray, "h w 3"],
    detector: LandmarkDetector,
    known: Float64[np.ndarray, "68 2"] | None = None,
    mirror: bool = False,
) -> tuple[Detection, ...]:
    """Find every usable face of the first attempt that shows one, largest first; or one :class:`Detection` without.

    The first of them is what :func:`find_face` finds by the policy ``largest``.
    """
    even = mirror and known is None

    def look(numbers: Sequence[int]) -> list[Detection]:
        seen = _climb(image, detector, None, known, numbers)
        found = sorted(seen, key=lambda one: -face_size(one.face) if one.face else 0.0)
        return [_completed(image, detector, one, even) for one in found]

    return tuple(_upright_or_turned(image, detector, look))


def _upright_or_turned(
    image: UInt8[np.ndarray, "h w 3"], detector: LandmarkDetector, look: Callable[[Sequence[int]], list[Detection]]
) -> list[Detection]:
    """What ``look`` finds by the numbers of the upright attempts, or by a turned one's where the score is higher.

    The first detection decides. On a face that stands on its head, too, a detector may see one: with a low score.
    """
    ladder = detector.ladder
    found = look([number for number, attempt in enumerate(ladder) if not attempt.turns])
    for number in [number for number, attempt in enumerate(ladder) if attempt.turns]:
        if _may_be_turned(image, detector, found[0], ladder[number]):
            again, before = look([number]), found[0].face
            face, least = again[0].face, ladder[number].below if before is None else before.score
            if face is not None and face.score > least:
                found = again
    return found


def _may_be_turned(
    image: UInt8[np.ndarray, "h w 3"], detector: LandmarkDetector, found: Detection, attempt: Attempt
) -> bool:
    """Tell whether the turned image is worth a look: no face was seen, or one whose score rises when it is turned."""
    if found.face is None:
        return found.reason in UNSEEN
    if found.face.score >= attempt.below:
        return False
    return _scored(image, detector, found.face, attempt.turns).score > found.face.score


def _completed(
    image: UInt8[np.ndarray, "h w 3"], detector: LandmarkDetector, found: Detection, mirror: bool
) -> Detection:
    """The face with its score, taken in the image as it was turned for the attempt; none where that is too low."""
    if found.face is None:
        return found
    attempt = detector.ladder[found.attempt]
    complete = _scored(image, detector, found.face, attempt.turns, attempt if mirror else None)
    if complete.score < attempt.min_score:
        return replace(found, reason=Reason.IMPLAUSIBLE_FACE, face=None)
    return replace(found, face=complete)


def _scored(
    image: UInt8[np.ndarray, "h w 3"],
    detector: LandmarkDetector,
    face: Face,
    turns: int,
    mirror: Attempt | None = None,
) -> Face:
    """Complete a face in the turned image, and turn it back; by the attempt ``mirror`` its points are averaged."""
    turned, there = turn_image(image, turns), turn_face(face, image.shape, turns)
    if mirror is not None:
        there = mirror_average(there, turned, detector, mirror)
    return turn_face(detector.complete(turned, there), turned.shape, -turns)


def _find_in_box(
    image: UInt8[np.ndarray, "h w 3"],
    detector: LandmarkDetector,
    box: Box,
    known: Float64[np.ndarray, "68 2"] | None,
    numbers: Sequence[int],
) -> Detection:
    margin = BOX_MARGIN * max(box.x1 - box.x0, box.y1 - box.y0)
    x0, y0, x1, y1 = (max(0, round(v)) for v in (box.x0 - margin, box.y0 - margin, box.x1 + margin, box.y1 + margin))
    crop = np.ascontiguousarray(image[y0:y1, x0:x1])
    if crop.size == 0:
        return Detection(Reason.LANDMARKS_OUTSIDE)
    inner = Box(box.x0 - x0, box.y0 - y0, box.x1 - x0, box.y1 - y0)
    seen = _climb(crop, detector, inner, None if known is None else known - (x0, y0), numbers)
    found = _chosen(seen, "box", crop.shape, inner)
    return found if found.face is None else replace(found, face=shift_face(found.face, x0, y0))


def _climb(
    image: UInt8[np.ndarray, "h w 3"],
    detector: LandmarkDetector,
    box: Box | None,
    known: Float64[np.ndarray, "68 2"] | None,
    numbers: Sequence[int],
) -> list[Detection]:
    """Climb these attempts until one yields believable faces that are large enough; all of that attempt's.

    Without any, one detection whose reason is the best thing seen on the way up: a face too small, an implausible one,
    nothing.
    """
    reason = Reason.NO_FACE
    for number in numbers:
        attempt = detector.ladder[number]
        faces, seen = detect_pass(image, detector, attempt, known)
        if faces and not attempt.tiles and max(map(face_size, faces)) < detector.reach * max(image.shape[:2]):
            faces = merge_faces(faces, detect_pass(image, detector, replace(attempt, tiles=True), known)[0])
        if box is not None:
            faces = [face for face in faces if _is_centred_in(face, box)]
        large = [face for face in faces if face_size(face) >= MIN_FACE_SIZE]
        if large:
            return [Detection(Reason.OK, face, number, len(faces)) for face in large]
        if faces:
            reason = Reason.FACE_TOO_SMALL
        elif seen and reason is Reason.NO_FACE:
            reason = Reason.IMPLAUSIBLE_FACE
    return [Detection(reason)]


def _chosen(found: Sequence[Detection], policy: str, shape: tuple[int, ...], box: Box | None) -> Detection:
    """The one that is meant."""
    faces = [one.face for one in found if one.face is not None]
    if not faces:
        return found[0]
    if len(faces) > 1 and policy == "error":
        return Detection(Reason.SEVERAL_FACES, attempt=found[0].attempt, faces_seen=len(faces))
    return replace(found[0], face=_choose(faces, policy, shape, box))


def _choose(faces: Sequence[Face], policy: str, shape: tuple[int, ...], box: Box | None) -> Face:
    if box is not None:
        return max(faces, key=lambda face: _overlap(face, box))
    if policy == "largest":
        return max(faces, key=face_size)
    centre = (np.array([shape[1], shape[0]]) - 1) / 2
    distances = {id(face): float(np.linalg.norm(face_centre(face) - centre)) for face in faces}
    if policy == "central":
        return min(faces, key=lambda face: distances[id(face)])
    half_diagonal = float(np.linalg.norm(shape[:2])) / 2
    return max(faces, key=lambda face: face_size(face) * (1 - distances[id(face)] / half_diagonal))


def _is_centred_in(face: Face, box: Box) -> bool:
    x, y = face_centre(face) + 0.5  # a pixel's centre in the coordinates of edges
    return bool(box.x0 <= x <= box.x1 and box.y0 <= y <= box.y1)


def _overlap(face: Face, box: Box) -> float:
    """Intersection over union of the box and the points' own."""
    corners = np.array([[box.x0, box.y0], [box.x1, box.y1]])
    low, high = face.points.min(0), face.points.max(0)
    shared = np.prod(np.clip(np.minimum(high, corners[1]) - np.maximum(low, corners[0]), 0, None))
    return float(shared / (np.prod(high - low) + np.prod(corners[1] - corners[0]) - shared))
