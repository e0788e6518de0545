"""``aupipe landmarks``: 68 points for every image of a manifest, part by part, resumable.

WORK/manifest.csv (a copy, with its root), WORK/landmarks/part-00000.h5 ..., WORK/failures.csv, WORK/landmarks.json
(written last).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aupipe.fer_data.errors import FolderInUseError, StoreError, UserInputError, paragraph
from aupipe.fer_data.files import (
    canonical_json,
    digest,
    remove_temporaries,
    sha256_bytes,
    sha256_file,
    write_json,
)
from aupipe.fer_data.folders import LANDMARKS, output_folder
from aupipe.fer_data.landmark_parts import LandmarkPart, read_part
from aupipe.fer_data.manifest import Manifest, read_manifest, write_manifest
from aupipe.fer_data.manifest.model import box_cells, render_csv
from aupipe.fer_data.types import Failure, Progress, Reason, Sample, StageReport, count_reasons
from aupipe.pipeline.executors import Executor
from aupipe.pipeline.landmarks.isolation import detect_part_isolated
from aupipe.pipeline.landmarks.tasks import (
    LandmarkConfig,
    PartJob,
    close_detector,
    detect_part,
    shared_detector,
    stage_identity,
)
from aupipe.pipeline.planning import chunks, hash_order
from aupipe.pipeline.report import write_failures

MANIFEST_NAME = "manifest.csv"
REPORT_NAME = "landmarks.json"
PARTS_FOLDER = "landmarks"


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
    identity = stage_identity(config)
    try:
        with output_folder(work, LANDMARKS):
            manifest_digest = _claim(work, manifest)
            # Workers elsewhere have another current folder.
            folder = (work / PARTS_FOLDER).resolve()
            folder.mkdir(exist_ok=True)
            remove_temporaries(folder)
            jobs = plan_landmarks(manifest, folder, config, identity)
            _remove_strangers(folder, {job.path.name for job in jobs})
            skipped = _run_parts(jobs, len(manifest.samples), executor, progress)
            failures = list(landmark_failures(_made_parts(jobs)))
            write_failures(work, failures)
            report = StageReport(
                stage="landmarks",
                total=len(manifest.samples),
                ok=len(manifest.samples) - len(failures),
                failed=count_reasons(failures),
                seconds=time.monotonic() - started,
                parts=len(jobs),
                parts_skipped=skipped,
            )
            _write_report(work, report, manifest_digest, identity, [job.path.name for job in jobs])
    finally:
        # An open landmarker can hang the interpreter's shutdown; worker processes are simply ended.
        close_detector(config)
    return report


def _run_parts(jobs: Sequence[PartJob], total: int, executor: Executor, progress: Progress) -> int:
    """Make the parts; returns how many were there already."""
    skipped, left = 0, list[PartJob]()
    progress.start("landmarks", total, "img")
    for result in executor.run(detect_part, jobs, left.append):
        skipped += result.skipped
        progress.advance(result.rows)
    if left:
        progress.note(
            f"Worker processes died over {len(left)} of {len(jobs)} parts: these are tried again, each photo in a "
            "process of its own, to find the one that does it."
        )
        for result in executor.run(detect_part_isolated, left):
            skipped += result.skipped
            progress.advance(result.rows)
    progress.finish()
    return skipped


def _made_parts(jobs: Sequence[PartJob]) -> Iterator[LandmarkPart]:
    """The plan's parts. Raises :class:`StoreError` when one is not there."""
    for job in jobs:
        if not job.path.is_file():
            raise StoreError(
                paragraph(
                    "A worker reported a finished part that is not there.",
                    where=job.path,
                    fix="The workers must write to the same folder that this machine sees: use a shared file system.",
                )
            )
        yield read_part(job.path)


def _write_report(
    work: Path, report: StageReport, manifest_digest: str, identity: dict[str, Any], parts: list[str]
) -> None:
    content = {
        "manifest_digest": manifest_digest,
        "config": identity,
        "parts": parts,
        "total": report.total,
        "ok": report.ok,
        "failed": dict(report.failed),
    }
    write_json(work / REPORT_NAME, content)


