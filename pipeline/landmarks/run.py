"""``aupipe landmarks``: 68 points for every image of a manifest, part by part, resumable."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from aupipe.fer_data.errors import FolderInUseError, StoreError, UserInputError, paragraph
from aupipe.fer_data.failures import write_failures
from aupipe.fer_data.files import canonical_json, digest, sha256_bytes, sha256_file
from aupipe.fer_data.folders import LANDMARKS, output_folder
from aupipe.fer_data.images import STRETCHED
from aupipe.fer_data.landmark_parts import PartFile, mixed_work, read_part
from aupipe.fer_data.manifest import Manifest, read_manifest, write_manifest
from aupipe.fer_data.manifest.model import box_cells
from aupipe.fer_data.manifest.places import check_inside
from aupipe.fer_data.shards.inspect import other_options
from aupipe.fer_data.types import Failure, Progress, Sample, StageReport, count_reasons
from aupipe.pipeline.executors import Executor
from aupipe.pipeline.landmarks.early import EarlyWarning
from aupipe.pipeline.landmarks.faces import BOXED
from aupipe.pipeline.landmarks.isolation import detect_part_isolated
from aupipe.pipeline.landmarks.tasks import (
    LandmarkConfig,
    PartJob,
    PartResult,
    close_detector,
    detect_part,
    finished_part,
    shared_detector,
    stage_identity,
)
from aupipe.pipeline.landmarks.work import (
    FOLLOW_LINKS,
    MANIFEST_NAME,
    PARTS_FOLDER,
    content_digest,
    landmark_failures,
    save_report,
    stated_config,
    stated_digests,
    withdraw_report,
)
from aupipe.pipeline.left import Stage, photo_seconds, run_stage
from aupipe.pipeline.planning import batched, hash_order

DETECTION_SECONDS, KNOWN_SECONDS, LOOK_SECONDS = 0.012, 0.001, 0.0002
"""About what a small photo takes whose face is looked for, or known, and one whose row is there."""

HASHED = 0.1
"""About what computing a photo's SHA-256 takes of what decoding it takes."""


def run_landmarks(
    manifest: Manifest,
    work: Path,
    config: LandmarkConfig,
    executor: Executor,
    progress: Progress,
    max_failures: float = 0.2,
    *,
    overwrite: bool = False,
) -> StageReport:
    """Detect landmarks for every sample; finished parts are kept and checked.

    Args:
        manifest: The samples.
        work: The WORK folder; an interrupted run continues in it.
        config: Detector, policy and part size.
        executor: What runs the parts.
        progress: Hears of each finished part, and early where too much is left out.
        max_failures: The share that may be left out before that is said.
        overwrite: Replace finished landmarks that were found with other options.

    Returns:
        Counts of samples and parts, by outcome.

    Raises:
        FolderInUseError: WORK belongs to another manifest, or holds finished landmarks that were found with other
            options and ``overwrite`` is not set.
        ModelFileError: The face model cannot be found.
        ManifestError: Links lead photos out of the manifest's root.
        UserInputError: The manifest is empty.
    """
    started = time.monotonic()
    if not manifest.samples:
        raise UserInputError("The manifest has no rows, so there is nothing to do. Its problems file says why.")
    check_inside(manifest, config.follow_links)
    identity = stage_identity(config)
    try:
        with output_folder(work, LANDMARKS):
            manifest_digest = _claim(work, manifest, config.follow_links, None if overwrite else identity)
            # Workers elsewhere have another current folder.
            folder = (work / PARTS_FOLDER).resolve()
            folder.mkdir(exist_ok=True)
            jobs = plan_landmarks(manifest, folder, config, identity)
            _remove_leftovers(work, jobs)
            skipped = _run_parts(jobs, len(manifest.samples), executor, progress, max_failures)
            parts, failures, stretched = _gather(work, jobs)
            if stretched:
                progress.note(f"{stretched} photos: {STRETCHED}.")
            write_failures(work, failures)
            save_report(work, manifest, manifest_digest, identity, parts, failures)
            report = StageReport(
                stage="landmarks",
                total=len(manifest.samples),
                ok=len(manifest.samples) - len(failures),
                failed=count_reasons(failures),
                seconds=time.monotonic() - started,
                parts=len(jobs),
                parts_skipped=skipped,
            )
    finally:
        # An open landmarker can hang the interpreter's shutdown; worker processes are simply ended.
        close_detector(config)
    return report


def _run_parts(jobs: Sequence[PartJob], total: int, executor: Executor, progress: Progress, allowed: float) -> int:
    """Make the parts; returns how many were there already."""
    skipped, left, early = 0, list[PartJob](), EarlyWarning(jobs[0].root, allowed)
    stage = _stage(jobs)
    progress.start("landmarks", total, "img")
    for result in run_stage(stage, jobs, executor, left.append):
        skipped += result.skipped
        progress.advance(result.rows)
        if warning := early.hear(result.tally):
            progress.note(warning)
    if left:
        progress.note(
            f"Worker processes died over {len(left)} of {len(jobs)} parts: these are tried again, each photo in a "
            "process of its own, to find the one that does it."
        )
        for result in stage.sized(executor, left).run(detect_part_isolated, left):
            skipped += result.skipped
            progress.advance(result.rows)
    progress.finish()
    return skipped


