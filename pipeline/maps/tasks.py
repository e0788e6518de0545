"""One shard of the store: the task that crops the faces, draws their maps and writes the file.

Everything a worker needs is in a small frozen job; the photos and landmarks are read where the work is done.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, UInt8

from aupipe.fer_data import geometry, typed
from aupipe.fer_data.action_units.estimates import UnitEstimates, blendshape_estimates, table_estimates
from aupipe.fer_data.action_units.estimator import load_estimator
from aupipe.fer_data.action_units.face_weights import ObservedFaces, weigh_faces
from aupipe.fer_data.action_units.facs import FacsCode
from aupipe.fer_data.action_units.modes import AuMissing, AuMode
from aupipe.fer_data.au_maps.codebook import codebook_from_dict
from aupipe.fer_data.au_maps.heatmaps import render_faces, render_maps
from aupipe.fer_data.files import digest, sha256_bytes
from aupipe.fer_data.images import UnreadableImageError, decode_image, one_opencv_thread, read_photo
from aupipe.fer_data.landmark_parts import LandmarkPart, PartFile
from aupipe.fer_data.manifest.unit_scores import EstimateSource, Scores
from aupipe.fer_data.shards import ShardEntry, ShardHeader, TripletRow, write_shard
from aupipe.fer_data.shards.encoding import JPEG_QUALITY
from aupipe.fer_data.shards.shard_file import open_shard
from aupipe.fer_data.shards.writer import ROWS_AT_ONCE, DrawnMaps, redraw_shard
from aupipe.fer_data.types import Failure, Reason
from aupipe.pipeline.maps.crops import CropGeometry, is_flat, place_face, warp_crop
from aupipe.pipeline.mounted import check_images


@dataclass(frozen=True)
class MapConfig:
    """Options of the stage; sizes in pixels.

    ``codebook`` is the codebook's parsed content. ``encoding``: ``raw``, ``jpeg``, or ``auto`` until it is resolved.
    ``aus``, ``aus_missing``: where the weights of a face's action units come from, see
    :mod:`aupipe.fer_data.action_units.face_weights`; ``estimates``: another program's table that estimates them; None:
    the blendshapes do.
    """

    codebook: dict[str, Any]
    image_size: int = 256
    map_size: int = 64
    rows_per_shard: int = 2048
    crop: CropGeometry = field(default_factory=CropGeometry)
    encoding: str = "raw"
    jpeg_quality: int = JPEG_QUALITY
    aus: AuMode = "class"
    aus_missing: AuMissing = "fused"
    estimates: EstimateSource | None = None

    @classmethod
    def from_json(cls, content: Mapping[str, Any], codebook: dict[str, Any]) -> MapConfig:
        """Make the configuration whose :meth:`as_json` is ``content``.

        Raises:
            KeyError: Something is absent.
            TypeError: Something is of another kind.
        """
        return cls(
            codebook=codebook,
            image_size=content["image_size"],
            map_size=content["map_size"],
            rows_per_shard=content["rows_per_shard"],
            crop=CropGeometry(**content["crop"]),
            encoding=content["encoding"],
            jpeg_quality=content.get("jpeg_quality", JPEG_QUALITY),
            aus=content.get("aus", "class"),
            aus_missing=content.get("aus_missing", "fused"),
            estimates=typed.convert(content["estimates"], EstimateSource) if "estimates" in content else None,
        )

    def as_json(self) -> dict[str, Any]:
        """Return everything that determines a row, besides the photo and its landmarks."""
        return {
            **self.crop_json(),
            **self._aus_json(),
            "codebook_digest": digest(self.codebook),
            "map_size": self.map_size,
            "rows_per_shard": self.rows_per_shard,
        }

    @property
    def estimated(self) -> bool:
        """Whether an estimate of a face's action units has a say in its map."""
        return self.aus in ("estimated", "fused") or (self.aus == "annotated" and self.aus_missing == "fused")

    @property
    def reads_blendshapes(self) -> bool:
        """Whether a face's blendshapes have a say in its map."""
        return self.estimated and self.estimates is None

    def _aus_json(self) -> dict[str, Any]:
        """Nothing for maps of the label's action units: they are as they were before there were others."""
        if self.aus == "class":
            return {}
        missing = {"aus_missing": self.aus_missing} if self.aus == "annotated" else {}
        estimator = {"estimator_digest": load_estimator().digest} if self.estimated else {}
        table = {"estimates": self.estimates.as_json()} if self.estimates is not None else {}
        return {"aus": self.aus, **missing, **estimator, **table}

    def crop_json(self) -> dict[str, Any]:
        """Return the part that decides the stored images."""
        quality = {"jpeg_quality": self.jpeg_quality} if self.encoding == "jpeg" else {}
        return {"crop": self.crop.as_json(), "encoding": self.encoding, "image_size": self.image_size, **quality}


