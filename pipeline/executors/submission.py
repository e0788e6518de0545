"""Feeding a Dask cluster: a bounded number of jobs under way, and what goes wrong told in one paragraph."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from itertools import islice
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, NoReturn
from uuid import uuid4

from aupipe.fer_data.errors import FerError, paragraph
from aupipe.pipeline.executors.base import Job, Result, worker_died
from aupipe.pipeline.executors.handshake import pickled_call

if TYPE_CHECKING:
    from distributed import Client, Future

JOBS_PER_THREAD = 2
"""One under way, one waiting, so that no worker idles while a result travels."""

NO_WORKER_SECONDS = 600.0
"""How long a run bears to be without any worker: a batch system may need its time to replace them."""

_LOOK_EVERY = 2.0


def drive(
    client: Client, task: Callable[[Job], Result], jobs: Iterable[Job], on_death: Callable[[Job], None] | None
) -> Iterator[Result]:
    """Yield one result per job, with twice as many jobs submitted as there are worker threads at the moment.

    Neither side keeps anything of a finished job.
    """
    from distributed.scheduler import KilledWorker

    queue, running = iter(jobs), dict[Any, Job]()
    done: SimpleQueue[Future[Any]] = SimpleQueue()

    def submit() -> None:
        room = JOBS_PER_THREAD * max(_threads(client), 1) - len(running)
        for job in islice(queue, max(room, 0)):
            key = f"{task.__name__}-{uuid4().hex}"
            future = client.submit(pickle.loads, pickled_call(task, job), key=key, pure=False)
            running[future] = job
            future.add_done_callback(done.put)

    submit()
    while running:
        future = _next_done(client, done)
        job = running.pop(future)
        try:
            results = [future.result(timeout=NO_WORKER_SECONDS)]
        except KilledWorker as error:
            if on_death is None:
                raise worker_died(first_line(error)) from error
            on_death(job)
            results = []
        except Exception as error:
            _explain(client, error)
        future.release()
        submit()
        yield from results


def _next_done(client: Client, done: SimpleQueue[Future[Any]]) -> Future[Any]:
    deadline = time.monotonic() + NO_WORKER_SECONDS
    while True:
        try:
            return done.get(timeout=_LOOK_EVERY)
        except Empty:
            if _threads(client):
                deadline = time.monotonic() + NO_WORKER_SECONDS
            elif time.monotonic() > deadline:
                raise FerError(
                    paragraph(
                        f"The Dask cluster has had no worker for {NO_WORKER_SECONDS:.0f} seconds.",
                        fix="Start workers and run the same command again: finished parts are kept.",
                    )
                ) from None


def _threads(client: Client) -> int:
    return int(client.scheduler_info(n_workers=0).get("total_threads", 0))


def _explain(client: Client, error: Exception) -> NoReturn:
    """Raise what lies behind an error that Dask reports; an error of the task itself is raised as it is."""
    if isinstance(error, FerError):
        raise error
    if isinstance(error, CancelledError) or client.status != "running":
        raise FerError(
            paragraph(
                "The connection to the Dask scheduler was lost.",
                got=first_line(error),
                fix="Finished parts are kept: when the cluster is up, run the same command again to continue.",
            )
        ) from error
    if isinstance(error, ImportError):
        raise FerError(
            paragraph(
                "A worker of the Dask cluster cannot load aupipe.",
                got=first_line(error),
                fix="Start the workers from the environment that runs this command.",
            )
        ) from error
    raise error


def first_line(error: BaseException) -> str:
    """Return what an error says, short enough for a paragraph."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
