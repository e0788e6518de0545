"""``aupipe landmarks``: 68 points for every image of a manifest, part by part, resumable.

WORK/manifest.csv (a copy, with its root), WORK/landmarks/part-00000.h5 ..., WORK/failures.csv, WORK/landmarks.json
(written last).
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from fer_data.errors import FolderInUseError, StoreError, UserInputError, paragraph
from fer_data.files import canonical_json, digest, folder_lock, remove_temporaries, sha256_bytes, write_json
from fer_data.images import UnreadableImageError, decode_image
from fer_data.landmark_parts import LandmarkPart, LandmarkRow, read_part, write_part
from fer_data.manifest import Manifest, read_manifest, write_manifest
from fer_data.manifest.model import render_csv
from fer_data.types import Failure, Progress, Reason, Sample, StageReport, count_reasons
from pipeline.detectors import LandmarkDetector, create_detector
from pipeline.executors import Executor
from pipeline.faces import detection_config, find_face
from pipeline.planning import chunks, hash_order
from pipeline.report import write_failures

MANIFEST_NAME = "manifest.csv"
REPORT_NAME = "landmarks.json"
PARTS_FOLDER = "landmarks"


@dataclass(frozen=True)
class LandmarkConfig:
    """Options of the stage.

    ``model`` names the face model file; None looks for it. ``part_size`` samples a part.
    """

    detector: str = "mediapipe"
    model: Path | None = None
    part_size: int = 128


@dataclass(frozen=True)
class PartJob:
    """One part, small enough to send to a worker: what to detect and where to write it."""

    path: Path
    root: Path
    samples: tuple[Sample, ...]
    plan_digest: str
    config_json: str
    config: LandmarkConfig


@dataclass(frozen=True)
class PartResult:
    """What a worker returns: counts only."""

    rows: int
    skipped: bool


def run_landmarks(
    manifest: Manifest, work: Path, config: LandmarkConfig, executor: Executor, progress: Progress
) -> StageReport:
    """Detect landmarks for every sample; finished parts are kept and checked.

    Raises :class:`FolderInUseError` when WORK belongs to another manifest, :class:`ModelFileError` when the face
    model cannot be found, :class:`UserInputError` for an empty manifest.
    """
    started = time.monotonic()
    if not manifest.samples:
        raise UserInputError("The manifest has no rows, so there is nothing to do. Its problems file says why.")
    with folder_lock(work):
        identity = _identity(config)
        _claim(work, manifest)
        folder = work / PARTS_FOLDER
        folder.mkdir(exist_ok=True)
        remove_temporaries(folder)
        jobs = plan_landmarks(manifest, folder, config, identity)
        _remove_strangers(folder, {job.path.name for job in jobs})
        results = []
        progress.start("landmarks", len(manifest.samples), "img")
        try:
            for result in executor.run(detect_part, jobs):
                results.append(result)
                progress.advance(result.rows)
        finally:
            # An open landmarker can hang the interpreter's shutdown; worker processes are simply ended.
            _detector(config.detector, config.model).close()
        progress.finish()
        failures = list(landmark_failures(read_parts(work)))
        write_failures(work, failures)
        report = StageReport(
            stage="landmarks",
            total=len(manifest.samples),
            ok=len(manifest.samples) - len(failures),
            failed=count_reasons(failures),
            seconds=time.monotonic() - started,
            parts=len(results),
            parts_skipped=sum(result.skipped for result in results),
        )
        write_json(
            work / REPORT_NAME,
            {
                "manifest_digest": content_digest(manifest),
                "config": identity,
                "parts": [job.path.name for job in jobs],
                "total": report.total,
                "ok": report.ok,
                "failed": dict(report.failed),
            },
        )
    return report


def plan_landmarks(manifest: Manifest, folder: Path, config: LandmarkConfig, identity: dict[str, Any]) -> list[PartJob]:
    """Cut the manifest, in hash order, into parts.

    Pure: depends on its arguments only.
    """
    config_json = canonical_json(identity)
    return [
        PartJob(
            path=folder / f"part-{number:05d}.h5",
            root=manifest.root,
            samples=tuple(samples),
            plan_digest=digest([identity, [[sample.sample_id, sample.path] for sample in samples]]),
            config_json=config_json,
            config=config,
        )
        for number, samples in enumerate(chunks(hash_order(manifest.samples), config.part_size))
    ]


def detect_part(job: PartJob) -> PartResult:
    """Task: make one part, unless it is there, intact, of this plan and of these very photos."""
    if _is_current(job):
        return PartResult(len(job.samples), skipped=True)
    detector = _detector(job.config.detector, job.config.model)
    rows = [detect_sample(sample, job.root, detector) for sample in job.samples]
    write_part(job.path, rows, job.plan_digest, job.config_json)
    return PartResult(len(rows), skipped=False)


def detect_sample(sample: Sample, root: Path, detector: LandmarkDetector) -> LandmarkRow:
    """Read one photo and find its face; whatever goes wrong with the photo becomes the row's reason."""
    try:
        data = (root / sample.path).read_bytes()
    except OSError:
        return LandmarkRow(sample.sample_id, sample.path, Reason.MISSING_FILE)
    sha256 = sha256_bytes(data)
    try:
        image = decode_image(data, sample.path)
    except UnreadableImageError:
        return LandmarkRow(sample.sample_id, sample.path, Reason.UNREADABLE, sha256)
    size = (image.shape[0], image.shape[1])
    found = find_face(image, detector)
    if found.face is None:
        return LandmarkRow(sample.sample_id, sample.path, found.reason, sha256, size)
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
        rung=found.rung,
        faces_seen=found.faces_seen,
    )


