"""The second try of a part whose worker died: each photo is looked at in a process that may die.

The worker itself only collects the rows, so it lives on, and so do its neighbours' parts. A photo at which a fresh
process, too, dies before anything else is the culprit: it gets the reason ``worker_died``, all others get their rows.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, replace
from pathlib import Path

from aupipe.fer_data.errors import FerError, paragraph
from aupipe.fer_data.images import one_opencv_thread
from aupipe.fer_data.landmark_parts import LandmarkRow
from aupipe.fer_data.processes import Death, Worker
from aupipe.fer_data.types import Reason, Sample
from aupipe.pipeline.landmarks.tasks import (
    PartJob,
    PartResult,
    check_folders,
    detect_sample,
    is_current,
    known_landmarks,
    replace_part,
    sha256_or_empty,
    shared_detector,
)

MAX_DEADLY = 8
"""So many photos of one part may be culprits; more mean that the photos are not to blame."""

_Process = Worker[Sample | None, object, LandmarkRow | None]


def detect_part_isolated(job: PartJob) -> PartResult:
    """Make a part at which a worker died, else like :func:`~aupipe.pipeline.landmarks.tasks.detect_part` (a task).

    Raises :class:`FerError` when the processes die whatever the photo is.
    """
    check_folders(job)
    if is_current(job):
        return PartResult(len(job.samples), skipped=True)
    replace_part(job, isolated_rows(job))
    return PartResult(len(job.samples), skipped=False)


def isolated_rows(job: PartJob) -> list[LandmarkRow]:
    """Yield the part's rows; a process that dies is replaced, and a photo that its successor dies of, too, is named."""
    rows, deadly = list[LandmarkRow](), 0
    worker: _Process = Worker(_Detection(replace(job, samples=())))
    try:
        for sample in job.samples:
            row = _row(worker, sample) or _row(worker, sample)
            if row is None:
                row, deadly = _deadly_row(sample, job.root), deadly + 1
            if deadly > MAX_DEADLY:
                raise _not_the_photos(f"{deadly} photos of {job.path.name} ended the process that looked at them")
            rows.append(row)
    finally:
        worker.end()
    return rows


@dataclass(frozen=True)
class _Detection:
    """The other process's task: to make a photo's row, or for None only what comes before the first photo."""

    job: PartJob

    @one_opencv_thread()
    def __call__(self, sample: Sample | None, tell: object) -> LandmarkRow | None:
        if sample is None:
            _die_silently()
        detector, known = shared_detector(self.job.config.detector, self.job.config.model), known_landmarks(self.job)
        return None if sample is None else detect_sample(sample, self.job.root, detector, self.job.config, known)


def _row(worker: _Process, sample: Sample) -> LandmarkRow | None:
    """The photo's row; None when the process dies."""
    if not worker.alive and isinstance(worker.ask(None), Death):
        raise _not_the_photos("a process that had only loaded the detector died")
    row = worker.ask(sample)
    return row if isinstance(row, LandmarkRow) else None


def _die_silently() -> None:
    """Let this process die in silence, and when memory runs out let the system end it instead of the worker."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    with Path(os.devnull).open("w") as nowhere:
        for stream in (1, 2):
            os.dup2(nowhere.fileno(), stream)


def _deadly_row(sample: Sample, root: Path) -> LandmarkRow:
    return LandmarkRow(sample.sample_id, sample.path, Reason.WORKER_DIED, sha256_or_empty(root / sample.path))


def _not_the_photos(got: str) -> FerError:
    return FerError(
        paragraph(
            "Worker processes die whatever the photo is.",
            got=got,
            fix="The usual causes are too little memory (fewer --workers) and a broken installation (`aupipe doctor`). "
            "Finished parts are kept: run the same command again to continue.",
        )
    )
