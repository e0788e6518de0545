"""Any photo, prepared exactly as a store's photos were: the same ladder, alignment, crop and encoding."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, UInt8

from aupipe.fer_data import geometry
from aupipe.fer_data.files import canonical_json
from aupipe.fer_data.preparation import AlignedFace, MissedFace, Preparation
from aupipe.fer_data.shards.encoding import JPEG_QUALITY, decode_jpeg, encode_jpeg
from aupipe.fer_data.types import Box, Reason
from aupipe.pipeline.detectors import LandmarkDetector, create_detector
from aupipe.pipeline.landmarks.faces import Detection, detection_config, find_face, find_faces
from aupipe.pipeline.maps.crops import CropGeometry, place_face, warp_crop

ALL = "all"
"""The policy that keeps every face; the others are :data:`aupipe.pipeline.landmarks.faces.POLICIES`."""

USUAL = "mediapipe"
"""Finds faces where the store does not say how, and in photos whose points do not come with them."""

NOT_DETECTION = frozenset({"part_size", "faces", "box_margin", "max_pixels", "strip"})
"""Settings of the landmark stage that do not change what is found on a given face, but for photos of unusual size."""


class PhotoPreparer:
    """A :class:`aupipe.fer_data.preparation.FaceFinder` after a store's own settings.

    ``detector`` None: the store's. ``notes``: in what it differs from the store all the same, one sentence each.
    """

    def __init__(
        self, preparation: Preparation, *, detector: str | None = None, model: Path | None = None, faces: str = ALL
    ) -> None:
        stated = preparation.landmarks
        self.preparation, self.faces = preparation, faces
        self.detector = create_detector(detector or str(stated.get("detector", USUAL)), model)
        self.unaided = create_detector(USUAL, model) if self.detector.uses_known else self.detector
        self.crop = CropGeometry(**preparation.crop.get("crop", {}))
        self.mirror = bool(stated.get("mirror", False))
        self.notes = _differences(stated, self.detector, self.mirror)

    def __call__(
        self, image: UInt8[np.ndarray, "h w 3"], box: Box | None, known: Float64[np.ndarray, "68 2"] | None
    ) -> tuple[AlignedFace | MissedFace, ...]:
        """Find every face, or the one that the policy means; see :class:`aupipe.fer_data.preparation.FaceFinder`."""
        points = known if self.detector.uses_known else None
        detector = self.unaided if points is None else self.detector
        if self.faces == ALL:
            found = find_faces(image, detector, points, self.mirror)
        else:
            found = (find_face(image, detector, self.faces, box, points, self.mirror),)
        return tuple(self._align(image, one) for one in found)

    def close(self) -> None:
        """Free the detectors."""
        self.detector.close()
        self.unaided.close()

    def _align(self, image: UInt8[np.ndarray, "h w 3"], found: Detection) -> AlignedFace | MissedFace:
        if found.face is None:
            return MissedFace(found.reason)
        size = self.preparation.image_size
        points = found.face.points.astype(np.float32)  # as the landmark stage stores them, for the very same crop
        placed = place_face(points, size, self.crop)
        if not placed.usable:
            return MissedFace(Reason.LANDMARKS_OUTSIDE, f"{placed.inside:.0%} of the points lie inside the crop")
        return AlignedFace(
            image=self._encoded(warp_crop(image, placed.matrix, size)),
            landmarks=placed.landmarks.astype(np.float32),
            points=points,
            to_source=geometry.invert_affine(placed.matrix),
            pose=found.face.pose,
            score=found.face.score,
            rung=found.attempt,
            faces_seen=found.faces_seen,
            blendshapes=found.face.blendshapes,
        )

    def _encoded(self, crop: UInt8[np.ndarray, "s s 3"]) -> UInt8[np.ndarray, "s s 3"]:
        """The crop as the store would give it back."""
        if self.preparation.crop.get("encoding", "raw") != "jpeg":
            return crop
        decoded = np.empty_like(crop)
        decode_jpeg(encode_jpeg(crop, self.preparation.crop.get("jpeg_quality", JPEG_QUALITY)), decoded, "a face")
        return decoded


def _differences(stated: Mapping[str, Any], detector: LandmarkDetector, mirror: bool) -> tuple[str, ...]:
    """Sentences on how this detection differs from the one that the store was built with."""
    if not stated:
        return ("The store does not say how its faces were found and cut; the usual way was taken.",)
    now = {**detector.identity(), **detection_config(detector, ALL, mirror)}
    differing = [
        f"{key} {canonical_json(stated.get(key))[:40]} there, {canonical_json(now.get(key))[:40]} here"
        for key in sorted((stated.keys() | now.keys()) - NOT_DETECTION)
        if canonical_json(stated.get(key)) != canonical_json(now.get(key))
    ]
    if detector.uses_known:
        return (f"The store's landmarks came with its dataset; in photos that have none, {USUAL} finds them.",)
    if not differing:
        return ()
    return (f"Faces are found in another way than for the store: {'; '.join(differing)}.",)