def plan_landmarks(manifest: Manifest, folder: Path, config: LandmarkConfig, identity: dict[str, Any]) -> list[PartJob]:
    """Cut the manifest, in hash order, into parts.

    Touches no image; reads the manifest's landmarks where the detector uses them.
    """
    config_json = canonical_json(identity)
    uses_known = shared_detector(config.detector, config.model).uses_known
    known = manifest.landmarks if uses_known else None
    if uses_known and known is None:
        raise UserInputError(
            paragraph(
                f"The detector {config.detector!r} uses the points that ship with a dataset; this manifest has none.",
                fix="Use another --detector, or build the manifest from a layout that has them (AffectNet, CK+, a CSV "
                "with columns x0 ... y67).",
            )
        )
    return [
        PartJob(
            path=folder / f"part-{number:05d}.h5",
            root=manifest.root,
            samples=tuple(samples),
            plan_digest=digest([identity, *_what_is_detected(samples, config, known)]),
            config_json=config_json,
            config=config,
            known=known,
        )
        for number, samples in enumerate(chunks(hash_order(manifest.samples), config.part_size))
    ]


def _what_is_detected(samples: Sequence[Sample], config: LandmarkConfig, known: Path | None) -> Iterator[Any]:
    yield [[sample.sample_id, sample.path] for sample in samples]
    if config.faces == "box":
        yield [box_cells(sample.box) for sample in samples]
    if known is not None:
        points = np.load(known, mmap_mode="r", allow_pickle=False)
        rows = [sample.landmarks_row for sample in samples]
        yield [None if row is None else sha256_bytes(points[row].tobytes()) for row in rows]


def read_parts(work: Path, *, mesh: bool = False) -> Iterator[LandmarkPart]:
    """Every part of a finished or running stage, in order, one at a time."""
    for path in part_paths(work):
        yield read_part(path, mesh=mesh)


def part_paths(work: Path) -> list[Path]:
    """The part files, in order."""
    return sorted((work / PARTS_FOLDER).glob("part-*.h5"))


def landmark_failures(parts: Iterable[LandmarkPart]) -> Iterable[Failure]:
    """Samples without landmarks, each with its reason."""
    for part in parts:
        for sample_id, path, reason in zip(part.sample_ids, part.paths, part.reasons, strict=True):
            if reason is not Reason.OK:
                yield Failure(sample_id, path, reason.key)


def content_digest(manifest: Manifest) -> str:
    """Identity of a manifest's rows and of the points that ship with them, however its file is laid out."""
    rows = sha256_bytes(render_csv(manifest.samples).encode())
    return rows if manifest.landmarks is None else digest([rows, sha256_file(manifest.landmarks)])


def _claim(work: Path, manifest: Manifest) -> str:
    """Copy the manifest into WORK and return its digest, or refuse a WORK that holds another one."""
    copy, expected = work / MANIFEST_NAME, content_digest(manifest)
    if not (copy.exists() and copy.with_suffix(".meta.json").exists()):
        write_manifest(
            copy,
            manifest.samples,
            root=manifest.root,
            layout=manifest.layout,
            options=manifest.options,
            landmarks=manifest.landmarks,
        )
        return expected
    got = content_digest(read_manifest(copy))
    if got != expected:
        raise FolderInUseError(
            paragraph(
                f"{work} holds the landmarks of another manifest, or of this one before it was changed.",
                expected=f"manifest {expected[:12]}",
                got=f"manifest {got[:12]}",
                fix="Choose another --out, or delete that folder if it is no longer needed.",
            )
        )
    return expected


def _remove_strangers(folder: Path, expected: set[str]) -> None:
    """Parts of an earlier plan with more parts."""
    for path in folder.glob("part-*.h5"):
        if path.name not in expected:
            path.unlink()
