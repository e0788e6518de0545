"""Pictures of a store's rows: the crop, and the crop with its AU map and landmarks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8

from aupipe.fer_data.geometry import rescale_points

_STRENGTH = 0.7


class Rows(Protocol):
    """The source of pictures: a :class:`~aupipe.fer_data.shards.reader.SplitReader` has it."""

    @property
    def labels(self) -> UInt8[np.ndarray, "n"]:
        """Index of each row's class."""

    @property
    def has_map(self) -> UInt8[np.ndarray, "n"]:
        """1 where a row has an AU map."""

    @property
    def landmarks(self) -> Float32[np.ndarray, "n 68 2"]:
        """Points in pixels of the crop."""

    @property
    def profile(self) -> Bool[np.ndarray, "n"]:
        """True where the face is turned far to a side."""

    @property
    def sample_ids(self) -> list[str]:
        """Sample ids of the manifest."""

    def image(self, row: int) -> UInt8[np.ndarray, "s s 3"]:
        """Read one RGB crop."""

    def au_map(self, row: int) -> Float32[np.ndarray, "m m"]:
        """Read one AU map in [0, 1]."""


@dataclass(frozen=True)
class Example:
    """One row as pictures: ``crop`` and ``overlay`` (side, side, 3) RGB; ``points`` (68, 2) pixels in both."""

    sample_id: str
    label: int
    has_map: bool
    profile: bool
    crop: UInt8[np.ndarray, "s s 3"]
    overlay: UInt8[np.ndarray, "s s 3"]
    points: np.ndarray


def example(reader: Rows, row: int, side: int) -> Example:
    """Draw a row of a split in ``side`` pixels. Raises :class:`StoreError` when its shard cannot be read."""
    image, has_map = reader.image(row), bool(reader.has_map[row])
    crop = _resized(image, side)
    au_map = reader.au_map(row) if has_map else np.zeros((1, 1), np.float32)
    return Example(
        sample_id=reader.sample_ids[row],
        label=int(reader.labels[row]),
        has_map=has_map,
        profile=bool(reader.profile[row]),
        crop=crop,
        overlay=overlay(crop, au_map),
        points=rescale_points(reader.landmarks[row].astype(np.float64), side / image.shape[0]),
    )


def overlay(image: UInt8[np.ndarray, "s s 3"], au_map: Float32[np.ndarray, "m m"]) -> UInt8[np.ndarray, "s s 3"]:
    """Draw the image in grey and over it the map (0 to 1, covering the whole image) in colour, as strong as the map."""
    strength = np.clip(cv2.resize(au_map, image.shape[1::-1], interpolation=cv2.INTER_LINEAR), 0, 1)
    levels = np.asarray(np.rint(strength * 255), np.uint8)
    colour = cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO)[..., ::-1].astype(np.float32)
    grey = image.mean(2, keepdims=True)
    share = _STRENGTH * strength[..., None]
    return np.asarray(np.rint(grey * (1 - share) + colour * share), np.uint8)


def random_rows(reader: Rows, per_class: int, seed: int) -> dict[int, list[int]]:
    """Choose up to ``per_class`` random rows of each class present, ascending; the same for the same seed."""
    chosen = {}
    for label in np.unique(reader.labels).tolist():
        rows = np.flatnonzero(reader.labels == label)
        picked = np.random.default_rng([seed, label]).permutation(rows)[:per_class]
        chosen[label] = sorted(picked.tolist())
    return chosen


def _resized(image: UInt8[np.ndarray, "h w 3"], side: int) -> UInt8[np.ndarray, "s s 3"]:
    how = cv2.INTER_AREA if side < image.shape[0] else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, (side, side), interpolation=how), np.uint8)
