"""A finished WORK folder of the landmark stage, read part by part or row by row."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32

from aupipe.fer_data.errors import StoreError, paragraph
from aupipe.fer_data.files import canonical_json
from aupipe.fer_data.landmark_parts import LandmarkPart, read_part
from aupipe.fer_data.manifest import Manifest, read_manifest
from aupipe.fer_data.types import Reason, Sample
from aupipe.pipeline.landmarks.frame import landmarks_frame
from aupipe.pipeline.landmarks.run import MANIFEST_NAME, PARTS_FOLDER, REPORT_NAME, content_digest

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Row:
    """One sample with its outcome; ``points`` (68, 2) in source pixels and ``pose`` are zero unless ``found``.

    ``size`` is the photo's (height, width), zero where it could not be read.
    """

    sample: Sample
    reason: Reason
    sha256: str
    size: tuple[int, int]
    points: Float32[np.ndarray, "68 2"]
    pose: Float32[np.ndarray, "3"]
    score: float
    rung: int
    faces_seen: int

    @property
    def found(self) -> bool:
        """Whether there are landmarks."""
        return self.reason is Reason.OK


@dataclass(frozen=True)
class FinishedWork:
    """A WORK folder whose stage came to its end. ``config`` is the detector's identity and the stage's options."""

    folder: Path
    manifest: Manifest
    manifest_digest: str
    config: Mapping[str, Any]
    part_names: tuple[str, ...]

    @cached_property
    def samples(self) -> dict[str, Sample]:
        """The manifest's rows by sample id."""
        return {sample.sample_id: sample for sample in self.manifest.samples}

    @property
    def title(self) -> str:
        """The dataset's folder name."""
        return self.manifest.root.name or self.manifest.layout

    @property
    def detector(self) -> str:
        """The detector's name."""
        return str(self.config.get("detector", "unknown"))

    def parts(self, *, mesh: bool = False) -> Iterator[LandmarkPart]:
        """The parts in order, one at a time; together they hold every sample once, in hash order.

        Raises :class:`StoreError` for a part that is missing, damaged or of another run.
        """
        expected, rows = canonical_json(self.config), 0
        for name in self.part_names:
            part = read_part(self.folder / PARTS_FOLDER / name, mesh=mesh)
            rows += len(part.sample_ids)
            if part.config_json != expected or not self.samples.keys() >= set(part.sample_ids):
                raise mixed_work(self.folder)
            yield part
        if rows != len(self.samples):
            raise mixed_work(self.folder)

    def rows(self) -> Iterator[Row]:
        """Every sample in hash order, found or not."""
        for part in self.parts():
            for at, sample_id in enumerate(part.sample_ids):
                yield _row(part, at, self.samples[sample_id])

    def to_pandas(self) -> pandas.DataFrame:
        """Make a table of every sample: ``reason``, ``x0, y0 ... x67, y67`` in source pixels, pose, score.

        Numbers are absent (``pandas.NA``) where no face was found. Raises :class:`UserInputError` when pandas is not
        installed.
        """
        return landmarks_frame(self)

    def __repr__(self) -> str:
        return f"landmarks of {len(self.manifest.samples)} images by {self.detector} in {self.folder}"


def open_work(folder: Path) -> FinishedWork:
    """Open WORK for reading.

    Raises :class:`StoreError` when the stage is not finished or its parts are not those of the manifest beside them.
    """
    report = folder / REPORT_NAME
    if not report.is_file():
        raise StoreError(
            paragraph(
                f"{folder} does not hold finished landmarks: it has no {REPORT_NAME}, which is written last.",
                fix="Run `aupipe landmarks M.csv --out` with this folder (again): it continues where it stopped.",
            )
        )
    content = json.loads(report.read_text(encoding="utf-8"))
    manifest = read_manifest(folder / MANIFEST_NAME)
    digest = content_digest(manifest)
    if digest != content["manifest_digest"]:
        raise mixed_work(folder)
    return FinishedWork(folder, manifest, digest, content["config"], tuple(content["parts"]))


def _row(part: LandmarkPart, at: int, sample: Sample) -> Row:
    height, width = part.source_size[at]
    return Row(
        sample=sample,
        reason=part.reasons[at],
        sha256=part.source_sha256[at],
        size=(int(height), int(width)),
        points=part.landmarks[at],
        pose=part.pose[at],
        score=float(part.score[at]),
        rung=int(part.rung[at]),
        faces_seen=int(part.faces_seen[at]),
    )


def mixed_work(folder: Path) -> StoreError:
    """The error of a WORK whose files belong to different runs."""
    return StoreError(
        paragraph(
            f"The landmarks in {folder} are not those that its manifest and {REPORT_NAME} speak of: a later run was "
            "interrupted, or files were changed.",
            fix="Run `aupipe landmarks` again with this folder as --out: intact parts are kept.",
        )
    )
