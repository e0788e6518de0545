"""Dask worker processes: started here for one run, or those of a cluster that is there already.

The same functions write the same bytes as in the serial executor. Only jobs and small results cross the scheduler.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from aupipe.fer_data.errors import FerError, UserInputError, paragraph
from aupipe.fer_data.processes import Death, Worker, without_interrupts
from aupipe.pipeline.executors.base import Executor, Job, Note, Result, SerialExecutor, ignore
from aupipe.pipeline.executors.submission import NO_WORKER_SECONDS, drive, first_line

if TYPE_CHECKING:
    from distributed import Client, LocalCluster
    from distributed.utils import LoopRunner

WORTH_SECONDS = 2.0
"""Least work for each worker that is started.

Two need about two seconds until they have loaded what the tasks need (``benchmarks/process_start.py``): with as much
work for each they are done sooner than this process alone would be.
"""

USUAL_START_SECONDS, START_SECONDS = 8.0, 120.0
"""Within which workers of this machine are there, and at the latest when it is busy."""

CONNECT_SECONDS = 8.0
FIRST_WORKER_SECONDS = 300.0
"""A batch system may need its time to start one."""

_OWN_WORKERS = {
    # Dask looks every 10 ms at what a worker's thread does, for a page that nobody opens: a tenth of two workers' rate.
    "distributed.worker.profile.enabled": False,
    # The first one tells: a job that is tried again kills the next worker, too.
    "distributed.scheduler.allowed-failures": 0,
    # The next worker may take its time on a busy machine: after 15 seconds Dask would do without.
    "distributed.deploy.lost-worker-timeout": f"{NO_WORKER_SECONDS} s",
}


class DaskExecutor:
    """Local Dask worker processes (spawned, single-threaded), alive for one run."""

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def sized(self, jobs: int, seconds: float, *, isolated: bool = False) -> Executor:
        """Return what is soonest done; see :class:`~aupipe.pipeline.executors.base.Executor`.

        No worker waits for its first job, and one alone is only started to isolate the jobs from this process.
        """
        count = min(self.workers, jobs, int(seconds / WORTH_SECONDS))
        return DaskExecutor(max(count, 1)) if count > 1 or isolated else SerialExecutor()

    def run(
        self, task: Callable[[Job], Result], jobs: Iterable[Job], on_death: Callable[[Job], None] | None = None
    ) -> Iterator[Result]:
        """Yield one result per job; see :class:`~aupipe.pipeline.executors.base.Executor`."""
        import dask
        from distributed import Client

        with (
            _quiet(),
            dask.config.set(_OWN_WORKERS),
            _own_workers(self.workers) as cluster,
            Client(cluster) as client,
        ):
            yield from drive(client, task, jobs, on_death)


class SchedulerExecutor:
    """The workers of a Dask cluster that is there already (``tcp://host:port``); it is left running."""

    def __init__(self, address: str, note: Note = ignore) -> None:
        self.address = address
        self._note = note

    def sized(self, jobs: int, seconds: float, *, isolated: bool = False) -> Executor:
        """Return itself: its workers are there, whatever the work is."""
        del jobs, seconds, isolated
        return self

    def run(
        self, task: Callable[[Job], Result], jobs: Iterable[Job], on_death: Callable[[Job], None] | None = None
    ) -> Iterator[Result]:
        """Yield one result per job; see :class:`~aupipe.pipeline.executors.base.Executor`."""
        with _quiet(), _connected(self.address) as client:
            _await_first_worker(client, self.address, self._note)
            yield from drive(client, task, jobs, on_death)


@contextlib.contextmanager
def _own_workers(count: int) -> Iterator[LocalCluster]:
    from distributed import LocalCluster

    loop = _loop_without_interrupts()
    try:
        with LocalCluster(
            n_workers=0,
            threads_per_worker=1,
            processes=True,
            memory_limit=None,
            dashboard_address="127.0.0.1:0",  # any free port: two runs do not meet; who wants it gives --scheduler
            silence_logs=logging.CRITICAL,
            loop=loop.loop,
        ) as cluster:
            try:
                cluster.scale(count)  # here, not above: an interrupted start can be taken back
                _await_own_workers(cluster, count)
                yield cluster
            except BaseException:
                _end_at_once(cluster)
                raise
    finally:
        loop.stop()


def _await_own_workers(cluster: LocalCluster, count: int) -> None:
    """Wait for the processes to start; when they take long, look with one more whether any can.

    Dask would start them again and again, in silence. Raises :class:`FerError`.
    """
    try:
        return cluster.wait_for_workers(count, timeout=USUAL_START_SECONDS)
    except TimeoutError:
        probe: Worker[None, object, None] = Worker(_start)
        death = probe.ask(None)
        probe.end()
    if isinstance(death, Death):
        raise FerError(_cannot_start(f"{death} before it had anything to do"))
    try:
        cluster.wait_for_workers(count, timeout=START_SECONDS)
    except TimeoutError as error:
        raise FerError(_cannot_start(f"not all {count} were there after {START_SECONDS:.0f} seconds")) from error


def _start(job: None, tell: object) -> None:
    """Do nothing: a process that comes this far can be started."""


def _cannot_start(got: str) -> str:
    return paragraph(
        "Worker processes cannot start.",
        got=got,
        fix='The usual causes are a script without `if __name__ == "__main__":`, one that cannot be imported, too '
        "little memory, and a full disk below the temporary folder. Run with --workers 0 to do without them.",
    )


def _loop_without_interrupts() -> LoopRunner:
    """Dask's event loop, in a thread whose processes do not see Ctrl-C: no worker prints a traceback."""
    from distributed.utils import LoopRunner

    with without_interrupts():
        runner = LoopRunner()
        runner.start()
    return runner


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Dask's own log lines stay out: a lost worker or a closed connection is told by this package, or is none."""
    import dask
    import distributed  # noqa: F401 - its defaults must be there before one of them is changed and restored

    names = [name for name in logging.root.manager.loggerDict if name.split(".")[0] == "distributed"]
    levels = {logging.getLogger(name): logging.getLogger(name).level for name in names}
    for logger in levels:
        logger.setLevel(logging.CRITICAL)
    try:
        with dask.config.set({"distributed.worker.daemon": True}):
            yield
    finally:
        for logger, level in levels.items():
            logger.setLevel(level)


def _end_at_once(cluster: LocalCluster) -> None:
    """Nobody waits for the results: kill the workers instead of asking them to end."""
    for nanny in list(cluster.workers.values()):
        nanny.close_gracefully()  # it would start a new worker otherwise
        if nanny.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(nanny.pid, signal.SIGKILL)


@contextlib.contextmanager
def _connected(address: str) -> Iterator[Client]:
    from distributed import Client
    from distributed.comm.core import connect
    from distributed.utils import LoopRunner, sync

    loop = LoopRunner()
    loop.start()
    try:
        try:
            # Knock first: a Client that fails to connect may deadlock later, when it is garbage collected.
            sync(loop.loop, connect, address, timeout=CONNECT_SECONDS).abort()
        except (OSError, ValueError) as error:
            raise _unreachable(address, error) from error
        with Client(address, timeout=CONNECT_SECONDS, set_as_default=False, loop=loop.loop) as client:
            yield client
    finally:
        loop.stop()


def _await_first_worker(client: Client, address: str, note: Note) -> None:
    if not client.scheduler_info(n_workers=0)["n_workers"]:
        note(f"Waiting for the first worker of {address}.")
    try:
        client.wait_for_workers(1, timeout=FIRST_WORKER_SECONDS)
    except TimeoutError as error:
        raise FerError(
            paragraph(
                f"The Dask scheduler at {address} has no workers.",
                expected=f"a first worker within {FIRST_WORKER_SECONDS:.0f} seconds",
                fix=f"Start some, for example with `dask worker {address} --nthreads 1`, then run this command again.",
            )
        ) from error
    info: dict[str, Any] = client.scheduler_info(n_workers=0)
    dashboard = f"; dashboard: {client.dashboard_link}" if "dashboard" in info.get("services", {}) else ""
    note(f"Dask scheduler {address}, worker threads now: {info['total_threads']}{dashboard}")


def _unreachable(address: str, error: Exception) -> UserInputError:
    return UserInputError(
        paragraph(
            f"No Dask scheduler answers at {address}.",
            expected="an address such as tcp://node17:8786, as the scheduler prints it (cluster.scheduler_address)",
            got=first_line(error),
            fix="Check that it is running and reachable from this machine.",
        )
    )
