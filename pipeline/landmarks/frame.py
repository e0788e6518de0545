"""The landmarks of a finished work folder as one data frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from aupipe.fer_data.frames import load_pandas, masked_column
from aupipe.fer_data.landmark_parts import LandmarkPart
from aupipe.fer_data.types import Reason, Sample

if TYPE_CHECKING:
    import pandas


def landmarks_frame(parts: Sequence[LandmarkPart], by_id: Mapping[str, Sample]) -> pandas.DataFrame:
    """Gather every sample of the parts, found or not; the columns are those of ``aupipe landmarks --export``."""
    library = load_pandas()
    samples = [by_id[key] for part in parts for key in part.sample_ids]
    reasons = [reason for part in parts for reason in part.reasons]
    columns: dict[str, Any] = {
        name: library.array([getattr(sample, name) for sample in samples], dtype="string")
        for name in ("sample_id", "path", "split", "label")
    }
    columns["reason"] = library.array([reason.key for reason in reasons], dtype="string")
    found = np.array([reason is Reason.OK for reason in reasons], bool)
    points = np.concatenate([part.landmarks for part in parts])
    for number in range(68):
        for axis, name in enumerate("xy"):
            columns[f"{name}{number}"] = masked_column(points[:, number, axis], found)
    for axis, name in enumerate(("yaw", "pitch", "roll")):
        columns[name] = masked_column(np.concatenate([part.pose[:, axis] for part in parts]), found)
    columns["score"] = masked_column(np.concatenate([part.score for part in parts]), found)
    columns["profile"] = masked_column(np.concatenate([part.profile for part in parts]).astype(np.int64), found)
    size = np.concatenate([part.source_size for part in parts]).astype(np.int64)
    seen = np.asarray(size.all(1))
    for name in ("rung", "faces_seen"):
        columns[name] = masked_column(np.concatenate([getattr(part, name) for part in parts]).astype(np.int64), seen)
    columns["source_height"], columns["source_width"] = masked_column(size[:, 0], seen), masked_column(size[:, 1], seen)
    return library.DataFrame(columns)