def _stage(jobs: Sequence[PartJob]) -> Stage[PartJob, PartResult]:
    """The stage's work; how long it takes is estimated by the photos of the first part.

    Only a part whose digest WORK's report states is opened in this process: a damaged one can make HDF5 hang.
    """
    first = jobs[0]
    reads = photo_seconds(first.root, (sample.path for sample in first.samples))
    photo = reads + (KNOWN_SECONDS if first.known is not None else DETECTION_SECONDS)
    stated = stated_digests(first.path.parents[1])

    def finished(job: PartJob) -> PartResult | None:
        return finished_part(job) if sha256_file(job.path) == stated[job.path.name] else None

    return Stage(
        task=detect_part,
        finished=finished,
        known=lambda job: job.path.name in stated and job.path.is_file(),
        looking=lambda job: (LOOK_SECONDS + HASHED * reads) * len(job.samples),
        making=lambda job: photo * len(job.samples),
        isolated=True,
    )


def _gather(work: Path, jobs: Sequence[PartJob]) -> tuple[list[PartFile], list[Failure], int]:
    """Collect the plan's parts, the samples without landmarks, and how many photos have fewer bits than they say.

    Raises :class:`StoreError` when one is not there, or not the plan's.
    """
    files, failures, stretched = list[PartFile](), list[Failure](), 0
    for job in jobs:
        if not job.path.is_file():
            raise StoreError(
                paragraph(
                    "A worker reported a finished part that is not there.",
                    where=job.path,
                    fix="The workers must write to the same folder that this machine sees: use a shared file system.",
                )
            )
        part = read_part(job.path)
        if part.plan_digest != job.plan_digest:
            raise mixed_work(work)
        files.append(PartFile(job.path, part.sha256, part.plan_digest))
        failures += landmark_failures(part)
        stretched += part.details.count(STRETCHED)
    return files, failures, stretched


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
            plan_digest=digest([identity, *_detection_inputs(samples, config, known)]),
            config_json=config_json,
            config=config,
            known=known,
        )
        for number, samples in enumerate(batched(hash_order(manifest.samples), config.part_size))
    ]


def _detection_inputs(samples: Sequence[Sample], config: LandmarkConfig, known: Path | None) -> Iterator[Any]:
    yield [[sample.sample_id, sample.path] for sample in samples]
    if config.faces in BOXED:
        yield [box_cells(sample.box) for sample in samples]
    if known is not None:
        points = np.load(known, mmap_mode="r", allow_pickle=False)
        rows = [sample.landmarks_row for sample in samples]
        yield [None if row is None else sha256_bytes(points[row].tobytes()) for row in rows]


def _claim(work: Path, manifest: Manifest, follow_links: bool, identity: dict[str, Any] | None) -> str:
    """Copy the manifest into WORK and return its digest, or refuse a WORK that holds another one.

    ``identity``: refuse finished landmarks of other options, too. Where the photos have moved since, the copy learns
    their new place. Its options say whether links are followed.
    """
    copy, expected = work / MANIFEST_NAME, content_digest(manifest)
    options = {**manifest.options, FOLLOW_LINKS: follow_links}
    there = copy.exists() and copy.with_suffix(".meta.json").exists()
    found = read_manifest(copy) if there else None
    if found is not None and (got := content_digest(found)) != expected:
        raise FolderInUseError(
            paragraph(
                f"{work} holds the landmarks of another manifest, or of this one before it was changed.",
                expected=f"manifest {expected[:12]}",
                got=f"manifest {got[:12]}",
                fix="Choose another --out, or delete that folder if it is no longer needed.",
            )
        )
    if identity is not None:
        _refuse_other_options(work, identity)
    if found is not None:
        same = (found.root, found.codes) == (manifest.root, manifest.codes)
        if same and found.options.get(FOLLOW_LINKS, False) is follow_links:
            return expected
        manifest = replace(found, root=manifest.root, codes=manifest.codes)
    write_manifest(
        copy,
        manifest.samples,
        root=manifest.root,
        layout=manifest.layout,
        options=options,
        landmarks=manifest.landmarks,
        codes=manifest.codes,
    )
    return expected


def _refuse_other_options(work: Path, identity: dict[str, Any]) -> None:
    """Refuse to replace finished landmarks that another detector, version or option found: that takes hours."""
    expected, got = other_options(identity, stated_config(work) or identity)
    if expected:
        raise FolderInUseError(
            paragraph(
                f"{work} already holds the landmarks of these photos, found with other options.",
                expected=expected,
                got=got,
                fix="Choose another --out, or pass --overwrite to replace them.",
            )
        )


def _remove_leftovers(work: Path, jobs: Sequence[PartJob]) -> None:
    """Parts of an earlier plan with more parts; the report that names them goes first."""
    leftovers = set((work / PARTS_FOLDER).resolve().glob("part-*.h5")) - {job.path for job in jobs}
    if leftovers:
        withdraw_report(work)
    for path in leftovers:
        path.unlink()
