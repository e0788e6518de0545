"""The second try of a part whose worker died: each photo is looked at in a process that may die.

The worker itself only collects the rows, so it lives on, and so do its neighbours' parts. A photo at which a fresh
process, too, dies before anything else is the culprit: it gets the reason ``worker_died``, all others get their rows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from aupipe.fer_data.images import one_opencv_thread
from aupipe.fer_data.landmark_parts import LandmarkRow
from aupipe.fer_data.processes import die_silently
from aupipe.fer_data.types import Reason, Sample
from aupipe.pipeline.isolation import Isolated
from aupipe.pipeline.landmarks.tasks import (
    PartJob,
    PartResult,
    check_folders,
    detect_sample,
    finished_part,
    known_landmarks,
    replace_part,
    sha256_or_empty,
    shared_detector,
)


def detect_part_isolated(job: PartJob) -> PartResult:
    """Make a part at which a worker died, else like :func:`~aupipe.pipeline.landmarks.tasks.detect_part` (a task).

    Raises :class:`FerError` when the processes die whatever the photo is.
    """
    check_folders(job)
    if finished := finished_part(job):
        return finished
    replace_part(job, isolated_rows(job))
    return PartResult(len(job.samples), skipped=False)


def isolated_rows(job: PartJob) -> list[LandmarkRow]:
    """Make the part's rows; a photo of which two processes die is named."""
    detect: Isolated[Sample, LandmarkRow | None] = Isolated(_Detection(replace(job, samples=())))
    try:
        found = [(sample, detect(sample)) for sample in job.samples]
    finally:
        detect.close()
    return [row if isinstance(row, LandmarkRow) else _deadly_row(sample, job.root) for sample, row in found]


@dataclass(frozen=True)
class _Detection:
    """The other process's task: to make a photo's row, or for None only what comes before the first photo."""

    job: PartJob

    @one_opencv_thread()
    def __call__(self, sample: Sample | None, tell: object) -> LandmarkRow | None:
        if sample is None:
            die_silently()
        detector, known = shared_detector(self.job.config.detector, self.job.config.model), known_landmarks(self.job)
        return None if sample is None else detect_sample(sample, self.job.root, detector, self.job.config, known)


def _deadly_row(sample: Sample, root: Path) -> LandmarkRow:
    return LandmarkRow(sample.sample_id, sample.path, Reason.WORKER_DIED, sha256_or_empty(root / sample.path))
