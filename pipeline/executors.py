"""How parts are run: one after the other in this process, or by Dask worker processes.

Same functions, same bytes. A task is a module-level function of one small frozen argument; it writes its own file
and returns a small result.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Protocol, TypeVar, runtime_checkable

from fer_data.errors import FerError, paragraph

Job = TypeVar("Job")
Result = TypeVar("Result")


@runtime_checkable
class Executor(Protocol):
    """Runs a task over jobs; results come as they are ready, in any order."""

    def run(self, task: Callable[[Job], Result], jobs: Iterable[Job]) -> Iterator[Result]:
        """Yield one result per job."""


class SerialExecutor:
    """In this process, in order: the reference the others must match."""

    def run(self, task: Callable[[Job], Result], jobs: Iterable[Job]) -> Iterator[Result]:
        """Yield one result per job."""
        for job in jobs:
            yield task(job)


class DaskExecutor:
    """Local Dask worker processes (spawned, single-threaded), at most two jobs a worker under way."""

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def run(self, task: Callable[[Job], Result], jobs: Iterable[Job]) -> Iterator[Result]:
        """Yield one result per job; an error of a task is raised here and ends the workers."""
        import dask
        from distributed import Client, LocalCluster, as_completed
        from distributed.scheduler import KilledWorker

        queue = iter(jobs)
        quiet = {"distributed.worker.daemon": True, "distributed.logging.distributed": "error"}
        with (
            dask.config.set(quiet),
            LocalCluster(
                n_workers=self.workers,
                threads_per_worker=1,
                processes=True,
                memory_limit=None,
                dashboard_address=None,
                silence_logs=logging.CRITICAL,
            ) as cluster,
            Client(cluster) as client,
        ):
            submitted = [client.submit(task, job, pure=False) for job in islice(queue, 2 * self.workers)]
            running = as_completed(submitted)
            del submitted
            try:
                for future in running:
                    yield future.result()
                    future.release()
                    for job in islice(queue, 1):
                        running.add(client.submit(task, job, pure=False))
            except KilledWorker as error:
                raise FerError(
                    paragraph(
                        "A worker process died again and again on the same part.",
                        got=error,
                        fix="The usual cause is too little memory: run with fewer --workers, or with --workers 0 "
                        "to see which image it is. Finished parts are kept.",
                    )
                ) from error


def create_executor(workers: int | None) -> Executor:
    """0: in-process; N: that many Dask worker processes; None: one a core."""
    count = (os.cpu_count() or 1) if workers is None else workers
    return DaskExecutor(count) if count > 0 else SerialExecutor()