@dataclass(frozen=True, slots=True)
class Member:
    """One row of a shard before it is made; ``part`` and ``row`` say where its landmarks are.

    ``group``: its person, or else its own id; ``aus``: the action units that people coded, None where nobody did;
    ``estimate``: the probabilities of another program, None where it says nothing of this face.
    """

    sample_id: str
    path: str
    label: str
    split: str
    source_sha256: str
    part: PartFile
    row: int
    group: str
    aus: tuple[FacsCode, ...] | None = None
    estimate: Scores | None = None


@dataclass(frozen=True)
class ExistingShard:
    """A shard that may be there already, and the digests of file and plan that its store's index states, if it does."""

    path: Path
    sha256: str | None
    plan_digest: str = ""


@dataclass(frozen=True)
class ShardJob:
    """One shard, small enough to send to a worker.

    ``made``: where this shard, or one with the same crops, may be found: in its own place, in another store.
    """

    path: Path
    root: Path
    members: tuple[Member, ...]
    header: ShardHeader
    config: MapConfig
    made: tuple[ExistingShard, ...]


@dataclass(frozen=True)
class Crop:
    """A face cut out of its photo, before its map is drawn."""

    image: UInt8[np.ndarray, "s s 3"]
    landmarks: Float32[np.ndarray, "68 2"]
    to_source: Float64[np.ndarray, "2 3"]


@dataclass(frozen=True)
class ShardResult:
    """A finished shard, or the samples that kept it from being made.

    ``flat``: photos, among those read for it, whose crops show next to nothing.
    """

    rows: int
    entry: ShardEntry | None
    failures: tuple[Failure, ...] = ()
    skipped: bool = False
    flat: tuple[str, ...] = ()


@one_opencv_thread()
def build_shard(job: ShardJob) -> ShardResult:
    """Make one shard, the task of a worker, unless it is there, intact and of this plan.

    Where an intact shard differs in its maps only, they are drawn again and its images taken over.
    """
    found = (_from_shard(made, job) for made in job.made if made.path.is_file())
    return next((result for result in found if result is not None), None) or _from_photos(job)


def finished_shard(job: ShardJob) -> ShardResult | None:
    """Return the result of a shard that is there, intact and of this plan."""
    own = (made for made in job.made if made.path == job.path and made.path.is_file())
    return next((_from_shard(made, job, draw=False) for made in own), None)


def _from_shard(made: ExistingShard, job: ShardJob, *, draw: bool = True) -> ShardResult | None:
    """The shard as it is, or to ``draw`` with its maps drawn again; None where it is damaged or holds other crops."""
    with open_shard(made.path) as shard:
        if not shard.is_stated(made.sha256) or shard.findings(rows=True) or shard.value_faults():
            return None
        if made.path == job.path and shard.notes.plan_digest == job.header.plan_digest:
            return ShardResult(len(job.members), shard.entry(), skipped=True)
        if not draw or shard.notes.crop_digest != job.header.crop_digest:
            return None
        entry = redraw_shard(shard, job.path, partial(_redraw, job=job), job.header)
        return ShardResult(entry.rows, entry)


def _redraw(
    rows: slice, points: Float32[np.ndarray, "n 68 2"], _labels: UInt8[np.ndarray, "n"], job: ShardJob
) -> DrawnMaps:
    return draw_maps(job.members[rows], points, job.config)


def _from_photos(job: ShardJob) -> ShardResult:
    check_images(job.root)
    unusable: list[Failure] = []
    flat: list[str] = []
    try:
        entry = write_shard(job.path, _rows(job, unusable, flat), len(job.members), job.header)
    except _UnusableSamplesError:
        return ShardResult(0, None, tuple(unusable))
    return ShardResult(entry.rows, entry, flat=tuple(flat))


class _UnusableSamplesError(Exception):
    """Ends the writing of a shard some of whose samples turned out unusable."""


