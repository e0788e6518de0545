"""What is left of a stage's work: looked for before a process is started, which may not be worth its start."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Generic

from aupipe.pipeline.executors.base import Executor, Job, Result

LOOK_SECONDS = 1.0
"""What is there already is looked for in this process if that takes no longer; else each process looks for its jobs."""

SAMPLED = 16
PHOTO_BYTES_PER_SECOND = 50_000_000
"""Bytes of photo files that are read and decoded in a second (JPEG; 4 MB of a camera's in 80 ms)."""


@dataclass(frozen=True)
class Stage(Generic[Job, Result]):
    """A stage's task, and what is known of a job before it is run.

    Attributes:
        task: Runs a job; one that is done already gives its result at once.
        known: Whether a job seems to be done, so that ``finished`` may be asked in this process.
        finished: The result of a job that is done already, else None.
        looking: Seconds that ``finished`` takes, about.
        making: Seconds that a job takes that is not done, about.
        isolated: A job may end the process that runs it, and the stage goes on.
    """

    task: Callable[[Job], Result]
    known: Callable[[Job], bool]
    finished: Callable[[Job], Result | None]
    looking: Callable[[Job], float]
    making: Callable[[Job], float]
    isolated: bool = False

    def sized(self, executor: Executor, left: Sequence[Job], seconds: float | None = None) -> Executor:
        """Choose what is soonest done with these jobs; ``seconds``: all that they take, where it is known better."""
        took = sum(map(self.making, left)) if seconds is None else seconds
        return executor.sized(len(left), took, isolated=self.isolated)


def run_stage(
    stage: Stage[Job, Result], jobs: Sequence[Job], executor: Executor, on_death: Callable[[Job], None] | None = None
) -> Iterator[Result]:
    """Yield one result per job: first those of jobs that are done already, then those of what is left.

    Args:
        stage: What there is to do.
        jobs: The jobs.
        executor: Runs what is left, as far as it pays.
        on_death: See :meth:`aupipe.pipeline.executors.base.Executor.run`.
    """
    known = [stage.known(job) for job in jobs]
    looking = sum(stage.looking(job) for job, seen in zip(jobs, known, strict=True) if seen)
    if looking <= LOOK_SECONDS:
        left = list[Job]()
        for job, seen in zip(jobs, known, strict=True):
            result = stage.finished(job) if seen else None
            if result is None:
                left.append(job)
            else:
                yield result
        seconds = sum(map(stage.making, left))
    else:
        left = list(jobs)
        seconds = looking + sum(stage.making(job) for job, seen in zip(jobs, known, strict=True) if not seen)
    if left:
        yield from stage.sized(executor, left, seconds).run(stage.task, left, on_death)


def photo_seconds(root: Path, paths: Iterable[str]) -> float:
    """Estimate how long a photo takes to read and decode: by the size of the first few files that are there."""
    sizes = list[int]()
    for name in islice(paths, SAMPLED):
        with contextlib.suppress(OSError):  # why a photo cannot be reached is told in its row
            sizes.append((root / name).stat().st_size)
    return sum(sizes) / max(len(sizes), 1) / PHOTO_BYTES_PER_SECOND