def read_parts(work: Path) -> list[LandmarkPart]:
    """Every part of a finished or running stage, in order."""
    return [read_part(path) for path in part_paths(work)]


def part_paths(work: Path) -> list[Path]:
    """The part files, in order."""
    return sorted((work / PARTS_FOLDER).glob("part-*.h5"))


def landmark_failures(parts: Iterable[LandmarkPart]) -> Iterable[Failure]:
    """Samples without landmarks, each with its reason."""
    for part in parts:
        for sample_id, path, reason in zip(part.sample_ids, part.paths, part.reasons, strict=True):
            if reason is not Reason.OK:
                yield Failure(sample_id, path, reason.key)


@lru_cache(maxsize=1)
def _detector(name: str, model: Path | None) -> LandmarkDetector:
    """One detector a process, made on first use."""
    return create_detector(name, model)


def _identity(config: LandmarkConfig) -> dict[str, Any]:
    """Everything that determines the rows, as JSON; finds the model file now, so that its absence is told at once."""
    return {
        **_detector(config.detector, config.model).identity(),
        **detection_config(),
        "part_size": config.part_size,
    }


def _is_current(job: PartJob) -> bool:
    try:
        part = read_part(job.path)
    except StoreError:
        return False
    if part.plan_digest != job.plan_digest:
        return False
    return all(
        _sha256_or_empty(job.root / sample.path) == stated
        for sample, stated in zip(job.samples, part.source_sha256, strict=True)
    )


def _sha256_or_empty(path: Path) -> str:
    try:
        return sha256_bytes(path.read_bytes())
    except OSError:
        return ""


def content_digest(manifest: Manifest) -> str:
    """Identity of a manifest's rows, however its file is laid out."""
    return sha256_bytes(render_csv(manifest.samples).encode())


def _claim(work: Path, manifest: Manifest) -> None:
    """Copy the manifest into WORK, or refuse a WORK that holds another one."""
    copy = work / MANIFEST_NAME
    if not (copy.exists() and copy.with_suffix(".meta.json").exists()):
        write_manifest(copy, manifest.samples, root=manifest.root, layout=manifest.layout, options=manifest.options)
        return
    expected, got = content_digest(manifest), content_digest(read_manifest(copy))
    if got != expected:
        raise FolderInUseError(
            paragraph(
                f"{work} holds the landmarks of another manifest, or of this one before it was changed.",
                expected=f"manifest {expected[:12]}",
                got=f"manifest {got[:12]}",
                fix="Choose another --out, or delete that folder if it is no longer needed.",
            )
        )


def _remove_strangers(folder: Path, expected: set[str]) -> None:
    """Parts of an earlier plan with more parts."""
    for path in folder.glob("part-*.h5"):
        if path.name not in expected:
            path.unlink()
