"""One shard of the store: the task that crops the faces, draws their maps and writes the file.

Everything a worker needs is in a small frozen job; the photos and landmarks are read where the work is done.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from fer_data import geometry
from fer_data.codebook import Codebook, codebook_from_dict
from fer_data.errors import StoreError
from fer_data.files import digest, sha256_bytes, sha256_file
from fer_data.heatmaps import render_maps
from fer_data.images import UnreadableImageError, decode_image
from fer_data.landmark_parts import LandmarkPart, read_part
from fer_data.shards import ShardEntry, ShardHeader, TripletRow, describe_shard, load_index, write_shard
from fer_data.shards.verify import verify_shard
from fer_data.types import Failure, Reason
from pipeline.crops import CropGeometry, crop_matrix, warp_crop

MIN_POINTS_INSIDE = 0.6
"""A crop that holds fewer of the 68 points shows no usable face."""


@dataclass(frozen=True)
class MapConfig:
    """Options of the stage; sizes in pixels.

    ``codebook`` is the codebook's parsed content.
    """

    codebook: dict[str, Any]
    image_size: int = 256
    map_size: int = 64
    rows_per_shard: int = 2048
    crop: CropGeometry = field(default_factory=CropGeometry)

    def as_json(self) -> dict[str, Any]:
        """Everything that determines a row, besides the photo and its landmarks."""
        return {
            "codebook_digest": digest(self.codebook),
            "image_size": self.image_size,
            "map_size": self.map_size,
            "rows_per_shard": self.rows_per_shard,
            "crop": self.crop.as_json(),
        }


@dataclass(frozen=True)
class Member:
    """One row of a shard before it is made; ``part`` and ``row`` say where its landmarks are."""

    sample_id: str
    path: str
    label: str
    source_sha256: str
    part: str
    row: int


@dataclass(frozen=True)
class ShardJob:
    """One shard, small enough to send to a worker."""

    path: Path
    root: Path
    members: tuple[Member, ...]
    header: ShardHeader
    config: MapConfig


@dataclass(frozen=True)
class ShardResult:
    """A finished shard, or the samples that kept it from being made."""

    rows: int
    entry: ShardEntry | None
    failures: tuple[Failure, ...] = ()
    skipped: bool = False


def build_shard(job: ShardJob) -> ShardResult:
    """Task: make one shard, unless it is there, intact and of this plan."""
    if (entry := _current_entry(job)) is not None:
        return ShardResult(len(job.members), entry, skipped=True)
    unusable: list[Failure] = []
    try:
        entry = write_shard(job.path, _rows(job, unusable), len(job.members), job.header)
    except _UnusableSamplesError:
        return ShardResult(0, None, tuple(unusable))
    return ShardResult(entry.rows, entry)


class _UnusableSamplesError(Exception):
    """Ends the writing of a shard some of whose samples turned out unusable."""


def _rows(job: ShardJob, unusable: list[Failure]) -> Iterator[TripletRow]:
    codebook = codebook_from_dict(job.config.codebook, "the chosen codebook")
    for member in job.members:
        row = _row(member, job, codebook)
        if isinstance(row, Failure):
            unusable.append(row)
        elif not unusable:  # after the first failure the rest is only checked: the plan will be made again
            yield row
    if unusable:
        raise _UnusableSamplesError


def _row(member: Member, job: ShardJob, codebook: Codebook) -> TripletRow | Failure:
    size, map_size = job.config.image_size, job.config.map_size
    points = landmark_part(member.part).landmarks[member.row]
    matrix = crop_matrix(points, size, job.config.crop)
    landmarks = geometry.apply_affine(matrix, points)
    inside = ((landmarks >= -0.5) & (landmarks <= size - 0.5)).all(1).mean()
    if inside < MIN_POINTS_INSIDE:
        detail = f"{inside:.0%} of the points lie inside the crop"
        return Failure(member.sample_id, member.path, Reason.LANDMARKS_OUTSIDE.key, detail)
    try:
        data = (job.root / member.path).read_bytes()
    except OSError as error:
        return Failure(member.sample_id, member.path, Reason.MISSING_FILE.key, error.strerror or "")
    if sha256_bytes(data) != member.source_sha256:
        detail = "the photo is not the one its landmarks were found on: run `aupipe landmarks` again"
        return Failure(member.sample_id, member.path, Reason.SOURCE_CHANGED.key, detail)
    try:
        image = decode_image(data, member.path)
    except UnreadableImageError:
        return Failure(member.sample_id, member.path, Reason.UNREADABLE.key)
    au_map = render_maps(landmarks[None], [member.label], codebook, size, map_size)[0]
    return TripletRow(
        sample_id=member.sample_id,
        label=job.header.classes.index(member.label),
        image=warp_crop(image, matrix, size),
        au_map=np.rint(au_map * 255).astype(np.uint8),
        has_map=codebook.has_map(member.label),
        landmarks=landmarks.astype(np.float32),
        to_source=geometry.invert_affine(matrix),
    )


@lru_cache(maxsize=4096)
def landmark_part(path: str) -> LandmarkPart:
    """A part of the landmark stage, kept in memory by this process."""
    return read_part(Path(path))


def _current_entry(job: ShardJob) -> ShardEntry | None:
    if not job.path.is_file():
        return None
    stated = _stated_sha256(job.path)
    # The digest first: it sees damage anywhere in the file, before HDF5 has to make sense of it.
    if stated is not None and sha256_file(job.path) != stated:
        return None
    if verify_shard(job.path, rows=True):
        return None
    entry = describe_shard(job.path)
    return entry if entry.plan_digest == job.header.plan_digest else None


def _stated_sha256(path: Path) -> str | None:
    """What the index says of a shard, if there is one: it also covers the bytes that row checksums do not."""
    try:
        return next((entry.sha256 for entry in load_index(path.parent).shards if entry.name == path.name), None)
    except StoreError:
        return None
