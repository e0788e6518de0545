"""The second try of a part whose worker died: each photo is looked at in a process that may die.

The worker itself only collects the rows, so it lives on, and so do its neighbours' parts. A photo at which a fresh
process, too, dies before anything else is the culprit: it gets the reason ``worker_died``, all others get their rows.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.connection import Connection, Pipe
from pathlib import Path

from aupipe.fer_data.errors import FerError, paragraph
from aupipe.fer_data.landmark_parts import LandmarkRow
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

_READY = "ready"


def detect_part_isolated(job: PartJob) -> PartResult:
    """Task: like :func:`~aupipe.pipeline.landmarks.tasks.detect_part`, for a part at which a worker died.

    Raises :class:`FerError` when the processes die whatever the photo is.
    """
    check_folders(job)
    if is_current(job):
        return PartResult(len(job.samples), skipped=True)
    replace_part(job, isolated_rows(job))
    return PartResult(len(job.samples), skipped=False)


def isolated_rows(job: PartJob) -> list[LandmarkRow]:
    """The part's rows; processes that die are replaced, and the photos they die of are named."""
    rows, deaths, deadly = list[LandmarkRow](), 0, 0
    while len(rows) < len(job.samples):
        made = list(_rows_of_one_process(replace(job, samples=job.samples[len(rows) :])))
        rows += made
        if len(rows) == len(job.samples):
            break
        deaths = 1 if made else deaths + 1
        if deaths < 2:
            continue
        rows.append(_deadly_row(job.samples[len(rows)], job.root))
        deaths, deadly = 0, deadly + 1
        if deadly > MAX_DEADLY:
            raise _not_the_photos(f"{deadly} photos of {job.path.name} ended the process that looked at them")
    return rows


def _rows_of_one_process(job: PartJob) -> Iterator[LandmarkRow]:
    """As many rows as one process makes before it dies."""
    with _process() as connection:
        try:
            connection.send(job)
            ready = connection.recv()
        except (EOFError, OSError) as error:
            raise _not_the_photos("a process that had only loaded the detector died") from error
        if isinstance(ready, Exception):
            raise ready
        with contextlib.suppress(EOFError, OSError):
            for _ in job.samples:
                row = connection.recv()
                if isinstance(row, Exception):
                    raise row
                yield row


@contextlib.contextmanager
def _process() -> Iterator[Connection]:
    # Not multiprocessing.Process: Dask's workers are daemons, which may not have any.
    ours, theirs = Pipe()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-c", f"import {__name__} as m; m.serve({theirs.fileno()})"],
            pass_fds=[theirs.fileno()],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is the worker's business
        )
    try:
        with ours:
            yield ours
    finally:
        process.kill()
        process.wait()


def serve(descriptor: int) -> None:
    """The other process: takes a job from the connection and sends its rows one by one."""
    with contextlib.suppress(OSError):
        # When memory runs out, the system should end this process and not the worker.
        Path("/proc/self/oom_score_adj").write_text("1000")
    connection = Connection(descriptor)
    try:
        job: PartJob = connection.recv()
        detector, known = shared_detector(job.config.detector, job.config.model), known_landmarks(job)
        connection.send(_READY)
        for sample in job.samples:
            connection.send(detect_sample(sample, job.root, detector, job.config, known))
    except (BrokenPipeError, ConnectionResetError, EOFError):
        pass  # the worker is gone
    except Exception as error:
        connection.send(error)
    os._exit(0)  # native libraries may hang in an orderly end


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