def _rows(job: ShardJob, unusable: list[Failure], flat: list[str]) -> Iterator[TripletRow]:
    for start in range(0, len(job.members), ROWS_AT_ONCE):
        members = job.members[start : start + ROWS_AT_ONCE]
        crops = []
        for member in members:
            crop = crop_member(member, job.root, job.config)
            if isinstance(crop, Failure):
                unusable.append(crop)
            elif not unusable:
                crops.append(crop)
                flat += [member.path] if is_flat(crop.image) else []
        if not unusable:  # after the first failure the rest is only checked: the plan will be made again
            yield from _triplets(members, crops, job)
    if unusable:
        raise _UnusableSamplesError


def _triplets(members: Sequence[Member], crops: list[Crop], job: ShardJob) -> Iterator[TripletRow]:
    labels = np.array([job.header.classes.index(member.label) for member in members], np.uint8)
    drawn = draw_maps(members, np.stack([crop.landmarks for crop in crops]), job.config)
    for at, (member, crop) in enumerate(zip(members, crops, strict=True)):
        yield TripletRow(
            sample_id=member.sample_id,
            label=int(labels[at]),
            image=crop.image,
            au_map=drawn.au_map[at],
            has_map=bool(drawn.has_map[at]),
            landmarks=crop.landmarks,
            to_source=crop.to_source,
            group=member.group,
            pose=landmark_part(member.part).pose[member.row],
            au_weight=drawn.au_weight[at],
            au_source=int(drawn.au_source[at]),
        )


def draw_maps(members: Sequence[Member], points: Float32[np.ndarray, "n 68 2"], config: MapConfig) -> DrawnMaps:
    """Draw the maps of some rows from landmarks and weights as they are stored, so that anyone can draw the same."""
    codebook = codebook_from_dict(config.codebook, "the chosen codebook")
    faces = ObservedFaces(
        expressions=[member.label for member in members],
        codes=[member.aus for member in members],
        estimates=_estimates(members, config),
    )
    face = weigh_faces(faces, codebook.expressions, load_estimator().fusion, config.aus, config.aus_missing)
    sizes = config.image_size, config.map_size
    if config.aus == "class":  # from the codebook's own weights, which need not be multiples of 1/255
        maps = render_maps(points, faces.expressions, codebook, *sizes)
    else:
        maps = render_faces(points, face.weights / np.float32(255), codebook, *sizes)
    stored = np.rint(maps * 255).astype(np.uint8)
    has_map = [codebook.has_map(name) for name in faces.expressions] if config.aus == "class" else stored.any((1, 2))
    return DrawnMaps(stored, np.array(has_map, np.uint8), face.weights, face.source)


def _estimates(members: Sequence[Member], config: MapConfig) -> UnitEstimates:
    estimator = load_estimator()
    if (table := config.estimates) is not None:
        return table_estimates(table.numbers, [one.estimate for one in members], table.common, estimator.fusion.sure)
    if not config.reads_blendshapes:
        return table_estimates((), [None] * len(members), (), estimator.fusion.sure)
    at = [(landmark_part(member.part), member.row) for member in members]
    return blendshape_estimates(
        np.stack([part.blendshapes[row] for part, row in at]),
        np.array([part.has_mesh[row] > 0 for part, row in at]),
        np.array([part.pose[row, 0] for part, row in at]),
        estimator,
    )


def crop_member(member: Member, root: Path, config: MapConfig) -> Crop | Failure:
    """Cut the aligned crop of one sample out of its photo, or say why there is none."""
    size = config.image_size
    points = landmark_part(member.part).landmarks[member.row]
    placed = place_face(points, size, config.crop)
    if not placed.usable:
        detail = f"{placed.inside:.0%} of the points lie inside the crop"
        return Failure(member.sample_id, member.path, Reason.LANDMARKS_OUTSIDE.key, detail)
    try:
        data = read_photo(root / member.path)
        stated = sha256_bytes(data) == member.source_sha256
        image = decode_image(data, member.path) if stated else None
    except UnreadableImageError as error:
        return Failure(member.sample_id, member.path, error.reason.key, error.detail)
    if image is None:
        detail = "the photo is not the one its landmarks were found on: run `aupipe landmarks` again"
        return Failure(member.sample_id, member.path, Reason.SOURCE_CHANGED.key, detail)
    return Crop(
        image=warp_crop(image, placed.matrix, size),
        landmarks=placed.landmarks.astype(np.float32),
        to_source=geometry.invert_affine(placed.matrix),
    )


@lru_cache(maxsize=128)
def landmark_part(file: PartFile) -> LandmarkPart:
    """Read a part of the landmark stage; this process keeps the last ones in memory, each a tenth of a megabyte."""
    return file.read()
