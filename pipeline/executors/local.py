"""Processes of this machine, started for one run: as many as pay."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Generic

from aupipe.fer_data.errors import FerError, paragraph
from aupipe.fer_data.processes import Death, Done, Message, Worker, run_jobs
from aupipe.pipeline.executors.base import Executor, Job, Result, SerialExecutor, worker_died

WORTH_SECONDS = 1.0
"""Least work for each process that is started.

A process needs .4 to .6 seconds until it has loaded what the tasks need (``benchmarks/process_start.py``): with a
second of work for each of two they are done sooner than this process alone would be, with half a second they are not.
"""

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""There is a process for each core: threads of the numerical libraries would only get into each other's way."""


class ProcessExecutor:
    """At most ``workers`` spawned processes, alive for one run."""

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def sized(self, jobs: int, seconds: float, *, isolated: bool = False) -> Executor:
        """Return what is soonest done; see :class:`~aupipe.pipeline.executors.base.Executor`.

        No process waits for its first job, and one alone is only started to isolate the jobs from this process.
        """
        count = min(self.workers, jobs, int(seconds / WORTH_SECONDS))
        return ProcessExecutor(max(count, 1)) if count > 1 or isolated else SerialExecutor()

    def run(
        self, task: Callable[[Job], Result], jobs: Iterable[Job], on_death: Callable[[Job], None] | None = None
    ) -> Iterator[Result]:
        """Yield one result per job; see :class:`~aupipe.pipeline.executors.base.Executor`."""
        sound = False
        events: Generator[tuple[Job, Message[object] | Done[Result] | Death]]
        events = run_jobs([_Call(task)] * self.workers, jobs, 0.0, ONE_THREAD)
        with closing(events):
            for job, said in events:
                if isinstance(said, Done):
                    sound = True
                    yield said.result
                elif isinstance(said, Death):
                    if not sound:
                        _check_start()
                    if on_death is None:
                        raise worker_died(said)
                    on_death(job)


@dataclass(frozen=True)
class _Call(Generic[Job, Result]):
    """What a process does: the task, which tells nothing on its way."""

    task: Callable[[Job], Result]

    def __call__(self, job: Job, tell: object) -> Result:
        return self.task(job)


def _check_start() -> None:
    """Raise :class:`FerError` where a process dies that has nothing to do."""
    probe: Worker[None, object, None] = Worker(_start)
    death = probe.ask(None)
    probe.end()
    if isinstance(death, Death):
        raise FerError(
            paragraph(
                "Worker processes cannot start.",
                got=f"{death} before it had anything to do",
                fix='The usual causes are a script without `if __name__ == "__main__":`, one that cannot be imported, '
                "too little memory, and a full disk below the temporary folder. Run with --workers 0 to do without "
                "them.",
            )
        )


def _start(job: None, tell: object) -> None:
    """Do nothing: a process that comes this far can be started."""
