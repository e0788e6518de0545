"""One part of the landmark stage, as a worker makes it: read photos, find faces, write one HDF5 file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, UInt8

from aupipe.fer_data.errors import StoreError
from aupipe.fer_data.files import sha256_bytes
from aupipe.fer_data.images import (
    UnreadableImageError,
    decode_photo,
    may_be_decoded_now,
    one_opencv_thread,
    read_photo,
)
from aupipe.fer_data.landmark_parts import LandmarkPart, LandmarkRow, read_part, write_part
from aupipe.fer_data.types import Reason, Sample
from aupipe.pipeline.detectors import LandmarkDetector, create_detector
from aupipe.pipeline.landmarks.early import Tally, tally
from aupipe.pipeline.landmarks.faces import detection_config, find_face
from aupipe.pipeline.landmarks.work import withdraw_report
from aupipe.pipeline.mounted import check_images, check_work


@dataclass(frozen=True)
class LandmarkConfig:
    """Options of the stage.

    Attributes:
        detector: The detector's name.
        model: The detector's model file; None looks for it.
        faces: The policy, see :data:`aupipe.pipeline.landmarks.faces.POLICIES`.
        part_size: Samples in a part.
        mirror: Detect every face in the mirror image, too.
        follow_links: Also take photos that links lead out of the manifest's root.
    """

    detector: str = "mediapipe"
    model: Path | None = None
    faces: str = "auto"
    mirror: bool = False
    part_size: int = 128
    follow_links: bool = False


@dataclass(frozen=True)
class PartJob:
    """One part, small enough to send to a worker: what to detect and where to write it.

    ``known`` is the manifest's landmarks file, where the detector uses it.
    """

    path: Path
    root: Path
    samples: tuple[Sample, ...]
    plan_digest: str
    config_json: str
    config: LandmarkConfig
    known: Path | None = None


@dataclass(frozen=True)
class PartResult:
    """The result of a worker: counts, and what was left out of a part made now."""

    rows: int
    skipped: bool
    tally: Tally = field(default_factory=Tally)


@one_opencv_thread()
def detect_part(job: PartJob) -> PartResult:
    """Make one part, the task of a worker, unless it is there, intact, of this plan and of these very photos.

    Raises :class:`UserInputError` where this machine does not see the folders.
    """
    check_folders(job)
    if finished := finished_part(job):
        return finished
    detector, known = shared_detector(job.config.detector, job.config.model), known_landmarks(job)
    rows = list(detect_samples(job, detector, known))
    replace_part(job, rows)
    return PartResult(len(rows), skipped=False, tally=tally(job.samples, rows))


def finished_part(job: PartJob) -> PartResult | None:
    """Return the result of a part that is there, intact, of this plan and of these very photos."""
    return PartResult(len(job.samples), skipped=True) if is_current(job) else None


def replace_part(job: PartJob, rows: Sequence[LandmarkRow]) -> None:
    """Write the part; WORK's report is withdrawn first, because it speaks of the part that was there."""
    withdraw_report(job.path.parents[1])
    write_part(job.path, rows, job.plan_digest, job.config_json)


def check_folders(job: PartJob) -> None:
    """Refuse a machine that cannot see the photos or the work folder: it would take every photo for missing."""
    check_images(job.root)
    check_work(job.path.parent)


def known_landmarks(job: PartJob) -> np.ndarray | None:
    """Return the points that ship with the dataset, mapped; None where the detector does not use them."""
    return None if job.known is None else np.load(job.known, mmap_mode="r", allow_pickle=False)


@dataclass(frozen=True)
class Photo:
    """A photo's pixels and the digest of its file; or why it has none, where there are no pixels."""

    image: UInt8[np.ndarray, "h w 3"] | None
    sha256: str
    note: str
    reason: Reason = Reason.OK


def load_photo(path: Path, name: str) -> Photo:
    """Read and decode a photo."""
    sha256 = ""  # of a file that cannot be read
    try:
        data = read_photo(path)
        sha256 = sha256_bytes(data)
        image, note = decode_photo(data, name)
        return Photo(image, sha256, note)
    except UnreadableImageError as error:
        return Photo(None, sha256, error.detail, error.reason)


