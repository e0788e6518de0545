"""The recipe by which photos became a store's crops, and a face prepared by it: what both halves share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Float64, UInt8

from aupipe.fer_data.shards.index import StoreIndex
from aupipe.fer_data.types import Box, Reason


@dataclass(frozen=True)
class Preparation:
    """Everything needed to treat another photo as the store treated its own.

    Attributes:
        image_size: Side of a crop in pixels.
        map_size: Side of an AU map in pixels.
        codebook: Its complete content.
        crop: Image size, eye positions and encoding of the crops, as in the index's ``config``; empty where the store
            does not tell.
        landmarks: The detector's identity, its ladder and the policy for several faces; empty where the store does not
            tell.
    """

    image_size: int
    map_size: int
    codebook: Mapping[str, Any]
    crop: Mapping[str, Any] = field(default_factory=dict)
    landmarks: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of_store(cls, index: StoreIndex) -> Preparation:
        """Read it off a store's index."""
        return cls(
            image_size=index.image_size,
            map_size=index.map_size,
            codebook=index.codebook,
            crop={name: index.config[name] for name in ("crop", "encoding", "jpeg_quality") if name in index.config},
            landmarks=index.provenance.get("landmarks", {}),
        )

    def as_json(self) -> dict[str, Any]:
        """Return plain content; ``Preparation(**content)`` reads it."""
        return asdict(self)


@dataclass(frozen=True)
class AlignedFace:
    """A face of a photo, cut out as for a store.

    Attributes:
        image: The crop, RGB.
        landmarks: ``(x, y)`` in crop pixels.
        points: The same in photo pixels.
        to_source: Crop pixels to photo pixels.
        pose: Yaw, pitch, roll in degrees.
        score: The detector's confidence.
        rung: Number of the attempt that found the face, 0 being the plain one.
        faces_seen: Faces in the whole photo.
        blendshapes: MediaPipe's, in [0, 1]; None from another detector.
    """

    image: UInt8[np.ndarray, "s s 3"]
    landmarks: Float32[np.ndarray, "68 2"]
    points: Float32[np.ndarray, "68 2"]
    to_source: Float64[np.ndarray, "2 3"]
    pose: Float32[np.ndarray, "3"]
    score: float
    rung: int
    faces_seen: int
    blendshapes: Float32[np.ndarray, "52"] | None = None


@dataclass(frozen=True)
class MissedFace:
    """A face, or a whole photo, that could not be prepared."""

    reason: Reason
    detail: str = ""


@runtime_checkable
class FaceFinder(Protocol):
    """A finder of aligned faces in photos; in order, each is either there or missed for a reason. Never empty."""

    def __call__(
        self, image: UInt8[np.ndarray, "h w 3"], box: Box | None, known: Float64[np.ndarray, "68 2"] | None
    ) -> tuple[AlignedFace | MissedFace, ...]:
        """Find the faces of one photo, RGB; ``box`` and ``known`` points ``(x, y)`` come from a manifest."""