def detect_samples(job: PartJob, detector: LandmarkDetector, known: np.ndarray | None) -> Iterator[LandmarkRow]:
    """Yield the row of each sample; a thread decodes the next photo while the networks look at this one."""
    with ThreadPoolExecutor(1) as ahead:
        photos = [ahead.submit(load_photo, job.root / one.path, one.path) for one in job.samples[:1]]
        for number, sample in enumerate(job.samples):
            photo = photos.pop().result()
            photos += [
                ahead.submit(load_photo, job.root / one.path, one.path) for one in job.samples[number + 1 : number + 2]
            ]
            yield photo_row(sample, photo, detector, job.config, known)


def detect_sample(
    sample: Sample, root: Path, detector: LandmarkDetector, config: LandmarkConfig, known: np.ndarray | None = None
) -> LandmarkRow:
    """Read one photo and find its face; see :func:`photo_row`."""
    return photo_row(sample, load_photo(root / sample.path, sample.path), detector, config, known)


def photo_row(
    sample: Sample, photo: Photo, detector: LandmarkDetector, config: LandmarkConfig, known: np.ndarray | None
) -> LandmarkRow:
    """Find a photo's face; whatever is wrong with the photo becomes the row's reason.

    ``known`` holds the points that ship with the dataset, ``(k, 68, 2)``, by ``sample.landmarks_row``.
    """
    image, sha256, note = photo.image, photo.sha256, photo.note
    if image is None:
        return LandmarkRow(sample.sample_id, sample.path, photo.reason, sha256, detail=note)
    size = (image.shape[0], image.shape[1])
    found = find_face(image, detector, config.faces, sample.box, _known_points(sample, known), config.mirror)
    if found.face is None:
        return LandmarkRow(
            sample_id=sample.sample_id,
            path=sample.path,
            reason=found.reason,
            source_sha256=sha256,
            source_size=size,
            rung=found.attempt,
            faces_seen=found.faces_seen,
            detail=note,
        )
    return LandmarkRow(
        sample_id=sample.sample_id,
        path=sample.path,
        reason=Reason.OK,
        source_sha256=sha256,
        source_size=size,
        landmarks=found.face.points.astype("f4"),
        mesh=found.face.mesh,
        blendshapes=found.face.blendshapes,
        pose=found.face.pose,
        score=found.face.score,
        rung=found.attempt,
        faces_seen=found.faces_seen,
        detail=note,
    )


def _known_points(sample: Sample, known: np.ndarray | None) -> Float64[np.ndarray, "68 2"] | None:
    return None if known is None or sample.landmarks_row is None else np.array(known[sample.landmarks_row], np.float64)


@lru_cache(maxsize=1)
def shared_detector(name: str, model: Path | None) -> LandmarkDetector:
    """Return this process's detector, made on first use."""
    return create_detector(name, model)


def close_detector(config: LandmarkConfig) -> None:
    """Close this process's detector, so that the next use makes a new one."""
    shared_detector(config.detector, config.model).close()
    shared_detector.cache_clear()


def stage_identity(config: LandmarkConfig) -> dict[str, Any]:
    """Return all that determines the rows, as JSON; makes the detector, so that a missing model is told at once."""
    detector = shared_detector(config.detector, config.model)
    return {
        **detector.identity(),
        **detection_config(detector, config.faces, config.mirror),
        "part_size": config.part_size,
    }


def is_current(job: PartJob) -> bool:
    """Tell whether the part is there, intact, of this plan, and its photos are still those it was made of.

    It is not current where a photo may be decoded by now that could not be.
    """
    try:
        part = read_part(job.path)
    except StoreError:
        return False
    ids = tuple(sample.sample_id for sample in job.samples)
    stated = (job.plan_digest, job.config_json, ids)
    same = (part.plan_digest, part.config_json, part.sample_ids) == stated
    return same and _sources_unchanged(part, job) and not any(map(may_be_decoded_now, part.details))


def _sources_unchanged(part: LandmarkPart, job: PartJob) -> bool:
    return all(
        sha256_or_empty(job.root / sample.path) == stated
        for sample, stated in zip(job.samples, part.source_sha256, strict=True)
    )


def sha256_or_empty(path: Path) -> str:
    """Compute the SHA-256 of a file; empty where it cannot be read, as in a part's row."""
    try:
        return sha256_bytes(read_photo(path))
    except UnreadableImageError:
        return ""
